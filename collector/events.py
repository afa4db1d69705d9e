"""What happens in the collector, as typed events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ashiato.core.events import Event, Level, Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class FileBorn(Event):
    """A file was seen for the first time."""

    metrics: ClassVar[tuple[Metric, ...]] = (Metric(name="files_born_total", help="Files seen for the first time"),)
    file_id: str
    path: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileClosed(Event):
    """A file will not grow any more, and all its bytes are acknowledged."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="files_closed_total", help="Files closed, by reason", labels=("reason",)),
    )
    file_id: str
    size: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameAcknowledged(Event):
    """The bus keeps a frame."""

    level: ClassVar[Level] = Level.DEBUG
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="acked_bytes_total", help="Raw log bytes that the bus keeps", value="raw_bytes"),
        Metric(name="frame_bytes_total", help="Bytes of frames sent", value="frame_bytes"),
        Metric(name="frames_total", help="Frames that the bus keeps"),
        Metric(
            name="last_chunk_acked_timestamp_seconds", help="When the bus last kept a frame", kind="gauge",
            value="time_unix_s",
        ),
    )  # fmt: skip
    topic: str
    partition: int
    position: int
    raw_bytes: int
    frame_bytes: int
    time_unix_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BytesRead(Event):
    """Bytes were read to be shipped; what has to be sent again is read again, and counted again."""

    level: ClassVar[Level] = Level.DEBUG
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name="read_bytes_total", help="Raw log bytes read, by kind of source", value="count", labels=("source",)
        ),
    )
    source: str
    """Kind of source."""
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileUnreadable(Event):
    """A file cannot be read: it is tried again at each sweep, and stands in the ledger as a gap."""

    level: ClassVar[Level] = Level.WARNING
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="files_found_unreadable_total", help="Files that could not be opened when first seen"),
    )
    path: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationUnknown(Event):
    """A file system tells no inode generation (overlay, NFS, tmpfs): files rest on inode and content hashes there.

    It is said once for each device.
    """

    level: ClassVar[Level] = Level.WARNING
    device: int
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HintsLost(Event):
    """The kernel does not tell of every folder (no watch or instance is left): sweeps find what it does not tell."""

    level: ClassVar[Level] = Level.WARNING
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="hints_lost_total", help="Times that the kernel had no inotify watch or instance left"),
    )
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HintsOverflowed(Event):
    """More happened in folders than the kernel's queue holds: everything is looked at."""

    level: ClassVar[Level] = Level.WARNING
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="hints_overflowed_total", help="Overflows of the kernel's queue of folder changes"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BookmarkBegun(Event):
    """There is no bookmark of this node: a new incarnation of the collector begins (C5)."""

    level: ClassVar[Level] = Level.WARNING
    incarnation: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BookmarkTorn(Event):
    """The bookmark's end was torn by a crash: it was cut back to its last whole entry."""

    level: ClassVar[Level] = Level.WARNING
    metrics: ClassVar[tuple[Metric, ...]] = (Metric(name="bookmark_torn_total", help="Torn bookmark ends mended"),)
    bytes_cut: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog(Event):
    """How much is on disk and not acknowledged yet."""

    level: ClassVar[Level] = Level.DEBUG
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="backlog_bytes", help="Bytes seen and not acknowledged", kind="gauge", value="count"),
        Metric(name="open_files", help="Files followed", kind="gauge", value="files"),
        Metric(name="files_unreadable", help="Files that cannot be read now", kind="gauge", value="unreadable"),
    )
    count: int
    files: int
    unreadable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainCutShort(Event):
    """The grace at shutdown was over before all was shipped: what is left stays on the disk, and a gap names it."""

    level: ClassVar[Level] = Level.WARNING
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="drain_cut_short_bytes", help="Bytes left on the disk at shutdown", kind="gauge", value="count"),
    )
    count: int
    files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportProgress(Event):
    """How far an import is."""

    files: int
    files_total: int
    raw_bytes: int
    stored_bytes_total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSkipped(Event):
    """A file that an import did not take, and why."""

    level: ClassVar[Level] = Level.WARNING
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="files_skipped_total", help="Files that an import did not take"),
    )
    path: str
    reason: str

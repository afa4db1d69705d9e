"""What happens in ingest, as typed events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from ashiato.core.events import Event, Level, Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitMade(Event):
    """A commit stands in the journal: everything below the stated positions is in the archive."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="commits_total", help="Commits made"),
        Metric(name="archived_raw_bytes_total", help="Raw log bytes archived", value="raw_bytes"),
        Metric(name="archived_rows_total", help="Rows archived", value="rows"),
        Metric(name="pack_bytes_total", help="Bytes of packs written", value="pack_bytes"),
        Metric(name="sidecar_bytes_total", help="Bytes of token filters and entity indexes", value="sidecar_bytes"),
        Metric(name="quarantined_rows_total", help="Rows that no parser took", value="quarantined_rows"),
    )
    commit: int
    packs: int
    rows: int
    raw_bytes: int
    pack_bytes: int
    sidecar_bytes: int
    quarantined_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesQuarantined(Event):
    """Lines of a commit were refused by the parser of their kind: they are kept, searchable as text, and counted."""

    level: ClassVar[Level] = Level.WARNING
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name="quarantined_lines_total",
            help="Lines that the parser of their kind refused",
            value="lines",
            labels=("source_kind", "reason"),
        ),
    )
    commit: int
    source_kind: str
    reason: str
    lines: int


def lines_quarantined(commit: int, refused: Iterable[Mapping[tuple[str, str], int]]) -> Iterator[LinesQuarantined]:
    """Yield an event for each kind and reason of what the packs of a commit hold in quarantine."""
    counts: Counter[tuple[str, str]] = Counter()
    for of_pack in refused:
        counts.update(of_pack)
    for (kind, reason), lines in sorted(counts.items()):
        yield LinesQuarantined(commit=commit, source_kind=kind, reason=reason, lines=lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitLost(Event):
    """Another archiver took the number and moved one of our partitions: the batch is built again behind it."""

    level: ClassVar[Level] = Level.WARNING
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="commits_lost_total", help="Commits lost to another archiver"),
    )
    commit: int
    winner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BytesTrimmed(Event):
    """Bytes arrived again, were compared with the held ones, and were dropped because they are the same."""

    level: ClassVar[Level] = Level.DEBUG
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="trimmed_bytes_total", help="Bytes that came again and were equal", value="count"),
    )
    count: int
    file_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FileForked(Event):
    """Bytes arrived that contradict what is held: they are kept under a fork of the file's id."""

    level: ClassVar[Level] = Level.ERROR
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="files_forked_total", help="Files whose bytes came twice and differed", labels=("reason",)),
    )
    file_id: str
    fork_id: str
    offset: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameDamaged(Event):
    """A record of the bus is no frame: its bytes are archived as they are, flagged quarantined."""

    level: ClassVar[Level] = Level.ERROR
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="frames_damaged_total", help="Bus records that are no frames"),
    )
    topic: str
    partition: int
    position: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IncarnationBegun(Event):
    """A partition of the bus is not the log that was read before (J5): it is read from its start."""

    level: ClassVar[Level] = Level.WARNING
    metrics: ClassVar[tuple[Metric, ...]] = (Metric(name="incarnations_total", help="New incarnations of the bus"),)
    topic: str
    partition: int
    incarnation: str
    position: int

"""The bookmark: which files there are and how far each is acknowledged (C2), in one append-only file.

Entries are ``length u32 | CRC-32 u32 | msgpack``. ``note`` takes an entry in, ``flush`` makes all noted ones durable
with one fsync; where the disk is full they stay noted. A torn end, which is what a crash leaves, is cut back to the
last whole entry. The file is written anew when it has grown.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from ashiato.adapters import files
from ashiato.core.errors import SettingsError
from collector.append_file import AppendFile

_PREFIX: Final = struct.Struct("<II")
COMPACT_BYTES: Final = 8 * 1024 * 1024
FORMAT: Final = 1
DONE_FILES_KEPT: Final = 1024
"""Closed files remembered although no sweep sees them, for their gzipped rotations."""


class Owner(msgspec.Struct, frozen=True, kw_only=True, tag="owner"):
    """First entry: whose bookmark this is (C5)."""

    node: str
    machine: str
    incarnation: str
    format: int = FORMAT


class Topics(msgspec.Struct, frozen=True, kw_only=True, tag="topics"):
    """How many partitions each topic had, so that births need not wait for a bus that is away."""

    partitions: dict[str, int]


class Stated(msgspec.Struct, frozen=True, kw_only=True, tag="stated"):
    """Every ledger line below ``n`` is reflected here; later ones are taken from the ledger's end (C7)."""

    n: int


class Known(msgspec.Struct, frozen=True, kw_only=True, tag="known"):
    """A file that was born."""

    file_id: str
    source: str
    path: str
    topic: str
    partition: int
    restart_count: int
    device: int
    inode: int
    flags: int = 0
    generation: int = 0
    """Of the inode; 0 where it was not told."""


class Head(msgspec.Struct, frozen=True, kw_only=True, tag="head"):
    """Digest of a file's first bytes, which guards its inode against reuse; grows until 1 KiB."""

    file_id: str
    length: int
    sha256: str


class Acked(msgspec.Struct, frozen=True, kw_only=True, tag="acked", omit_defaults=True):
    """Everything below ``offset`` is kept by the bus; ``guard`` is a digest of the bytes before it."""

    file_id: str
    offset: int
    position: int
    guard: bytes = b""
    incarnation: str = ""
    """Of the bus that ``position`` is a place on."""
    guard_bytes: int = 64
    """How many bytes before the offset ``guard`` is made of, where there are so many."""
    attested: bool = False
    """The ledger states spans up to ``offset``; False in bookmarks of a release that stated none."""
    span_start: int = -1
    span_sha256: str = ""
    """The last span, where only the ledger told of it after a crash: it guards the bytes in the place of ``guard``."""
    sent_max: int = 0
    """Nothing behind it was sent; 0 for as much as one span allows."""


class Secret(msgspec.Struct, frozen=True, kw_only=True, tag="secret"):
    """Which secret the salts of this bookmark's spans are made of: without it, nothing of them can be begun again."""

    id: str


class Late(msgspec.Struct, frozen=True, kw_only=True, tag="late"):
    """Whether spans were due and could not be stated, so that more than a span may have been sent behind ``Acked``."""

    is_late: bool


class Moved(msgspec.Struct, frozen=True, kw_only=True, tag="moved"):
    """A file has another name now; where an inode is told, its bytes lie there now (a copy was made of them)."""

    file_id: str
    path: str
    device: int = 0
    inode: int = 0
    generation: int = 0


class Checked(msgspec.Struct, frozen=True, kw_only=True, tag="checked"):
    """What cross-checks remember of a source: it moves with the bytes that it was made of."""

    source: str
    mark: bytes


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    """A file is closed and all of it is acknowledged."""

    file_id: str
    size: int
    modified_nano: int = 0


Entry = Owner | Topics | Stated | Known | Head | Acked | Moved | Done | Secret | Late | Checked
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Entry)


@dataclass(slots=True, kw_only=True)
class Remembered:
    """One file as the bookmark knows it."""

    known: Known
    path: str
    head: Head | None = None
    offset: int = 0
    position: int = -1
    incarnation: str = ""
    guard: bytes = b""
    guard_bytes: int = 64
    done: bool = False
    modified_nano: int = 0
    copied: Moved | None = None
    """Its bytes lie under another inode than that of its birth."""
    attested: bool = True
    span: tuple[int, str] | None = None
    """Start and digest of the last span, where it is what guards the bytes."""
    sent_max: int = 0
    salt: bytes = b""
    """Of that span."""

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode of its bytes."""
        return (self.copied or self.known).device, (self.copied or self.known).inode

    def acked(self, *, sent_max: int | None = None) -> Acked:
        """Return the entry that says how far it is acknowledged."""
        start, sha256 = self.span or (-1, "")
        return Acked(
            file_id=self.known.file_id, offset=self.offset, position=self.position, guard=self.guard,
            incarnation=self.incarnation, guard_bytes=self.guard_bytes, attested=self.attested, span_start=start,
            span_sha256=sha256, sent_max=self.sent_max if sent_max is None else sent_max,
        )  # fmt: skip

    @property
    def generation(self) -> int:
        """Of the inode of its bytes."""
        return (self.copied or self.known).generation


@dataclass(slots=True, kw_only=True)
class Contents:
    """What a bookmark says."""

    owner: Owner | None = None
    partitions: dict[str, int] = field(default_factory=dict)
    stated: int = 0
    secret_id: str = ""
    is_late: bool = False
    files: dict[str, Remembered] = field(default_factory=dict)
    marks: dict[str, bytes] = field(default_factory=dict)
    """Per source, what cross-checks remember."""

    def apply(self, entry: Entry) -> None:
        """Fold an entry in; entries of files that were never known mean nothing."""
        match entry:
            case Owner():
                # What stands before it belonged to another node (C5).
                self.owner, self.stated = entry, 0
                self.files.clear()
                self.marks.clear()
            case Topics():
                self.partitions = entry.partitions
            case Stated():
                self.stated = max(self.stated, entry.n)
            case Secret():
                self.secret_id = entry.id
            case Late():
                self.is_late = entry.is_late
            case Checked():
                self.marks[entry.source] = entry.mark
            case Known():
                self.files[entry.file_id] = Remembered(known=entry, path=entry.path)
            case Head() | Acked() | Moved() | Done():
                if (file := self.files.get(entry.file_id)) is not None:
                    _apply(file, entry)


def remembered(path: Path) -> Contents:
    """Return what a bookmark says that another process may be writing: nothing of it is changed. Raises OSError."""
    return _read(path)[0]


class Bookmark:
    """The open file."""

    def __init__(self, path: Path, *, reserve_bytes: int = 0) -> None:
        self._path = path
        self._reserve_bytes = reserve_bytes
        self.contents, whole = _read(path)
        self._file = AppendFile(path, reserve_bytes=reserve_bytes)
        self.bytes_cut = self._file.size - whole
        """Length of the torn end that was cut off."""
        if self.bytes_cut:
            self._file.cut(whole)
        self._noted: dict[tuple[type[Entry], str], Entry] = {}
        self._compact_at = max(COMPACT_BYTES, 2 * whole)

    def note(self, *entries: Entry) -> None:
        """Take entries in; a later one about the same thing replaces an earlier one that is not durable yet."""
        for entry in entries:
            self.contents.apply(entry)
            key = (type(entry), entry.source if isinstance(entry, Checked) else getattr(entry, "file_id", ""))
            self._noted.pop(key, None)
            self._noted[key] = entry

    def flush(self) -> None:
        """Make what was noted durable. Raises TransientError, and keeps it noted, where the disk is full."""
        if self._noted:
            self._file.append(b"".join(map(_encode, self._noted.values())))
            self._noted.clear()

    @property
    def reserve_left_bytes(self) -> int:
        """What can still be written although the disk is full (C8)."""
        return self._file.reserve_left_bytes

    @property
    def is_large(self) -> bool:
        """Whether it is time to :meth:`compact`."""
        return self._file.size > self._compact_at

    def compact(self, on_disk: AbstractSet[str]) -> None:
        """Write only what still matters: open files, closed ones ``on_disk``, and the newest other closed ones."""
        others = [file_id for file_id, file in self.contents.files.items() if file.done and file_id not in on_disk]
        for file_id in others[:-DONE_FILES_KEPT]:
            del self.contents.files[file_id]
        entries: list[Entry] = [self.contents.owner] if self.contents.owner else []
        entries += [Topics(partitions=self.contents.partitions), Stated(n=self.contents.stated)]
        entries += [Secret(id=self.contents.secret_id), Late(is_late=self.contents.is_late)]
        for file_id, file in self.contents.files.items():
            entries.append(file.known)
            entries += [file.head] if file.head else []
            entries += [file.acked()] if file.position >= 0 or file.sent_max else []
            entries += [file.copied] if file.copied is not None else []
            entries += [Moved(file_id=file_id, path=file.path)] if file.path != file.known.path else []
            entries += [Done(file_id=file_id, size=file.offset, modified_nano=file.modified_nano)] if file.done else []
        sources = {file.known.source for file in self.contents.files.values()}
        entries += [Checked(source=s, mark=mark) for s, mark in self.contents.marks.items() if s in sources]
        # Where this fails, for want of room, it goes on in the file that has a reserve, and tries again much later.
        self._compact_at = self._file.size + COMPACT_BYTES
        self._replace(b"".join(map(_encode, entries)))
        self._noted.clear()
        self._compact_at = max(COMPACT_BYTES, 2 * self._file.size)

    def _replace(self, content: bytes) -> None:
        """Go on in a new file: it is written, durable and open before it takes the place of the old one."""
        # One name, which the next attempt takes again, whatever a crash left of this one.
        temporary = self._path.with_name(f"{files.TEMPORARY_PREFIX}{self._path.name}")
        try:
            temporary.unlink(missing_ok=True)
            following = AppendFile(temporary, reserve_bytes=self._reserve_bytes)
            try:
                following.append(content)
                following.rename(self._path)
            except BaseException:
                following.close()
                raise
            before, self._file = self._file, following
            before.close()
            # The room that the old one had is free now.
            following.top_up()
            files.sync_folder(self._path.parent)
        except OSError as error:
            raise files.disk_error(error, self._path) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _apply(file: Remembered, entry: Head | Acked | Moved | Done) -> None:
    match entry:
        case Head():
            file.head = entry
        case Acked():
            if entry.offset >= file.offset:
                file.offset, file.position, file.guard = entry.offset, entry.position, entry.guard
                file.incarnation, file.done, file.guard_bytes = entry.incarnation, False, entry.guard_bytes
                file.attested, file.sent_max = entry.attested or entry.offset == 0, entry.sent_max
                file.span = (entry.span_start, entry.span_sha256) if entry.span_sha256 else None
        case Moved():
            file.path = entry.path
            file.copied = entry if entry.inode else file.copied
        case Done():
            file.done, file.modified_nano = True, entry.modified_nano


def _encode(entry: Entry) -> bytes:
    payload = _ENCODER.encode(entry)
    return _PREFIX.pack(len(payload), zlib.crc32(payload)) + payload


def _decode(payload: bytes, path: Path) -> Entry:
    """Return an entry whose checksum is right: one that cannot be read is of another release, and not torn."""
    try:
        entry: Entry = _DECODER.decode(payload)
    except msgspec.DecodeError as error:
        raise SettingsError(f"{path} is of another release, which this one does not read") from error
    if isinstance(entry, Owner) and entry.format != FORMAT:
        raise SettingsError(f"{path} is of format {entry.format}, and this release reads {FORMAT}")
    return entry


def _read(path: Path) -> tuple[Contents, int]:
    """Return what is whole, and where it ends."""
    contents = Contents()
    try:
        stored = path.read_bytes()
    except FileNotFoundError:
        return contents, 0
    at = 0
    while at + _PREFIX.size <= len(stored):
        length, checksum = _PREFIX.unpack_from(stored, at)
        payload = stored[at + _PREFIX.size : at + _PREFIX.size + length]
        # Zeros are no entry: where blocks were never written, their length and their checksum would agree.
        if not length or len(payload) != length or zlib.crc32(payload) != checksum:
            break
        contents.apply(_decode(payload, path))
        at += _PREFIX.size + length
    return contents, at

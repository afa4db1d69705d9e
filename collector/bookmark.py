"""The bookmark: which files there are and how far each is acknowledged (C2), in one append-only file.

Entries are ``length u32 | CRC-32 u32 | msgpack``. ``note`` takes an entry in, ``flush`` makes all noted ones durable
with one fsync; where the disk is full they stay noted. A torn end, which is what a crash leaves, is cut back to the
last whole entry. The file is written anew when it has grown.
"""

from __future__ import annotations

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


class Acked(msgspec.Struct, frozen=True, kw_only=True, tag="acked"):
    """Everything below ``offset`` is kept by the bus; ``guard`` is a digest of the bytes before it."""

    file_id: str
    offset: int
    position: int
    guard: bytes = b""
    incarnation: str = ""
    """Of the bus that ``position`` is a place on."""
    guard_bytes: int = 64
    """How many bytes before the offset ``guard`` is made of, where there are so many."""


class Moved(msgspec.Struct, frozen=True, kw_only=True, tag="moved"):
    """A file has another name now; where an inode is told, its bytes lie there now (a copy was made of them)."""

    file_id: str
    path: str
    device: int = 0
    inode: int = 0
    generation: int = 0


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    """A file is closed and all of it is acknowledged."""

    file_id: str
    size: int
    modified_nano: int = 0


Entry = Owner | Topics | Stated | Known | Head | Acked | Moved | Done
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

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode of its bytes."""
        return (self.copied or self.known).device, (self.copied or self.known).inode

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
    files: dict[str, Remembered] = field(default_factory=dict)

    def apply(self, entry: Entry) -> None:
        """Fold an entry in; entries of files that were never known mean nothing."""
        match entry:
            case Owner():
                # What stands before it belonged to another node (C5).
                self.owner, self.stated = entry, 0
                self.files.clear()
            case Topics():
                self.partitions = entry.partitions
            case Stated():
                self.stated = max(self.stated, entry.n)
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

    def __init__(self, path: Path) -> None:
        self._path = path
        self.contents, whole = _read(path)
        self._file = AppendFile(path)
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
            key = (type(entry), getattr(entry, "file_id", ""))
            self._noted.pop(key, None)
            self._noted[key] = entry

    def flush(self) -> None:
        """Make what was noted durable. Raises TransientError, and keeps it noted, where the disk is full."""
        if self._noted:
            self._file.append(b"".join(map(_encode, self._noted.values())))
            self._noted.clear()

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
        for file_id, file in self.contents.files.items():
            entries.append(file.known)
            entries += [file.head] if file.head else []
            acked = Acked(
                file_id=file_id, offset=file.offset, position=file.position, guard=file.guard,
                incarnation=file.incarnation, guard_bytes=file.guard_bytes,
            )  # fmt: skip
            entries += [acked] if file.position >= 0 else []
            entries += [file.copied] if file.copied is not None else []
            entries += [Moved(file_id=file_id, path=file.path)] if file.path != file.known.path else []
            entries += [Done(file_id=file_id, size=file.offset, modified_nano=file.modified_nano)] if file.done else []
        files.replace(self._path, b"".join(map(_encode, entries)))
        self._file.close()
        self._file = AppendFile(self._path)
        self._noted.clear()
        self._compact_at = max(COMPACT_BYTES, 2 * self._file.size)

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
        if len(payload) != length or zlib.crc32(payload) != checksum:
            break
        contents.apply(_decode(payload, path))
        at += _PREFIX.size + length
    return contents, at

"""The bookmark: which files there are and how far each is acknowledged (C2), in one append-only file.

Entries are ``length u32 | CRC-32 u32 | msgpack``; a group of entries is fsynced together. A torn end, which is what a
crash leaves, is cut back to the last whole entry. The file is written anew when it has grown.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from ashiato.adapters import files

_PREFIX: Final = struct.Struct("<II")
COMPACT_BYTES: Final = 8 * 1024 * 1024
FORMAT: Final = 1


class Owner(msgspec.Struct, frozen=True, kw_only=True, tag="owner"):
    """First entry: whose bookmark this is (C5)."""

    node: str
    machine: str
    incarnation: str
    format: int = FORMAT


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


class Head(msgspec.Struct, frozen=True, kw_only=True, tag="head"):
    """Digest of a file's first bytes, which guards its inode against reuse; grows until 1 KiB."""

    file_id: str
    length: int
    sha256: str


class Acked(msgspec.Struct, frozen=True, kw_only=True, tag="acked"):
    """Everything below ``offset`` is kept by the bus."""

    file_id: str
    offset: int
    position: int


class Moved(msgspec.Struct, frozen=True, kw_only=True, tag="moved"):
    """A file has another name now."""

    file_id: str
    path: str


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    """A file is closed and all of it is acknowledged."""

    file_id: str
    size: int


Entry = Owner | Known | Head | Acked | Moved | Done
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
    done: bool = False


@dataclass(slots=True, kw_only=True)
class Contents:
    """What a bookmark says."""

    owner: Owner | None = None
    files: dict[str, Remembered] = field(default_factory=dict)
    bytes_cut: int = 0
    """Length of the torn end that was cut off."""

    def apply(self, entry: Entry) -> None:
        """Fold an entry in; entries of files that were never known mean nothing."""
        if isinstance(entry, Owner):
            self.owner = entry
            return
        if isinstance(entry, Known):
            self.files[entry.file_id] = Remembered(known=entry, path=entry.path)
            return
        file = self.files.get(entry.file_id)
        if file is None:
            return
        match entry:
            case Head():
                file.head = entry
            case Acked():
                file.offset, file.position = max(file.offset, entry.offset), entry.position
            case Moved():
                file.path = entry.path
            case Done():
                file.done = True


class Bookmark:
    """The open file. ``append`` is durable when it returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.contents = _read(path)
        files.make_folder(path.parent)
        self._file = path.open("ab")
        if self.contents.bytes_cut:
            self._file.truncate(path.stat().st_size - self.contents.bytes_cut)
            os.fsync(self._file.fileno())

    def append(self, *entries: Entry) -> None:
        """Write entries and fsync once. Raises TransientError where the disk is full."""
        content = b"".join(map(_encode, entries))
        whole = self._file.tell()
        try:
            self._file.write(content)
            self._file.flush()
            os.fdatasync(self._file.fileno())
        except OSError as error:
            # What was half written must not stand before the next entry.
            self._file.truncate(whole)
            raise files.disk_error(error, self._path) from error
        for entry in entries:
            self.contents.apply(entry)
        if self._file.tell() > COMPACT_BYTES:
            self.compact()

    def compact(self) -> None:
        """Write only what still matters: the owner, the open files, and the newest closed ones."""
        done = [f for f in self.contents.files.values() if f.done]
        forgotten = {f.known.file_id for f in done[:-4096]}
        entries: list[Entry] = [self.contents.owner] if self.contents.owner else []
        for file_id, file in list(self.contents.files.items()):
            if file_id in forgotten:
                del self.contents.files[file_id]
                continue
            entries.append(file.known)
            entries += [file.head] if file.head else []
            entries.append(Acked(file_id=file_id, offset=file.offset, position=file.position))
            entries += [Moved(file_id=file_id, path=file.path)] if file.path != file.known.path else []
            entries += [Done(file_id=file_id, size=file.offset)] if file.done else []
        files.replace(self._path, b"".join(map(_encode, entries)))
        self._file.close()
        self._file = self._path.open("ab")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _encode(entry: Entry) -> bytes:
    payload = _ENCODER.encode(entry)
    return _PREFIX.pack(len(payload), zlib.crc32(payload)) + payload


def _read(path: Path) -> Contents:
    contents = Contents()
    try:
        stored = path.read_bytes()
    except FileNotFoundError:
        return contents
    at = 0
    while at + _PREFIX.size <= len(stored):
        length, checksum = _PREFIX.unpack_from(stored, at)
        payload = stored[at + _PREFIX.size : at + _PREFIX.size + length]
        if len(payload) != length or zlib.crc32(payload) != checksum:
            break
        try:
            contents.apply(_DECODER.decode(payload))
        except msgspec.DecodeError:
            break
        at += _PREFIX.size + length
    contents.bytes_cut = len(stored) - at
    return contents

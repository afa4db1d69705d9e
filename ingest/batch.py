"""A batch: admitted pieces that wait for their commit, with the positions that they move.

Large pieces stay compressed as they came from the bus, so that memory does not follow the commit's size (I2).
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from ashiato.core.frame import HeldChunk
from ashiato.core.frontier import FileState
from ashiato.core.ports import Partition
from ingest.contracts import Piece


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPiece:
    """A piece at rest. ``open`` gives it with its payload."""

    piece: Piece
    """Without payload where ``origin`` is given."""
    length: int
    origin: HeldChunk | None = None
    """The chunk, still compressed, that holds the piece's bytes."""

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that it takes, about."""
        return len(self.origin.block) if self.origin is not None else self.length

    def open(self) -> Piece:
        """Return the piece with its bytes."""
        if self.origin is None:
            return self.piece
        start = self.piece.chunk.offset_start - self.origin.offset_start
        payload = self.origin.open().payload[start : start + self.length]
        chunk = msgspec.structs.replace(self.piece.chunk, payload=payload)
        return replace(self.piece, chunk=chunk)


def at_rest(piece: Piece, origin: HeldChunk | None) -> StoredPiece:
    """Store a piece, compressed where ``origin`` is a block of its own."""
    length = len(piece.chunk.payload)
    if origin is None:
        return StoredPiece(piece=piece, length=length)
    light = msgspec.structs.replace(piece.chunk, payload=b"")
    return StoredPiece(piece=replace(piece, chunk=light), length=length, origin=origin)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """How far a partition was read: the next position and the hash of the record before it (J5)."""

    next: int
    record_sha256: str


@dataclass(slots=True, kw_only=True)
class Batch:
    """What has been admitted since the last seal."""

    started_monotonic_nano: int
    pieces: list[StoredPiece] = field(default_factory=list)
    raw_bytes: int = 0
    held_bytes: int = 0
    """Bytes of memory that the pieces take, about."""
    reached: dict[Partition, Reached] = field(default_factory=dict)
    files: dict[Partition, Mapping[str, FileState]] = field(default_factory=dict)
    """The frontier's entries at the end of the batch; set when it is sealed."""
    _places: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """(offset, index of the piece) by file, in order."""

    def add(self, stored: StoredPiece) -> None:
        """Append a piece."""
        chunk = stored.piece.chunk
        if stored.length:
            insort(self._places.setdefault(chunk.file.file_id, []), (chunk.offset_start, len(self.pieces)))
        self.pieces.append(stored)
        self.raw_bytes += stored.length
        self.held_bytes += stored.held_bytes

    def bytes_at(self, file_id: str, offset: int, end: int) -> bytes:
        """Return bytes of a file from ``offset`` up to ``end`` or the piece's own end; b'' where it has none there."""
        places = self._places.get(file_id, [])
        at = bisect_right(places, (offset, len(self.pieces))) - 1
        if at < 0:
            return b""
        start, index = places[at]
        stored = self.pieces[index]
        if offset >= start + stored.length:
            return b""
        return stored.open().chunk.payload[offset - start : end - start]

    def by_source(self) -> Iterator[tuple[str, Iterator[Piece]]]:
        """Yield (retention class, pieces), the pieces ordered by source and, within it, as they came."""
        classes: dict[str, list[StoredPiece]] = {}
        for stored in self.pieces:
            classes.setdefault(stored.piece.retention_class, []).append(stored)
        for name in sorted(classes):
            ordered = sorted(classes[name], key=lambda stored: stored.piece.chunk.file.source)
            yield name, (stored.open() for stored in ordered)

"""A batch: admitted pieces that wait for their commit, with the positions that they move.

Large pieces stay compressed as they came from the bus, so that memory does not follow the commit's size (I2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

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

    def open(self) -> Piece:
        """Return the piece with its bytes."""
        if self.origin is None:
            return self.piece
        start = self.piece.chunk.offset_start - self.origin.offset_start
        payload = self.origin.open().payload[start : start + self.length]
        chunk = msgspec.structs.replace(self.piece.chunk, payload=payload)
        return Piece(chunk=chunk, row_flags=self.piece.row_flags, retention_class=self.piece.retention_class)


def at_rest(piece: Piece, origin: HeldChunk | None) -> StoredPiece:
    """Store a piece, compressed where ``origin`` is a block of its own."""
    length = len(piece.chunk.payload)
    if origin is None:
        return StoredPiece(piece=piece, length=length)
    light = msgspec.structs.replace(piece.chunk, payload=b"")
    kept = Piece(chunk=light, row_flags=piece.row_flags, retention_class=piece.retention_class)
    return StoredPiece(piece=kept, length=length, origin=origin)


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
    reached: dict[Partition, Reached] = field(default_factory=dict)
    files: dict[Partition, Mapping[str, FileState]] = field(default_factory=dict)
    """The frontier's entries at the end of the batch; set when it is sealed."""
    _by_file: dict[str, list[int]] = field(default_factory=dict)

    def add(self, stored: StoredPiece) -> None:
        """Append a piece."""
        self._by_file.setdefault(stored.piece.chunk.file.file_id, []).append(len(self.pieces))
        self.pieces.append(stored)
        self.raw_bytes += stored.length

    def bytes_at(self, file_id: str, offset: int, end: int) -> bytes:
        """Return bytes of a file from ``offset`` up to ``end`` or the piece's own end; b'' where it has none there."""
        for index in self._by_file.get(file_id, ()):
            stored = self.pieces[index]
            start = stored.piece.chunk.offset_start
            if start <= offset < start + stored.length:
                return stored.open().chunk.payload[offset - start : end - start]
        return b""

    def by_source(self) -> Iterator[tuple[str, Iterator[Piece]]]:
        """Yield (retention class, pieces), the pieces ordered by source and, within it, as they came."""
        classes: dict[str, list[StoredPiece]] = {}
        for stored in self.pieces:
            classes.setdefault(stored.piece.retention_class, []).append(stored)
        for name in sorted(classes):
            ordered = sorted(classes[name], key=lambda stored: stored.piece.chunk.file.source)
            yield name, (stored.open() for stored in ordered)

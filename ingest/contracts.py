"""What the rooms of ingest hand to each other: admitted pieces in, built packs out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ashiato.core.chunk import Chunk
from ashiato.core.manifest import Manifest
from ashiato.core.sidecar import Sidecar

Refused = Counter[tuple[str, str]]
"""How many lines were quarantined, by the kind of their source and the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPart:
    """A partial line whose join has not closed: what later rows need of it."""

    iostream: str
    first_offset: int
    bodies: tuple[bytes, ...]
    """Content of the parts so far, in order."""
    part_offsets: tuple[int, ...]

    @property
    def body_bytes(self) -> int:
        """Bytes joined so far."""
        return sum(map(len, self.bodies))


@dataclass(frozen=True, slots=True, kw_only=True)
class LineState:
    """What the parser of one file carries from one piece to the next; the empty state begins every file.

    ``cut_iostream`` and ``cut_time_unix_nano`` belong to the line whose beginning was shipped without its end
    (a piece of a long line, or an unterminated end), so that what follows is part C.
    """

    open_parts: tuple[OpenPart, ...] = ()
    at_line: bool = True
    """The next byte is the first of a line."""
    cut_iostream: str = ""
    cut_time_unix_nano: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """An admitted part of a chunk: these bytes are to be archived, exactly once."""

    chunk: Chunk
    """Already trimmed: its offset and payload are the piece's own; ``file.file_id`` may be a fork's id."""
    row_flags: int = 0
    """RowFlags that admission decided (EARLY, FORKED, IMPORTED, RESENT, SHADOW)."""
    retention_class: str = ""
    ends_joins: bool = False
    """The file ends here, or what follows is held already and stands for itself: open joins close behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltPack:
    """A pack that was written, read back and compared (I1), not yet in the archive."""

    file: Path
    manifest: Manifest
    quarantined_rows: int
    refused: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """The same by kind and reason."""
    sidecars: tuple[Sidecar, ...] = ()
    """Made from the rows that were read back."""

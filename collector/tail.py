"""Where a chunk ends: pure, told bytes, never a line at a time (CONTRACTS section 2).

A chunk ends at a newline. A line longer than ``LINE_CUT_BYTES`` is cut at each whole multiple counted from the last
cut or line start, and only there, so that rows do not depend on when the file was read. An unterminated end waits
until the file closes or has stood still.
"""

from __future__ import annotations

from dataclasses import dataclass

from ashiato.core.chunk import ChunkFlags
from ashiato.core.limits import CHUNK_BYTES_TARGET, LINE_CUT_BYTES

READ_BYTES = LINE_CUT_BYTES
"""How much to read before asking :func:`cut`: enough to decide every case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CutAt:
    """The next chunk is the first ``length`` bytes."""

    length: int
    flags: ChunkFlags


def cut(data: bytes, *, at_line: bool, ended: bool) -> CutAt | None:
    """Say where the chunk that begins ``data`` ends; None where it has to wait for more bytes.

    ``data`` holds up to :data:`READ_BYTES` from a line start or cut; shorter means that the file has no more now.
    ``ended`` says that what is there is all there will be (the file closed or stood still).
    """
    flags = ChunkFlags.STARTS_AT_LINE if at_line else ChunkFlags(0)
    if not data:
        return None
    newline = data.rfind(b"\n", 0, CHUNK_BYTES_TARGET)
    if newline < 0:
        newline = data.find(b"\n", CHUNK_BYTES_TARGET)
    if newline >= 0:
        return CutAt(length=newline + 1, flags=flags | ChunkFlags.ENDS_AT_LINE)
    if len(data) >= LINE_CUT_BYTES:
        return CutAt(length=LINE_CUT_BYTES, flags=flags)
    if ended:
        return CutAt(length=len(data), flags=flags | ChunkFlags.UNTERMINATED)
    return None

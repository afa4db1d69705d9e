"""Shipping: one frame of one partition at a time, and its files move on only when the bus keeps it (C2, C4).

The source file is the queue. A frame is gathered from the files' own bytes behind what is acknowledged; nothing else
is held in memory, whatever the backlog. A frame that failed is sent again as it is before anything behind it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ashiato.core import frame
from ashiato.core.chunk import Chunk, ChunkFlags
from ashiato.core.errors import RejectedError
from ashiato.core.limits import FRAME_BYTES_MAX, FRAME_CHUNKS_MAX, FRAME_RAW_BYTES_TARGET, UNTERMINATED_IDLE_NS
from ashiato.core.ports import Partition
from collector.followed import Followed

FAIR_BYTES = FRAME_RAW_BYTES_TARGET // 2
"""What one file may put into a frame while others wait: a flood starves nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advance:
    """What an acknowledged frame means for one file."""

    file: Followed
    offset: int
    at_line: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A frame ready to go."""

    partition: Partition
    value: bytes
    raw_bytes: int
    advances: tuple[Advance, ...]


def gather(
    partition: Partition,
    files: Iterable[Followed],
    *,
    now_unix_nano: int,
    now_monotonic_nano: int,
    flags: ChunkFlags,
    closing: bool = False,
) -> Load | None:
    """Return the next frame of ``partition`` from its files in the given order, None where all are drained.

    ``closing`` ships unterminated ends at once, because the collector is about to stop following.
    """
    chunks: list[Chunk] = []
    advances: list[Advance] = []
    raw = 0
    waiting = [file for file in files if file.waiting > 0]
    for file in waiting:
        room = FRAME_RAW_BYTES_TARGET - raw
        if room <= 0 or len(chunks) >= FRAME_CHUNKS_MAX:
            break
        share = room if len(waiting) == 1 else min(room, FAIR_BYTES)
        ended = closing or bool(file.closing) or now_monotonic_nano - file.changed_monotonic_nano > UNTERMINATED_IDLE_NS
        taken = _take(
            file, share, ended=ended, now_unix_nano=now_unix_nano, flags=flags, room=FRAME_CHUNKS_MAX - len(chunks)
        )
        if taken:
            chunks += taken
            raw += sum(len(chunk.payload) for chunk in taken)
            at_line = bool(taken[-1].flags & ChunkFlags.ENDS_AT_LINE)
            advances.append(Advance(file=file, offset=taken[-1].offset_end, at_line=at_line))
    if not chunks:
        return None
    value = frame.encode(chunks)
    if len(value) > FRAME_BYTES_MAX:
        return _smaller(partition, chunks, advances)
    return Load(partition=partition, value=value, raw_bytes=raw, advances=tuple(advances))


def closing_load(file: Followed, *, now_unix_nano: int, flags: ChunkFlags) -> Load:
    """Return the frame that says that ``file`` is closed."""
    chunk = Chunk(
        file=file.facts, offset_start=file.offset, observed_time_unix_nano=now_unix_nano,
        flags=int(flags | ChunkFlags.FILE_CLOSED | (ChunkFlags.STARTS_AT_LINE if file.at_line else ChunkFlags(0))),
        payload=b"",
    )  # fmt: skip
    advance = Advance(file=file, offset=file.offset, at_line=file.at_line)
    return Load(partition=file.partition, value=frame.encode([chunk]), raw_bytes=0, advances=(advance,))


def _take(file: Followed, share: int, *, ended: bool, now_unix_nano: int, flags: ChunkFlags, room: int) -> list[Chunk]:
    taken: list[Chunk] = []
    offset, at_line, size = file.offset, file.at_line, 0
    while size < share and len(taken) < room:
        found = file.next_chunk(offset, at_line=at_line, ended=ended)
        if found is None:
            break
        payload, where = found
        if taken and size + len(payload) > share:
            break
        taken.append(
            Chunk(
                file=file.facts, offset_start=offset, observed_time_unix_nano=now_unix_nano,
                flags=int(where.flags | flags), payload=payload,
            )
        )  # fmt: skip
        offset += len(payload)
        size += len(payload)
        at_line = bool(where.flags & ChunkFlags.ENDS_AT_LINE)
    return taken


def _smaller(partition: Partition, chunks: list[Chunk], advances: list[Advance]) -> Load:
    """Return a frame of the first half of the chunks, again and again until the bus takes its size."""
    while len(chunks) > 1:
        chunks = chunks[: len(chunks) // 2]
        value = frame.encode(chunks)
        if len(value) <= FRAME_BYTES_MAX:
            last = {chunk.file.file_id: chunk for chunk in chunks}
            kept = tuple(
                Advance(file=a.file, offset=c.offset_end, at_line=bool(c.flags & ChunkFlags.ENDS_AT_LINE))
                for a in advances
                if (c := last.get(a.file.facts.file_id)) is not None
            )
            raw = sum(len(chunk.payload) for chunk in chunks)
            return Load(partition=partition, value=value, raw_bytes=raw, advances=kept)
    raise RejectedError("one chunk does not fit a frame", size=len(chunks[0].payload))

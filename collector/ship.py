"""Shipping: one frame of one partition at a time, and its files move on only when the bus keeps it (C2, C4).

The source file is the queue. A frame is gathered from the files' own bytes behind what is acknowledged; nothing else
is held in memory, whatever the backlog. A frame that failed is sent again as it is before anything behind it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ashiato.core import frame
from ashiato.core.chunk import Chunk, ChunkFlags
from ashiato.core.errors import RejectedError
from ashiato.core.limits import FRAME_BYTES_MAX, FRAME_CHUNKS_MAX, FRAME_RAW_BYTES_TARGET
from ashiato.core.ports import Partition
from collector.followed import ContentChangedError, Cursor, Followed

FAIR_BYTES = FRAME_RAW_BYTES_TARGET // 2
"""What one file may put into a frame while others wait: a flood starves nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One chunk, and where its file stands behind it."""

    file: Followed
    chunk: Chunk
    behind: Cursor


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A frame ready to go."""

    partition: Partition
    value: bytes
    raw_bytes: int
    behind: tuple[tuple[Followed, Cursor], ...]
    """Where each file stands once the bus keeps the frame."""
    chunks: int
    ends: bool = False
    """It says that its file is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When a frame is gathered."""

    unix_nano: int
    monotonic_nano: int


def gather(partition: Partition, files: Iterable[Followed], *, now: Moment, idle_ns: int) -> Load | None:
    """Return the next frame of ``partition`` from its files in the given order, None where all are drained.

    An unterminated end waits until its file closes or has stood still for ``idle_ns``.
    """
    taken: list[Taken] = []
    raw = 0
    waiting = [file for file in files if file.waiting > 0]
    for file in waiting:
        room = FRAME_RAW_BYTES_TARGET - raw
        if room <= 0 or len(taken) >= FRAME_CHUNKS_MAX:
            break
        share = room if len(waiting) == 1 else min(room, FAIR_BYTES)
        ended = bool(file.closing) or now.monotonic_nano - file.changed_monotonic_nano > idle_ns
        more = take(file, share, ended=ended, now_unix_nano=now.unix_nano, chunks_max=FRAME_CHUNKS_MAX - len(taken))
        raw += sum(len(one.chunk.payload) for one in more)
        taken += more
    return load(partition, taken) if taken else None


def take(file: Followed, bytes_max: int, *, ended: bool, now_unix_nano: int, chunks_max: int) -> list[Taken]:
    """Return the next chunks of one file: one at the least, if there is one, however large it is."""
    taken: list[Taken] = []
    at, size = file.cursor, 0
    while size < bytes_max and len(taken) < chunks_max:
        try:
            found = file.next_chunk(at, ended=ended)
        except ContentChangedError:
            file.changed_content = True
            break
        except OSError as error:
            file.failed = error.strerror or str(error)
            break
        if found is None or (taken and size + len(found[0]) > bytes_max):
            break
        payload, where = found
        chunk = Chunk(
            file=file.facts, offset_start=at.offset, observed_time_unix_nano=now_unix_nano,
            flags=int(where.flags | file.flags), payload=payload,
        )  # fmt: skip
        at = at.behind(payload, at_line=bool(where.flags & ChunkFlags.ENDS_AT_LINE))
        taken.append(Taken(file=file, chunk=chunk, behind=at))
        size += len(payload)
    return taken


def closing_load(file: Followed, *, now_unix_nano: int) -> Load:
    """Return the frame that says that ``file`` is closed."""
    closing = load(file.partition, [closing_chunk(file, file.cursor, now_unix_nano=now_unix_nano)])
    return replace(closing, ends=True)


def closing_chunk(file: Followed, at: Cursor, *, now_unix_nano: int) -> Taken:
    """Return the empty chunk that says that ``file`` ends ``at``."""
    chunk = Chunk(
        file=file.facts, offset_start=at.offset, observed_time_unix_nano=now_unix_nano,
        flags=int(
            file.flags | ChunkFlags.FILE_CLOSED | (ChunkFlags.STARTS_AT_LINE if at.at_line else ChunkFlags(0))
        ),
        payload=b"",
    )  # fmt: skip
    return Taken(file=file, chunk=chunk, behind=at)


def load(partition: Partition, taken: list[Taken]) -> Load:
    """Return a frame of the chunks, or of the first half of them, until the bus takes its size."""
    while True:
        value = frame.encode(one.chunk for one in taken)
        if len(value) <= FRAME_BYTES_MAX:
            break
        if len(taken) == 1:
            raise RejectedError("one chunk does not fit a frame", size=len(value), size_max=FRAME_BYTES_MAX)
        taken = taken[: len(taken) // 2]
    behind = {one.file.facts.file_id: (one.file, one.behind) for one in taken}
    raw = sum(len(one.chunk.payload) for one in taken)
    return Load(partition=partition, value=value, raw_bytes=raw, behind=tuple(behind.values()), chunks=len(taken))

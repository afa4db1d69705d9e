"""Frames: gathered from the files' own bytes behind what is acknowledged, in the schedule's turns (C2, C4).

The source file is the queue. Nothing of it is held in memory but the frames that are under way, whatever the backlog;
a frame that failed is forgotten, and its bytes are read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ashiato.core import frame
from ashiato.core.chunk import Chunk, ChunkFlags
from ashiato.core.errors import RejectedError
from ashiato.core.limits import CHUNK_BYTES_TARGET, FRAME_BYTES_MAX, FRAME_CHUNKS_MAX
from ashiato.core.ports import Partition
from collector.crosschecks import is_watched
from collector.followed import ContentChangedError, Cursor, Followed
from collector.schedule import Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One chunk, and where its file stands behind it."""

    file: Followed
    chunk: Chunk
    behind: Cursor

    @property
    def ends(self) -> bool:
        """It says that its file is closed."""
        return bool(self.chunk.flags & ChunkFlags.FILE_CLOSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """Where a file stands once the bus keeps a frame. Its bytes stay in the frame alone, where they are compressed."""

    file: Followed
    behind: Cursor
    ends: bool
    """The frame says that the file is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A frame ready to go."""

    partition: Partition
    value: bytes
    raw_bytes: int
    behind: tuple[Reached, ...]
    """Each of its files once."""
    chunks: int
    by_source: Mapping[str, int]
    """Raw bytes of each source."""
    watched: tuple[Taken, ...] = ()
    """Chunks of security logs: cross-checks scan them once the bus keeps the frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When a frame is gathered."""

    unix_nano: int
    monotonic_nano: int


@dataclass(slots=True, kw_only=True)
class Waiting:
    """The files that have something to ship, by source, the oldest of each first."""

    by_source: dict[str, dict[str, Followed]] = field(default_factory=dict)
    held: dict[str, Followed] = field(default_factory=dict)
    """Files whose last line is not ended yet: nothing of them leaves before they grow, close or have stood still."""

    def add(self, file: Followed) -> None:
        """Take in that a file has something."""
        file_id = file.facts.file_id
        self.held.pop(file_id, None)
        files = self.by_source.setdefault(file.facts.source, {})
        if file_id not in files:
            files[file_id] = file
            if len(files) > 1:
                # Ids sort as the log was written; the oldest rotation is the first one to be deleted.
                self.by_source[file.facts.source] = dict(sorted(files.items()))

    def drop(self, file: Followed) -> None:
        """Take in that a file has nothing that can leave now."""
        files = self.by_source[file.facts.source]
        del files[file.facts.file_id]
        if not files:
            del self.by_source[file.facts.source]

    @property
    def bytes(self) -> int:
        """Bytes seen and not acknowledged."""
        behind = sum(file.waiting for files in self.by_source.values() for file in files.values())
        return behind + sum(file.waiting for file in self.held.values())


def gather(
    partition: Partition, schedule: Schedule, waiting: Waiting, *, now: Moment, idle_ns: int, frame_bytes: int
) -> Load | None:
    """Return the next frame of ``partition``, None where nothing can leave.

    An unterminated end waits until its file closes or has stood still for ``idle_ns``.
    """
    taken: list[Taken] = []
    places: dict[str, Cursor] = {}
    """Where the files stand behind what was taken of them."""
    size = 0
    while size < frame_bytes and len(taken) < FRAME_CHUNKS_MAX:
        turn = schedule.turn(partition, now.monotonic_nano)
        if turn is None:
            break
        room = _Room(size=min(turn.size, frame_bytes - size), chunks=FRAME_CHUNKS_MAX - len(taken))
        more, is_all = _serve(waiting, turn.source, places, room, now=now, idle_ns=idle_ns)
        used = sum(len(one.chunk.payload) for one in more)
        schedule.served(partition, turn.source, used, now.monotonic_nano, drained=is_all)
        size += used
        taken += more
    if not taken:
        return None
    gathered = load(partition, taken)
    for one in taken[gathered.chunks :]:
        # The bus takes no frame as large as this one became: the rest goes into the next one.
        schedule.returned(partition, one.file.facts.source, len(one.chunk.payload), now.monotonic_nano)
        waiting.add(one.file)
    return gathered


@dataclass(slots=True, kw_only=True)
class _Room:
    """What still fits."""

    size: int
    chunks: int

    def fill(self, taken: list[Taken]) -> None:
        self.size -= sum(len(one.chunk.payload) for one in taken)
        self.chunks -= len(taken)


def _serve(
    waiting: Waiting, source: str, places: dict[str, Cursor], room: _Room, *, now: Moment, idle_ns: int
) -> tuple[list[Taken], bool]:
    """Return the next chunks of a source, and whether that is all that can leave."""
    taken: list[Taken] = []
    for file_id, file in list(waiting.by_source.get(source, {}).items()):
        if room.size <= 0 or room.chunks <= 0:
            return taken, False
        ended = bool(file.closing) or now.monotonic_nano - file.changed_monotonic_nano > idle_ns
        at = places.get(file_id, file.cursor)
        more = take(file, room.size, at=at, ended=ended, now_unix_nano=now.unix_nano, chunks_max=room.chunks)
        if not more and at is file.cursor and file.closing and not file.end_sent and not file.waiting:
            more = [closing_chunk(file, at, now_unix_nano=now.unix_nano)]
        if more:
            places[file_id] = more[-1].behind
            taken += more
            room.fill(more)
            if not more[-1].ends and file.size > more[-1].behind.offset:
                return taken, False
        waiting.drop(file)
        if not more and file.size > at.offset and not (ended or file.failed or file.changed_content):
            waiting.held[file_id] = file
    return taken, True


def take(
    file: Followed, bytes_max: int, *, at: Cursor, ended: bool, now_unix_nano: int, chunks_max: int
) -> list[Taken]:
    """Return the next chunks of one file from ``at`` on: one at the least, if there is one, however large it is."""
    taken: list[Taken] = []
    size = 0
    at = file.begin_span(at)
    facts = file.facts_at(at)
    while len(taken) < chunks_max and (not taken or bytes_max - size >= CHUNK_BYTES_TARGET):
        try:
            found = file.next_chunk(at, ended=ended)
        except ContentChangedError:
            file.changed_content = True
            break
        except OSError as error:
            file.failed = error.strerror or str(error)
            break
        if found is None:
            break
        payload, where = found
        chunk = Chunk(
            file=facts, offset_start=at.offset, observed_time_unix_nano=now_unix_nano,
            flags=int(where.flags | file.flags), payload=payload,
        )  # fmt: skip
        at = at.behind(payload, at_line=bool(where.flags & ChunkFlags.ENDS_AT_LINE))
        taken.append(Taken(file=file, chunk=chunk, behind=at))
        size += len(payload)
    return taken


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
    last = {one.file.facts.file_id: one for one in taken}
    by_source = _by_source(taken)
    return Load(
        partition=partition, value=value, raw_bytes=sum(by_source.values()),
        behind=tuple(Reached(file=one.file, behind=one.behind, ends=one.ends) for one in last.values()),
        chunks=len(taken), by_source=by_source,
        watched=tuple(one for one in taken if is_watched(one.file.facts.source)),
    )  # fmt: skip


def _by_source(taken: Iterable[Taken]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for one in taken:
        source = one.file.facts.source
        sizes[source] = sizes.get(source, 0) + len(one.chunk.payload)
    return sizes

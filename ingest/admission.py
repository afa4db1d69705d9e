"""Admission: what of an arriving chunk is new (J4). Pure, but for the bytes that it asks its caller to fetch.

Bytes below the frontier are dropped only after comparison with the held bytes. Where they differ or cannot be
compared, the chunk and what follows goes under a fork of the file id, flagged, with a finding: nothing is dropped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from ashiato.core import frame
from ashiato.core.attest import are_salts
from ashiato.core.chunk import Chunk, ChunkFlags, FileFacts
from ashiato.core.errors import RejectedError
from ashiato.core.frame import HeldChunk
from ashiato.core.frontier import Cut, Does, FileState, extend, plan
from ashiato.core.ids import Kind, Source, fork_of, imported_file_id
from ashiato.core.limits import FRAME_RAW_BYTES_MAX
from ashiato.core.record import RowFlags
from ingest.contracts import Piece

_FORK: Final = "~"
_DAMAGED: Final = "file/bus/"
_FILE_ID_LENGTH_MAX: Final = 64

HeldBytes = Callable[[str, int, int], bytes | None]
"""(file_id, start, end) to the held bytes, or None where they cannot be had any more."""

FindState = Callable[[str], FileState | None]
"""What is held of a file: the frontier's entry, from its pages if need be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forked:
    """A finding: bytes arrived that contradict what is held, or that cannot be held against it."""

    file_id: str
    fork_id: str
    offset: int
    reason: str
    """``differs`` or ``cannot_compare``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """What became of one chunk: its bytes are in ``pieces`` or in ``bytes_trimmed``, every one exactly once."""

    pieces: tuple[Piece, ...] = ()
    bytes_trimmed: int = 0
    forked: Forked | None = None


@dataclass(slots=True, kw_only=True)
class Admission:
    """Admission for one partition. ``files`` holds the entries that moved since it was loaded or are active."""

    files: dict[str, FileState] = field(default_factory=dict)
    find: FindState

    def admit(self, chunk: Chunk, held: HeldBytes) -> Admitted:
        """Take a chunk in and move the file's entry on."""
        file_id = chunk.file.file_id
        origin = self._state(file_id, chunk)
        state = origin
        if origin.forks:
            fork = self._state(fork_of(file_id, origin.forks), chunk)
            state = fork if chunk.offset_start >= fork.base else origin
        cuts = plan(state, chunk.offset_start, chunk.offset_end)
        if reason := _contradiction(state, chunk, cuts, held):
            return self._fork(origin, chunk, reason)
        return self._take(state, chunk, cuts)

    def snapshot(self) -> Mapping[str, FileState]:
        """Return the entries as they stand now; they are immutable values."""
        return dict(self.files)

    def _state(self, file_id: str, chunk: Chunk) -> FileState:
        state = self.files.get(file_id) or self.find(file_id)
        if state is None:
            state = FileState(
                file_id=file_id,
                source=chunk.file.source,
                path=chunk.file.path,
                imported=bool(chunk.flags & ChunkFlags.IMPORTED),
            )
        self.files[file_id] = state
        return state

    def _take(self, state: FileState, chunk: Chunk, cuts: list[Cut]) -> Admitted:
        pieces: list[Piece] = []
        trimmed = 0
        known_end = max((state.offset, *(held.end for held in state.early)))
        for cut in cuts:
            if cut.does is Does.COMPARE:
                trimmed += cut.end - cut.start
                continue
            state = extend(state, cut, observed_time_unix_nano=chunk.observed_time_unix_nano)
            # Early rows that this piece reaches stand for themselves: a join does not go on behind them.
            reaches_early = cut.does is Does.TAKE and state.offset > cut.end
            pieces.append(_piece(state.file_id, chunk, cut, ends_joins=reaches_early))
        if chunk.flags & ChunkFlags.FILE_CLOSED and chunk.offset_end >= max(state.offset, known_end):
            if not pieces and not state.closed:
                end = Cut(start=chunk.offset_end, end=chunk.offset_end, does=Does.TAKE)
                pieces.append(_piece(state.file_id, chunk, end, ends_joins=True))
            state = msgspec.structs.replace(state, closed=True)
        elif chunk.offset_end > known_end:
            # A file that was read to its end and closed, and has grown: an import of a live folder.
            state = msgspec.structs.replace(state, closed=False)
        self.files[state.file_id] = state
        return Admitted(pieces=tuple(pieces), bytes_trimmed=trimmed)

    def _fork(self, origin: FileState, chunk: Chunk, reason: str) -> Admitted:
        number = origin.forks + 1
        fork_id = fork_of(origin.file_id, number)
        self.files[origin.file_id] = msgspec.structs.replace(origin, forks=number)
        fork = FileState(
            file_id=fork_id,
            source=origin.source,
            path=origin.path,
            base=chunk.offset_start,
            offset=chunk.offset_start,
            imported=origin.imported,
        )
        cut = Cut(start=chunk.offset_start, end=chunk.offset_end, does=Does.TAKE)
        fork = extend(fork, cut, observed_time_unix_nano=chunk.observed_time_unix_nano)
        if chunk.flags & ChunkFlags.FILE_CLOSED:
            fork = msgspec.structs.replace(fork, closed=True)
        self.files[fork_id] = fork
        finding = Forked(file_id=origin.file_id, fork_id=fork_id, offset=chunk.offset_start, reason=reason)
        return Admitted(pieces=(_piece(fork_id, chunk, cut, ends_joins=False),), forked=finding)


def _contradiction(state: FileState, chunk: Chunk, cuts: list[Cut], held: HeldBytes) -> str:
    for cut in cuts:
        if cut.does is not Does.COMPARE:
            continue
        before = held(state.file_id, cut.start, cut.end)
        if before is None:
            return "cannot_compare"
        if before != chunk.payload[cut.start - chunk.offset_start : cut.end - chunk.offset_start]:
            return "differs"
    return ""


def _piece(file_id: str, chunk: Chunk, cut: Cut, *, ends_joins: bool) -> Piece:
    flags = ChunkFlags(chunk.flags)
    if cut.end != chunk.offset_end:
        flags &= ~(ChunkFlags.FILE_CLOSED | ChunkFlags.UNTERMINATED)
    row_flags = RowFlags(0)
    if cut.does is Does.TAKE_EARLY:
        row_flags |= RowFlags.EARLY
    if _FORK in file_id:
        row_flags |= RowFlags.FORKED
    for chunk_flag, row_flag in (
        (ChunkFlags.IMPORTED, RowFlags.IMPORTED),
        (ChunkFlags.RESENT, RowFlags.RESENT),
        (ChunkFlags.SHADOW, RowFlags.SHADOW),
    ):
        if chunk.flags & chunk_flag:
            row_flags |= row_flag
    begin, end = cut.start - chunk.offset_start, cut.end - chunk.offset_start
    trimmed = msgspec.structs.replace(
        chunk,
        file=msgspec.structs.replace(chunk.file, file_id=file_id),
        offset_start=cut.start,
        flags=int(flags),
        payload=chunk.payload[begin:end],
    )
    closes = cut.does is Does.TAKE and bool(flags & ChunkFlags.FILE_CLOSED)
    return Piece(
        chunk=trimmed,
        row_flags=int(row_flags),
        retention_class=Source.parse(chunk.file.source).retention_class,
        ends_joins=ends_joins or closes,
    )


def chunks_of(value: bytes) -> list[tuple[Chunk, HeldChunk]]:
    """Return the chunks of a record of the bus, each with its compressed form.

    Raises:
        RejectedError: the record is no frame, or names what no row can hold.

    """
    held = list(frame.decode_held(value))
    if (size := sum(chunk.length for chunk in held)) > FRAME_RAW_BYTES_MAX:
        raise RejectedError("frame holds more than any collector sends", raw_bytes=size)
    chunks = frame.decode(value)
    for facts in {chunk.file for chunk in chunks}:
        Source.parse(facts.source)
        if not 0 < len(facts.file_id) <= _FILE_ID_LENGTH_MAX or _FORK in facts.file_id:
            raise RejectedError("not a file's id", length=len(facts.file_id))
        if not are_salts(facts.salts):
            raise RejectedError("not the salts of spans", salts=len(facts.salts))
        if not -1 <= facts.restart_count < 1 << 31:
            raise RejectedError("impossible restart count", restart_count=facts.restart_count)
    for chunk in chunks:
        if chunk.offset_end >= 1 << 63 or not -(1 << 63) <= chunk.observed_time_unix_nano < 1 << 63:
            raise RejectedError("chunk has an impossible offset or time", offset=chunk.offset_start)
    return list(zip(chunks, held, strict=True))


def is_damaged_frame(facts: FileFacts) -> bool:
    """Tell whether a file is a record of the bus that was no frame."""
    return facts.source.startswith(_DAMAGED)


def damaged_frame(topic: str, partition: int, incarnation: str, position: int, value: bytes, now_ns: int) -> Chunk:
    """Return the chunk under which a record of the bus that is no frame is kept: nothing is dropped."""
    seed = f"{incarnation}/{topic}/{partition}/{position}"
    file_id = imported_file_id(
        cluster="bus", node=topic, relative_path=seed, head_sha256=hashlib.sha256(value).digest(), birth_unix_ms=0
    )
    source = Source(kind=Kind.FILE, cluster="bus", node=topic, path=f"damaged/{partition}")
    facts = FileFacts(file_id=file_id, source=str(source), path=seed)
    flags = ChunkFlags.STARTS_AT_LINE | ChunkFlags.FILE_CLOSED | ChunkFlags.UNTERMINATED
    return Chunk(file=facts, offset_start=0, observed_time_unix_nano=now_ns, flags=int(flags), payload=value)

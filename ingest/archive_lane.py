"""One partition as the archiver reads it, and where it starts in it (J3, J4, J5).

Bus positions are the journal's business alone: a lane begins at the ``txn`` of the newest commit, with the frontier
that the commit names. Where the log is not the one that was read, it begins anew at the log's start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter

from ashiato.adapters.journal import Journal
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.frontier import FileState, Frontier, Page
from ashiato.core.limits import TAIL_SEGMENT_RAW_BYTES
from ashiato.core.ports import ArchiveReader, BusReader, Partition
from ingest.admission import Admission
from ingest.batch import Reached, StoredPiece
from ingest.contracts import LineState
from ingest.events import IncarnationBegun
from ingest.known_files import KnownFiles, is_same_log


@dataclass(slots=True, kw_only=True)
class Lane:
    """Where a partition is read, what is held of its files, and how their lines stand in the packs and in the tail."""

    incarnation: str
    follows: str
    """SHA-256 of the frontier that the next one is built on (J3), '' for the partition's first."""
    reached: Reached
    admission: Admission
    pages: tuple[Page, ...] = ()
    pack_states: dict[str, LineState] = field(default_factory=dict)
    """Behind the newest commit. A file without an entry stands at the start of a line, with nothing open."""
    tail_states: dict[str, LineState] = field(default_factory=dict)
    """Behind what was published."""
    tail_start: int = 0
    """The position below which everything is published or committed."""
    tail_pieces: list[tuple[int, StoredPiece]] = field(default_factory=list)
    """(position, piece) from ``tail_start`` on."""

    def carry(self, states: Iterable[tuple[str, LineState]]) -> None:
        """Take over how lines stand behind a commit."""
        carry(self.pack_states, states)

    def segments(self) -> Iterator[tuple[int, list[StoredPiece]]]:
        """Yield what waits for the tail in segments: the position behind each, and its pieces."""
        pieces: list[StoredPiece] = []
        size = end = 0
        for position, group in groupby(self.tail_pieces, key=itemgetter(0)):
            own = [piece for _, piece in group]
            own_size = sum(piece.length for piece in own)
            if pieces and size + own_size > TAIL_SEGMENT_RAW_BYTES:
                yield end, pieces
                pieces, size = [], 0
            pieces += own
            size += own_size
            end = position + 1
        if pieces:
            yield end, pieces

    def published(self, next_position: int, states: Mapping[str, LineState]) -> None:
        """Let go of what is in the tail now, and take over how lines stand behind it."""
        self.tail_pieces = [(at, piece) for at, piece in self.tail_pieces if at >= next_position]
        carry(self.tail_states, states.items())
        self.tail_start = next_position

    def committed(self, next_position: int) -> None:
        """Let go of what waited for the tail and is in a pack now."""
        if self.tail_start < next_position:
            self.tail_pieces = [(at, piece) for at, piece in self.tail_pieces if at >= next_position]
            self.tail_states = dict(self.pack_states)
            self.tail_start = next_position


def carry(into: dict[str, LineState], states: Iterable[tuple[str, LineState]]) -> None:
    """Keep how the lines of each file stand; the state in which every file begins needs no entry."""
    for file_id, state in states:
        if state == LineState():
            into.pop(file_id, None)
        else:
            into[file_id] = state


class LaneStarts:
    """Makes lanes from the journal, the archive's frontiers, and the bus's bounds."""

    def __init__(self, *, reader: BusReader, archive: ArchiveReader, journal: Journal, telemetry: Telemetry) -> None:
        self._reader = reader
        self._journal = journal
        self._telemetry = telemetry
        self._files = KnownFiles(archive, journal)

    async def lane(self, where: Partition, bus_id: str) -> Lane:
        """Return a partition's lane behind the newest commit.

        Raises:
            TransientError: the bus or the archive does not answer. NotHeldError, EvidenceError: a frontier is gone or
                is not what its commit names.

        """
        state = self._journal.state
        txn = state.positions.get(where)
        start, _ = await self._reader.bounds(where)
        if txn is None:
            return self._new(f"{bus_id}#0", "", Reached(next=start, record_sha256=""), None)
        known = await asyncio.to_thread(self._files.frontier_at, txn.frontier)
        reached = Reached(next=txn.next, record_sha256=known.record_sha256)
        if state.incarnation_of(where, bus_id) == txn.incarnation and await self.is_same_log(where, reached):
            lane = self._new(txn.incarnation, txn.frontier.sha256, reached, known)
        else:
            reached = Reached(next=start, record_sha256="")
            lane = self._new(state.next_incarnation(where, bus_id), txn.frontier.sha256, reached, known)
            topic, number = where
            self._telemetry.emit(
                IncarnationBegun(topic=topic, partition=number, incarnation=lane.incarnation, position=start)
            )
        await asyncio.to_thread(self._reopen_lines, lane)
        return lane

    async def is_same_log(self, where: Partition, reached: Reached) -> bool:
        """Tell whether the record before a position is the one that was read (J5)."""
        return await is_same_log(self._reader, where, next_position=reached.next, record_sha256=reached.record_sha256)

    def _new(self, incarnation: str, follows: str, reached: Reached, known: Frontier | None) -> Lane:
        files = {file.file_id: file for file in known.files} if known is not None else {}
        lane = Lane(
            incarnation=incarnation,
            follows=follows,
            reached=reached,
            admission=Admission(files=files, find=lambda _: None),
            pages=known.pages if known is not None else (),
            tail_start=reached.next,
        )

        def find(file_id: str) -> FileState | None:
            # Pages are looked up in the lane, which learns of new ones with each commit.
            file = self._files.find(lane.pages, file_id)
            if file is not None:
                for states in (lane.pack_states, lane.tail_states):
                    carry(states, [(file_id, self._files.lines_of(file))])
            return file

        lane.admission.find = find
        return lane

    def _reopen_lines(self, lane: Lane) -> None:
        """Rebuild how the lines of each file stood."""
        carry(lane.pack_states, ((file.file_id, self._files.lines_of(file)) for file in lane.admission.files.values()))
        lane.tail_states = dict(lane.pack_states)

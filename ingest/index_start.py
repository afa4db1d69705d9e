"""Where the indexer starts in each partition (I5), and what of the archive's frontier it needs for that.

A lane begins at a commit at or below the published position, with that commit's frontier and open joins. What the bus
no longer holds is named as the first commit whose packs have it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from ashiato.adapters.journal import Journal
from ashiato.core.frontier import FileState, Frontier
from ashiato.core.invariants import I5, check
from ashiato.core.journal import Txn
from ashiato.core.ports import ArchiveReader, BusReader, Partition
from ingest.admission import Admission
from ingest.contracts import LineState
from ingest.index_lane import Lane
from ingest.known_files import KnownFiles, is_same_log


def published_as(where: Partition, incarnation: str) -> Partition:
    """Return the name under which a position is published that counts on one incarnation of the bus alone (J5)."""
    return Partition(incarnation, where.number)


class Starts:
    """Makes lanes from the journal, the archive's frontiers, and the bus's bounds."""

    def __init__(self, *, reader: BusReader, archive: ArchiveReader, journal: Journal) -> None:
        self.files = KnownFiles(archive, journal)
        self._reader = reader
        self._journal = journal

    async def lane(self, where: Partition, bus_id: str, positions: Mapping[Partition, int]) -> tuple[Lane, int | None]:
        """Return a partition's lane, and the first commit whose packs hold what its bus no longer does (or None).

        Raises:
            TransientError: the bus or the archive does not answer.

        """
        start, end = await self._reader.bounds(where)
        newest = self._journal.state.positions.get(where)
        published = positions.get(published_as(where, self._journal.state.incarnation_of(where, bus_id)))
        if newest is None:
            # Nothing is archived yet: all that there is stands on the bus.
            lane = self._new(where, f"{bus_id}#0", start, None)
            lane.published = published if published is not None and published <= end else 0
            return lane, None
        known = await asyncio.to_thread(self.files.frontier_at, newest.frontier)
        same = self._journal.state.incarnation_of(where, bus_id) == newest.incarnation
        if not same or not await is_same_log(
            self._reader, where, next_position=known.next, record_sha256=known.record_sha256
        ):
            # (J5) another log: what the packs hold of the one before it is taken from them.
            lane = self._new(where, self._journal.state.next_incarnation(where, bus_id), start, known)
            await asyncio.to_thread(self._reopen_lines, lane)
            return lane, 0
        commit, txn = await asyncio.to_thread(self._commit_below, where, newest, published)
        behind: int | None = None
        if txn is None or txn.next < start:
            txn, behind = newest, commit + 1
        elif txn is not newest:
            known = await asyncio.to_thread(self.files.frontier_at, txn.frontier)
        check(I5, behind is not None or (published is not None and txn.next <= published), topic=where.topic)
        lane = self._new(where, txn.incarnation, txn.next, known)
        lane.published = published or 0
        await asyncio.to_thread(self._reopen_lines, lane)
        return lane, behind

    def _commit_below(self, where: Partition, newest: Txn, published: int | None) -> tuple[int, Txn | None]:
        """Return the newest commit that moved ``where`` to at most ``published``; (-1, None) where there is none."""
        if published is None:
            return -1, None
        for n in range(self._journal.state.next_n - 1, -1, -1):
            commit = self._journal.read(n)
            for txn in commit.txns if commit is not None else ():
                if txn.where != where:
                    continue
                if txn.incarnation != newest.incarnation:
                    return -1, None
                if txn.next <= published:
                    return n, newest if txn == newest else txn
        return -1, None

    def _new(self, where: Partition, incarnation: str, start: int, known: Frontier | None) -> Lane:
        files = {file.file_id: file for file in known.files} if known is not None else {}
        lane = Lane(
            where=where,
            incarnation=incarnation,
            next=start,
            admission=Admission(files=files, find=lambda _: None),
            pages=known.pages if known is not None else (),
        )

        def find(file_id: str) -> FileState | None:
            # Pages are looked up in the lane, which learns of new ones.
            file = self.files.find(lane.pages, file_id)
            if file is not None:
                _stand(lane, file_id, self.files.lines_of(file))
            return file

        lane.admission.find = find
        return lane

    def _reopen_lines(self, lane: Lane) -> None:
        """Rebuild how the lines of each file stood at the frontier."""
        for file in lane.admission.files.values():
            _stand(lane, file.file_id, self.files.lines_of(file))


def _stand(lane: Lane, file_id: str, state: LineState) -> None:
    """Note how a file's lines stand; the state in which every file begins needs no entry."""
    if state != LineState():
        lane.states[file_id] = state

"""Where the indexer starts in each partition (I5), and what of the archive's frontier it needs for that.

A lane begins at a commit at or below the published position, with that commit's frontier and open joins. What the bus
no longer holds is named as the first commit whose packs have it.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace

from ashiato.adapters.journal import Journal
from ashiato.core import frontier
from ashiato.core.frontier import FileState, Frontier, Page
from ashiato.core.invariants import I5, check
from ashiato.core.journal import FrontierRef, Txn
from ashiato.core.ports import ArchiveReader, BusReader, Partition
from ingest.admission import Admission
from ingest.contracts import LineState
from ingest.held import HeldPacks
from ingest.index_lane import Lane
from ingest.rows import reopen


class Starts:
    """Makes lanes from the journal, the archive's frontiers, and the bus's bounds."""

    def __init__(self, *, reader: BusReader, archive: ArchiveReader, journal: Journal) -> None:
        self._reader = reader
        self._archive = archive
        self._journal = journal

    async def lane(self, where: Partition, bus_id: str, published: int | None) -> tuple[Lane, int | None]:
        """Return a partition's lane, and the first commit whose packs hold what its bus no longer does (or None).

        Raises:
            TransientError: the bus or the archive does not answer.

        """
        start, end = await self._reader.bounds(where)
        newest = self._journal.state.positions.get(where)
        if newest is None:
            # Nothing is archived yet: all that there is stands on the bus.
            lane = self._new(where, f"{bus_id}#0", start, None)
            lane.published = published if published is not None and published <= end else 0
            return lane, None
        known = await asyncio.to_thread(self.frontier_at, newest.frontier)
        same = self._journal.state.incarnation_of(where, bus_id) == newest.incarnation
        if not same or not await self._same_log(where, known):
            # (J5) another log: what the packs hold of the one before it is taken from them.
            lane = self._new(where, self._journal.state.next_incarnation(where, bus_id), start, known)
            await asyncio.to_thread(self._reopen_lines, lane)
            return lane, 0
        commit, txn = await asyncio.to_thread(self._commit_below, where, newest, published)
        behind: int | None = None
        if txn is None or txn.next < start:
            txn, behind = newest, commit + 1
        elif txn is not newest:
            known = await asyncio.to_thread(self.frontier_at, txn.frontier)
        check(I5, behind is not None or (published is not None and txn.next <= published), topic=where.topic)
        lane = self._new(where, txn.incarnation, txn.next, known)
        lane.published = published or 0
        await asyncio.to_thread(self._reopen_lines, lane)
        return lane, behind

    def frontier_at(self, ref: FrontierRef) -> Frontier:
        """Return the frontier that a commit names, held against its hash."""
        content, _ = self._archive.get("work", ref.path, ref.version_id)
        return frontier.decode(content, ref.sha256)

    def files_of(self, page: Page) -> tuple[FileState, ...]:
        """Return the files of a page, held against its hash."""
        content, _ = self._archive.get("work", page.path, page.version_id)
        return frontier.decode_page(content, page.sha256)

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
        # Pages are looked up in the lane, which learns of new ones.
        lane.admission.find = lambda file_id: self._find_in_pages(lane.pages, file_id)
        return lane

    def _find_in_pages(self, pages: tuple[Page, ...], file_id: str) -> FileState | None:
        for page in reversed(pages):
            if page.file_id_min <= file_id <= page.file_id_max:
                found = next((file for file in self.files_of(page) if file.file_id == file_id), None)
                if found is not None:
                    return found
        return None

    async def _same_log(self, where: Partition, known: Frontier) -> bool:
        """Whether the record before the committed position is the one that was archived (J5)."""
        if not known.record_sha256:
            return True
        record = await self._reader.read_one(where, known.next - 1)
        return record is not None and hashlib.sha256(record.value).hexdigest() == known.record_sha256

    def _reopen_lines(self, lane: Lane) -> None:
        """Rebuild how the lines of each file stood at the frontier: it carries no payload, the packs do."""
        packs = HeldPacks(self._archive, self._journal.state)
        for file in lane.admission.files.values():
            state = LineState(
                at_line=file.at_line, cut_iostream=file.cut_iostream, cut_time_unix_nano=file.cut_time_unix_nano
            )
            if file.open_joins:
                rows = packs.rows_of(file, min(join.first_offset for join in file.open_joins))
                state = replace(state, open_parts=reopen(file.file_id, rows).open_parts)
            if state != LineState():
                lane.states[file.file_id] = state

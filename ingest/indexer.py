"""The indexing consumer: from the bus to the hot index, behind nobody's back and in nobody's way.

It reads the bus beside the archiver, so that an index that is away never delays evidence. It starts from the frontier
of a commit at or below the position that it published (I5), replays from there and trims as the archiver does;
replays are harmless, because documents are created under their record's id. It publishes a position only after
everything below it can be searched (I4). Forks, damaged records, and whatever the bus no longer holds come from packs.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, TypeVar

import msgspec
import pyarrow as pa

from ashiato.adapters.journal import Journal
from ashiato.adapters.opensearch_mapping import CLASS_KEY
from ashiato.adapters.telemetry import Telemetry
from ashiato.core import frame, frontier
from ashiato.core.chunk import Chunk
from ashiato.core.errors import NotHeldError, RejectedError, TransientError
from ashiato.core.events import PartUnavailable
from ashiato.core.frontier import FileState, Frontier, Page
from ashiato.core.ids import TOPICS
from ashiato.core.invariants import I5, check
from ashiato.core.journal import AddedPack, FrontierRef, Txn
from ashiato.core.limits import FRONTIER_ACTIVE_FILES_MAX
from ashiato.core.ports import ArchiveReader, BusReader, BusRecord, Clock, Document, IndexWriter, Partition
from ashiato.core.record import to_document
from ingest.admission import Admission
from ingest.contracts import LineState, Piece
from ingest.events import IndexedFromPacks, RowsIndexed, RowsNotIndexed
from ingest.held import HeldPacks, held_or_none
from ingest.packed_rows import files_from_packs_only, is_from_packs_only, rows_of_pack
from ingest.rows import build_rows, reopen

T = TypeVar("T")

FOLLOWED: Final = Partition("journal", 0)
"""Published beside the bus's partitions: the next commit whose packs are to be looked through for forks."""

POLL_BYTES: Final = 2 * 1024 * 1024
"""Compressed bytes taken from the bus at once; their rows are written before more is read."""
SLICE_ROWS: Final = 4096
"""Rows that stand as documents in memory at once."""
_RETRY_S_MIN: Final = 0.2
_RETRY_S_MAX: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexerSettings:
    """How fresh the index is, and how far back a lost one is filled."""

    publish_age_ns: int = 1_000_000_000
    """A position is published at most this long after what it covers was written."""
    follow_age_ns: int = 5_000_000_000
    """The journal is read this often."""
    poll_wait_ns: int = 100_000_000
    rebuild_age_ns: int = 7 * 86_400_000_000_000
    """What the bus no longer holds is taken from packs read by a node since this long before now; the archive alone
    answers for what is older."""


class StartAgainError(TransientError):
    """What is known of a partition is not to be trusted any more: it is read again from a commit."""

    code = "start_again"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where on the bus bytes ``[start, end)`` of a file were read."""

    start: int
    end: int
    where: Partition
    position: int


@dataclass(slots=True, kw_only=True)
class _Lane:
    """One partition: where it is read, what was taken, and how its lines stand."""

    incarnation: str
    next: int
    published: int = 0
    """The published position that still holds while the lane catches up with it."""
    admission: Admission
    pages: tuple[Page, ...] = ()
    states: dict[str, LineState] = field(default_factory=dict)
    places: dict[str, list[_Place]] = field(default_factory=dict)


class Indexer:
    """One indexing process. Several may run beside each other: they do the same work, and nothing is doubled."""

    def __init__(
        self,
        settings: IndexerSettings,
        *,
        reader: BusReader,
        archive: ArchiveReader,
        writer: IndexWriter,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._settings = settings
        self._reader = reader
        self._archive = archive
        self._writer = writer
        self._clock = clock
        self._telemetry = telemetry
        self._stop = asyncio.Event()
        self.journal = Journal(archive)
        self._lanes: dict[Partition, _Lane] = {}
        self._published: dict[Partition, int] = {}
        self._followed = 0
        self._publish_due_ns = 0
        self._follow_due_ns = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Index until ``stop`` is set."""
        self._stop = stop
        try:
            await self._open_patiently()
            while not stop.is_set():
                await self._step_or_start_again()
            await self._publish()
        except _StoppedError:
            # Stopped while a part was away: what was not published is read again.
            return

    async def drain(self) -> None:
        """Index everything that the bus holds now, publish, and return."""
        await self._open_patiently()
        ends = {where: (await self._reader.bounds(where))[1] for where in self._lanes}
        while any(self._lanes[where].next < end for where, end in ends.items()):
            await self._step_or_start_again()
        await self._follow()
        await self._publish()

    async def open(self) -> None:
        """Choose each partition's start (I5), fill from packs what the bus no longer holds, assign the reader.

        Raises:
            TransientError: the bus, the archive or the index does not answer.

        """
        self._published = dict(await self._writer.positions())
        await self.journal.refresh_async()
        self._followed = self._published.get(FOLLOWED, 0)
        self._lanes, missed = {}, []
        for topic in TOPICS:
            bus_id = await self._reader.incarnation(topic)
            for number in range(await self._reader.partitions(topic)):
                where = Partition(topic, number)
                self._lanes[where], behind = await self._lane(where, bus_id)
                missed += [behind] if behind is not None else []
        if missed:
            await self._fill(min(missed))
        await self._reader.assign({where: lane.next for where, lane in self._lanes.items()})
        self._publish_due_ns = self._follow_due_ns = self._clock.monotonic_nano()

    async def step(self) -> None:
        """Read once and write what was read; follow the journal and publish where that is due."""
        records = await self._poll()
        if records:
            for retention_class, rows in await asyncio.to_thread(self._take_all, records):
                await self._write(rows, retention_class)
            for record in records:
                self._lanes[record.partition].next = record.position + 1
        now = self._clock.monotonic_nano()
        if now >= self._follow_due_ns:
            await self._follow()
            self._follow_due_ns = now + self._settings.follow_age_ns
        if now >= self._publish_due_ns:
            await self._publish()
            self._publish_due_ns = now + self._settings.publish_age_ns

    # -- opening ---------------------------------------------------------------------------------------------

    async def _open_patiently(self) -> None:
        await self._patiently("start", self.open)

    async def _step_or_start_again(self) -> None:
        try:
            await self.step()
        except StartAgainError:
            await self._open_patiently()

    async def _lane(self, where: Partition, bus_id: str) -> tuple[_Lane, int | None]:
        """Return a partition's lane, and the first commit whose packs hold what its bus no longer does (or None)."""
        start, end = await self._reader.bounds(where)
        published = self._published.get(where)
        newest = self.journal.state.positions.get(where)
        if newest is None:
            # Nothing is archived yet: all that there is stands on the bus.
            lane = self._new_lane(f"{bus_id}#0", start, None)
            lane.published = published if published is not None and published <= end else 0
            return lane, None
        known = await asyncio.to_thread(self._frontier, newest.frontier)
        same = self.journal.state.incarnation_of(where, bus_id) == newest.incarnation
        if not same or not await self._same_log(where, known):
            # (J5) another log: what the packs hold of the one before it is taken from them.
            lane = self._new_lane(self.journal.state.next_incarnation(where, bus_id), start, known)
            await asyncio.to_thread(self._reopen_lines, lane)
            return lane, 0
        commit, txn = await asyncio.to_thread(self._commit_below, where, newest, published)
        behind: int | None = None
        if txn is None or txn.next < start:
            txn, behind = newest, commit + 1
        elif txn is not newest:
            known = await asyncio.to_thread(self._frontier, txn.frontier)
        check(I5, txn is newest or (published is not None and txn.next <= published), topic=where.topic)
        lane = self._new_lane(txn.incarnation, txn.next, known)
        lane.published = published or 0
        await asyncio.to_thread(self._reopen_lines, lane)
        return lane, behind

    def _commit_below(self, where: Partition, newest: Txn, published: int | None) -> tuple[int, Txn | None]:
        """Return the newest commit that moved ``where`` to at most ``published``; (-1, None) where there is none."""
        if published is None:
            return -1, None
        for n in range(self.journal.state.next_n - 1, -1, -1):
            commit = self.journal.read(n)
            for txn in commit.txns if commit is not None else ():
                if txn.where != where:
                    continue
                if txn.incarnation != newest.incarnation:
                    return -1, None
                if txn.next <= published:
                    return n, newest if txn == newest else txn
        return -1, None

    def _new_lane(self, incarnation: str, start: int, known: Frontier | None) -> _Lane:
        pages = known.pages if known is not None else ()
        files = {file.file_id: file for file in known.files} if known is not None else {}
        lane = _Lane(
            incarnation=incarnation, next=start, pages=pages, admission=Admission(files=files, find=lambda _: None)
        )
        lane.admission.find = lambda file_id: self._find_in_pages(lane.pages, file_id)
        return lane

    async def _same_log(self, where: Partition, known: Frontier) -> bool:
        """Whether the record before the committed position is the one that was archived (J5)."""
        if not known.record_sha256:
            return True
        record = await self._reader.read_one(where, known.next - 1)
        return record is not None and hashlib.sha256(record.value).hexdigest() == known.record_sha256

    def _frontier(self, ref: FrontierRef) -> Frontier:
        content, _ = self._archive.get("work", ref.path, ref.version_id)
        return frontier.decode(content, ref.sha256)

    def _find_in_pages(self, pages: tuple[Page, ...], file_id: str) -> FileState | None:
        for page in reversed(pages):
            if page.file_id_min <= file_id <= page.file_id_max:
                found = next((f for f in self._page(page) if f.file_id == file_id), None)
                if found is not None:
                    return found
        return None

    def _page(self, page: Page) -> tuple[FileState, ...]:
        content, _ = self._archive.get("work", page.path, page.version_id)
        return frontier.decode_page(content, page.sha256)

    def _reopen_lines(self, lane: _Lane) -> None:
        """Rebuild how the lines of each file stood at the frontier: it carries no payload, the packs do."""
        packs = HeldPacks(self._archive, self.journal.state)
        for file in lane.admission.files.values():
            state = LineState(
                at_line=file.at_line, cut_iostream=file.cut_iostream, cut_time_unix_nano=file.cut_time_unix_nano
            )
            if file.open_joins:
                rows = packs.rows_of(file, min(join.first_offset for join in file.open_joins))
                state = replace(state, open_parts=reopen(file.file_id, rows).open_parts)
            if state != LineState():
                lane.states[file.file_id] = state

    # -- from the bus ----------------------------------------------------------------------------------------

    async def _poll(self) -> list[BusRecord]:
        try:
            return await self._reader.poll(bytes_max=POLL_BYTES, wait_ns=self._settings.poll_wait_ns)
        except NotHeldError as error:
            # (J5) the bus no longer holds what follows: look again at which log this is.
            raise StartAgainError("bus position is out of range", **error.facts) from error
        except TransientError as error:
            self._telemetry.emit(PartUnavailable(part="bus", error=str(error), retry_in_ms=1000))
            await self._pause(1.0)
            return []

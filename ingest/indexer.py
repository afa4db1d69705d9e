"""The indexing consumer: from the bus to the hot index, behind nobody's back and in nobody's way.

It reads the bus beside the archiver, so that an index that is away never delays evidence. It starts from the frontier
of a commit at or below the position that it published (I5), replays from there and trims as the archiver does;
replays are harmless, because documents are created under their record's id. It publishes a position only after
everything below it can be searched (I4). Forks, damaged records, and whatever the bus no longer holds come from packs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import pyarrow as pa

from ashiato.adapters.journal import Journal
from ashiato.adapters.telemetry import Telemetry
from ashiato.core import frame
from ashiato.core.errors import NotHeldError, RejectedError, TransientError
from ashiato.core.events import PartUnavailable
from ashiato.core.ids import TOPICS
from ashiato.core.journal import AddedPack
from ashiato.core.limits import KIB
from ashiato.core.ports import ArchiveReader, BusReader, BusRecord, Clock, Partition
from ingest.admission import chunks_of
from ingest.contracts import LineState, Piece
from ingest.held import HeldPacks, held_or_none
from ingest.index_events import IndexedFromPacks, PartitionReadAgain, RowsNotIndexed
from ingest.index_lane import Lane
from ingest.index_start import Starts, published_as
from ingest.index_writes import FOLLOWED, IndexWrites, RowsWriter
from ingest.packed_rows import files_from_packs_only, rows_of_pack
from ingest.rows import build_rows

T = TypeVar("T")

POLL_BYTES: Final = 256 * KIB
"""Compressed bytes taken from the bus at once: their rows are written before a position can be published, so with much
more a backlog would make what is new wait for all of it."""
WORTH_BYTES: Final = POLL_BYTES // 4
"""Less is not worth a request of its own: it is gathered for a while."""
_RETRY_S_MIN: Final = 0.2
_RETRY_S_MAX: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexerSettings:
    """How fresh the index is, and how far back a lost one is filled."""

    publish_age_ns: int = 1_000_000_000
    """Positions are published this often, beside the reading of what follows; 0: within each step."""
    follow_age_ns: int = 5_000_000_000
    """The journal is read this often."""
    poll_wait_ns: int = 100_000_000
    gather_ns: int = 200_000_000
    """What arrives within this time is written together: many small requests cost the index more than few large."""
    rebuild_age_ns: int = 7 * 86_400_000_000_000
    """What the bus no longer holds is taken from packs read by a node since this long before now; the archive alone
    answers for what is older."""


class StartAgainError(TransientError):
    """What is known of a partition is not to be trusted any more: it is read again from a commit."""

    code = "start_again"


class _StoppedError(Exception):
    """The service is to stop while it waits for a part."""


class Indexer:
    """One indexing process. Several may run beside each other: they do the same work, and nothing is doubled."""

    def __init__(
        self,
        settings: IndexerSettings,
        *,
        reader: BusReader,
        archive: ArchiveReader,
        writer: RowsWriter,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._settings = settings
        self._reader = reader
        self._archive = archive
        self._clock = clock
        self._telemetry = telemetry
        self._writes = IndexWrites(writer, telemetry=telemetry, patiently=self._patiently)
        self._stop = asyncio.Event()
        self.journal = Journal(archive)
        self._starts = Starts(reader=reader, archive=archive, journal=self.journal)
        self._lanes: dict[Partition, Lane] = {}
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
        finally:
            await self._writes.abandon()

    async def drain(self) -> None:
        """Index everything that the bus and the journal hold now, publish, and return."""
        try:
            await self._drain()
        finally:
            await self._writes.abandon()

    async def _drain(self) -> None:
        await self._open_patiently()
        ends = {where: (await self._reader.bounds(where))[1] for where in self._lanes}
        settled = False
        while not settled:
            while any(self._lanes[where].next < end for where, end in ends.items()):
                await self._step_or_start_again()
            try:
                await self._patiently("archive", self._follow)
                settled = True
            except StartAgainError as error:
                await self._start_again(error)
        await self._publish()

    async def open(self) -> None:
        """Choose each partition's start (I5), fill from packs what the bus no longer holds, assign the reader.

        Raises:
            TransientError: the bus, the archive or the index does not answer.

        """
        await self._writes.begin_anew()
        await self.journal.refresh_async()
        self._followed = self._writes.published.get(FOLLOWED, 0)
        self._lanes, missed = {}, []
        for where, bus_id in (await self._bus_ids()).items():
            self._lanes[where], behind = await self._starts.lane(where, bus_id, self._writes.published)
            missed += [behind] if behind is not None else []
        if missed:
            await self._fill(min(missed))
        await self._reader.assign({where: lane.next for where, lane in self._lanes.items()})
        self._publish_due_ns = self._follow_due_ns = self._clock.monotonic_nano()

    async def step(self) -> None:
        """Read once and begin to write what was read; follow the journal and publish where that is due.

        Raises:
            StartAgainError: what was taken since the last publication is to be read again; see :meth:`open`.

        """
        records = await self._poll()
        if records:
            for retention_class, rows in await self._take_or_start_again(records):
                await self._writes.write(rows, retention_class)
            for record in records:
                self._lanes[record.partition].next = record.position + 1
        now = self._clock.monotonic_nano()
        if now >= self._follow_due_ns:
            await self._follow_if_possible()
            self._follow_due_ns = now + self._settings.follow_age_ns
        if now >= self._publish_due_ns and not self._writes.is_publishing:
            await self._writes.begin_to_publish(self._followed, self._reached())
            if not self._settings.publish_age_ns:
                await self._publish()
            self._publish_due_ns = now + self._settings.publish_age_ns

    # -- opening ---------------------------------------------------------------------------------------------

    async def _open_patiently(self) -> None:
        await self._patiently("start", self.open)

    async def _step_or_start_again(self) -> None:
        try:
            await self.step()
        except StartAgainError as error:
            await self._start_again(error)

    async def _start_again(self, error: StartAgainError) -> None:
        self._telemetry.emit(PartitionReadAgain(detail=str(error)))
        await self._pause(_RETRY_S_MIN)
        await self._open_patiently()

    async def _bus_ids(self) -> dict[Partition, str]:
        """Return every partition with the id of its log. Topics that nobody has made yet are waited for."""
        found: dict[Partition, str] = {}
        try:
            for topic in TOPICS:
                bus_id = await self._reader.incarnation(topic)
                found |= {Partition(topic, n): bus_id for n in range(await self._reader.partitions(topic))}
        except NotHeldError as error:
            raise TransientError(f"the bus is not there yet: {error.message}", **error.facts) from error
        return found

    async def _fill(self, first_commit: int) -> None:
        """Index the packs of ``first_commit`` and of all later ones, as far back as is asked for."""
        since = self._clock.now_unix_nano() - self._settings.rebuild_age_ns
        packs = [pack for pack in self._packs_since(first_commit) if pack.observed_max_unix_nano >= since]
        await self._index_packs(dict.fromkeys(packs), "behind_the_bus")
        if first_commit <= self._followed:
            self._followed = self.journal.state.next_n

    # -- from the bus ----------------------------------------------------------------------------------------

    async def _poll(self) -> list[BusRecord]:
        try:
            records = await self._reader.poll(bytes_max=POLL_BYTES, wait_ns=self._settings.poll_wait_ns)
            size = sum(len(record.value) for record in records)
            if records and size < WORTH_BYTES and self._settings.gather_ns:
                records += await self._gather(POLL_BYTES - size)
        except NotHeldError as error:
            # (J5) the bus no longer holds what follows: look again at which log this is.
            raise StartAgainError("bus position is out of range", **error.facts) from error
        except TransientError as error:
            self._telemetry.emit(PartUnavailable(part="bus", error=str(error), retry_in_ms=1000))
            await self._pause(1.0)
            return []
        return records

    async def _gather(self, bytes_max: int) -> list[BusRecord]:
        """Return what arrives within a short while; where the bus is gone by then, the next poll says so."""
        await asyncio.sleep(self._settings.gather_ns / 1e9)
        try:
            return await self._reader.poll(bytes_max=bytes_max, wait_ns=0)
        except TransientError:
            return []

    async def _take_or_start_again(self, records: list[BusRecord]) -> list[tuple[str, pa.Table]]:
        loop = asyncio.get_running_loop()

        def read_one(where: Partition, position: int) -> BusRecord | None:
            return asyncio.run_coroutine_threadsafe(self._reader.read_one(where, position), loop).result()

        try:
            return await asyncio.to_thread(self._take_all, records, _Read(records, read_one))
        except TransientError as error:
            # Some of the records are taken in and their rows are nowhere: none of them counts.
            raise StartAgainError("bytes that came again could not be compared now", detail=str(error)) from error

    def _take_all(self, records: list[BusRecord], read: _Read) -> list[tuple[str, pa.Table]]:
        """Return the rows of ``records`` by retention class, and move the lanes' lines on."""
        packs = HeldPacks(self._archive, self.journal.state)
        taken: dict[Partition, list[Piece]] = {}
        for record in records:
            lane = self._lanes[record.partition]
            try:
                chunks = [chunk for chunk, _ in chunks_of(record.value)]
            except RejectedError:
                # The archiver keeps it under a name of its own, and says so.
                lane.wait_for_packs(record.position)
                continue
            held = partial(_held, lane, read, packs)
            taken.setdefault(record.partition, []).extend(lane.take(record.position, chunks, held))
        built: list[tuple[str, pa.Table]] = []
        for where, pieces in taken.items():
            states = self._lanes[where].states
            for retention_class in sorted({piece.retention_class for piece in pieces}):
                own = [piece for piece in pieces if piece.retention_class == retention_class]
                rows, after, _ = build_rows(own, states)
                _carry(states, after)
                built.append((retention_class, rows))
        return built

    async def _publish(self) -> None:
        await self._writes.publish(self._followed, self._reached())

    def _reached(self) -> dict[Partition, int]:
        reached = {where: lane.reached for where, lane in self._lanes.items()}
        return reached | {published_as(where, lane.incarnation): lane.reached for where, lane in self._lanes.items()}

    # -- from packs ------------------------------------------------------------------------------------------

    async def _follow_if_possible(self) -> None:
        try:
            await self._follow()
        except StartAgainError:
            raise
        except TransientError as error:
            # The archive is away: the index goes on from the bus, and follows later.
            wait_ms = self._settings.follow_age_ns // 1_000_000
            self._telemetry.emit(PartUnavailable(part="archive", error=str(error), retry_in_ms=wait_ms))

    async def _follow(self) -> None:
        """Take from new commits the rows that only packs can give, and what they hold of the files.

        Raises:
            StartAgainError: the archiver decided otherwise than a lane did, or decided what it could not.
            TransientError: the archive does not answer.

        """
        await self.journal.refresh_async()
        if self._followed >= self.journal.state.next_n:
            return
        doubted = frozenset(file_id for lane in self._lanes.values() for file_id in lane.doubted)
        wanted: dict[AddedPack, frozenset[str] | None] = {}
        for pack in self._packs_since(self._followed):
            if files := await asyncio.to_thread(self._files_to_take, pack, doubted):
                wanted[pack] = files
        await self._index_packs(wanted, "named_by_the_archiver")
        self._followed = self.journal.state.next_n
        again = [str(where) for where, lane in self._lanes.items() if not await self._go_on(lane)]
        if again:
            await self._publish()
            raise StartAgainError("the archiver knows better what is held", partitions=", ".join(again))

    async def _go_on(self, lane: Lane) -> bool:
        """Tell a lane what the newest commit holds; False where it is to be made anew."""
        txn = self.journal.state.positions.get(lane.where)
        if txn is None or txn.incarnation != lane.incarnation:
            return True
        if lane.followed(txn.next):
            return False
        if lane.next < txn.next:
            return True
        known = await asyncio.to_thread(self._starts.files.frontier_at, txn.frontier)
        return await asyncio.to_thread(lane.learn, known, self._starts.files.files_of)

    def _packs_since(self, commit: int) -> list[AddedPack]:
        return sorted(
            (pack for pack in self.journal.state.packs.values() if pack.commit >= commit),
            key=lambda pack: (pack.commit, pack.path),
        )

    def _files_to_take(self, pack: AddedPack, doubted: frozenset[str]) -> frozenset[str]:
        try:
            return files_from_packs_only(self._archive, pack) | doubted
        except NotHeldError:
            # It is said where its rows are read.
            return doubted

    async def _index_packs(self, wanted: dict[AddedPack, frozenset[str] | None], reason: str) -> None:
        """Index packs: all their rows, or those of the files named."""
        count = 0
        for pack, files in wanted.items():
            try:
                parts = rows_of_pack(self._archive, pack, files)
                while (rows := await asyncio.to_thread(next, parts, None)) is not None:
                    await self._writes.write(rows, pack.retention_class)
                    count += rows.num_rows
            except NotHeldError:
                await self._say_missing(pack)
        if count:
            self._telemetry.emit(IndexedFromPacks(reason=reason, packs=len(wanted), rows=count))

    async def _say_missing(self, pack: AddedPack) -> None:
        await self.journal.refresh_async()
        if pack.path in self.journal.state.packs:
            self._telemetry.emit(RowsNotIndexed(rows=pack.rows, reason="pack_not_held", name=pack.path))

    # -- patience --------------------------------------------------------------------------------------------

    async def _patiently(self, part: str, call: Callable[[], Awaitable[T]]) -> T:
        """Call until the part answers: an index that is away is waited for, and nothing is lost meanwhile."""
        wait_s = _RETRY_S_MIN
        while True:
            try:
                return await call()
            except StartAgainError:
                raise
            except TransientError as error:
                self._telemetry.emit(PartUnavailable(part=part, error=str(error), retry_in_ms=int(wait_s * 1000)))
                await self._pause(wait_s)
                wait_s = min(2 * wait_s, _RETRY_S_MAX)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return
        raise _StoppedError


class _Read:
    """Records of the bus that were read, or can be read again."""

    def __init__(self, records: list[BusRecord], read_one: Callable[[Partition, int], BusRecord | None]) -> None:
        self._records = {(record.partition, record.position): record for record in records}
        self._read_one = read_one

    def bytes_of(self, where: Partition, position: int, file_id: str, start: int, end: int) -> bytes:
        """Return bytes of a file from ``start`` up to ``end`` or less, b'' where the bus does not hold them."""
        record = self._records.get((where, position)) or self._read_one(where, position)
        try:
            chunks = frame.decode(record.value) if record is not None else []
        except RejectedError:
            # The bus holds something else there by now.
            return b""
        for chunk in chunks:
            if chunk.file.file_id == file_id and chunk.offset_start <= start < chunk.offset_end:
                return chunk.payload[start - chunk.offset_start : end - chunk.offset_start]
        return b""


def _held(lane: Lane, read: _Read, packs: HeldPacks, file_id: str, start: int, end: int) -> bytes | None:
    """Return bytes that were taken before, from the bus and from packs; None where one is out of reach."""
    file = lane.admission.files[file_id]
    parts: list[bytes] = []
    at = start
    while at < end:
        part = b""
        if place := lane.place_of(file_id, at):
            part = read.bytes_of(lane.where, place.position, file_id, at, min(end, place.end))
        if not part:
            stop = min((held.end for held in file.ranges if held.start <= at < held.end and held.pack), default=at)
            part = held_or_none(packs, file, at, min(stop, end)) or b""
        if not part:
            return None
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _carry(states: dict[str, LineState], after: dict[str, LineState]) -> None:
    """Keep how the lines of each file stand; the empty state is what a file without an entry has."""
    for file_id, state in after.items():
        if state == LineState():
            states.pop(file_id, None)
        else:
            states[file_id] = state

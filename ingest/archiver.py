"""The archiving consumer: from the bus to packs and commits, without leases and without losing or doubling a byte.

One batch is gathered while the one before it is built, put and committed. Packs are put first; a pack without a
commit does not exist. A loser reads the winner and either tries the next number or throws its batch away (J2). What
is newer than the newest commit is published as tail segments.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from ashiato import __version__
from ashiato.adapters.journal import JournalWriter, Lost, new_act_id
from ashiato.adapters.telemetry import Telemetry
from ashiato.core import journal
from ashiato.core.chunk import Chunk
from ashiato.core.errors import NotHeldError, RejectedError, TransientError
from ashiato.core.events import PartUnavailable, ServiceStarted, ServiceStopped
from ashiato.core.frame import HeldChunk
from ashiato.core.frontier import FileState
from ashiato.core.ids import TOPICS
from ashiato.core.journal import AddedPack, Commit, Txn, Verdict
from ashiato.core.limits import (
    BATCH_HELD_BYTES_MAX,
    CHUNK_OWN_BLOCK_BYTES,
    COMMIT_ATTEMPTS_MAX,
    MIB,
    TAIL_BEHIND_NS,
    TAIL_SEGMENT_AGE_NS,
)
from ashiato.core.ports import ArchiveWriter, BusReader, BusRecord, Clock, Partition
from ashiato.core.record import RowFlags
from ingest import leftovers
from ingest.admission import chunks_of, damaged_frame, is_damaged_frame
from ingest.archive_lane import Lane, LaneStarts
from ingest.archive_put import FrontierPut, carried, put_frontier, put_pack, put_sidecars, settle
from ingest.batch import Batch, Reached, at_rest
from ingest.batch_packs import build_packs
from ingest.contracts import LineState
from ingest.events import BytesTrimmed, CommitLost, CommitMade, FileForked, FrameDamaged, lines_quarantined
from ingest.held import HeldPacks, held_or_none
from ingest.rows import build_rows
from ingest.tail import TailFolder

T = TypeVar("T")

POLL_BYTES: Final = 2 * MIB
"""Compressed bytes taken from the bus at once."""
_RETRY_NS_MAX: Final = 5_000_000_000
_IDLE_STOP_S: Final = 2.0
"""At shutdown, with nothing admitted, the step under way gets this long."""


class BatchLostError(TransientError):
    """What was admitted since the last commit is not to be trusted any more: it is read again from there."""

    code = "batch_lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiverSettings:
    """When a commit is made."""

    actor: str
    commit_raw_bytes: int
    commit_age_ns: int
    poll_wait_ns: int = 100_000_000
    retry_wait_ns: int = 200_000_000
    """How long a part that did not answer is left alone at first; doubled up to five seconds."""
    stop_grace_s: float = 15.0
    """At shutdown, what was admitted is committed within this time; what is not stays on the bus."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Committed:
    """What a finished commit leaves to be carried over."""

    batch: Batch
    stored: tuple[FrontierPut, ...]
    files: Mapping[Partition, Mapping[str, FileState]]
    states: Mapping[str, LineState]


class Archiver:
    """One archiving process. Several may run: the journal decides whose work counts."""

    def __init__(
        self,
        settings: ArchiverSettings,
        *,
        reader: BusReader,
        archive: ArchiveWriter,
        clock: Clock,
        telemetry: Telemetry,
        scratch: Path,
        tail: TailFolder | None = None,
    ) -> None:
        self._settings = settings
        self._reader = reader
        self._archive = archive
        self._clock = clock
        self._telemetry = telemetry
        self._scratch = scratch
        self._tail = tail
        self.journal = JournalWriter(archive)
        self._packs = HeldPacks(archive, self.journal.state)
        self._starts = LaneStarts(reader=reader, archive=archive, journal=self.journal, telemetry=telemetry)
        self._lanes: dict[Partition, Lane] = {}
        self._batch = Batch(started_monotonic_nano=0)
        self._sealed: Batch | None = None
        self._committing: asyncio.Task[_Committed] | None = None
        self._tail_due_ns = 0
        self._behind = self._draining = self._bus_was_away = False

    async def run(self, stop: asyncio.Event) -> None:
        """Archive until ``stop`` is set, then commit what was admitted, within the grace."""
        following = asyncio.create_task(self._follow(stop))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([following, stopping], return_when=asyncio.FIRST_COMPLETED)
            admitted = bool(self._batch.reached) or self._committing is not None
            done, _ = await asyncio.wait(
                (following,), timeout=max(self._settings.stop_grace_s, _IDLE_STOP_S) if admitted else _IDLE_STOP_S
            )
            if done:
                following.result()
        finally:
            following.cancel()
            stopping.cancel()
            await asyncio.gather(following, stopping, return_exceptions=True)
            await self._abandon()
        self._telemetry.emit(ServiceStopped(reason="asked to"))

    async def drain(self) -> None:
        """Archive everything that the bus holds now, commit it, and return (an import). Publishes no tail."""
        self._draining = True
        try:
            await self._drain()
        finally:
            self._draining = False

    async def _drain(self) -> None:
        await self._open_patiently()
        ends = {where: (await self._reader.bounds(where))[1] for where in self._lanes}
        while True:
            while any(self._lanes[where].reached.next < end for where, end in ends.items()):
                await self._step_or_open()
            if await self.flush():
                return
            await self._open_patiently()

    async def open(self) -> None:
        """Take the newest frontier of every partition and assign the reader behind it (J3, J4, J5).

        Raises:
            TransientError: the bus or the archive does not answer, or is not there yet.

        """
        await self._abandon()
        await asyncio.to_thread(
            self.journal.ensure_created, actor=self._settings.actor, time_unix_nano=self._clock.now_unix_nano()
        )
        await self.journal.refresh_async()
        self._packs = HeldPacks(self._archive, self.journal.state)
        bus_ids = await self._bus_ids()
        self._lanes = {}
        for where, bus_id in bus_ids.items():
            lane = await self._starts.lane(where, bus_id)
            self._lanes[where] = lane
            if self._tail is not None:
                txn = self.journal.state.positions.get(where)
                if (txn is None and not self._draining) or (txn is not None and txn.incarnation != lane.incarnation):
                    self._tail.forget_all(where)
                self._tail.forget(where, lane.reached.next)
        self._batch = Batch(started_monotonic_nano=self._clock.monotonic_nano())
        await self._reader.assign({where: lane.reached.next for where, lane in self._lanes.items()})
        self._bus_was_away = False

    async def step(self) -> None:
        """Read once, publish the tail where it is due, seal the batch where it is full or old.

        Raises:
            BatchLostError: what was admitted since the last commit is to be read again; see :meth:`open`.

        """
        records = await self._poll()
        if records:
            await asyncio.to_thread(self._take_all, records)
        self._behind = sum(len(record.value) for record in records) >= POLL_BYTES
        if self._committing is not None and self._committing.done():
            await self._settled()
        now = self._clock.monotonic_nano()
        if self._tail is not None and not self._draining and now >= self._tail_due_ns:
            try:
                await asyncio.to_thread(self._publish_tail)
            except TransientError as error:
                self._telemetry.emit(
                    PartUnavailable(part="tail", error=str(error), retry_in_ms=TAIL_SEGMENT_AGE_NS // 1_000_000)
                )
            self._tail_due_ns = self._clock.monotonic_nano() + TAIL_SEGMENT_AGE_NS
        full = (
            self._batch.raw_bytes >= self._settings.commit_raw_bytes or self._batch.held_bytes >= BATCH_HELD_BYTES_MAX
        )
        old = now - self._batch.started_monotonic_nano >= self._settings.commit_age_ns
        if self._batch.reached and (full or old):
            await self._seal()

    async def flush(self) -> bool:
        """Commit what was admitted, and wait for it; False where another archiver was faster: it has, or will."""
        try:
            if self._batch.reached:
                await self._seal()
            await self._settled()
        except BatchLostError:
            await self._abandon()
            return False
        return True

    # -- the loop --------------------------------------------------------------------------------------------

    async def _follow(self, stop: asyncio.Event) -> None:
        await self._open_patiently()
        self._telemetry.emit(ServiceStarted(version=__version__, detail=f"archive, {len(self._lanes)} partitions"))
        while not stop.is_set():
            await self._step_or_open()
        await self.flush()

    async def _step_or_open(self) -> None:
        try:
            await self.step()
        except BatchLostError:
            await self._open_patiently()

    async def _open_patiently(self) -> None:
        await self._patiently("start", self.open)

    async def _bus_ids(self) -> dict[Partition, str]:
        """Return every partition with the id of its log. Topics that nobody has made yet are waited for."""
        found: dict[Partition, str] = {}
        try:
            for topic in TOPICS:
                bus_id = await self._reader.incarnation(topic)
                for number in range(await self._reader.partitions(topic)):
                    found[Partition(topic, number)] = bus_id
        except NotHeldError as error:
            raise TransientError(f"the bus is not there yet: {error.message}", **error.facts) from error
        return found

    # -- taking in -------------------------------------------------------------------------------------------

    async def _poll(self) -> list[BusRecord]:
        try:
            if self._bus_was_away:
                await self._check_logs()
            return await self._reader.poll(bytes_max=POLL_BYTES, wait_ns=self._settings.poll_wait_ns)
        except NotHeldError as error:
            # (J5) the bus no longer holds what follows: look again at which log this is
            raise BatchLostError("bus position is out of range", **error.facts) from error
        except BatchLostError:
            raise
        except TransientError as error:
            self._bus_was_away = True
            wait_ns = 5 * self._settings.retry_wait_ns
            self._telemetry.emit(PartUnavailable(part="bus", error=str(error), retry_in_ms=wait_ns // 1_000_000))
            await asyncio.sleep(wait_ns / 1e9)
            return []

    async def _check_logs(self) -> None:
        """(J5) Hold each log against what was read of it: behind an outage there may stand another one."""
        bus_ids = await self._bus_ids()
        for where, lane in self._lanes.items():
            is_named = lane.incarnation.rpartition("#")[0] == bus_ids.get(where)
            if not is_named or not await self._starts.is_same_log(where, lane.reached):
                raise BatchLostError("the bus is another log since it was away", partition=str(where))
        self._bus_was_away = False

    def _take_all(self, records: list[BusRecord]) -> None:
        if not self._batch.reached:
            self._batch.started_monotonic_nano = self._clock.monotonic_nano()
        for record in records:
            lane = self._lanes[record.partition]
            try:
                for chunk, origin in self._chunks(record, lane):
                    self._take(lane, record.position, chunk, origin)
            except TransientError as error:
                # A record that was taken in half does not count at all.
                raise BatchLostError("what came again could not be compared now", detail=str(error)) from error
            digest = hashlib.sha256(record.value).hexdigest()
            lane.reached = Reached(next=record.position + 1, record_sha256=digest)
            self._batch.reached[record.partition] = lane.reached

    def _chunks(self, record: BusRecord, lane: Lane) -> list[tuple[Chunk, HeldChunk | None]]:
        """Return a record's chunks, each with its compressed form where it is a block of its own."""
        try:
            chunks = chunks_of(record.value)
        except RejectedError as error:
            topic, number = record.partition
            self._telemetry.emit(
                FrameDamaged(topic=topic, partition=number, position=record.position, detail=str(error))
            )
            now = self._clock.now_unix_nano()
            return [(damaged_frame(topic, number, lane.incarnation, record.position, record.value, now), None)]
        return [(chunk, origin if origin.length > CHUNK_OWN_BLOCK_BYTES else None) for chunk, origin in chunks]

    def _take(self, lane: Lane, position: int, chunk: Chunk, origin: HeldChunk | None) -> None:
        def held(file_id: str, start: int, end: int) -> bytes | None:
            return self._held(lane.admission.files[file_id], start, end)

        admitted = lane.admission.admit(chunk, held)
        if admitted.bytes_trimmed:
            self._telemetry.emit(BytesTrimmed(count=admitted.bytes_trimmed, file_id=chunk.file.file_id))
        if (forked := admitted.forked) is not None:
            self._telemetry.emit(
                FileForked(file_id=forked.file_id, fork_id=forked.fork_id, offset=forked.offset, reason=forked.reason)
            )
        damaged = is_damaged_frame(chunk.file)
        for piece in admitted.pieces:
            kept = replace(piece, row_flags=piece.row_flags | RowFlags.QUARANTINED) if damaged else piece
            stored = at_rest(kept, origin)
            self._batch.add(stored)
            if self._tail is not None and not self._draining:
                lane.tail_pieces.append((position, stored))

    def _held(self, file: FileState, start: int, end: int) -> bytes | None:
        """Return held bytes, from the batches in memory and from the packs."""
        batches = [batch for batch in (self._batch, self._sealed) if batch is not None]
        parts: list[bytes] = []
        at = start
        while at < end:
            part = next((found for batch in batches if (found := batch.bytes_at(file.file_id, at, end))), b"")
            if not part:
                stop = min((r.end for r in file.ranges if r.start <= at < r.end and r.pack), default=at)
                part = held_or_none(self._packs, file, at, min(stop, end)) or b""
            if not part:
                return None
            parts.append(part)
            at += len(part)
        return b"".join(parts)

    # -- the tail --------------------------------------------------------------------------------------------

    def _publish_tail(self) -> None:
        """Publish what came since; far behind the writers, leave to the next commit what it will show as soon."""
        assert self._tail is not None
        recent = self._clock.now_unix_nano() - TAIL_BEHIND_NS
        for where, lane in self._lanes.items():
            newest = lane.tail_pieces[-1][1].piece.chunk.observed_time_unix_nano if lane.tail_pieces else 0
            if self._behind and newest < recent:
                continue
            for end, pieces in lane.segments():
                rows, states, _ = build_rows([piece.open() for piece in pieces], lane.tail_states)
                self._tail.publish(where, lane.tail_start, end, rows)
                lane.published(end, states)
            lane.published(lane.reached.next, {})

    # -- committing ------------------------------------------------------------------------------------------

    async def _seal(self) -> None:
        await self._settled()
        batch = self._batch
        batch.files = {where: self._lanes[where].admission.snapshot() for where in batch.reached}
        self._sealed, self._batch = batch, Batch(started_monotonic_nano=self._clock.monotonic_nano())
        self._committing = asyncio.create_task(self._commit(batch))

    async def _settled(self) -> None:
        """Wait for the commit under way. Raises BatchLostError where it was lost."""
        if self._committing is not None:
            task, self._committing = self._committing, None
            self._adopt(await task)
        self._sealed = None

    async def _abandon(self) -> None:
        if self._committing is not None:
            self._committing.cancel()
            await asyncio.gather(self._committing, return_exceptions=True)
        self._committing, self._sealed = None, None

    async def _commit(self, batch: Batch) -> _Committed:
        folder = self._scratch / leftovers.unfinished(f"packs-{secrets.token_hex(8)}")
        before: dict[str, LineState] = {}
        for where in batch.reached:
            before.update(self._lanes[where].pack_states)
        build = partial(asyncio.to_thread, build_packs, batch, folder, before)
        try:
            built, states = await self._patiently("scratch", build)
            adds = [await self._put(partial(put_pack, self._archive, pack)) for pack in built]
            beside = [await self._put(partial(put_sidecars, self._archive, pack)) for pack in built]
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        settled = {where: settle(files, states, adds, built) for where, files in batch.files.items()}
        stored = [
            await self._put(
                partial(put_frontier, self._archive, where, self._lanes[where], batch.reached[where], files)
            )
            for where, files in settled.items()
        ]
        commit = await self._append(tuple(frontier_put.txn for frontier_put in stored), tuple(adds))
        self._telemetry.emit(
            CommitMade(
                commit=commit.n,
                packs=len(adds),
                rows=sum(pack.rows for pack in adds),
                raw_bytes=sum(pack.raw_bytes for pack in adds),
                pack_bytes=sum(pack.size for pack in adds),
                sidecar_bytes=sum(beside),
                quarantined_rows=sum(pack.quarantined_rows for pack in built),
            )
        )
        for quarantined in lines_quarantined(commit.n, (pack.refused for pack in built)):
            self._telemetry.emit(quarantined)
        return _Committed(batch=batch, stored=tuple(stored), files=settled, states=states)

    async def _put(self, call: Callable[[], T]) -> T:
        return await self._patiently("archive", partial(asyncio.to_thread, call))

    async def _append(self, txns: tuple[Txn, ...], adds: tuple[AddedPack, ...]) -> Commit:
        """Win a number, or find that the batch is another archiver's (J1, J2)."""
        commit = Commit(
            n=self.journal.state.next_n,
            act_id=new_act_id(),
            kind="archive",
            actor=self._settings.actor,
            time_unix_nano=self._clock.now_unix_nano(),
            txns=txns,
            adds=adds,
        )
        if self.journal.state.overtaken(commit):
            # It came in while an earlier batch of ours lost its number: this one was begun before it.
            self._telemetry.emit(CommitLost(commit=commit.n, winner="an earlier commit"))
            raise BatchLostError("another archiver moved the same partition before", commit=commit.n)
        for _ in range(COMMIT_ATTEMPTS_MAX):
            outcome = await self._put(partial(self.journal.try_append, commit))
            if not isinstance(outcome, Lost):
                return outcome.commit
            if journal.after_loss(commit, outcome.winner) is Verdict.REBUILD:
                self._telemetry.emit(CommitLost(commit=commit.n, winner=outcome.winner.actor))
                raise BatchLostError("another archiver moved the same partition", commit=outcome.winner.n)
            commit = replace(commit, n=outcome.winner.n + 1)
        raise BatchLostError("lost too many numbers in a row", attempts=COMMIT_ATTEMPTS_MAX)

    def _adopt(self, done: _Committed) -> None:
        """Carry what the commit settled over to the entries, which went on moving meanwhile.

        Runs between two steps, never beside :meth:`_take_all`.
        """
        for put in done.stored:
            where = put.txn.where
            lane = self._lanes[where]
            lane.pages = put.pages
            lane.follows = put.txn.frontier.sha256
            live_files = lane.admission.files
            for file_id, settled in done.files[where].items():
                live, sealed = live_files[file_id], done.batch.files[where][file_id]
                if live is sealed and file_id in put.moved:
                    del live_files[file_id]
                elif settled is not sealed:
                    live_files[file_id] = carried(live, settled)
            lane.carry((file_id, state) for file_id, state in done.states.items() if file_id in done.files[where])
            for file_id in put.moved:
                if file_id not in live_files:
                    # Found again in its page, it is told there how its lines stand.
                    lane.pack_states.pop(file_id, None)
                    lane.tail_states.pop(file_id, None)
            lane.committed(put.txn.next)
            if self._tail is not None:
                self._tail.forget(where, put.txn.next)

    async def _patiently(self, part: str, call: Callable[[], Awaitable[T]]) -> T:
        """Call until the part answers: a store that is away is waited for, and nothing is lost meanwhile."""
        wait_ns = self._settings.retry_wait_ns
        while True:
            try:
                return await call()
            except BatchLostError:
                raise
            except TransientError as error:
                self._telemetry.emit(PartUnavailable(part=part, error=str(error), retry_in_ms=wait_ns // 1_000_000))
                await asyncio.sleep(wait_ns / 1e9)
                wait_ns = min(wait_ns * 2, _RETRY_NS_MAX)

"""The archiving consumer: from the bus to packs and commits, without leases and without losing or doubling a byte.

Bus positions are the journal's business alone (J3): a restarted or zombie archiver continues from the ``txn`` of the
newest commit. One batch is gathered while the one before it is built, put and committed. Packs are put first; a pack
without a commit does not exist. A loser reads the winner and either tries the next number or throws its batch away
(J2).
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from ashiato.adapters.journal import JournalWriter, Lost, new_act_id
from ashiato.adapters.telemetry import Telemetry
from ashiato.core import frame, frontier, journal, manifest
from ashiato.core.chunk import Chunk
from ashiato.core.errors import NotHeldError, RejectedError, TransientError
from ashiato.core.events import PartUnavailable
from ashiato.core.frame import HeldChunk
from ashiato.core.frontier import FileState, Frontier, HeldRange, OpenJoin, Page
from ashiato.core.ids import TOPICS
from ashiato.core.journal import AddedPack, Commit, FrontierRef, PageRef, Txn, Verdict
from ashiato.core.limits import CHUNK_OWN_BLOCK_BYTES, COMMIT_ATTEMPTS_MAX, TAIL_SEGMENT_AGE_NS
from ashiato.core.ports import ArchiveWriter, BusReader, BusRecord, Clock, Partition
from ashiato.core.record import RowFlags
from ingest.admission import Admission, damaged_frame
from ingest.batch import Batch, Reached, at_rest
from ingest.contracts import BuiltPack, LineState, Piece
from ingest.events import BytesTrimmed, CommitLost, CommitMade, FileForked, FrameDamaged, IncarnationBegun
from ingest.held import HeldPacks, held_or_none
from ingest.pack import PackBuilder
from ingest.rows import build_rows, reopen
from ingest.tail import TailFolder

T = TypeVar("T")

POLL_BYTES = 8 * 1024 * 1024
_RETRY_NS_MAX = 5_000_000_000


class BatchLostError(TransientError):
    """Another archiver moved a partition of this batch: everything since the last commit is read again."""

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


@dataclass(slots=True, kw_only=True)
class _Lane:
    """One partition: where it is read, what is held, and how its lines stand in the packs and in the tail."""

    incarnation: str
    follows: str
    """SHA-256 of the frontier that the next one is built on (J3), '' for the partition's first."""
    reached: Reached
    admission: Admission
    pages: tuple[Page, ...] = ()
    tail_start: int = 0
    tail_pieces: list[Piece] = field(default_factory=list)
    tail_states: dict[str, LineState] = field(default_factory=dict)
    pack_states: dict[str, LineState] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _FrontierPut:
    """A partition's frontier as it was stored: the txn that names it, its pages, and who moved to the newest one."""

    txn: Txn
    pages: tuple[Page, ...]
    moved: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Committed:
    """What a finished commit leaves to be carried over."""

    batch: Batch
    stored: tuple[_FrontierPut, ...]
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
        self._lanes: dict[Partition, _Lane] = {}
        self._batch = Batch(started_monotonic_nano=0)
        self._sealed: Batch | None = None
        self._committing: asyncio.Task[_Committed] | None = None
        self._tail_due_ns = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Archive until ``stop`` is set, then commit what was admitted."""
        await self._patiently("archive", self.open)
        while not stop.is_set():
            try:
                await self.step()
            except BatchLostError:
                await self._patiently("archive", self.open)
        await self.flush()

    async def drain(self) -> None:
        """Archive everything that the bus holds now, commit it, and return (an import)."""
        await self._patiently("archive", self.open)
        ends = {where: (await self._reader.bounds(where))[1] for where in self._lanes}
        while any(self._lanes[where].reached.next < end for where, end in ends.items()):
            try:
                await self.step()
            except BatchLostError:
                await self._patiently("archive", self.open)
        await self.flush()

    async def open(self) -> None:
        """Take the newest frontier of every partition and assign the reader behind it (J3, J4, J5)."""
        await self._abandon()
        await asyncio.to_thread(
            self.journal.ensure_created, actor=self._settings.actor, time_unix_nano=self._clock.now_unix_nano()
        )
        await self.journal.refresh_async()
        self._lanes = {}
        for topic in TOPICS:
            bus_id = await self._reader.incarnation(topic)
            for number in range(await self._reader.partitions(topic)):
                where = Partition(topic, number)
                self._lanes[where] = await self._lane(where, bus_id)
        self._batch = Batch(started_monotonic_nano=self._clock.monotonic_nano())
        await self._reader.assign({where: lane.reached.next for where, lane in self._lanes.items()})

    async def step(self) -> None:
        """Read once, publish the tail where it is due, seal the batch where it is full or old."""
        records = await self._poll()
        if records:
            await asyncio.to_thread(self._take_all, records)
        now = self._clock.monotonic_nano()
        if self._tail is not None and now >= self._tail_due_ns:
            await asyncio.to_thread(self._publish_tail)
            self._tail_due_ns = self._clock.monotonic_nano() + TAIL_SEGMENT_AGE_NS
        full = self._batch.raw_bytes >= self._settings.commit_raw_bytes
        old = now - self._batch.started_monotonic_nano >= self._settings.commit_age_ns
        if self._batch.reached and (full or old):
            await self._seal()
        if self._committing is not None and self._committing.done():
            await self._settled()

    async def flush(self) -> None:
        """Commit what was admitted, and wait for it."""
        try:
            if self._tail is not None:
                await asyncio.to_thread(self._publish_tail)
            if self._batch.reached:
                await self._seal()
            await self._settled()
        except BatchLostError:
            # Another archiver has these positions: they are archived, by it.
            await self._abandon()

    # -- opening ---------------------------------------------------------------------------------------------

    async def _lane(self, where: Partition, bus_id: str) -> _Lane:
        state = self.journal.state
        txn = state.positions.get(where)
        start, _ = await self._reader.bounds(where)
        if txn is None:
            lane = self._new_lane(f"{bus_id}#0", "", Reached(next=start, record_sha256=""), None)
            return self._begun(where, lane)
        known = await asyncio.to_thread(self._load_frontier, txn.frontier)
        if state.incarnation_of(where, bus_id) == txn.incarnation and await self._same_log(where, known):
            reached = Reached(next=txn.next, record_sha256=known.record_sha256)
            lane = self._new_lane(txn.incarnation, txn.frontier.sha256, reached, known)
        else:
            reached = Reached(next=start, record_sha256="")
            lane = self._new_lane(state.next_incarnation(where, bus_id), txn.frontier.sha256, reached, known)
            if self._tail is not None:
                self._tail.forget_all(where)
            self._telemetry.emit(
                IncarnationBegun(
                    topic=where.topic, partition=where.number, incarnation=lane.incarnation, position=start
                )
            )
        await asyncio.to_thread(self._reopen_lines, lane)
        return self._begun(where, lane)

    def _new_lane(self, incarnation: str, follows: str, reached: Reached, known: Frontier | None) -> _Lane:
        pages = known.pages if known is not None else ()
        files = {file.file_id: file for file in known.files} if known is not None else {}
        return _Lane(
            incarnation=incarnation,
            follows=follows,
            reached=reached,
            admission=Admission(files=files, find=lambda file_id: self._find_in_pages(pages, file_id)),
            pages=pages,
        )

    def _begun(self, where: Partition, lane: _Lane) -> _Lane:
        lane.tail_start = lane.reached.next
        if self._tail is not None:
            self._tail.forget(where, lane.reached.next)
        return lane

    async def _same_log(self, where: Partition, known: Frontier) -> bool:
        """Whether the record before the committed position is the one that was read (J5); missing is different."""
        if not known.record_sha256:
            return True
        record = await self._reader.read_one(where, known.next - 1)
        return record is not None and hashlib.sha256(record.value).hexdigest() == known.record_sha256

    def _load_frontier(self, ref: FrontierRef) -> Frontier:
        content, _ = self._archive.get("work", ref.path, ref.version_id)
        return frontier.decode(content, ref.sha256)

    def _find_in_pages(self, pages: tuple[Page, ...], file_id: str) -> FileState | None:
        for page in reversed(pages):
            if page.file_id_min <= file_id <= page.file_id_max:
                content, _ = self._archive.get("work", page.path, page.version_id)
                found = next((f for f in frontier.decode_page(content, page.sha256) if f.file_id == file_id), None)
                if found is not None:
                    return found
        return None

    def _reopen_lines(self, lane: _Lane) -> None:
        """Rebuild how the lines of each file stood: frontier entries carry no payload, the packs do."""
        packs = HeldPacks(self._archive, self.journal.state)
        for file in lane.admission.files.values():
            state = LineState(
                at_line=file.at_line, cut_iostream=file.cut_iostream, cut_time_unix_nano=file.cut_time_unix_nano
            )
            if file.open_joins:
                rows = packs.rows_of(file, min(join.first_offset for join in file.open_joins))
                state = replace(state, open_parts=reopen(file.file_id, rows).open_parts)
            if state != LineState():
                lane.pack_states[file.file_id] = lane.tail_states[file.file_id] = state

    # -- taking in -------------------------------------------------------------------------------------------

    async def _poll(self) -> list[BusRecord]:
        try:
            return await self._reader.poll(bytes_max=POLL_BYTES, wait_ns=self._settings.poll_wait_ns)
        except NotHeldError as error:
            # (J5) the bus no longer holds what follows: look again at which log this is
            raise BatchLostError("bus position is out of range", **error.facts) from error
        except TransientError as error:
            self._telemetry.emit(PartUnavailable(part="bus", error=str(error), retry_in_ms=1000))
            await asyncio.sleep(1)
            return []

    def _take_all(self, records: list[BusRecord]) -> None:
        if not self._batch.reached:
            self._batch.started_monotonic_nano = self._clock.monotonic_nano()
        for record in records:
            lane = self._lanes[record.partition]
            for chunk, origin in self._chunks(record, lane):
                self._take(lane, chunk, origin)
            digest = hashlib.sha256(record.value).hexdigest()
            lane.reached = Reached(next=record.position + 1, record_sha256=digest)
            self._batch.reached[record.partition] = lane.reached

    def _chunks(self, record: BusRecord, lane: _Lane) -> list[tuple[Chunk, HeldChunk | None]]:
        """Return a record's chunks, each with its compressed form where it is a block of its own."""
        try:
            held = list(frame.decode_held(record.value))
            opened = frame.decode(record.value)
        except RejectedError as error:
            topic, number = record.partition
            self._telemetry.emit(
                FrameDamaged(topic=topic, partition=number, position=record.position, detail=str(error))
            )
            now = self._clock.now_unix_nano()
            return [(damaged_frame(topic, number, lane.incarnation, record.position, record.value, now), None)]
        return [
            (chunk, origin if origin.length > CHUNK_OWN_BLOCK_BYTES else None)
            for chunk, origin in zip(opened, held, strict=True)
        ]

    def _take(self, lane: _Lane, chunk: Chunk, origin: HeldChunk | None) -> None:
        packs = HeldPacks(self._archive, self.journal.state)

        def held(file_id: str, start: int, end: int) -> bytes | None:
            return self._held(packs, lane.admission.files[file_id], start, end)

        admitted = lane.admission.admit(chunk, held)
        if admitted.bytes_trimmed:
            self._telemetry.emit(BytesTrimmed(count=admitted.bytes_trimmed, file_id=chunk.file.file_id))
        if admitted.forked is not None:
            forked = admitted.forked
            self._telemetry.emit(
                FileForked(file_id=forked.file_id, fork_id=forked.fork_id, offset=forked.offset, reason=forked.reason)
            )
        quarantined = chunk.file.source.startswith("file/bus/")
        for piece in admitted.pieces:
            kept = replace(piece, row_flags=piece.row_flags | RowFlags.QUARANTINED) if quarantined else piece
            self._batch.add(at_rest(kept, origin))
            if self._tail is not None:
                lane.tail_pieces.append(kept)

    def _held(self, packs: HeldPacks, file: FileState, start: int, end: int) -> bytes | None:
        """Return held bytes, from the batches in memory and from the packs."""
        parts: list[bytes] = []
        at = start
        while at < end:
            batches = [batch for batch in (self._batch, self._sealed) if batch is not None]
            part = next((found for batch in batches if (found := batch.bytes_at(file.file_id, at, end))), b"")
            if not part:
                stop = min((r.end for r in file.ranges if r.start <= at < r.end and r.pack), default=at)
                part = held_or_none(packs, file, at, min(stop, end)) or b""
            if not part:
                return None
            parts.append(part)
            at += len(part)
        return b"".join(parts)

    # -- the tail --------------------------------------------------------------------------------------------

    def _publish_tail(self) -> None:
        assert self._tail is not None
        for where, lane in self._lanes.items():
            if not lane.tail_pieces:
                lane.tail_start = lane.reached.next
                continue
            rows, states, _ = build_rows(lane.tail_pieces, lane.tail_states)
            lane.tail_states.update(states)
            self._tail.publish(where, lane.tail_start, lane.reached.next, rows)
            lane.tail_pieces = []
            lane.tail_start = lane.reached.next

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
        with tempfile.TemporaryDirectory(dir=self._scratch, prefix="packs-") as folder:
            built, states = await asyncio.to_thread(self._build, batch, Path(folder))
            adds = [await self._patiently("archive", partial(asyncio.to_thread, self._put, pack)) for pack in built]
        settled = {where: _settle(files, states, adds, built) for where, files in batch.files.items()}
        stored = [
            await self._patiently(
                "archive", partial(asyncio.to_thread, self._put_frontier, where, batch.reached[where], files)
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
                quarantined_rows=sum(pack.quarantined_rows for pack in built),
            )
        )
        return _Committed(batch=batch, stored=tuple(stored), files=settled, states=states)

    def _build(self, batch: Batch, folder: Path) -> tuple[list[BuiltPack], dict[str, LineState]]:
        """Build one pack per retention class. I1 is checked inside: a pack that comes out was read back."""
        before: dict[str, LineState] = {}
        for where in batch.reached:
            before.update(self._lanes[where].pack_states)
        built: list[BuiltPack] = []
        after: dict[str, LineState] = {}
        for retention_class, pieces in batch.by_source():
            builder = PackBuilder(folder, retention_class, secrets.token_bytes(32), before)
            builder.add(pieces)
            if (pack := builder.finish()) is not None:
                built.append(pack)
            after.update(builder.states)
        return built, after

    def _put(self, pack: BuiltPack) -> AddedPack:
        told = pack.manifest
        ref = self._archive.put_file("evidence", told.path, str(pack.file))
        content = manifest.encode(told)
        beside = self._archive.put("evidence", manifest.path_of(told.path), content)
        return AddedPack(
            path=told.path,
            version_id=ref.version_id,
            sha256=told.sha256,
            size=told.size,
            rows=told.rows,
            raw_bytes=told.raw_bytes,
            retention_class=told.retention_class,
            day=told.day,
            time_min_unix_nano=told.time_min_unix_nano,
            time_max_unix_nano=told.time_max_unix_nano,
            observed_min_unix_nano=told.observed_min_unix_nano,
            observed_max_unix_nano=told.observed_max_unix_nano,
            manifest_path=beside.path,
            manifest_version_id=beside.version_id,
            manifest_sha256=manifest.sha256(content),
        )

    def _put_frontier(self, where: Partition, reached: Reached, files: Mapping[str, FileState]) -> _FrontierPut:
        lane = self._lanes[where]
        pages, kept, ids = lane.pages, dict(files), list[str]()
        new_pages: tuple[PageRef, ...] = ()
        if moved := frontier.overflow(kept):
            content = frontier.encode_page(moved)
            sha256 = frontier.digest(content)
            ref = self._archive.put("work", frontier.path_of(sha256), content)
            ids = [file.file_id for file in moved]
            page = Page(
                path=ref.path,
                version_id=ref.version_id,
                sha256=sha256,
                file_id_min=min(ids),
                file_id_max=max(ids),
                files=len(ids),
            )
            pages = (*pages, page)
            new_pages = (PageRef(path=ref.path, version_id=ref.version_id),)
            for file_id in ids:
                del kept[file_id]
        document = Frontier(
            topic=where.topic,
            partition=where.number,
            incarnation=lane.incarnation,
            next=reached.next,
            record_sha256=reached.record_sha256,
            files=tuple(kept[file_id] for file_id in sorted(kept)),
            pages=pages,
        )
        content = frontier.encode(document)
        sha256 = frontier.digest(content)
        ref = self._archive.put("work", frontier.path_of(sha256), content)
        txn = Txn(
            topic=where.topic,
            partition=where.number,
            incarnation=lane.incarnation,
            next=reached.next,
            frontier=FrontierRef(path=ref.path, version_id=ref.version_id, sha256=sha256, new_pages=new_pages),
            follows=lane.follows,
        )
        return _FrontierPut(txn=txn, pages=pages, moved=tuple(ids))

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
            outcome = await self._patiently("archive", partial(asyncio.to_thread, self.journal.try_append, commit))
            if not isinstance(outcome, Lost):
                return outcome.commit
            if journal.after_loss(commit, outcome.winner) is Verdict.REBUILD:
                self._telemetry.emit(CommitLost(commit=commit.n, winner=outcome.winner.actor))
                raise BatchLostError("another archiver moved the same partition", commit=outcome.winner.n)
            commit = replace(commit, n=outcome.winner.n + 1)
        raise TransientError("lost too many numbers in a row", attempts=COMMIT_ATTEMPTS_MAX)

    def _adopt(self, done: _Committed) -> None:
        """Carry what the commit settled over to the entries, which went on moving meanwhile.

        Runs between two steps, never beside :meth:`_take_all`.
        """
        for put in done.stored:
            where = put.txn.where
            lane = self._lanes[where]
            lane.pages = put.pages
            lane.follows = put.txn.frontier.sha256
            for file_id, settled in done.files[where].items():
                live, sealed = lane.admission.files.get(file_id), done.batch.files[where][file_id]
                if live is None or settled is sealed:
                    continue
                if live is sealed and file_id in put.moved:
                    del lane.admission.files[file_id]
                else:
                    lane.admission.files[file_id] = _carried(live, settled)
                if settled.closed:
                    lane.pack_states.pop(file_id, None)
                    lane.tail_states.pop(file_id, None)
                elif file_id in done.states:
                    lane.pack_states[file_id] = done.states[file_id]
            for file_id in put.moved:
                if lane.admission.files.get(file_id) is done.batch.files[where].get(file_id):
                    lane.admission.files.pop(file_id, None)
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


def _carried(live: FileState, settled: FileState) -> FileState:
    """Return the live entry with what only a commit can know."""
    return msgspec.structs.replace(
        live,
        ranges=settled.ranges,
        at_line=settled.at_line,
        cut_iostream=settled.cut_iostream,
        cut_time_unix_nano=settled.cut_time_unix_nano,
        open_joins=settled.open_joins,
    )


def _settle(
    files: Mapping[str, FileState],
    states: Mapping[str, LineState],
    adds: list[AddedPack],
    built: list[BuiltPack],
) -> dict[str, FileState]:
    """Return the frontier's entries with the new packs' ranges and with how their lines stand."""
    ranges: dict[str, list[HeldRange]] = {}
    for pack, done in zip(adds, built, strict=True):
        for listed in done.manifest.files:
            ranges.setdefault(listed.file_id, []).extend(
                HeldRange(start=held.start, end=held.end, pack=pack.path) for held in listed.ranges
            )
    settled = dict(files)
    for file_id, file in files.items():
        moved = ranges.get(file_id)
        state = states.get(file_id)
        if moved is None and state is None:
            continue
        with_ranges = frontier.settle(file, moved or ())
        if state is not None:
            with_ranges = msgspec.structs.replace(
                with_ranges,
                at_line=state.at_line,
                cut_iostream=state.cut_iostream,
                cut_time_unix_nano=state.cut_time_unix_nano,
                open_joins=tuple(
                    OpenJoin(iostream=part.iostream, first_offset=part.first_offset, last_offset=part.part_offsets[-1])
                    for part in state.open_parts
                ),
            )
        settled[file_id] = with_ranges
    return settled

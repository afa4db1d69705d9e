"""Delivery: frames leave in the schedule's order, and files move on only when the bus keeps them (C2, C4).

One task gathers, one frame after the other; each frame that is under way has a task of its own, one of a partition at
a time. What is under way is bounded in bytes by ``IN_FLIGHT_BYTES_MAX``, whatever the backlog and however many
partitions there are, and each partition's share of that is its own: one whose broker is away stops no other.

A frame that failed is forgotten. Its partition waits, the session in which it failed is closed, and everything from
the first unacknowledged byte is read and sent again, in order.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from ashiato.adapters.telemetry import Telemetry
from ashiato.core.errors import AshiatoError, NotHeldError, RefusedError, RejectedError, TransientError
from ashiato.core.events import PartUnavailable
from ashiato.core.limits import CHUNK_BYTES_TARGET, FRAME_RAW_BYTES_TARGET, MIB
from ashiato.core.ports import BusWriter, Clock, Partition
from collector.beat import Pulse
from collector.events import Backlog, BytesRead, FrameAcknowledged
from collector.followed import Followed
from collector.schedule import Schedule
from collector.settings import CollectorSettings
from collector.ship import Load, Moment, Waiting, gather
from collector.spans import Spans
from collector.vigil import Vigil

RETRY_S_MIN: Final = 0.2
RETRY_S_MAX: Final = 5.0
IN_FLIGHT_BYTES_MAX: Final = 16 * MIB
"""Frames under way, in bytes: a chunk of each of 64 partitions, even where nothing of it compresses."""
_NS: Final = 1_000_000_000


class Delivery:
    """Everything between a look at the files and the bus."""

    def __init__(
        self,
        settings: CollectorSettings,
        *,
        partitions: Mapping[str, int],
        writer: BusWriter,
        spans: Spans,
        vigil: Vigil,
        pulse: Pulse,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        self._writer = writer
        self._spans = spans
        self._vigil = vigil
        self._bookmark = spans.bookmark
        self._pulse = pulse
        self._clock = clock
        self._telemetry = telemetry
        self._idle_ns = int(settings.unterminated_idle_s * _NS)
        places = [Partition(topic, number) for topic, count in partitions.items() for number in range(count)]
        self._frame_bytes = min(FRAME_RAW_BYTES_TARGET, max(CHUNK_BYTES_TARGET, IN_FLIGHT_BYTES_MAX // len(places)))
        self._schedule = Schedule(
            places, frame_bytes=self._frame_bytes, linger_ns=int(settings.linger_s * _NS),
            budgets=settings.namespace_budgets,
        )  # fmt: skip
        self._waiting = Waiting()
        self._offered: dict[str, int] = {}
        """Size of each waiting file up to which the schedule knows of it."""
        self._wake = asyncio.Event()
        self._sends: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._in_flight: dict[Partition, Load] = {}
        self._retry_s: dict[Partition, float] = {}
        self._session = 0
        """Counts the bus writer's sessions, so that a failure that several partitions share resets it once."""
        self._session_lock = asyncio.Lock()
        self._incarnations: dict[str, str] = {}
        """Of each topic, as the present session found it."""
        self._read: Counter[str] = Counter()
        self._told: Backlog | None = None

    async def run(self) -> None:
        """Ship until cancelled. Raises what a send raised that no retry mends."""
        try:
            while True:
                self._wake.clear()
                while self._in_flight_bytes < IN_FLIGHT_BYTES_MAX:
                    partition = self._schedule.choose(self._clock.monotonic_nano())
                    if partition is None:
                        break
                    self._start(partition)
                    # Replies are read between two frames.
                    await asyncio.sleep(0)
                if self._failure is not None:
                    raise self._failure
                await self._sleep()
        finally:
            for task in self._sends:
                task.cancel()
            await asyncio.gather(*self._sends, return_exceptions=True)

    def offer(self, files: Iterable[Followed]) -> None:
        """Take in files that were looked at: what they have now is shipped."""
        now = self._clock.monotonic_nano()
        for file in files:
            if file.waiting or (file.closing and not file.end_sent):
                self._offer(file, now)
        for file in list(self._waiting.held.values()):
            if file.closing or now - file.changed_monotonic_nano > self._idle_ns:
                self._offer(file, now)

    def hurry(self) -> None:
        """Let nothing wait for company any more."""
        self._schedule.linger_ns = 0
        self._wake.set()

    def flush(self) -> None:
        """Make the bookmark durable; one that lags only means that bytes are sent and trimmed again."""
        try:
            self._bookmark.flush()
        except TransientError as error:
            self.unavailable("state_dir", error, 1)

    def tell(self, files_open: int, files_unreadable: int) -> None:
        """Move the gauges; the sum is over the files that have something, not over all."""
        in_flight = sum(load.raw_bytes for load in self._in_flight.values())
        told = Backlog(count=self._waiting.bytes + in_flight, files=files_open, unreadable=files_unreadable)
        if told != self._told:
            self._told = told
            self._telemetry.emit(told)
        for kind, count in self._read.items():
            self._telemetry.emit(BytesRead(source=kind, count=count))
        self._read.clear()

    @property
    def is_reachable(self) -> bool:
        """Whether the bus took the last frame of every partition that had one."""
        return not self._retry_s

    def unavailable(self, part: str, error: AshiatoError, wait_s: float) -> None:
        """Say that something is waited for."""
        self._telemetry.emit(PartUnavailable(part=part, error=str(error), retry_in_ms=int(wait_s * 1000)))

    # -- gathering -------------------------------------------------------------------------------------------

    @property
    def _in_flight_bytes(self) -> int:
        return sum(len(load.value) for load in self._in_flight.values())

    def _offer(self, file: Followed, now_ns: int) -> None:
        file_id = file.facts.file_id
        grown = file.size - max(self._offered.get(file_id, 0), file.cursor.offset)
        self._offered[file_id] = file.size
        self._waiting.add(file)
        self._schedule.arrived(file.partition, file.facts.source, max(0, grown), now_ns)
        self._wake.set()

    def _start(self, partition: Partition) -> None:
        """Gather the next frame of a partition, and let it go."""
        now = Moment(unix_nano=self._clock.now_unix_nano(), monotonic_nano=self._clock.monotonic_nano())
        load = gather(
            partition, self._schedule, self._waiting, now=now, idle_ns=self._idle_ns, frame_bytes=self._frame_bytes
        )
        if load is None:
            self._schedule.settled(partition)
            return
        for source, size in load.by_source.items():
            self._read[source.partition("/")[0]] += size
        self._before_it_leaves(load)
        self._in_flight[partition] = load
        task = asyncio.create_task(self._send(load))
        self._sends.add(task)
        task.add_done_callback(self._ended)

    def _before_it_leaves(self, load: Load) -> None:
        """(C7) Make durable what tells a file again after a crash."""
        if heads := [head for one in load.behind if (head := one.file.guarded(one.behind)) is not None]:
            self._bookmark.note(*heads)
            self.flush()
        for one in load.behind:
            one.file.sent = max(one.file.sent, one.behind.offset)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._sends.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._failure = failure
        self._wake.set()

    async def _sleep(self) -> None:
        """Wait for news, or for the time at which the schedule has something."""
        due = self._schedule.due_ns() if self._in_flight_bytes < IN_FLIGHT_BYTES_MAX else None
        wait = None if due is None else max(0.0, (due - self._clock.monotonic_nano()) / _NS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._wake.wait()

    # -- sending ---------------------------------------------------------------------------------------------

    async def _send(self, load: Load) -> None:
        """Send once. Kept: its files move on. Not kept, or not known: its bytes go again after a while (C4)."""
        async with self._session_lock:
            session = self._session
        try:
            # Asked before: a log that is made anew in between is never taken for the one before it.
            incarnation = await self._incarnation(load.partition.topic)
            position = await self._writer.send(load.partition, load.value)
        except (TransientError, NotHeldError, RejectedError, RefusedError) as error:
            await self._not_kept(load, error, session)
        else:
            self._kept(load, position, incarnation)

    def _kept(self, load: Load, position: int, incarnation: str) -> None:
        """Take an acknowledgement in: the files move on, and the bookmark after them, span by span (C2, C3)."""
        self._vigil.kept(load)
        for one in load.behind:
            one.file.end_sent = one.ends
            one.file.advance(one.behind, position, incarnation)
            if one.file.attester is None:
                self._bookmark.note(one.file.acked())
            if not one.file.waiting:
                self._offered.pop(one.file.facts.file_id, None)
        self._spans.kept(one.file for one in load.behind)
        self._pulse.acknowledged(load)
        self._settled(load.partition)
        self._retry_s.pop(load.partition, None)
        topic, number = load.partition
        self._telemetry.emit(
            FrameAcknowledged(
                topic=topic, partition=number, position=position, raw_bytes=load.raw_bytes,
                frame_bytes=len(load.value), time_unix_s=self._clock.now_unix_nano() / _NS,
            )
        )  # fmt: skip

    async def _not_kept(self, load: Load, error: AshiatoError, session: int) -> None:
        wait = self._retry_s.get(load.partition, RETRY_S_MIN)
        self._retry_s[load.partition] = min(wait * 2, RETRY_S_MAX)
        self.unavailable("bus", error, wait)
        now = self._clock.monotonic_nano()
        for source, size in load.by_source.items():
            self._schedule.returned(load.partition, source, size, now)
        for one in load.behind:
            self._waiting.add(one.file)
        # Its bytes leave the memory before the wait, so that others have the room.
        self._in_flight.pop(load.partition)
        self._wake.set()
        await asyncio.sleep(wait)
        await self._reset(session)
        self._schedule.settled(load.partition)

    def _settled(self, partition: Partition) -> None:
        del self._in_flight[partition]
        self._schedule.settled(partition)

    async def _incarnation(self, topic: str) -> str:
        if topic not in self._incarnations:
            self._incarnations[topic] = await self._writer.incarnation(topic)
        return self._incarnations[topic]

    async def _reset(self, session: int) -> None:
        """Close the session in which a send failed, unless another partition has done so already."""
        async with self._session_lock:
            if self._session != session:
                return
            try:
                await self._writer.reset()
            except (TransientError, RefusedError) as error:
                self.unavailable("bus", error, 0)
            else:
                self._session += 1
                self._incarnations.clear()

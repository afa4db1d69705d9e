"""What has to be there before anything comes: topics, the journal's first commit, daily indices. And old indices go.

An index is a cache: dropping a day loses nothing, provided that its rows are archived. The journal proves that: when
everything that was on the bus at some moment after the day is committed, so is all that was read on that day and had
reached the bus. Until that is proven the index stays, and that is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ashiato.adapters.telemetry import Telemetry
from ashiato.core.ids import CLASSES, TOPIC_BULK, TOPIC_PRIORITY
from ashiato.core.journal import JournalState
from ashiato.core.ports import BusKeeper, BusReader, Clock, IndexKeeper, Partition
from retention.events import IndexDropped, IndexKept, Prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    """Where the bus ended at a moment."""

    time_unix_nano: int
    bus_ids: Mapping[str, str]
    ends: Mapping[Partition, int]

    def passed_by(self, state: JournalState) -> bool:
        """Whether everything that lay on the bus then is committed now."""
        return all(self._passed(where, end, state) for where, end in self.ends.items() if end)

    def _passed(self, where: Partition, end: int, state: JournalState) -> bool:
        txn = state.positions.get(where)
        return txn is not None and txn.incarnation.rpartition("#")[0] == self.bus_ids[where.topic] and txn.next >= end


@dataclass(slots=True, kw_only=True)
class Prepare:
    """Prepares days ahead and drops days behind."""

    keeper: BusKeeper
    reader: BusReader
    """Only asked how many partitions there are, and of which bus."""
    index: IndexKeeper | None
    topics: Mapping[str, int]
    hot_days: int
    days_ahead: int
    clock: Clock
    telemetry: Telemetry
    _pending: _Sample | None = None
    _proven_unix_nano: int = 0
    """Everything that was on the bus at this time is archived."""

    async def prepare(self, state: JournalState) -> None:
        """Make topics and daily indices, drop days that are no longer hot.

        Raises:
            TransientError: the bus or the index does not answer.

        """
        await self.keeper.create_topics(self.topics)
        days = self.wanted_days(state) if self.index is not None else []
        if self.index is not None:
            await self.index.prepare(days, CLASSES)
            await self._drop(self.index, state)
        self.telemetry.emit(Prepared(topics=len(self.topics), days=len(days)))

    def wanted_days(self, state: JournalState) -> list[str]:
        """Return the days to prepare: yesterday until some days ahead, and those hot days that packs are of."""
        today = self._today()
        ahead = {(today + timedelta(days=n)).date().isoformat() for n in range(-1, self.days_ahead + 1)}
        first_hot = self._first_hot_day()
        return sorted(ahead | {pack.day for pack in state.packs.values() if first_hot <= pack.day <= max(ahead)})

    async def _drop(self, index: IndexKeeper, state: JournalState) -> None:
        await self._prove(state)
        for day, retention_class in await index.days():
            if day >= self._first_hot_day():
                continue
            end_ns = int((datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=1)).timestamp()) * 10**9
            if end_ns <= self._proven_unix_nano:
                await index.drop(day, retention_class)
                self.telemetry.emit(IndexDropped(day=day, retention_class=retention_class))
            else:
                self.telemetry.emit(
                    IndexKept(
                        day=day,
                        retention_class=retention_class,
                        reason="not all that was on the bus after that day is committed yet",
                    )
                )

    async def _prove(self, state: JournalState) -> None:
        """Hold the sample that waits against the journal; once it has passed, hold one of now against it too."""
        if self._pending is not None and not self._pending.passed_by(state):
            return
        self._note(self._pending)
        now = await self._sample()
        self._pending = None if now.passed_by(state) else now
        self._note(now if self._pending is None else None)

    def _note(self, passed: _Sample | None) -> None:
        if passed is not None:
            self._proven_unix_nano = max(self._proven_unix_nano, passed.time_unix_nano)

    async def _sample(self) -> _Sample:
        now = self.clock.now_unix_nano()
        bus_ids = {topic: await self.reader.incarnation(topic) for topic in self.topics}
        partitions = [
            Partition(topic, number) for topic in self.topics for number in range(await self.reader.partitions(topic))
        ]
        ends = {where: (await self.keeper.bounds(where))[1] for where in partitions}
        return _Sample(time_unix_nano=now, bus_ids=bus_ids, ends=ends)

    def _today(self) -> datetime:
        return datetime.fromtimestamp(self.clock.now_unix_nano() // 10**9, UTC)

    def _first_hot_day(self) -> str:
        return (self._today() - timedelta(days=self.hot_days)).date().isoformat()


def topics_of(*, priority_partitions: int, bulk_partitions: int) -> Mapping[str, int]:
    """Return the topics and their partitions."""
    return {TOPIC_PRIORITY: priority_partitions, TOPIC_BULK: bulk_partitions}

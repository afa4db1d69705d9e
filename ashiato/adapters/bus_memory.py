"""A bus in memory: a real broker for tests, shared by its writer, readers and keeper."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from ashiato.core.errors import NotHeldError, RejectedError
from ashiato.core.limits import FRAME_BYTES_MAX
from ashiato.core.ports import BusRecord, Partition


@dataclass(slots=True)
class _Log:
    start: int = 0
    values: list[bytes] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.start + len(self.values)


@dataclass(slots=True, kw_only=True)
class MemoryBroker:
    """Topics and their logs. ``bus_id`` is the incarnation."""

    bus_id: str = "memory"
    topics: dict[str, list[_Log]] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def log(self, partition: Partition) -> _Log:
        """Return a partition's log."""
        logs = self.logs(partition.topic)
        if not 0 <= partition.number < len(logs):
            raise NotHeldError("no such partition", topic=partition.topic, partition=partition.number)
        return logs[partition.number]

    def logs(self, topic: str) -> list[_Log]:
        """Return a topic's logs."""
        if topic not in self.topics:
            raise NotHeldError("no such topic", topic=topic)
        return self.topics[topic]


class _Side:
    def __init__(self, broker: MemoryBroker) -> None:
        self.broker = broker

    async def partitions(self, topic: str) -> int:
        """Return how many partitions ``topic`` has."""
        return len(self.broker.logs(topic))

    async def incarnation(self, topic: str) -> str:
        """Return the broker's id and the topic."""
        self.broker.logs(topic)
        return f"{self.broker.bus_id}/{topic}"

    async def bounds(self, partition: Partition) -> tuple[int, int]:
        """Return (first readable position, next position)."""
        log = self.broker.log(partition)
        return log.start, log.end

    async def close(self) -> None:
        """Nothing to let go of."""


class MemoryWriter(_Side):
    """The collector's side."""

    async def send(self, partition: Partition, value: bytes) -> int:
        """Append."""
        if len(value) > FRAME_BYTES_MAX:
            raise RejectedError("record is larger than the bus takes", size=len(value), size_max=FRAME_BYTES_MAX)
        log = self.broker.log(partition)
        log.values.append(value)
        self.broker.changed.set()
        return log.end - 1

    async def reset(self) -> None:
        """Nothing is in flight."""


class MemoryReader(_Side):
    """Ingest's side."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self._next: dict[Partition, int] = {}

    async def assign(self, starts: Mapping[Partition, int]) -> None:
        """Read from these positions on."""
        self._next = dict(starts)

    async def poll(self, *, bytes_max: int, wait_ns: int) -> list[BusRecord]:
        """Return what is there, else wait once for a change."""
        if not (found := self._read(bytes_max)):
            self.broker.changed.clear()
            try:
                await asyncio.wait_for(self.broker.changed.wait(), wait_ns / 1e9)
            except TimeoutError:
                return []
            found = self._read(bytes_max)
        return found

    async def read_one(self, partition: Partition, position: int) -> BusRecord | None:
        """Return one record, or None."""
        log = self.broker.log(partition)
        if not log.start <= position < log.end:
            return None
        return BusRecord(partition=partition, position=position, value=log.values[position - log.start])

    def _read(self, bytes_max: int) -> list[BusRecord]:
        found: list[BusRecord] = []
        room = bytes_max
        for partition, position in list(self._next.items()):
            log = self.broker.log(partition)
            if not log.start <= position <= log.end:
                raise NotHeldError(
                    "position is outside of the log", topic=partition.topic, partition=partition.number,
                    position=position,
                )  # fmt: skip
            at = position
            while at < log.end and (room > 0 or not found):
                value = log.values[at - log.start]
                found.append(BusRecord(partition=partition, position=at, value=value))
                room -= len(value)
                at += 1
            if at > position:
                # Who was served stands at the end of the row, so that a full partition starves no other.
                del self._next[partition]
                self._next[partition] = at
        return found


class MemoryKeeper(_Side):
    """Retention's side."""

    async def create_topics(self, topics: Mapping[str, int]) -> None:
        """Make what does not exist."""
        for topic, partitions in topics.items():
            self.broker.topics.setdefault(topic, [_Log() for _ in range(partitions)])

    async def free(self, partition: Partition, before: int) -> None:
        """Forget."""
        log = self.broker.log(partition)
        before = min(before, log.end)
        if before > log.start:
            del log.values[: before - log.start]
            log.start = before

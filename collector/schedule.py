"""Whose bytes go next. Pure: told what arrived and what time it is, asked for a partition and for turns in its frame.

The rules, in the order in which they decide:

1. **Lanes.** A partition of a priority topic goes before one of bulk. While both are ready, bulk still gets one frame
   after each ``PRIORITY_RUN_MAX`` frames of priority, so that a flood of audit events delays it and never starves it.
   Partitions of one lane take turns.
2. **Linger.** What is less than a frame waits for company, at most ``linger_ns`` from when the first of it was seen.
3. **Fair queueing.** In a partition the sources take turns, counted in bytes: each may ship ``quantum_bytes`` a round,
   and what a chunk takes beyond that is owed from the next rounds (deficit round robin). A source that had nothing to
   ship goes before those that have, for one quantum: a line a minute never waits behind a flood.
4. **Budgets.** A namespace that has one ships no faster than its rate, after its burst. Its sources are passed over
   until they may again; nothing of them is dropped, and nobody else waits for them.

One frame of a partition is under way at a time; a partition that failed is left alone until it may try again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from ashiato.core.ids import TOPIC_PRIORITY, Kind
from ashiato.core.limits import CHUNK_BYTES_TARGET
from ashiato.core.ports import Partition

PRIORITY_RUN_MAX: Final = 8
QUANTUM_BYTES: Final = CHUNK_BYTES_TARGET
EVERY_OTHER: Final = "*"
"""The name under which each namespace that is not named has a budget of its own."""
_NS: Final = 1_000_000_000


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """How fast the containers of one namespace may ship, together."""

    bytes_per_s: int
    burst_bytes: int = 16 * 1024 * 1024
    """What they may ship at once after a quiet time."""

    def __post_init__(self) -> None:
        """Refuse a rate at which nothing would ever leave."""
        if self.bytes_per_s < 1 or self.burst_bytes < 1:
            raise ValueError("a budget needs bytes_per_s and burst_bytes of 1 at the least")


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A source may ship about this much now."""

    source: str
    size: int


class Schedule:
    """All partitions of one node."""

    def __init__(
        self,
        partitions: Iterable[Partition],
        *,
        frame_bytes: int,
        linger_ns: int,
        budgets: Mapping[str, Rate] | None = None,
        quantum_bytes: int = QUANTUM_BYTES,
    ) -> None:
        self.linger_ns = linger_ns
        self._frame_bytes = frame_bytes
        budget = _Budgets(budgets or {})
        self._lines = {partition: _Line(queue=_Queue(budget, quantum_bytes)) for partition in partitions}
        priority = [partition for partition in self._lines if partition.topic == TOPIC_PRIORITY]
        bulk = [partition for partition in self._lines if partition.topic != TOPIC_PRIORITY]
        self._lanes = (OrderedDict.fromkeys(priority), OrderedDict.fromkeys(bulk))
        self._run = 0
        """Frames of priority in a row for which bulk waited."""

    def arrived(self, partition: Partition, source: str, size: int, now_ns: int) -> None:
        """Take in that ``source`` has this much more to ship; 0 where it has something else to tell."""
        line = self._lines[partition]
        if line.queue.is_empty:
            line.since_ns, line.waiting = now_ns, 0
        line.waiting += size
        line.queue.add(source)

    def choose(self, now_ns: int) -> Partition | None:
        """Return the partition whose frame is to be gathered now, and count it as under way."""
        first, second = (next((p for p in lane if self._is_ready(p, now_ns)), None) for lane in self._lanes)
        is_second = second is not None and (first is None or self._run >= PRIORITY_RUN_MAX)
        chosen = second if is_second else first
        if chosen is not None:
            self._run = self._run + 1 if second is not None and not is_second else 0
            self._lanes[is_second].move_to_end(chosen)
            self._lines[chosen].under_way = True
        return chosen

    def due_ns(self) -> int | None:
        """Return when to ask again if nothing happens before: None where only news can change anything."""
        return min((line.ready_ns(self) for line in self._lines.values() if line.has_something), default=None)

    def turn(self, partition: Partition, now_ns: int) -> Turn | None:
        """Return whose bytes go next into the frame of ``partition``; None where nobody may or has any."""
        return self._lines[partition].queue.turn(now_ns)

    def served(self, partition: Partition, source: str, used: int, now_ns: int, *, drained: bool) -> None:
        """Take in what a source put into the frame, and whether that was all it had."""
        line = self._lines[partition]
        line.waiting = max(0, line.waiting - used)
        line.queue.served(source, used, now_ns, drained=drained)

    def returned(self, partition: Partition, source: str, size: int, now_ns: int) -> None:
        """Take in that what a source put into a frame was not kept: it has it still, and owes nothing for it."""
        self._lines[partition].queue.refund(source, size, now_ns)
        self.arrived(partition, source, size, now_ns)

    def settled(self, partition: Partition, *, not_before_ns: int = 0) -> None:
        """Take in that no frame of ``partition`` is under way any more; the next one waits until it may."""
        line = self._lines[partition]
        line.under_way, line.not_before_ns = False, not_before_ns

    def _is_ready(self, partition: Partition, now_ns: int) -> bool:
        line = self._lines[partition]
        return line.has_something and line.ready_ns(self) <= now_ns

    def full_at(self, waiting: int) -> bool:
        """Whether this much fills a frame."""
        return waiting >= self._frame_bytes


@dataclass(slots=True, kw_only=True)
class _Line:
    """One partition."""

    queue: _Queue
    waiting: int = 0
    """Bytes that were seen and are in no frame yet, about."""
    since_ns: int = 0
    """When the first of them was seen."""
    under_way: bool = False
    not_before_ns: int = 0

    @property
    def has_something(self) -> bool:
        return not self.under_way and not self.queue.is_empty

    def ready_ns(self, schedule: Schedule) -> int:
        linger_ns = 0 if schedule.full_at(self.waiting) else schedule.linger_ns
        return max(self.since_ns + linger_ns, self.not_before_ns, self.queue.free_ns)


@dataclass(slots=True)
class _Queue:
    """The sources of one partition that have something, each with its credit in bytes."""

    budgets: _Budgets
    quantum: int
    fresh: OrderedDict[str, None] = field(default_factory=OrderedDict)
    """Had nothing before: they go first."""
    rest: OrderedDict[str, None] = field(default_factory=OrderedDict)
    blocked: dict[str, int] = field(default_factory=dict)
    """Passed over until a time, because their namespace has spent its budget."""
    credit: dict[str, int] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not self.credit

    @property
    def free_ns(self) -> int:
        """When one of them may ship."""
        return 0 if self.fresh or self.rest or not self.blocked else min(self.blocked.values())

    def add(self, source: str) -> None:
        if source not in self.credit:
            self.credit[source] = self.quantum
            self.fresh[source] = None

    def turn(self, now_ns: int) -> Turn | None:
        for source in [source for source, due_ns in self.blocked.items() if due_ns <= now_ns]:
            del self.blocked[source]
            self.rest[source] = None
        while lane := self.fresh or self.rest:
            source = next(iter(lane))
            if (due_ns := self.budgets.due_ns(source, now_ns)) > now_ns:
                del lane[source]
                self.blocked[source] = due_ns
            elif self.credit[source] > 0:
                return Turn(source=source, size=self.credit[source])
            else:
                self._next_round(source)
        return None

    def served(self, source: str, used: int, now_ns: int, *, drained: bool) -> None:
        self.budgets.charge(source, used, now_ns)
        self.credit[source] -= used
        if drained and source in self.rest:
            del self.rest[source], self.credit[source]
        elif drained:
            # Not forgotten at once: who comes back each time before its turn is no quiet source.
            self._to_rest(source)
        elif self.credit[source] <= 0:
            self._next_round(source)

    def refund(self, source: str, size: int, now_ns: int) -> None:
        self.budgets.charge(source, -size, now_ns)
        if source in self.credit:
            self.credit[source] = min(self.quantum, self.credit[source] + size)

    def _next_round(self, source: str) -> None:
        self.credit[source] += self.quantum
        self._to_rest(source)

    def _to_rest(self, source: str) -> None:
        self.fresh.pop(source, None)
        self.rest.pop(source, None)
        self.rest[source] = None


@dataclass(slots=True)
class _Bucket:
    rate: Rate
    level: int
    """Bytes times ns per second, so that nothing is rounded; below zero what is owed."""
    at_ns: int

    def fill(self, now_ns: int) -> None:
        self.level = min(self.rate.burst_bytes * _NS, self.level + self.rate.bytes_per_s * (now_ns - self.at_ns))
        self.at_ns = now_ns


class _Budgets:
    """The budgets of the namespaces that have one."""

    def __init__(self, rates: Mapping[str, Rate]) -> None:
        self._rates = rates
        self._buckets: dict[str, _Bucket] = {}

    def due_ns(self, source: str, now_ns: int) -> int:
        """Return when ``source`` may ship; 0 where it may now."""
        bucket = self._of(source, now_ns)
        if bucket is None or bucket.level > 0:
            return 0
        return now_ns + -(-(1 - bucket.level) // bucket.rate.bytes_per_s)

    def charge(self, source: str, size: int, now_ns: int) -> None:
        if (bucket := self._of(source, now_ns)) is not None:
            bucket.level -= size * _NS

    def _of(self, source: str, now_ns: int) -> _Bucket | None:
        if not self._rates or not source.startswith(_CONTAINER):
            return None
        namespace = source.split("/", 4)[3]
        if (rate := self._rates.get(namespace, self._rates.get(EVERY_OTHER))) is None:
            return None
        bucket = self._buckets.get(namespace)
        if bucket is None:
            bucket = self._buckets[namespace] = _Bucket(rate, rate.burst_bytes * _NS, now_ns)
        bucket.fill(now_ns)
        return bucket


_CONTAINER: Final = f"{Kind.CONTAINER}/"

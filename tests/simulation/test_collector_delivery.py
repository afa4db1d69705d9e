"""Delivery on a real node: a stuck partition stops no other, budgets delay, and a short grace says what it left."""

from __future__ import annotations

import asyncio
import random
from functools import partial

from ashiato.adapters.bus_memory import MemoryBroker, MemoryWriter
from ashiato.core.ids import TOPIC_BULK, Kind, Source, partition_of
from ashiato.core.ledger import Gap
from ashiato.core.limits import FRAME_BYTES_MAX, MIB
from ashiato.core.ports import Partition
from collector.delivery import IN_FLIGHT_BYTES_MAX
from collector.schedule import Rate
from tests.simulation.collector_node import FlakyWriter, Node, chunks_of, until

LINE = b"2026-11-24T10:00:00.0Z stdout F %06d some words that fill the line\n"


class StuckWriter(MemoryWriter):
    """A bus of which some partitions do not answer as long as they are stuck; the others do."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.stuck: set[Partition] = set()
        self.freed = asyncio.Event()
        self.under_way: dict[Partition, int] = {}
        self.bytes_under_way_max = 0

    @property
    def is_full(self) -> bool:
        return sum(self.under_way.values()) >= IN_FLIGHT_BYTES_MAX

    async def send(self, partition: Partition, value: bytes) -> int:
        assert partition not in self.under_way, "two frames of one partition are under way"
        self.under_way[partition] = len(value)
        self.bytes_under_way_max = max(self.bytes_under_way_max, sum(self.under_way.values()))
        try:
            if partition in self.stuck:
                await self.freed.wait()
            return await super().send(partition, value)
        finally:
            del self.under_way[partition]


def lines(count: int, first: int = 0) -> bytes:
    return b"".join(LINE % n for n in range(first, first + count))


def arrived(node: Node, content: bytes, files: int) -> bool:
    return sum(held == content for held in node.contents()) == files


def partition(node: Node, pod: str) -> Partition:
    source = Source(
        kind=Kind.CONTAINER, cluster="c1", node="n1", namespace="shop", pod=pod, pod_uid=f"uid-{pod}", container="c"
    )
    return Partition(source.topic, partition_of(source, node.bulk_partitions))


async def test_a_partition_that_does_not_answer_stops_no_other(node: Node) -> None:
    writer = StuckWriter(node.broker)
    pods = [f"pod-{n}" for n in range(12)]
    stuck = partition(node, pods[0])
    others = [pod for pod in pods if partition(node, pod) != stuck]
    assert others
    async with node.collector(writer):
        writer.stuck.add(stuck)
        for turn in range(3):
            for pod in pods:
                node.write(node.pod_log(pod=pod), lines(50, 50 * turn))
            await until(partial(arrived, node, lines(50 * (turn + 1)), len(others)))
        writer.stuck.clear()
        writer.freed.set()
        await until(lambda: node.contents() == [lines(150)] * len(pods))


async def test_what_is_under_way_is_bounded_whatever_the_backlog(node: Node) -> None:
    # Bytes that do not compress, for many partitions that do not answer.
    node.bulk_partitions = 60
    writer = StuckWriter(node.broker)
    writer.stuck = {Partition(TOPIC_BULK, number) for number in range(node.bulk_partitions)}
    pods = [f"pod-{number}" for number in range(90)]
    rng = random.Random(1)
    written = [b"%s\n" % rng.randbytes(MIB - 1).replace(b"\n", b" ") for _ in pods]
    for pod, content in zip(pods, written, strict=True):
        node.write(node.pod_log(pod=pod), content)
    places = {partition(node, pod) for pod in pods}
    assert len(places) > 2 * IN_FLIGHT_BYTES_MAX // MIB
    async with node.collector(writer):
        await until(lambda: len(writer.under_way) >= len(places) or writer.is_full)
        assert writer.bytes_under_way_max <= IN_FLIGHT_BYTES_MAX + FRAME_BYTES_MAX
        writer.stuck.clear()
        writer.freed.set()
        await until(lambda: sum(map(len, node.contents())) == len(pods) * MIB)

    assert sorted(node.contents()) == sorted(written)
    assert writer.bytes_under_way_max <= IN_FLIGHT_BYTES_MAX + FRAME_BYTES_MAX


async def test_a_budget_delays_a_namespace_and_drops_nothing_of_it(node: Node) -> None:
    content = lines(20_000)
    node.write(node.pod_log(pod="flood"), content)
    budgets = {"shop": Rate(bytes_per_s=2_000_000, burst_bytes=100_000)}
    async with node.collector(namespace_budgets=budgets):
        await until(lambda: any(node.contents()))
        # The burst is over, and the rest waits in its file.
        assert len(node.contents()[0]) < len(content)
        await until(lambda: node.contents() == [content])


async def test_a_grace_that_is_too_short_states_what_it_left(node: Node) -> None:
    writer = FlakyWriter(node.broker)
    path = node.pod_log()
    async with node.collector(writer, drain_s=0.3):
        node.write(path, lines(10))
        await until(lambda: node.contents() == [lines(10)])
        writer.away = True
        node.write(path, lines(5, 10))

    (gap,) = (gap for gap in node.stated(Gap) if gap.reason == "drain_cut_short")
    assert (gap.offset_start, gap.offset_end) == (str(len(lines(10))), str(len(lines(15))))
    (event,) = node.events("drain_cut_short")
    assert event["count"] == len(lines(5))

    # What it named was on the disk, and wins over the gap.
    async with node.collector():
        await until(lambda: node.contents() == [lines(15)])


async def test_a_frame_that_failed_is_read_again_in_order_with_what_came_meanwhile(node: Node) -> None:
    writer = FlakyWriter(node.broker)
    path = node.pod_log()
    async with node.collector(writer):
        writer.away = True
        node.write(path, lines(10))
        await until(lambda: writer.refused > 0)
        node.write(path, lines(10, 10))
        writer.away = False
        await until(lambda: node.contents() == [lines(20)])

    starts = [c.offset_start for c in chunks_of(node.broker) if c.file.source.startswith("container/")]
    assert starts == sorted(starts)
    assert writer.resets > 0


async def test_readiness_tells_a_bus_that_is_away(node: Node) -> None:
    writer = FlakyWriter(node.broker)
    async with node.collector(writer) as collector:
        await until(lambda: hasattr(collector, "delivery") and collector.waits_for() == "")
        assert collector.ails() == ""
        writer.away = True
        node.write(node.pod_log(), lines(3))
        await until(lambda: collector.waits_for() == "the bus")
        writer.away = False
        await until(lambda: collector.waits_for() == "")

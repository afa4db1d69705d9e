"""Whose bytes go next: lanes, company, turns and budgets, by a clock that the test moves."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest

from ashiato.core.ids import TOPIC_BULK, TOPIC_PRIORITY
from ashiato.core.ports import Partition
from collector.schedule import EVERY_OTHER, PRIORITY_RUN_MAX, Rate, Schedule

BULK = Partition(TOPIC_BULK, 0)
PRIORITY = Partition(TOPIC_PRIORITY, 0)
FLOOD = "container/c/n/shop/flood/uid-1/app"
OTHER_FLOOD = "container/c/n/bank/flood/uid-2/app"
QUIET = "container/c/n/shop/quiet/uid-3/app"
AUDIT = "audit/c/n/audit.log"
MS = 1_000_000
S = 1_000 * MS
QUANTUM = 1_000
FRAME = 3_000


@dataclass
class Node:
    """Sources with bytes, of which a schedule ships frames."""

    budgets: dict[str, Rate] = field(default_factory=dict)
    linger_ns: int = 300 * MS
    partitions: tuple[Partition, ...] = (PRIORITY, BULK)
    now_ns: int = S

    def __post_init__(self) -> None:
        self.schedule = Schedule(
            self.partitions, frame_bytes=FRAME, linger_ns=self.linger_ns, budgets=self.budgets, quantum_bytes=QUANTUM
        )
        self.left: dict[tuple[Partition, str], int] = {}

    def write(self, source: str, size: int, partition: Partition = BULK) -> None:
        self.left[partition, source] = self.left.get((partition, source), 0) + size
        self.schedule.arrived(partition, source, size, self.now_ns)

    def frame(self, partition: Partition, *, chunk: int = QUANTUM) -> list[tuple[str, int]]:
        """Fill a frame of a partition in chunks that may be larger than what is left of a turn."""
        frame: list[tuple[str, int]] = []
        room = FRAME
        while room > 0 and (turn := self.schedule.turn(partition, self.now_ns)) is not None:
            used = min(chunk, self.left[partition, turn.source])
            self.left[partition, turn.source] -= used
            is_all = self.left[partition, turn.source] == 0
            self.schedule.served(partition, turn.source, used, self.now_ns, drained=is_all)
            room -= used
            frame += [(turn.source, used)] if used else []
        return frame

    def ship(self, *, chunk: int = QUANTUM) -> tuple[Partition, list[tuple[str, int]]] | None:
        """Ship the next frame, and have it kept at once."""
        partition = self.schedule.choose(self.now_ns)
        if partition is None:
            return None
        frame = self.frame(partition, chunk=chunk)
        self.schedule.settled(partition)
        return partition, frame


def test_a_line_beside_a_flood_leaves_with_the_very_next_frame() -> None:
    node = Node()
    node.write(FLOOD, 1_000_000)
    for _ in range(20):
        node.ship()

    node.write(QUIET, 80)
    shipped = node.ship()

    assert shipped == (BULK, [(QUIET, 80), (FLOOD, QUANTUM), (FLOOD, QUANTUM), (FLOOD, QUANTUM)])


def test_a_line_a_minute_never_waits_behind_a_flood_of_many_containers() -> None:
    node = Node()
    floods = [f"container/c/n/shop/flood-{n}/uid-{n}/app" for n in range(50)]
    for source in floods:
        node.write(source, 1_000_000)
    for _ in range(30):
        for _ in range(40):
            node.ship()
        node.write(QUIET, 80)
        shipped = node.ship()
        assert shipped is not None
        assert shipped[1][0] == (QUIET, 80)


def test_floods_share_by_bytes_however_large_their_chunks_are() -> None:
    node = Node()
    node.write(FLOOD, 1_000_000)
    node.write(OTHER_FLOOD, 1_000_000)
    shares: Counter[str] = Counter()
    while sum(shares.values()) < 300_000:
        partition = node.schedule.choose(node.now_ns)
        assert partition == BULK
        room = FRAME
        while room > 0 and (turn := node.schedule.turn(BULK, node.now_ns)) is not None:
            used = 3 * QUANTUM if turn.source == FLOOD else 100
            node.schedule.served(BULK, turn.source, used, node.now_ns, drained=False)
            shares[turn.source] += used
            room -= used
        node.schedule.settled(BULK)

    assert abs(shares[FLOOD] - shares[OTHER_FLOOD]) <= 4 * QUANTUM


def test_who_comes_back_before_its_turn_is_no_quiet_source() -> None:
    node = Node()
    node.write(FLOOD, 1_000_000)
    shares: Counter[str] = Counter()
    for _ in range(300):
        # It has exactly what it may ship, again and again, so as to be drained each time.
        if not node.left.get((BULK, OTHER_FLOOD)):
            node.write(OTHER_FLOOD, QUANTUM)
        shipped = node.ship()
        assert shipped is not None
        shares.update(dict(shipped[1]))

    assert shares[OTHER_FLOOD] <= shares[FLOOD] + 2 * QUANTUM


def test_priority_goes_first_and_bulk_is_delayed_by_a_flood_and_never_starved() -> None:
    node = Node()
    node.write(AUDIT, 1_000_000, PRIORITY)
    node.write(FLOOD, 1_000_000, BULK)

    order = [shipped[0] for _ in range(3 * (PRIORITY_RUN_MAX + 1)) if (shipped := node.ship()) is not None]

    assert order == ([PRIORITY] * PRIORITY_RUN_MAX + [BULK]) * 3


def test_priority_that_arrives_while_bulk_waits_goes_first() -> None:
    node = Node(partitions=(PRIORITY, BULK, Partition(TOPIC_BULK, 1)))
    node.write(FLOOD, 1_000_000, BULK)
    node.write(OTHER_FLOOD, 1_000_000, Partition(TOPIC_BULK, 1))
    node.ship()
    node.write(AUDIT, FRAME, PRIORITY)

    shipped = node.ship()

    assert shipped is not None
    assert shipped[0] == PRIORITY


def test_partitions_of_a_lane_take_turns() -> None:
    places = tuple(Partition(TOPIC_BULK, n) for n in range(3))
    node = Node(partitions=places)
    for place in places:
        node.write(FLOOD, 1_000_000, place)

    assert [shipped[0] for _ in range(6) if (shipped := node.ship()) is not None] == [*places, *places]


def test_what_does_not_fill_a_frame_waits_for_company_no_longer_than_it_may() -> None:
    node = Node()
    node.write(QUIET, 80)
    assert node.ship() is None
    assert node.schedule.due_ns() == node.now_ns + 300 * MS

    node.now_ns += 200 * MS
    node.write(OTHER_FLOOD, 100)
    assert node.ship() is None

    node.now_ns += 100 * MS
    assert node.ship() == (BULK, [(QUIET, 80), (OTHER_FLOOD, 100)])
    assert node.schedule.due_ns() is None


def test_a_full_frame_leaves_at_once() -> None:
    node = Node()
    node.write(QUIET, 80)
    node.write(FLOOD, FRAME)

    shipped = node.ship()

    assert shipped is not None
    assert sum(size for _, size in shipped[1]) >= FRAME


def test_one_frame_of_a_partition_is_under_way_at_a_time() -> None:
    node = Node()
    node.write(FLOOD, 1_000_000)
    assert node.schedule.choose(node.now_ns) == BULK

    assert node.schedule.choose(node.now_ns) is None

    node.schedule.settled(BULK)
    assert node.schedule.choose(node.now_ns) == BULK


def test_a_partition_that_failed_stops_no_other_and_has_its_bytes_again() -> None:
    other = Partition(TOPIC_BULK, 1)
    node = Node(partitions=(BULK, other))
    node.write(QUIET, FRAME)
    assert node.schedule.choose(node.now_ns) == BULK
    frame = node.frame(BULK)
    node.write(FLOOD, FRAME, other)

    for source, size in frame:
        node.left[BULK, source] += size
        node.schedule.returned(BULK, source, size, node.now_ns)
    node.schedule.settled(BULK, not_before_ns=node.now_ns + S)

    assert node.ship() == (other, [(FLOOD, QUANTUM)] * 3)
    assert node.ship() is None
    assert node.schedule.due_ns() == node.now_ns + S
    node.now_ns += S
    assert node.ship() == (BULK, [(QUIET, QUANTUM)] * 3)


def test_a_budget_delays_its_namespace_and_nobody_else() -> None:
    node = Node(budgets={"shop": Rate(bytes_per_s=1_000, burst_bytes=2_000)}, linger_ns=0)
    node.write(FLOOD, 10_000)
    node.write(OTHER_FLOOD, 10_000)

    frames = [node.ship() for _ in range(6)]

    shipped = Counter[str]()
    for one in frames:
        assert one is not None or shipped[OTHER_FLOOD] == 10_000
        for source, size in one[1] if one is not None else ():
            shipped[source] += size
    assert shipped == {FLOOD: 2_000, OTHER_FLOOD: 10_000}
    # A chunk may pass as soon as nothing is owed, and what it takes beyond the budget is owed then.
    node.now_ns += 1
    assert node.ship() == (BULK, [(FLOOD, QUANTUM)])
    assert node.ship() is None
    assert node.schedule.due_ns() == node.now_ns + S


def test_nothing_over_a_budget_is_dropped() -> None:
    node = Node(budgets={"shop": Rate(bytes_per_s=1_000, burst_bytes=1)}, linger_ns=0)
    node.write(FLOOD, 10_500)
    began, shipped = node.now_ns, 0
    while (due_ns := node.schedule.due_ns()) is not None:
        node.now_ns = max(node.now_ns, due_ns)
        one = node.ship()
        shipped += sum(size for _, size in one[1]) if one is not None else 0

    assert shipped == 10_500
    assert 9 * S < node.now_ns - began < 11 * S


def test_a_namespace_that_is_not_named_has_a_budget_of_its_own_where_all_others_have_one() -> None:
    node = Node(budgets={EVERY_OTHER: Rate(bytes_per_s=1, burst_bytes=1_000)}, linger_ns=0)
    for source in (FLOOD, QUIET, OTHER_FLOOD):
        node.write(source, 5_000)
    node.write(AUDIT, 5_000, PRIORITY)

    shipped: Counter[str] = Counter()
    while (one := node.ship()) is not None:
        for source, size in one[1]:
            shipped[source] += size

    assert shipped[FLOOD] + shipped[QUIET] == 1_000
    assert shipped[OTHER_FLOOD] == 1_000
    assert shipped[AUDIT] == 5_000


def test_a_budget_that_lets_nothing_pass_is_refused() -> None:
    with pytest.raises(ValueError, match="1 at the least"):
        Rate(bytes_per_s=0)

"""Whatever arrives, fails and is delayed: everything is shipped in the end, in order, and in fair shares."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ashiato.core.ids import TOPIC_BULK, TOPIC_PRIORITY
from ashiato.core.ports import Partition
from collector.schedule import Rate, Schedule

PLACES = (Partition(TOPIC_PRIORITY, 0), Partition(TOPIC_BULK, 0), Partition(TOPIC_BULK, 1))
SOURCES = tuple(f"container/c/n/ns-{n % 2}/pod-{n}/uid/app" for n in range(5))
QUANTUM = 100
FRAME = 300
Write = tuple[Partition, str, int]
WRITES: st.SearchStrategy[list[Write]] = st.lists(
    st.tuples(st.sampled_from(PLACES), st.sampled_from(SOURCES), st.integers(1, 1000)), max_size=30
)


def fill(schedule: Schedule, place: Partition, left: Counter[tuple[Partition, str]], now: int) -> Counter[str]:
    """Gather one frame in chunks of up to twice the quantum."""
    taken: Counter[str] = Counter()
    while sum(taken.values()) < FRAME and (turn := schedule.turn(place, now)) is not None:
        used = min(left[place, turn.source], 2 * QUANTUM)
        left[place, turn.source] -= used
        taken[turn.source] += used
        schedule.served(place, turn.source, used, now, drained=left[place, turn.source] == 0)
    return taken


@given(
    WRITES, st.lists(st.booleans(), max_size=60), st.integers(0, 400),
    st.sampled_from([{}, {"ns-0": Rate(bytes_per_s=1_000, burst_bytes=500)}]),
)  # fmt: skip
def test_everything_that_arrives_is_shipped_in_the_end(
    writes: list[Write], fails: list[bool], linger: int, budgets: dict[str, Rate]
) -> None:
    schedule = Schedule(PLACES, frame_bytes=FRAME, linger_ns=linger, budgets=budgets, quantum_bytes=QUANTUM)
    left: Counter[tuple[Partition, str]] = Counter()
    shipped: Counter[tuple[Partition, str]] = Counter()
    now, outcomes, pending = 0, iter(fails), list(writes)
    while pending or schedule.due_ns() is not None:
        is_due = not pending
        if pending:
            place, source, size = pending.pop()
            left[place, source] += size
            schedule.arrived(place, source, size, now)
        else:
            due = schedule.due_ns()
            assert due is not None
            now = max(now, due)
        chosen = schedule.choose(now)
        if chosen is None:
            assert not is_due, "it said when it would have something, and then had nothing"
            continue
        taken = fill(schedule, chosen, left, now)
        if next(outcomes, False):
            for source, size in taken.items():
                left[chosen, source] += size
                schedule.returned(chosen, source, size, now)
            schedule.settled(chosen, not_before_ns=now + 50)
        else:
            shipped.update({(chosen, source): size for source, size in taken.items()})
            schedule.settled(chosen)

    wanted: Counter[tuple[Partition, str]] = Counter()
    for place, source, size in writes:
        wanted[place, source] += size
    assert +shipped == +wanted


@given(st.lists(st.integers(1, 4 * QUANTUM), min_size=2, max_size=5))
def test_sources_that_all_have_more_get_shares_that_differ_by_a_chunk_and_a_quantum(chunks: list[int]) -> None:
    schedule = Schedule(PLACES[1:2], frame_bytes=FRAME, linger_ns=0, quantum_bytes=QUANTUM)
    sources = SOURCES[: len(chunks)]
    for source in sources:
        schedule.arrived(PLACES[1], source, 1_000_000, 0)
    shares: Counter[str] = Counter(dict.fromkeys(sources, 0))
    for _ in range(200):
        turn = schedule.turn(PLACES[1], 0)
        assert turn is not None
        used = chunks[sources.index(turn.source)]
        schedule.served(PLACES[1], turn.source, used, 0, drained=False)
        shares[turn.source] += used
        assert max(shares.values()) - min(shares.values()) <= max(chunks) + 2 * QUANTUM

"""Coverage as a pure function of facts: it adds up, stays bounded, and never calls complete what it cannot know."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ashiato.core.coverage import Interval, Seen, judge
from ashiato.core.ports import Partition
from query.coverage import Facts, Holding, Window, assess, bounded
from query.ledger_fold import Ack, GapStated
from query.spans import size, union, without

SOURCE = "container/c1/node-1/shop/web-1/u-1/web"
ATTESTER = "c1/node-1"
WHERE = Partition("ashiato.bulk", 0)

spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda pair: (min(pair), max(pair))), max_size=6)


def holding(**facts: object) -> Holding:
    return Holding(**{"file_id": "F1", "source": SOURCE, "attester": ATTESTER, **facts})  # type: ignore[arg-type]


def assessed(*files: Holding, window: Window | None = None, watermark: int | None = 100) -> tuple[Interval, ...]:
    watermarks = {ATTESTER: watermark} if watermark is not None else {}
    return assess(Facts(files={SOURCE: files}, watermarks=watermarks), window or Window())[0]


def total(intervals: tuple[Interval, ...], seen: Seen) -> int:
    return sum(interval.bytes for interval in intervals if interval.seen is seen)


def gap(start: int, end: int) -> GapStated:
    return GapStated(
        attester=ATTESTER, source=SOURCE, file_id="F1", offset_start=start, offset_end=end,
        time_start_unix_nano=None, time_end_unix_nano=None, stated_unix_nano=1, reason="truncated", detail="",
    )  # fmt: skip


@given(held=spans, gaps=spans, acknowledged=st.integers(0, 60))
def test_every_byte_that_is_known_of_is_in_exactly_one_state(
    held: list[tuple[int, int]], gaps: list[tuple[int, int]], acknowledged: int
) -> None:
    ack = Ack(offset=acknowledged, where=WHERE, position=0)
    intervals = assessed(holding(held=union(held), gaps=tuple(gap(*one) for one in gaps), ack=ack))
    known = union([*held, *gaps, (0, max([acknowledged, *(end for _, end in union(held))]))])

    assert total(intervals, Seen.SEARCHED) == size(union(held))
    assert total(intervals, Seen.GAP) >= size(without(gaps, held))
    pending = size(without(without(known, held), gaps))
    assert total(intervals, Seen.PENDING) == pending
    complete = judge(intervals, watermark_unix_nano=None, legs=(), commit=None).complete
    assert complete == (not pending and not without(gaps, held))


@given(held=spans, taken=spans)
def test_spans_behave_as_sets(held: list[tuple[int, int]], taken: list[tuple[int, int]]) -> None:
    def members(ranges: list[tuple[int, int]]) -> set[int]:
        return {number for start, end in ranges for number in range(start, end)}

    assert members(list(union(held))) == members(held)
    assert size(union(held)) == len(members(held))
    assert members(list(without(held, taken))) == members(held) - members(taken)


def test_an_import_that_is_not_finished_is_pending() -> None:
    intervals = assessed(holding(held=((0, 5),), imported=True), watermark=None)
    assert (Seen.PENDING, "import_unfinished") in {(one.seen, one.reason) for one in intervals}


def test_an_import_that_is_finished_is_searched_and_attested_by_nobody() -> None:
    (interval,) = assessed(holding(held=((0, 5),), imported=True, closed=True), watermark=None)
    assert (interval.seen, interval.bytes, interval.detail) == (Seen.SEARCHED, 5, "read once, attested by nobody")


def test_a_source_of_which_all_is_a_gap_is_not_called_searched() -> None:
    lost = holding(size=5, closed=True, gaps=(gap(0, 5),))
    assert [one.seen for one in assessed(lost)] == [Seen.GAP]


def test_a_gap_outside_the_window_does_not_count() -> None:
    early = holding(held=((5, 9),), closed=True, gaps=(gap(0, 5),))
    assert {one.seen for one in assessed(early, window=Window(start_unix_nano=2))} == {Seen.SEARCHED}
    assert Seen.GAP in {one.seen for one in assessed(early, window=Window(start_unix_nano=0))}


def test_bytes_that_only_the_hot_index_has_are_not_missing() -> None:
    ack = Ack(offset=9, where=WHERE, position=3)
    assert {one.seen for one in assessed(holding(held=((0, 4),), ack=ack, hot_reaches=9))} == {Seen.SEARCHED}
    assert {one.seen for one in assessed(holding(held=((0, 4),), ack=ack))} == {Seen.SEARCHED, Seen.PENDING}


def test_an_explicit_end_beyond_the_watermark_leaves_the_rest_pending() -> None:
    intervals = assessed(holding(held=((0, 5),)), window=Window(end_unix_nano=150))
    assert [(one.seen, one.time_start_unix_nano, one.time_end_unix_nano) for one in intervals] == [
        (Seen.PENDING, 100, 150), (Seen.SEARCHED, None, 100),
    ]  # fmt: skip


def test_many_sources_are_told_by_kind_and_node_and_their_bytes_still_add_up() -> None:
    many = [
        Interval(
            source=f"container/c1/node-{number % 3}/shop/web-{number}/u-{number}/web", seen=Seen.SEARCHED, bytes=number,
            time_end_unix_nano=number,
        )
        for number in range(1000)
    ]  # fmt: skip
    told = bounded(many)
    assert len(told) == 3
    assert sum(one.bytes for one in told) == sum(one.bytes for one in many)
    assert {one.source for one in told} == {f"container/c1/node-{number}/*" for number in range(3)}
    # What all of them reach is what is called searched.
    assert {one.time_end_unix_nano for one in told} == {0, 1, 2}


def test_many_nodes_are_told_by_kind() -> None:
    many = [Interval(source=f"audit/c1/node-{number}/audit.log", seen=Seen.GAP, bytes=1) for number in range(1000)]
    (told,) = bounded(many)
    assert (told.source, told.bytes, told.detail) == ("audit/*", 1000, "1000 sources")

"""Folding ledgers: the same whatever the order and however often, and a missing number shows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ashiato.core import ledger
from ashiato.core.ledger import Acknowledged, Beat, Born, Closed, Gap, Head, Statement
from query.ledger_fold import LedgerFold, fold_lines

SOURCE = "ledger/c1/node-1/ledger.jsonl"
WEB = "container/c1/node-1/shop/web-1/u-1/web"


def beat(watermark: int, offset: int) -> Beat:
    moved = Acknowledged(
        file_id="F1", offset=str(offset), incarnation="", topic="ashiato.bulk", partition=0, position=str(offset)
    )
    return Beat(watermark_unix_nano=str(watermark), moved=(moved,))


STATEMENTS: tuple[Statement, ...] = (
    Born(file_id="F1", source=WEB, path="/0.log", partition=0, topic="ashiato.bulk", restart_count=0),
    beat(5, 10),
    Gap(source=WEB, reason="truncated", file_id="F1", offset_start="10", offset_end="12"),
    beat(9, 20),
    Closed(file_id="F1", source=WEB, size="20", reason="unlinked"),
    beat(12, 20),
)


def lines(statements: tuple[Statement, ...] = STATEMENTS, *, file_id: str = "L1") -> list[tuple[str, str, str]]:
    head, written = Head(), []
    for time, statement in enumerate(statements):
        line, head = ledger.append(head, statement, node="node-1", time_unix_nano=time, boot_nano=0)
        written.append((SOURCE, file_id, line.decode().removesuffix("\n")))
    return written


def same(one: LedgerFold, other: LedgerFold) -> bool:
    return (
        (one.births, one.ends, one.acks, one.gaps, one.watermarks, one.newest_unix_nano)
        == (other.births, other.ends, other.acks, other.gaps, other.watermarks, other.newest_unix_nano)
    ) and one.broken() == other.broken()  # fmt: skip


def test_a_ledger_tells_births_ends_acknowledgements_gaps_and_the_watermark() -> None:
    fold = fold_lines(lines())
    assert fold.births["F1"].attester == "c1/node-1"
    assert fold.ends == {"F1": 20}
    assert (fold.acks["F1"].offset, fold.acks["F1"].position) == (20, 20)
    assert fold.watermarks == {"c1/node-1": 12}
    assert {(gap.offset_start, gap.offset_end, gap.reason) for gap in fold.gaps} == {(10, 12, "truncated")}
    assert fold.broken() == []


@given(order=st.permutations(range(len(STATEMENTS))), again=st.lists(st.sampled_from(range(len(STATEMENTS)))))
def test_the_fold_depends_on_neither_order_nor_repetition(order: list[int], again: list[int]) -> None:
    all_lines = lines()
    assert same(fold_lines([all_lines[at] for at in (*order, *again)]), fold_lines(all_lines))


@given(cut=st.integers(0, len(STATEMENTS)))
def test_folding_parts_is_folding_the_whole(cut: int) -> None:
    all_lines = lines()
    fold = fold_lines(all_lines[:cut])
    fold.take_all(fold_lines(all_lines[cut:]))
    assert same(fold, fold_lines(all_lines))


@given(missing=st.integers(1, len(STATEMENTS) - 2))
def test_a_number_that_is_missing_between_two_breaks_the_ledger(missing: int) -> None:
    kept = [line for at, line in enumerate(lines()) if at != missing]
    assert fold_lines(kept).broken() == [SOURCE]


def test_a_rotated_ledger_follows_its_predecessor() -> None:
    first, second = lines()[:3], [(SOURCE, "L2", body) for _, _, body in lines()[3:]]
    assert fold_lines([*first, *second]).broken() == []
    assert fold_lines([*first, *second[1:]]).broken() == [SOURCE]
    # What retention removed is the beginning, and no hole.
    assert fold_lines(second).broken() == []


def test_a_state_folder_made_anew_begins_another_chain() -> None:
    anew = lines(STATEMENTS[:2], file_id="L9")
    assert fold_lines([*lines(), *anew]).broken() == []
    # The old chain's beginning was removed meanwhile.
    assert fold_lines([*lines()[3:], *anew]).broken() == []


def test_a_ledger_that_was_sent_again_without_its_oldest_file_is_whole() -> None:
    again = [(SOURCE, "L9", body) for _, _, body in lines()[3:]]
    assert fold_lines([*lines(), *again]).broken() == []


def test_what_is_no_statement_is_left_out() -> None:
    fold = fold_lines([(SOURCE, "L1", "{}"), (SOURCE, "L1", "no JSON"), ("nonsense", "L1", lines()[0][2])])
    assert (fold.births, fold.chains) == ({}, {})


def test_a_statement_whose_numbers_are_none_tells_nothing_and_breaks_nothing() -> None:
    odd = lines()[1][2].replace('"watermark_unix_nano":"5"', '"watermark_unix_nano":"five"')
    assert "five" in odd
    fold = fold_lines([lines()[0], (SOURCE, "L1", odd), lines()[2]])
    assert (fold.watermarks, fold.acks, fold.broken()) == ({}, {}, [SOURCE])


def test_the_newest_beat_tells_the_watermark_although_the_clock_was_put_back() -> None:
    """A clock that ran an hour ahead attested bytes that were written only later."""
    ahead = (beat(100, 10), beat(3_700, 10), beat(140, 20))
    fold = fold_lines(lines(ahead))
    assert fold.watermarks == {"c1/node-1": 140}
    again = fold_lines(reversed(lines(ahead)))
    again.take_all(fold_lines(lines(ahead)[:2]))
    assert again.watermarks == {"c1/node-1": 140}


def test_a_number_that_nobody_can_have_tells_nothing() -> None:
    """One line of a hostile node would otherwise take every answer's coverage beyond what JSON can say."""
    for statement in (
        Closed(file_id="F1", source=WEB, size=str(10**30), reason="unlinked"),
        Gap(source=WEB, reason="truncated", file_id="F1", offset_start="10", offset_end=str(1 << 63)),
        beat(1 << 64, 10),
    ):
        fold = fold_lines(lines((*STATEMENTS[:2], statement)))
        assert (fold.ends, fold.gaps, fold.watermarks) == ({}, set(), {"c1/node-1": 5})


def test_a_line_that_is_nested_without_end_is_no_statement() -> None:
    assert fold_lines([(SOURCE, "L1", '{"n":' + "[" * 100_000)]).chains == {}

"""Answers are bounded in bytes: the far end goes, what is left has no hole, and the answer says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ashiato.adapters.index_memory import MemoryIndex, MemoryIndexKeeper, MemoryIndexWriter, MemoryIndices
from ashiato.core.limits import MIB
from ashiato.core.query import And, Query, Term
from query.engine import LogsRequest, TimelineRequest
from tests.unit.query.house import NOON, SECOND, House, LogFile, container, cri, index_tail_into

WEB = container("web-1")
OUTPUT = Query(
    where=And(nodes=(Term(field="source_kind", value="container"), Term(field="pod", value="web-1"))),
    order="oldest_first",
)
BIG = 200_000
TEXTS = tuple(letter * BIG for letter in "abcdef")
BYTES_MAX = MIB // 2
"""Room for two rows of these."""
CUT = "the answer was cut at 0.5 MiB: narrow the time or the words"


def told(answer_rows: list[str | None]) -> str:
    return "".join(str(text)[0] for text in answer_rows)


async def born(house: House) -> LogFile:
    web = await house.born(WEB)
    for number, text in enumerate(TEXTS):
        await house.send(web, cri(text, start=NOON + number * SECOND))
    return web


async def sent(house: House) -> None:
    await house.beat(await born(house))


@pytest.mark.parametrize("committed", [False, True])
async def test_an_answer_over_its_bytes_is_cut_from_its_far_end(house: House, *, committed: bool) -> None:
    await sent(house)
    await (house.commit() if committed else house.tail())
    engine = house.engine(answer_bytes_max=BYTES_MAX)

    oldest = await engine.search(OUTPUT)
    newest = await engine.search(replace(OUTPUT, order="newest_first"))

    assert told(oldest.rows["body"].to_pylist()) == "ab"
    assert told(newest.rows["body"].to_pylist()) == "fe"
    for answer in (oldest, newest):
        assert CUT in answer.coverage.findings
        assert not answer.coverage.complete


async def test_a_timeline_is_cut_as_a_search_is(house: House) -> None:
    await sent(house)
    await house.tail()

    answer = await house.engine(answer_bytes_max=BYTES_MAX).timeline(TimelineRequest(anchor="pod:shop/web-1"))

    assert 0 < answer.rows.num_rows < 6
    assert CUT in answer.coverage.findings
    assert not answer.coverage.complete


async def test_a_row_larger_than_the_bytes_is_answered_alone(house: House) -> None:
    await sent(house)
    await house.tail()

    answer = await house.engine(answer_bytes_max=1).search(OUTPUT)

    assert told(answer.rows["body"].to_pylist()) == "a"
    assert not answer.coverage.complete


async def test_a_limit_that_is_reached_first_is_what_the_answer_tells(house: House) -> None:
    await sent(house)
    await house.tail()

    answer = await house.engine(answer_bytes_max=BYTES_MAX).search(replace(OUTPUT, limit=1))

    assert told(answer.rows["body"].to_pylist()) == "a"
    assert "more rows match than the 1 of this answer" in answer.coverage.findings
    assert CUT not in answer.coverage.findings


async def test_an_answer_within_its_bytes_is_whole(house: House) -> None:
    await sent(house)
    await house.tail()

    answer = await house.engine().search(OUTPUT)

    assert told(answer.rows["body"].to_pylist()) == "abcdef"
    assert answer.coverage.complete


async def test_small_rows_of_another_leg_do_not_fill_the_place_of_one_that_was_cut_off(house: House) -> None:
    # given large rows in the archive alone, and a small later one in the hot index alone
    indices = MemoryIndices()
    web = await born(house)
    await house.commit()
    await house.send(web, cri("z", start=NOON + 60 * SECOND))
    await house.beat(web)
    await house.tail()
    await index_tail_into(house, MemoryIndexKeeper(indices), MemoryIndexWriter(indices))
    engine = house.engine(MemoryIndex(indices), answer_bytes_max=BYTES_MAX)

    oldest = await engine.search(OUTPUT)
    newest = await engine.search(replace(OUTPUT, order="newest_first"))

    # then the answer ends where the first row does not fit
    assert told(oldest.rows["body"].to_pylist()) == "ab"
    assert told(newest.rows["body"].to_pylist()) == "zfe"
    assert CUT in oldest.coverage.findings
    assert CUT in newest.coverage.findings


async def test_logs_have_bytes_of_their_own_and_say_when_they_were_cut(house: House) -> None:
    await sent(house)
    await house.tail()

    whole = await house.engine(answer_bytes_max=1).logs(LogsRequest(pod="web-1"))
    cut = await house.engine(logs_bytes_max=BYTES_MAX).logs(LogsRequest(pod="web-1"))

    assert whole.content == b"".join(f"{text}\n".encode() for text in TEXTS)
    assert whole.coverage.complete
    assert cut.content == b"".join(f"{text}\n".encode() for text in TEXTS[:2])
    assert "the log was cut at 0.5 MiB: its newest lines are not printed" in cut.coverage.findings
    assert not cut.coverage.complete

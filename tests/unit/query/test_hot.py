"""The hot index beside the archive: what only it has, what it has not yet, and what both have."""

from __future__ import annotations

import pytest

from ashiato.adapters.index_memory import MemoryIndex, MemoryIndexKeeper, MemoryIndexWriter, MemoryIndices
from ashiato.core.errors import RejectedError
from ashiato.core.ports import Partition
from ashiato.core.query import And, Query, Regex, Term
from query.engine import Engine, LogsRequest
from tests.unit.query.house import NOON, House, container, cri, documents, index_tail_into, seen

WEB = container("web-1")
OUTPUT = Query(
    where=And(nodes=(Term(field="source_kind", value="container"), Term(field="pod", value="web-1"))),
    order="oldest_first",
)


async def index_tail(house: House, indices: MemoryIndices) -> None:
    """Put into the hot index what the tail has, and take the tail away: as it is at scale."""
    await index_tail_into(house, MemoryIndexKeeper(indices), MemoryIndexWriter(indices))


@pytest.fixture
def indices() -> MemoryIndices:
    return MemoryIndices()


async def test_what_only_the_hot_index_has_is_answered_and_covered(house: House, indices: MemoryIndices) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one"))
    await house.beat(web)
    await house.commit()
    await house.send(web, cri("two", start=NOON + 10_000_000_000))
    await house.beat(web, watermark=NOON + 11_000_000_000)
    await house.tail()
    await index_tail(house, indices)

    answer = await house.engine(MemoryIndex(indices)).search(OUTPUT)

    assert [one["body"] for one in documents(answer)] == ["one", "two"]
    assert answer.coverage.complete
    assert answer.coverage.watermark_unix_nano == NOON + 11_000_000_000
    assert answer.coverage.legs == ("tail", "hot", "archive")


async def test_a_hot_index_that_lags_behind_the_beat_leaves_bytes_pending(house: House, indices: MemoryIndices) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one"))
    await house.commit()
    held = web.offset
    await house.send(web, cri("two"))
    await house.beat(web)
    await house.tail()
    for path in (house.root / "tail").glob("ashiato.bulk-*"):
        path.unlink()
    await index_tail(house, indices)

    answer = await house.engine(MemoryIndex(indices)).search(OUTPUT)

    assert ("container", "pending", "not_held_yet", web.offset - held) in seen(answer)


async def test_a_file_that_was_closed_since_the_last_commit_is_complete_where_its_end_is_hot(
    house: House, indices: MemoryIndices
) -> None:
    web = await house.born(WEB)
    await house.commit()
    await house.send(web, cri("one", "two"))
    await house.close(web)
    await house.beat()
    await house.tail()
    await index_tail(house, indices)

    answer = await house.engine(MemoryIndex(indices)).search(OUTPUT)

    assert [one["body"] for one in documents(answer)] == ["one", "two"]
    assert answer.coverage.complete


async def test_rows_that_both_have_are_answered_once(house: House, indices: MemoryIndices) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one", "two"))
    await house.beat(web)
    await house.tail()
    await index_tail(house, indices)
    await house.commit()

    answer = await house.engine(MemoryIndex(indices)).search(OUTPUT)
    logs = await house.engine(MemoryIndex(indices)).logs(LogsRequest(pod="web-1"))

    assert [one["body"] for one in documents(answer)] == ["one", "two"]
    assert logs.content == b"one\ntwo\n"


async def test_without_the_hot_index_the_answer_is_the_archives_up_to_an_older_watermark(house: House) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one"))
    await house.beat(web, watermark=NOON + 1)
    await house.commit()
    await house.send(web, cri("two"))
    await house.beat(web, watermark=NOON + 9)
    await house.tail()
    for path in (house.root / "tail").glob("*.arrow"):
        path.unlink()

    engine: Engine = house.engine()
    answer = await engine.search(OUTPUT)

    assert [one["body"] for one in documents(answer)] == ["one"]
    assert answer.coverage.complete
    assert answer.coverage.watermark_unix_nano == NOON + 1


async def test_a_query_that_cannot_be_evaluated_is_refused_not_blamed_on_the_index(
    house: House, indices: MemoryIndices
) -> None:
    with pytest.raises(RejectedError):
        await house.engine(MemoryIndex(indices)).search(Query(where=Regex(field="body", pattern="(")))


async def test_how_far_the_index_has_another_log_says_nothing_of_this_one(house: House, indices: MemoryIndices) -> None:
    """The bus was made anew while the indexer was away: what it published is of the log before."""
    web = await house.born(WEB)
    await house.send(web, cri("one"))
    await house.beat(web)
    await house.commit()
    held = web.offset
    other = MemoryIndexWriter(indices)
    await MemoryIndexKeeper(indices).prepare(["2026-11-25"], ["container", "ledger"])
    where = house.where(WEB)
    await other.publish_position({where: 1000, Partition(f"{house.broker.bus_id}/{where.topic}#0", where.number): 1000})
    # when: the new bus has acknowledged more, and nobody has read it
    web.offset, web.position = held + 99, 7
    await house.beat(web, bus_id="bus made anew")
    await house.commit()

    answer = await house.engine(MemoryIndex(indices)).search(OUTPUT)

    assert ("container", "pending", "not_held_yet", 99) in seen(answer)
    assert not answer.coverage.complete

"""Coverage over a real archive, tail and ledger, while files grow, go missing and come back (Q4)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ashiato.adapters.index_memory import MemoryIndex, MemoryIndices
from ashiato.core.coverage import Seen
from ashiato.core.ids import Kind, Source
from ashiato.core.ledger import Config, Gap
from ashiato.core.limits import NODE_SILENT_NS
from ashiato.core.query import All, And, Query, Term
from query.engine import TimelineRequest
from tests.unit.query.house import CLUSTER, NODE, NOON, SECOND, House, container, cri, documents, seen

WEB = container("web-1")


def of(source: Source) -> Query:
    """Return the query for what a pod wrote: rows of the ledger carry its uid too."""
    output = Term(field="source_kind", value="container")
    return Query(where=And(nodes=(output, Term(field="k8s_pod_uid", value=source.pod_uid))))


async def test_a_growing_file_is_complete_up_to_the_watermark_that_is_stated(house: House) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one", "two"))
    await house.beat(web, watermark=NOON + 7)
    await house.tail()

    answer = await house.engine().search(of(WEB))

    assert answer.rows.num_rows == 2
    assert answer.coverage.complete
    assert answer.coverage.watermark_unix_nano == NOON + 7
    searched = {one.source: one for one in answer.coverage.intervals}[str(WEB)]
    assert (searched.seen, searched.time_end_unix_nano, searched.bytes) == (Seen.SEARCHED, NOON + 7, web.offset)


@pytest.mark.parametrize("where", ["tail", "commit"])
async def test_tail_and_packs_give_the_same_coverage(house: House, where: str) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one", "two"))
    await house.beat(web)
    await (house.tail() if where == "tail" else house.commit())

    answer = await house.engine().search(of(WEB))

    assert answer.coverage.complete
    assert answer.rows.num_rows == 2


async def test_acknowledged_bytes_that_are_not_held_are_pending(house: House) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one"))
    held = web.offset
    web.offset, web.position = held + 99, 7
    await house.beat(web)
    await house.tail()

    answer = await house.engine().search(of(WEB))

    assert ("container", "pending", "not_held_yet", 99) in seen(answer)
    assert not answer.coverage.complete


async def test_acknowledged_bytes_that_the_archive_has_passed_are_a_gap(house: House) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one"))
    web.offset += 99
    await house.beat(web)
    await house.commit()

    answer = await house.engine().search(of(WEB))

    assert ("container", "gap", "lost_on_bus", 99) in seen(answer)


async def test_a_hole_in_a_file_is_pending_until_it_is_filled(house: House) -> None:
    web = await house.born(WEB)
    first, second = cri("one"), cri("two", start=NOON + SECOND)
    await house.send(web, second, at=len(first))
    await house.beat(web)
    await house.tail()
    before = await house.engine().search(of(WEB))

    await house.send(web, first, at=0)
    await house.tail()
    after = await house.engine().search(of(WEB))

    assert ("container", "pending", "not_held_yet", len(first)) in seen(before)
    assert seen(after) == []
    assert after.coverage.complete


async def test_a_node_that_never_beat_leaves_its_live_files_open(house: House) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one"))
    await house.tail()

    answer = await house.engine().search(of(WEB))

    assert ("container", "pending", "no_beat", 0) in seen(answer)
    assert answer.coverage.watermark_unix_nano is None
    assert not answer.coverage.complete


async def test_a_closed_file_needs_no_watermark(house: House) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one"))
    await house.close(web)
    await house.beat(web)
    await house.commit()

    answer = await house.engine().search(of(WEB))

    searched = {one.source: one for one in answer.coverage.intervals}[str(WEB)]
    assert searched.time_end_unix_nano is None
    assert answer.coverage.complete


async def test_a_file_whose_stated_end_is_not_held_is_pending(house: House) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one"))
    web.offset += 5
    await house.close(web)
    await house.beat()
    await house.tail()

    answer = await house.engine().search(of(WEB))

    assert ("container", "pending", "not_held_yet", 5) in seen(answer)


async def test_a_stated_gap_is_told_with_its_bytes_and_its_reason(house: House) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one"))
    held = web.offset
    await house.state(
        Gap(source=str(WEB), reason="truncated", file_id=web.file_id, offset_start=str(held), offset_end=str(held + 40))
    )
    await house.close(web)
    await house.beat()
    await house.commit()

    answer = await house.engine().search(of(WEB))

    assert ("container", "gap", "truncated", 40) in seen(answer)
    assert not answer.coverage.complete


async def test_held_bytes_win_over_a_gap(house: House) -> None:
    web = await house.born(WEB)
    content = cri("one", "two", "three")
    await house.send(web, content)
    await house.state(
        Gap(
            source=str(WEB), reason="truncated", file_id=web.file_id, offset_start="0",
            offset_end=str(len(content) + 10),
        )
    )  # fmt: skip
    await house.beat(web)
    await house.tail()

    answer = await house.engine().search(of(WEB))

    assert seen(answer) == [("container", "gap", "truncated", 10)]


async def test_an_unreadable_file_that_was_read_after_all_is_no_gap(house: House) -> None:
    web = await house.born(WEB)
    await house.state(Gap(source=str(WEB), reason="unreadable", file_id=web.file_id, offset_start="0"))
    await house.beat()
    await house.tail()
    before = await house.engine().search(of(WEB))

    await house.send(web, cri("one"))
    await house.beat(web)
    await house.tail()
    after = await house.engine().search(of(WEB))

    assert ("container", "gap", "unreadable", 0) in seen(before)
    assert seen(after) == []
    assert after.coverage.complete


async def test_a_file_rotated_away_stays_a_gap_though_more_of_it_was_held_than_the_bookmark_knew(
    house: House,
) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one", "two"))
    await house.state(Gap(source=str(WEB), reason="rotated_away", file_id=web.file_id, offset_start="5"))
    await house.close(web)
    await house.beat()
    await house.commit()

    answer = await house.engine().search(of(WEB))

    assert [one[:3] for one in seen(answer)] == [("container", "gap", "rotated_away")]


async def test_an_unreadable_folder_counts_for_the_pods_that_lay_in_it_and_for_no_others(house: House) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one"))
    folder = Source(kind=Kind.FILE, cluster=CLUSTER, node=NODE, path="var/log/pods/shop_web-1_u-1")
    await house.state(Gap(source=str(folder), reason="unreadable", time_start_unix_nano=str(NOON)))
    other = await house.born(container("other", uid="u-2"))
    await house.send(other, cri("two"))
    await house.beat(web, other)
    await house.tail()

    mine = await house.engine().search(of(WEB))
    others = await house.engine().search(of(container("other", uid="u-2")))

    assert ("file", "gap", "unreadable", 0) in seen(mine)
    assert others.coverage.complete


async def test_nothing_known_is_never_complete(house: House) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one"))
    await house.beat(web)
    await house.tail()

    answer = await house.engine().search(of(container("nobody", uid="u-9")))

    assert ("*", "unobservable", "no_source", 0) in seen(answer)
    assert not answer.coverage.complete


async def test_an_empty_archive_is_never_complete(house: House) -> None:
    answer = await house.engine().search(Query(where=All()))

    assert answer.rows.num_rows == 0
    assert not answer.coverage.complete
    assert seen(answer) == [("*", "unobservable", "no_source", 0)]


async def test_a_window_beyond_the_watermark_is_pending(house: House) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one"))
    await house.beat(web, watermark=NOON)
    await house.tail()

    answer = await house.engine().search(Query(where=All(), time_start_unix_nano=NOON + SECOND))

    assert {one[1:3] for one in seen(answer)} == {("pending", "beyond_watermark")}
    assert not answer.coverage.complete


async def test_a_window_before_the_watermark_is_complete_whatever_came_later(house: House) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one"))
    await house.beat(web, watermark=NOON + 10 * SECOND)
    await house.tail()

    answer = await house.engine().search(Query(where=All(), time_end_unix_nano=NOON + SECOND))

    assert answer.coverage.complete
    assert answer.rows.num_rows > 0


async def test_the_slowest_node_sets_the_watermark(house: House) -> None:
    web, other = await house.born(WEB), await house.born(container("web-2", uid="u-2", node="node-2"), node="node-2")
    await house.send(web, cri("one"))
    await house.send(other, cri("two"))
    await house.beat(web, watermark=NOON + 9)
    await house.beat(other, watermark=NOON + 3, node="node-2")
    await house.tail()

    answer = await house.engine().search(Query(where=Term(field="source_kind", value="container")))

    assert answer.coverage.watermark_unix_nano == NOON + 3
    assert answer.coverage.complete


async def test_lines_missing_from_a_ledger_leave_its_node_open(house: House) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one"))
    ledger = house.ledgers[NODE]
    head, ledger.offset, kept = house.heads[NODE], ledger.offset, ledger.offset
    # A line that never arrives: its number is used, its bytes are not sent.
    house.heads[NODE] = type(head)(n=head.n + 1, prev=head.prev)
    assert ledger.offset == kept
    await house.beat(web)
    await house.tail()

    answer = await house.engine().search(of(WEB))

    assert ("ledger", "pending", "ledger_incomplete", 0) in seen(answer)


async def test_an_answer_that_was_cut_says_so_and_is_not_complete(house: House) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one", "two", "three"))
    await house.beat(web)
    await house.tail()

    answer = await house.engine().search(
        Query(where=Term(field="source_kind", value="container"), limit=2, order="oldest_first")
    )

    assert answer.rows["body"].to_pylist() == ["one", "two"]
    assert not answer.coverage.complete
    assert "more rows match than the 2 of this answer" in answer.coverage.findings


async def test_a_hot_index_that_is_away_costs_nothing_that_the_archive_has(house: House) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one"))
    await house.beat(web)
    await house.commit()
    indices = MemoryIndices(away=True)

    answer = await house.engine(MemoryIndex(indices)).search(of(WEB))

    assert answer.rows.num_rows == 1
    assert ("container", "pending", "hot_index_unavailable", 0) in seen(answer)
    assert any("hot index does not answer" in finding for finding in answer.coverage.findings)
    assert "hot" not in answer.coverage.legs


async def test_a_gap_stands_in_the_timeline_of_the_pod_that_it_speaks_of(house: House) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one"))
    lost = Gap(source=str(WEB), reason="truncated", file_id=web.file_id, offset_start=str(web.offset), offset_end="999")
    await house.state(lost)
    await house.beat(web)
    await house.tail()

    mine = await house.engine().timeline(TimelineRequest(anchor="pod:shop/web-1"))
    others = await house.engine().timeline(TimelineRequest(anchor="pod:shop/other"))

    assert [one["ashiato.timeline.kind"] for one in documents(mine)] == ["gap", "output"]
    assert ("container", "gap", "truncated", 999 - web.offset) in seen(mine)
    assert documents(others) == []


async def test_a_timeline_says_what_no_source_could_have_told(house: House) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one"))
    await house.beat(web)
    await house.tail()

    answer = await house.engine().timeline(TimelineRequest(anchor="pod:shop/web-1"))

    assert [one[:2] for one in seen(answer)] == [
        ("audit", "unobservable"), ("falco", "unobservable"), ("watch", "unobservable"),
    ]  # fmt: skip
    assert not answer.coverage.complete


async def test_what_a_node_was_told_not_to_follow_is_told(house: House) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one"))
    await house.state(Config(sha256="0" * 64, exclusions=("/var/log/secret",)))
    await house.beat(web)
    await house.tail()

    answer = await house.engine().search(of(WEB))

    assert f"node {CLUSTER}/{NODE} was told not to follow /var/log/secret" in answer.coverage.findings


async def test_a_beat_without_a_watermark_attests_nothing(house: House) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one"))
    await house.beat(web, watermark=0)
    await house.tail()

    answer = await house.engine().search(of(WEB))

    assert ("container", "pending", "no_beat", 0) in seen(answer)


async def test_what_another_bus_acknowledged_is_pending_and_not_lost(house: House) -> None:
    """C6: the journal has passed the position on the bus before; on the new one it has read nothing yet."""
    web = await house.born(WEB)
    await house.send(web, cri("one"))
    await house.commit()
    web.offset += 99
    web.position = 0
    await house.beat(web, bus_id="bus made anew")
    await house.commit()

    answer = await house.engine().search(of(WEB))

    assert ("container", "pending", "not_held_yet", 99) in seen(answer)


async def test_a_node_that_falls_silent_leaves_a_gap_after_what_it_last_attested(house: House) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one"))
    await house.beat(web, watermark=NOON)
    await house.tail()
    house.clock.advance(NODE_SILENT_NS + 2 * SECOND)

    answer = await house.engine().search(Query(where=All(), time_end_unix_nano=NOON + 3600 * SECOND))

    gaps = [interval for interval in answer.coverage.intervals if interval.seen is Seen.GAP]
    assert {(gap.reason, gap.time_start_unix_nano) for gap in gaps} == {("no_collector", NOON)}
    assert not answer.coverage.complete


async def test_with_the_archive_alone_a_node_is_silent_where_another_has_said_more(house: House) -> None:
    web = await house.born(WEB)
    other = await house.born(container("db-1", node="node-2"))
    await house.send(web, cri("one"))
    await house.beat(web, watermark=NOON)
    await house.commit()
    house.clock.advance(NODE_SILENT_NS + 2 * SECOND)
    query = replace(of(WEB), time_end_unix_nano=NOON + 3600 * SECOND)

    alone = await house.engine(has_tail=False).search(query)
    await house.beat(other, node="node-2")
    await house.commit()
    beside = await house.engine(has_tail=False).search(query)

    assert ("container", "pending", "beyond_watermark") in {one[:3] for one in seen(alone)}
    assert ("container", "gap", "no_collector") in {one[:3] for one in seen(beside)}

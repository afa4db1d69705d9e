"""What every place that is searched must do, and every hot index besides; adapters inherit these claims."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ashiato.core.errors import RejectedError, TransientError
from ashiato.core.ids import CLASS_OF_KIND, CLASSES, TOPIC_BULK, Kind
from ashiato.core.ports import IndexKeeper, IndexWriter, Partition
from ashiato.core.predicate import select
from ashiato.core.query import Query, Range, Regex, Term
from ashiato.core.record import BY_NAME, UID_FIELD
from ashiato.core.search import IndexReader
from ashiato.core.table import in_order, order_times, row_bytes, uids
from tests.contract import index_rows as rows

WHERE = Partition(TOPIC_BULK, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """One index, freshly emptied: nothing is prepared."""

    writer: IndexWriter
    keeper: IndexKeeper
    reader: IndexReader

    async def hold(self, table: pa.Table) -> None:
        """Prepare the days of ``table``, write it and make it visible."""
        classes = {CLASS_OF_KIND[Kind(str(kind))] for kind in table["source_kind"].to_pylist()}
        await self.keeper.prepare(rows.days_of(table), sorted(classes))
        outcome = await self.writer.write(rows.documents_of(table))
        assert outcome.created + outcome.projected == table.num_rows
        assert outcome.refused == ()
        await self.writer.publish_position({WHERE: 1})

    async def emptied(self) -> None:
        """Drop every daily index."""
        for day, name in await self.keeper.days():
            await self.keeper.drop(day, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A place that can be searched, and every row that it holds."""

    reader: IndexReader
    table: pa.Table


class SearchContract:
    """What every place that can be searched must do. A subclass has a fixture ``held``."""

    async def test_rows_come_back_to_the_letter(self, held: Held) -> None:
        leg = await held.reader.search(Query(limit=held.table.num_rows))
        assert held.table.num_rows > 10
        assert uids(leg.rows) == uids(in_order(held.table, newest_first=True))
        assert leg.rows.equals(in_order(held.table, newest_first=True))
        assert not leg.cut

    async def test_an_answer_is_what_the_predicate_selects(self, held: Held) -> None:
        for node in rows.QUERIES:
            query = Query(where=node, limit=5000, order="oldest_first")
            leg = await held.reader.search(query)
            assert leg.rows.equals(select(query, held.table)), node

    @pytest.mark.parametrize("order", ["oldest_first", "newest_first"])
    async def test_an_answer_is_cut_at_its_limit_and_says_so(self, held: Held, order: str) -> None:
        count = held.table.num_rows
        for limit in (0, 1, count // 2, count - 1, count):
            query = Query(limit=limit, order="newest_first" if order == "newest_first" else "oldest_first")
            leg = await held.reader.search(query)
            assert uids(leg.rows) == uids(select(query, held.table))
            assert leg.cut == (limit < count)

    @pytest.mark.parametrize("order", ["oldest_first", "newest_first"])
    async def test_an_answer_over_its_bytes_is_cut_from_its_far_end_and_says_so(self, held: Held, order: str) -> None:
        query = Query(limit=held.table.num_rows, order="newest_first" if order == "newest_first" else "oldest_first")
        expected = select(query, held.table)
        sums = np.cumsum(row_bytes(expected)).tolist()
        for count in (1, len(sums) // 2, len(sums) - 1, len(sums)):
            # one byte less than the row behind needs, and just enough
            for bytes_max in (sums[count - 1], sums[min(count, len(sums) - 1)] - (count < len(sums))):
                leg = await held.reader.search(replace(query, bytes_max=bytes_max))
                assert leg.rows.equals(expected.slice(0, count))
                assert uids(leg.beyond) == uids(expected.slice(count, 1))
                assert leg.cut == (count < len(sums))

    async def test_one_row_is_answered_however_few_bytes_it_may_have(self, held: Held) -> None:
        leg = await held.reader.search(Query(bytes_max=1))
        assert uids(leg.rows) == uids(select(Query(limit=1), held.table))
        assert leg.cut

    async def test_a_range_of_time_is_half_open_to_the_nanosecond(self, held: Held) -> None:
        times = sorted({int(str(time)) for time in order_times(held.table).to_pylist()})
        for at in (times[0], times[len(times) // 2], times[-1]):
            for start, end in ((at, at + 1), (at + 1, None), (None, at), (at, at)):
                query = Query(time_start_unix_nano=start, time_end_unix_nano=end, limit=held.table.num_rows)
                leg = await held.reader.search(query)
                assert uids(leg.rows) == uids(select(query, held.table))

    @pytest.mark.parametrize(
        "query",
        [
            Query(where=Regex(field="body", pattern="(")),
            Query(where=Term(field="", value="...")),
            Query(where=Range(field="code", low="many")),
            Query(limit=-1),
        ],
    )
    async def test_a_query_that_cannot_be_evaluated_is_rejected(self, held: Held, query: Query) -> None:
        with pytest.raises(RejectedError):
            await held.reader.search(query)

    @settings(
        max_examples=30,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )
    @given(query=rows.queries)
    async def test_whatever_is_asked_of_real_rows(self, held: Held, query: Query) -> None:
        try:
            expected = select(query, held.table)
        except RejectedError:
            with pytest.raises(RejectedError):
                await held.reader.search(query)
            return
        assert (await held.reader.search(query)).rows.equals(expected)


class IndexContract(SearchContract):
    """What every hot index must do. A subclass has a fixture ``sides``."""

    @pytest.fixture(params=["incident", "defects"])
    async def held(self, sides: Sides, request: pytest.FixtureRequest) -> Held:
        table = rows.incident() if request.param == "incident" else rows.defects()
        await sides.hold(table)
        return Held(reader=sides.reader, table=table)

    async def test_what_is_written_twice_stands_once(self, sides: Sides) -> None:
        table = rows.incident().slice(0, 200)
        await sides.hold(table)
        again = await sides.writer.write(rows.documents_of(table))
        assert (again.created, again.already_there) == (0, 200)
        await sides.writer.publish_position({WHERE: 2})
        assert (await sides.reader.search(Query(limit=1000))).rows.num_rows == 200

    async def test_what_stands_never_changes(self, sides: Sides) -> None:
        table = rows.incident().slice(0, 1)
        await sides.hold(table)
        other = {**rows.documents_of(table)[0], "body": "forged"}
        outcome = await sides.writer.write([other])
        await sides.writer.publish_position({WHERE: 2})
        assert outcome.already_there == 1
        assert (await sides.reader.search(Query())).rows.equals(table)

    async def test_a_row_of_no_prepared_day_is_kept_and_found(self, sides: Sides) -> None:
        table = rows.incident().slice(0, 3)
        await sides.keeper.prepare(["2020-01-01"], CLASSES)
        outcome = await sides.writer.write(rows.documents_of(table))
        await sides.writer.publish_position({WHERE: 1})
        assert outcome.created == 3
        assert (await sides.reader.search(Query())).rows.num_rows == 3

    async def test_a_row_that_came_before_its_day_was_prepared_is_found_once(self, sides: Sides) -> None:
        table = rows.incident().slice(0, 3)
        await sides.keeper.prepare([], CLASSES)
        await sides.writer.write(rows.documents_of(table))
        await sides.keeper.prepare(rows.days_of(table), CLASSES)
        await sides.writer.write(rows.documents_of(table))
        await sides.writer.publish_position({WHERE: 1})
        assert (await sides.reader.search(Query())).rows.num_rows == 3

    async def test_without_indices_a_writer_has_to_wait(self, sides: Sides) -> None:
        with pytest.raises(TransientError):
            await sides.writer.write(rows.documents_of(rows.incident().slice(0, 1)))

    async def test_an_index_that_is_not_prepared_says_so(self, sides: Sides) -> None:
        leg = await sides.reader.search(Query())
        assert leg.rows.num_rows == 0
        assert leg.findings

    async def test_published_positions_are_given_back(self, sides: Sides) -> None:
        assert await sides.writer.positions() == {}
        await sides.keeper.prepare([], CLASSES)
        assert await sides.writer.positions() == {}
        other = Partition("ashiato.priority", 3)
        await sides.writer.publish_position({WHERE: (1 << 60) + 1, other: 0})
        await sides.writer.publish_position({WHERE: (1 << 60) + 3})
        expected = {WHERE: (1 << 60) + 3, other: 0}
        assert await sides.writer.positions() == expected
        assert (await sides.reader.search(Query())).positions == expected

    async def test_a_dropped_day_is_gone_and_dropping_it_again_is_no_error(self, sides: Sides) -> None:
        table = rows.incident().slice(0, 20)
        await sides.hold(table)
        before = list(await sides.keeper.days())
        assert {day for day, _ in before} == set(rows.days_of(table))
        for day, name in [*before, *before]:
            await sides.keeper.drop(day, name)
        assert list(await sides.keeper.days()) == []
        assert (await sides.reader.search(Query())).rows.num_rows == 0

    async def test_preparing_twice_keeps_what_is_there(self, sides: Sides) -> None:
        table = rows.incident().slice(0, 20)
        await sides.hold(table)
        await sides.keeper.prepare(rows.days_of(table), CLASSES)
        assert (await sides.reader.search(Query())).rows.num_rows == 20

    @pytest.mark.parametrize(("day", "name"), [("2026-11-32", "container"), ("2026-11-24", "A*"), ("x", "container")])
    async def test_a_day_or_class_that_is_none_is_refused(self, sides: Sides, day: str, name: str) -> None:
        with pytest.raises(RejectedError):
            await sides.keeper.prepare([day], [name])

    async def test_a_document_of_an_unheard_kind_is_kept(self, sides: Sides) -> None:
        table = rows.incident().slice(0, 1)
        await sides.keeper.prepare(rows.days_of(table), CLASSES)
        plain = {k: v for k, v in rows.documents_of(table)[0].items() if k != "ashiato.retention_class"}
        odd = {**plain, BY_NAME["source_kind"].rim: "unheard", UID_FIELD: plain[UID_FIELD]}
        assert (await sides.writer.write([odd])).created == 1
        await sides.writer.publish_position({WHERE: 1})
        assert (await sides.reader.search(Query())).rows["source_kind"].to_pylist() == ["unheard"]

    @settings(
        max_examples=20,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )
    @given(table=rows.tables(), asked=st.lists(rows.queries, min_size=4, max_size=10))
    async def test_whatever_is_asked_of_whatever_rows(self, sides: Sides, table: pa.Table, asked: list[Query]) -> None:
        await sides.emptied()
        await sides.hold(table)
        for query in asked:
            try:
                expected = select(query, table)
            except RejectedError:
                with pytest.raises(RejectedError):
                    await sides.reader.search(query)
                continue
            leg = await sides.reader.search(query)
            assert leg.rows.equals(expected), query
            assert leg.cut == (select(replace(query, limit=table.num_rows), table).num_rows > query.limit)

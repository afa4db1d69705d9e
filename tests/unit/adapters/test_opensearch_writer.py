"""Writing to OpenSearch in its bad moments: every document is settled, or the whole is to be written again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import pytest

from ashiato.adapters import opensearch_mapping as mapping
from ashiato.adapters.opensearch_client import OpenSearchClient
from ashiato.adapters.opensearch_settings import OpenSearchSettings
from ashiato.adapters.opensearch_writer import OpenSearchWriter
from ashiato.core.errors import OutcomeUnknownError, RefusedError, TransientError
from ashiato.core.ports import Document, Partition
from ashiato.core.record import UID_FIELD
from tests.contract.index_rows import chunk, documents_of, rows_of
from tests.unit.adapters.opensearch_double import Answer, Asked, Double, items, serving

WHERE = Partition("ashiato.bulk", 0)
DAILY = "ashiato-container-2026.11.24"


class Judge(Protocol):
    def __call__(self, index: str, uid: str, /, *, projected: bool) -> tuple[int, str]: ...


def documents(count: int) -> Sequence[Document]:
    line = b"2026-11-24T11:00:00.123456789Z stdout F hello\n"
    return documents_of(rows_of(chunk(line * count)))


@asynccontextmanager
async def writing(
    answer: Answer, *, patience_s: float = 30.0, missing_s: float = 60.0
) -> AsyncIterator[tuple[OpenSearchWriter, Double]]:
    async with serving(answer) as double:
        writer = OpenSearchWriter(
            OpenSearchClient(OpenSearchSettings(urls=(double.url,))), patience_s=patience_s, missing_s=missing_s
        )
        yield writer, double
        await writer.close()


def each(judge: Judge) -> Answer:
    """Answer each item of a bulk request by (index, uid, whether it is a projection)."""

    def answer(asked: Asked) -> tuple[int, object]:
        heads, sources = asked.heads, asked.lines[1::2]
        told = [
            judge(head["_index"], head["_id"], projected=mapping.VERBATIM in source)
            for head, source in zip(heads, sources, strict=True)
        ]
        return items(*told)

    return answer


async def test_what_is_there_already_is_success() -> None:
    async with writing(lambda _: items((201, ""), (409, "version_conflict_engine_exception"))) as (writer, double):
        outcome = await writer.write(documents(2))
    assert (outcome.created, outcome.already_there, outcome.refused) == (1, 1, ())
    assert double.bulks[0].query["require_alias"] == "true"
    assert {next(iter(line)) for line in double.bulks[0].lines[::2]} == {"create"}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, "opensearch_rejected_execution_exception"),
        (503, "unavailable_shards_exception"),
        (403, "cluster_block_exception"),
        (400, "index_closed_exception"),
    ],
)
async def test_items_that_have_to_wait_are_sent_again_and_only_they(status: int, kind: str) -> None:
    refused_once: set[str] = set()

    def judge(_: str, uid: str, *, projected: bool) -> tuple[int, str]:
        assert not projected
        if uid.endswith("0") and uid not in refused_once:
            refused_once.add(uid)
            return status, kind
        return 201, ""

    async with writing(each(judge)) as (writer, double):
        outcome = await writer.write(documents(3))
    assert outcome.created == 3
    assert [head["_id"] for head in double.bulks[1].heads] == sorted(refused_once)


async def test_items_that_wait_for_too_long_make_the_whole_wait() -> None:
    async with writing(lambda _: items((429, "rejected_execution_exception")), patience_s=0.0) as (writer, _):
        with pytest.raises(TransientError, match="waiting"):
            await writer.write(documents(1))


async def test_what_is_refused_as_it_is_is_taken_in_a_safe_projection_and_counted() -> None:
    def judge(_: str, uid: str, *, projected: bool) -> tuple[int, str]:
        del uid
        return (201, "") if projected else (400, "mapper_parsing_exception")

    given = documents(1)
    async with writing(each(judge)) as (writer, double):
        outcome = await writer.write(given)
    assert (outcome.created, outcome.projected, outcome.refused) == (0, 1, ())
    sent = double.bulks[1].lines[1]
    assert sent[mapping.UNINDEXED] == [mapping.EVERYTHING]
    assert mapping.row_of(sent)["body"] == "hello"


async def test_rows_are_written_as_their_documents_are_in_both_forms() -> None:
    def judge(_: str, uid: str, *, projected: bool) -> tuple[int, str]:
        return (201, "") if projected or uid.endswith("0") else (400, "mapper_parsing_exception")

    table = rows_of(chunk(b"2026-11-24T11:00:00.123456789Z stdout F hello\n" * 20))
    async with writing(each(judge)) as (writer, double):
        outcome = await writer.write_rows(table, "container")
        whole = await writer.write(documents_of(table))
    assert outcome == whole
    assert outcome.created + outcome.projected == 20
    assert outcome.created > 0
    half = len(double.bulks) // 2
    assert [bulk.lines for bulk in double.bulks[:half]] == [bulk.lines for bulk in double.bulks[half:]]


async def test_what_is_refused_in_every_form_is_named_and_the_others_are_taken() -> None:
    bad = str(documents(2)[0][UID_FIELD])

    def judge(_: str, uid: str, *, projected: bool) -> tuple[int, str]:
        del projected
        return (400, "mapper_parsing_exception") if uid == bad else (201, "")

    async with writing(each(judge)) as (writer, _):
        outcome = await writer.write(documents(2))
    assert outcome.created == 1
    assert outcome.refused == ((bad, "mapper_parsing_exception"),)


async def test_rights_that_are_missing_stop_the_writer() -> None:
    async with writing(lambda _: items((403, "security_exception"))) as (writer, _):
        with pytest.raises(RefusedError):
            await writer.write(documents(1))


async def test_a_request_that_is_too_large_is_sent_in_smaller_ones() -> None:
    def answer(asked: Asked) -> tuple[int, object]:
        return items(*[(201, "")] * len(asked.heads)) if len(asked.heads) <= 4 else (413, b"")

    async with writing(answer) as (writer, double):
        outcome = await writer.write(documents(64))
    assert outcome.created == 64
    assert len({head["_id"] for bulk in double.bulks for head in bulk.heads}) == 64


async def test_a_document_that_is_too_large_alone_is_named() -> None:
    async with writing(lambda _: (413, b"")) as (writer, _):
        outcome = await writer.write(documents(1))
    assert [reason for _, reason in outcome.refused] == ["request_too_large"]


async def test_an_answer_about_other_items_is_not_believed() -> None:
    async with writing(lambda _: items((201, ""))) as (writer, _):
        with pytest.raises(OutcomeUnknownError):
            await writer.write(documents(2))


async def test_a_server_that_hangs_up_makes_the_whole_be_written_again() -> None:
    async with writing(lambda _: None) as (writer, double):
        with pytest.raises(TransientError):
            await writer.write(documents(1))
        assert len(double.asked) == 1


def only_misdated(index: str, _: str, *, projected: bool) -> tuple[int, str]:
    assert not projected
    return (201, "") if index == mapping.MISDATED else (404, "index_not_found_exception")


async def test_a_day_that_nobody_prepared_is_asked_for_once_and_its_rows_are_kept() -> None:
    async with writing(each(only_misdated)) as (writer, double):
        assert (await writer.write(documents(2))).created == 2
        assert (await writer.write(documents(2))).created == 2
    assert [bulk.heads[0]["_index"] for bulk in double.bulks] == [DAILY, mapping.MISDATED, mapping.MISDATED]


async def test_a_day_that_was_not_prepared_is_tried_again_after_a_while() -> None:
    async with writing(each(only_misdated), missing_s=0.0) as (writer, double):
        await writer.write(documents(1))
        await writer.write(documents(1))
    assert [bulk.heads[0]["_index"] for bulk in double.bulks] == [DAILY, mapping.MISDATED] * 2


async def test_without_any_index_the_writer_waits_for_retention() -> None:
    async with writing(lambda _: items((404, "index_not_found_exception"))) as (writer, _):
        with pytest.raises(TransientError, match="made by retention"):
            await writer.write(documents(1))


async def test_positions_are_published_after_the_refresh_of_what_was_written() -> None:
    def answer(asked: Asked) -> tuple[int, object]:
        return items((201, "")) if asked.path == "/_bulk" else (200, {"_shards": {"failed": 0}})

    async with writing(answer) as (writer, double):
        await writer.write(documents(1))
        await writer.publish_position({WHERE: 7})
        await writer.publish_position({WHERE: 8})
    assert [asked.path for asked in double.asked] == [
        "/_bulk",
        f"/{DAILY}/_refresh",
        "/_bulk",
        "/_bulk",
    ]
    assert double.bulks[1].lines == [
        {"index": {"_index": mapping.STATE, "_id": "ashiato.bulk:0"}},
        {"topic": "ashiato.bulk", "partition": 0, "next": 7},
    ]


@pytest.mark.parametrize("told", [(200, {"_shards": {"failed": 1}}), (503, {}), (404, {}), None])
async def test_no_position_is_published_where_the_refresh_failed(told: tuple[int, object] | None) -> None:
    async with writing(lambda asked: items((201, "")) if asked.path == "/_bulk" else told) as (writer, double):
        await writer.write(documents(1))
        for _ in range(2):
            with pytest.raises(TransientError):
                await writer.publish_position({WHERE: 7})
        assert len(double.bulks) == 1


async def test_a_position_that_is_not_kept_is_not_published() -> None:
    async with writing(lambda _: items((404, "index_not_found_exception"))) as (writer, _):
        with pytest.raises(TransientError):
            await writer.publish_position({WHERE: 7})
    async with writing(lambda _: items((403, "security_exception"))) as (writer, _):
        with pytest.raises(RefusedError):
            await writer.publish_position({WHERE: 7})


@pytest.mark.parametrize("partial", [{"timed_out": True}, {"_shards": {"failed": 1}}])
async def test_positions_of_some_shards_are_no_positions(partial: dict[str, object]) -> None:
    async with writing(lambda _: (200, {"hits": {"hits": []}, **partial})) as (writer, _):
        with pytest.raises(TransientError):
            await writer.positions()


async def test_a_lone_surrogate_in_a_document_is_replaced_and_the_row_kept() -> None:
    given = {**documents(1)[0], "body": "half \ud800"}
    async with writing(lambda _: items((201, ""))) as (writer, double):
        outcome = await writer.write([given])
    assert outcome.projected == 1
    assert double.bulks[0].lines[1]["body_apart"] == "half \ufffd"

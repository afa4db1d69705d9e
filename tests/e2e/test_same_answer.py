"""One line, two ways to run: the same records, under the same ids."""

from __future__ import annotations

from pathlib import Path

import pytest

from ashiato.adapters import archive as archives
from ashiato.adapters.archive import ArchiveSettings
from ashiato.adapters.bus import BusSettings
from ashiato.adapters.clock import SystemClock
from ashiato.adapters.index_opensearch import OpenSearchIndex
from ashiato.adapters.index_packs import PackIndex
from ashiato.adapters.opensearch_client import OpenSearchClient
from ashiato.adapters.opensearch_keeper import OpenSearchKeeper
from ashiato.core.ids import CLASSES
from ashiato.core.query import Not, Or, Query, Term
from ashiato.core.table import uids
from query.engine import Answer, Engine, TimelineRequest
from tests.e2e.line import archive_all, collect, forget_index, incident_nodes, index_all, make_topics
from tests.parts.stack import Stack

DAY = "2026-11-25"
POD = "pod:shop/storefront-7d9c5b6f8-qg9lh"
QUERIES = (
    Query(where=Not(node=Term(field="source_kind", value="ledger")), limit=50_000, order="oldest_first"),
    Query(where=Term(field="", value="secrets"), limit=50_000),
    Query(
        where=Or(
            nodes=(Term(field="rule_name", value="Terminal shell in container"), Term(field="level", value="error"))
        ),
        limit=50_000,
    ),
)


async def answers(engine: Engine) -> list[Answer]:
    found = [await engine.search(query) for query in QUERIES]
    return [*found, await engine.timeline(TimelineRequest(anchor=POD, limit=50_000))]


async def embedded(folder: Path) -> list[list[str]]:
    bus = BusSettings(kind="sqlite", path=str(folder / "bus.sqlite"))
    archive = ArchiveSettings(directory=str(folder / "archive"))
    await make_topics(bus)
    await collect(bus, [incident_nodes(folder / "nodes")], folder / "state")
    await archive_all(bus, archive, folder / "scratch", tail=folder / "tail")
    reader = archives.open_reader(archive)
    engine = Engine(PackIndex(reader, tail=folder / "tail"), None, archive=reader, clock=SystemClock(), has_tail=True)
    try:
        found = await answers(engine)
    finally:
        await engine.close()
    assert all(answer.coverage.intervals for answer in found)
    return [uids(answer.rows) for answer in found]


async def test_an_embedded_line_gives_the_same_ids_each_time(tmp_path: Path) -> None:
    """P1, Q1: the ids follow from the files alone where their source is told."""
    first = await embedded(tmp_path / "one")
    second = await embedded(tmp_path / "two")

    assert [len(found) > 0 for found in first] == [True] * len(first)
    assert first == second


@pytest.mark.live
async def test_kafka_opensearch_and_s3_give_the_same_ids_as_one_folder(stack: Stack, tmp_path: Path) -> None:
    expected = await embedded(tmp_path / "embedded")
    await forget_index(stack.index())
    keeper = OpenSearchKeeper(OpenSearchClient(stack.index()), replicas=0)
    await keeper.prepare([DAY], CLASSES)
    await keeper.close()

    await collect(stack.bus("collector"), [incident_nodes(tmp_path / "nodes")], tmp_path / "state")
    await archive_all(stack.bus("ingest"), stack.archive("ingest"), tmp_path / "scratch")
    indexed = await index_all(stack.bus("ingest"), stack.archive("index"), stack.index())

    reader = archives.open_reader(stack.archive("query"))
    engine = Engine(
        PackIndex(reader, tail=None),
        OpenSearchIndex(OpenSearchClient(stack.index())),
        archive=reader,
        clock=SystemClock(),
    )
    hot = OpenSearchIndex(OpenSearchClient(stack.index()))
    try:
        found = [uids(answer.rows) for answer in await answers(engine)]
        of_hot = [uids((await hot.search(query)).rows) for query in QUERIES]
    finally:
        await hot.close()
        await engine.close()
    assert indexed.value("rows_refused_total") == 0
    assert found == expected
    assert of_hot == expected[: len(QUERIES)]

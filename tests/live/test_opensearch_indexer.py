"""The indexer on a real OpenSearch that is killed, or stands still: it waits and catches up, losing nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pytest

from ashiato.adapters.index_opensearch import OpenSearchIndex
from ashiato.adapters.opensearch_client import OpenSearchClient
from ashiato.adapters.opensearch_keeper import OpenSearchKeeper
from ashiato.adapters.opensearch_settings import OpenSearchSettings
from ashiato.adapters.opensearch_writer import OpenSearchWriter
from ashiato.core.errors import TransientError
from ashiato.core.ids import CLASSES
from ashiato.core.query import Query
from tests.contract.index_rows import DAY, incident_chunks
from tests.parts.opensearch import OpenSearchPart
from tests.unit.ingest.index_line import Line

pytestmark = pytest.mark.live

_WAIT_S_MAX = 120


@pytest.fixture
async def client(opensearch: OpenSearchPart) -> AsyncIterator[OpenSearchClient]:
    made = OpenSearchClient(OpenSearchSettings(urls=(opensearch.url,), timeout_s=2.0))
    await made.ask("DELETE", "/ashiato-*", params={"expand_wildcards": "all"})
    await OpenSearchKeeper(made, replicas=0).prepare([DAY], CLASSES)
    yield made
    await made.close()


@pytest.fixture
async def line(tmp_path: Path) -> Line:
    made = Line(tmp_path)
    await made.prepare()
    return made


@asynccontextmanager
async def indexing(line: Line, writer: OpenSearchWriter) -> AsyncIterator[None]:
    stop = asyncio.Event()
    running = asyncio.create_task(line.indexer(writer=writer).run(stop))
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(_WAIT_S_MAX):
            await running


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(_WAIT_S_MAX):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.05)


async def published(line: Line, writer: OpenSearchWriter) -> None:
    """Wait until everything that the bus holds was published."""
    async with asyncio.timeout(_WAIT_S_MAX):
        while True:
            with suppress(TransientError):
                positions = await writer.positions()
                if all(positions.get(where) == end for where, end in line.ends.items()):
                    return
            await asyncio.sleep(0.05)


async def all_rows(client: OpenSearchClient) -> pa.Table:
    return (await OpenSearchIndex(client).search(Query(limit=100_000, order="oldest_first"))).rows


@pytest.mark.parametrize("away", ["killed", "standing still"])
async def test_an_opensearch_that_goes_away_is_waited_for_and_caught_up_with(
    opensearch: OpenSearchPart, client: OpenSearchClient, line: Line, away: str
) -> None:
    chunks = incident_chunks()
    writer = OpenSearchWriter(client, patience_s=1.0)
    async with indexing(line, writer):
        for chunk in chunks[:3]:
            await line.send(chunk)
        await published(line, writer)
        await asyncio.to_thread(opensearch.kill if away == "killed" else opensearch.pause)
        try:
            # The archive goes on: it never asks the index.
            for chunk in chunks[3:]:
                await line.send(chunk)
            await line.commit()
            await until(lambda: line.telemetry.value("part_unavailable_total", part="index") >= 2)
        finally:
            await asyncio.to_thread(opensearch.start if away == "killed" else opensearch.resume)
        await published(line, writer)
    packed = await line.packed()
    assert packed.num_rows > 1000
    assert (await all_rows(client)).equals(packed)
    assert line.telemetry.value("index_rows_projected_total") == 0


async def test_rows_are_kept_while_the_index_takes_no_writes(client: OpenSearchClient, line: Line) -> None:
    writer = OpenSearchWriter(client, patience_s=0.2)
    blocked = {"index": {"blocks": {"read_only_allow_delete": True}}}
    await client.ask("PUT", "/ashiato-container-*/_settings", body=blocked)
    async with indexing(line, writer):
        for chunk in incident_chunks():
            await line.send(chunk)
        await until(lambda: line.telemetry.value("part_unavailable_total", part="index") >= 2)
        await client.ask(
            "PUT", "/ashiato-container-*/_settings", body={"index": {"blocks": {"read_only_allow_delete": None}}}
        )
        await published(line, writer)
    await line.commit()
    assert (await all_rows(client)).equals(await line.packed())


async def test_a_second_indexer_beside_the_first_doubles_nothing(client: OpenSearchClient, line: Line) -> None:
    first, second = OpenSearchWriter(client), OpenSearchWriter(client)
    async with indexing(line, first), indexing(line, second):
        for chunk in incident_chunks():
            await line.send(chunk)
        await published(line, first)
    await line.commit()
    assert (await all_rows(client)).equals(await line.packed())

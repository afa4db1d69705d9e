"""The query service beside a real OpenSearch: what only it has, and what is left when it goes away."""

from __future__ import annotations

from pathlib import Path

import pytest

from ashiato.adapters.opensearch_client import OpenSearchClient
from ashiato.adapters.opensearch_keeper import OpenSearchKeeper
from ashiato.adapters.opensearch_settings import OpenSearchSettings
from ashiato.adapters.opensearch_writer import OpenSearchWriter
from tests.e2e.test_query_http import lines, start, stop
from tests.parts.opensearch import OpenSearchPart
from tests.unit.query.house import NOON, SECOND, House, container, cri, index_tail_into

pytestmark = pytest.mark.live


async def test_hot_rows_are_answered_with_the_archives_and_missed_when_opensearch_is_away(
    tmp_path: Path, opensearch: OpenSearchPart
) -> None:
    client = OpenSearchClient(OpenSearchSettings(urls=(opensearch.url,)))
    await client.ask("DELETE", "/ashiato-*", params={"expand_wildcards": "all"})
    house = await House(tmp_path).open()
    web = await house.born(container("web-1"))
    await house.send(web, cri("archived"))
    await house.beat(web, watermark=NOON + 1)
    await house.commit()
    await house.send(web, cri("only hot", start=NOON + SECOND))
    await house.beat(web, watermark=NOON + 9)
    await house.tail()
    await index_tail_into(house, OpenSearchKeeper(client, replicas=0), OpenSearchWriter(client))
    await client.close()

    running = start(tmp_path, tail_dir="", opensearch={"urls": [opensearch.url], "timeout_s": 10.0})
    asked: dict[str, str] = {"q": "kind:container pod:web-1", "order": "oldest_first"}
    try:
        with running.client() as http:
            records, coverage = lines(http.get("/v1/search", params=asked))
            opensearch.stop()
            left, poorer = lines(http.get("/v1/search", params=asked))
    finally:
        stop(running)
        opensearch.start()

    assert [one["body"] for one in records] == ["archived", "only hot"]
    assert coverage["complete"] is True
    assert coverage["watermark_unix_nano"] == str(NOON + 9)
    assert coverage["legs"] == ["hot", "archive"]
    assert [one["body"] for one in left] == ["archived"]
    assert poorer["complete"] is False
    assert poorer["watermark_unix_nano"] == str(NOON + 1)
    assert "hot_index_unavailable" in {one.get("reason") for one in poorer["intervals"]}

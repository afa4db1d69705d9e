"""The index on a real OpenSearch keeps the contract of every index."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ashiato.adapters.index_opensearch import OpenSearchIndex
from ashiato.adapters.opensearch_client import OpenSearchClient
from ashiato.adapters.opensearch_keeper import OpenSearchKeeper
from ashiato.adapters.opensearch_settings import OpenSearchSettings
from ashiato.adapters.opensearch_writer import OpenSearchWriter
from tests.contract.index_contract import IndexContract, Sides
from tests.parts.opensearch import OpenSearchPart

pytestmark = pytest.mark.live


class TestOpenSearchIndex(IndexContract):
    @pytest.fixture
    async def sides(self, opensearch: OpenSearchPart) -> AsyncIterator[Sides]:
        client = OpenSearchClient(OpenSearchSettings(urls=(opensearch.url,)))
        await client.ask("DELETE", "/ashiato-*", params={"expand_wildcards": "all"})
        yield Sides(
            writer=OpenSearchWriter(client, patience_s=0.5),
            keeper=OpenSearchKeeper(client, replicas=0),
            reader=OpenSearchIndex(client),
        )
        await client.close()

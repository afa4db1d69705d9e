"""The hot index on OpenSearch, the query's side: a cache of recent rows, rebuilt from the archive at any time.

Searching narrows in OpenSearch; the one predicate decides on the rows rebuilt from the documents.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa

from ashiato.adapters import opensearch_mapping as mapping
from ashiato.adapters.opensearch_client import OpenSearchClient
from ashiato.adapters.opensearch_query import narrow
from ashiato.adapters.opensearch_writer import WHOLE_ONLY, read_positions, refuse_partial
from ashiato.core.errors import AshiatoError, NotHeldError, RejectedError, TransientError
from ashiato.core.limits import MIB
from ashiato.core.predicate import select
from ashiato.core.query import Query
from ashiato.core.search import Leg, cut_to
from ashiato.core.table import SCHEMA, empty, without_doubles

PAGE_ROWS_FIRST: Final = 256
PAGE_ROWS_MAX: Final = 4096
PAGE_BYTES: Final = 8 * MIB
"""A page of a search asks for as many rows as are likely to fit."""
_PIT_KEEP_ALIVE: Final = "2m"
_INT64_MAX: Final = (1 << 63) - 1

_SORT_KEYS: Final = ("order_time", "k8s_node_name", "file_id", "offset_start", "length", "join_offset")
"""The total order of answers; length and join offset tell apart the empty rows that close joins."""


class OpenSearchIndex:
    """The query's side: searches the rows of every prepared index."""

    def __init__(self, client: OpenSearchClient) -> None:
        self._client = client

    async def search(self, query: Query) -> Leg:
        """Return the rows that match, in the query's order, cut to its limits.

        The positions are read before the snapshot is taken, so whatever lies below them is in it.

        Raises:
            TransientError: not reachable, or a shard is.
            RejectedError: the query cannot be evaluated.

        """
        select(query, empty())
        positions = await read_positions(self._client)
        snapshot = await self._open()
        if not snapshot:
            return Leg(rows=empty(), positions=positions, findings=("the hot index is not prepared",))
        try:
            rows, beyond = await self._pages(query, snapshot)
        except NotHeldError as error:
            raise TransientError("opensearch lost the snapshot of a search", **error.facts) from error
        finally:
            await self._let_go(snapshot)
        return Leg(rows=rows, cut=beyond.num_rows > 0, beyond=beyond, positions=positions)

    async def close(self) -> None:
        """Let go of the connection."""
        await self._client.close()

    async def _pages(self, query: Query, snapshot: str) -> tuple[pa.Table, pa.Table]:
        """Read pages until more matches than the limits let through, or all is read."""
        found, size = empty(), PAGE_ROWS_FIRST
        taken, beyond = cut_to(query, found)
        body: dict[str, Any] = {
            "query": narrowed(query),
            "sort": _sort(newest_first=query.order == "newest_first"),
            "track_total_hits": False,
            "pit": {"id": snapshot, "keep_alive": _PIT_KEEP_ALIVE},
        }
        while not beyond.num_rows:
            answer = await self._client.ask("POST", "/_search", params=WHOLE_ONLY, body={**body, "size": size})
            refuse_partial(answer)
            hits = answer["hits"]["hits"]
            page = await asyncio.to_thread(_table, hits)
            found = await asyncio.to_thread(_matching, query, found, page)
            taken, beyond = cut_to(query, found)
            if len(hits) < size:
                break
            body["search_after"] = hits[-1]["sort"]
            size = max(1, min(PAGE_ROWS_MAX, PAGE_BYTES * len(hits) // max(page.nbytes, 1)))
        return taken, beyond

    async def _open(self) -> str:
        """Take a snapshot of all rows; '' where there is no index of rows."""
        params = {"keep_alive": _PIT_KEEP_ALIVE, "allow_partial_pit_creation": "false", "expand_wildcards": "open"}
        try:
            answer = await self._client.ask("POST", f"/{mapping.ROWS}/_search/point_in_time", params=params)
        except NotHeldError:
            return ""
        except RejectedError:
            # OpenSearch answers 400 to a snapshot of no index at all.
            if await self._is_prepared():
                raise
            return ""
        return str(answer["pit_id"])

    async def _is_prepared(self) -> bool:
        answer = await self._client.ask("POST", f"/{mapping.ROWS}/_search", body={"size": 0})
        return bool(answer["_shards"]["total"])

    async def _let_go(self, snapshot: str) -> None:
        # It would run out by itself: that the server is gone is no reason to fail a search.
        with contextlib.suppress(AshiatoError):
            await self._client.ask("DELETE", "/_search/point_in_time", body={"pit_id": [snapshot]})


def narrowed(query: Query) -> dict[str, object]:
    """Return the query that OpenSearch is asked: every row that matches ``query`` matches it, and others may."""
    start, end = query.time_start_unix_nano, query.time_end_unix_nano
    if (start is not None and start > _INT64_MAX) or (end is not None and end < -_INT64_MAX):
        return {"match_none": {}}
    bounds: dict[str, object] = {}
    # OpenSearch refuses what no 64 bits hold; every row lies inside of that.
    if start is not None and start >= -_INT64_MAX:
        bounds["gte"] = start
    if end is not None and end <= _INT64_MAX:
        bounds["lt"] = end
    times = [{"range": {mapping.ORDER_TIME: bounds}}] if bounds else []
    return {"bool": {"filter": [narrow(query.where), *times]}}


def _matching(query: Query, found: pa.Table, page: pa.Table) -> pa.Table:
    """Return what is found with what matches of the next page, each row once."""
    whole = replace(query, limit=page.num_rows)
    return without_doubles(pa.concat_tables([found, select(whole, page)]))


def _table(hits: Sequence[Mapping[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([mapping.row_of(hit["_source"]) for hit in hits], schema=SCHEMA)


def _sort(*, newest_first: bool) -> list[dict[str, object]]:
    way = "desc" if newest_first else "asc"
    return [{key: {"order": way, "missing": "_last"}} for key in _SORT_KEYS]

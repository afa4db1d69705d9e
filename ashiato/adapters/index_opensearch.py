"""The hot index on OpenSearch: a cache of recent rows, rebuilt from the archive at any time.

Writing is idempotent: documents are created under ``log.record.uid`` in indices made beforehand, named by class and
by day of reading, and what is there already is success. Nothing is dropped: what OpenSearch refuses is taken in a
safe projection, and what it takes in no form is counted and named. Searching narrows in OpenSearch; the one predicate
decides on the rows rebuilt from the documents.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pyarrow as pa

from ashiato.adapters import opensearch_mapping as mapping
from ashiato.adapters.opensearch_client import TOO_LARGE, Answer, OpenSearchClient, error_type
from ashiato.adapters.opensearch_query import narrow
from ashiato.core.errors import AlreadyExistsError, NotHeldError, RefusedError, RejectedError, TransientError
from ashiato.core.limits import KIB, MIB
from ashiato.core.ports import Document, IndexOutcome, Partition
from ashiato.core.predicate import select
from ashiato.core.query import Query
from ashiato.core.record import UID_FIELD
from ashiato.core.search import Leg
from ashiato.core.table import SCHEMA, conform, empty, in_order, without_doubles

BODY_BYTES_MIN: Final = 256 * KIB
BODY_BYTES_START: Final = 4 * MIB
BODY_BYTES_MAX: Final = 10 * MIB
"""Bytes of one bulk request: halved when OpenSearch has too much to do, slowly raised while it has not."""
_BODY_BYTES_STEP: Final = 256 * KIB
_BACKOFF_S_MIN: Final = 0.1
_BACKOFF_S_MAX: Final = 5.0
_MISSING_SECONDS: Final = 60.0
"""How long an index that was not prepared is not asked for again."""
_SERVER_TIMEOUT: Final = "10s"
"""How long OpenSearch may wait for a shard before it answers 503."""
_PARTITIONS_MAX: Final = 10_000

PAGE_ROWS_FIRST: Final = 256
PAGE_ROWS_MAX: Final = 4096
PAGE_BYTES: Final = 8 * MIB
"""A page of a search asks for as many rows as are likely to fit."""
_PIT_KEEP_ALIVE: Final = "2m"

_COLUMNS_OF_RESPONSE: Final = "errors,items.*._index,items.*.status,items.*.error.type"
_SORT_KEYS: Final = ("order_time", "k8s_node_name", "file_id", "offset_start", "length", "join_offset")
"""The total order of answers; length and join offset tell apart the empty rows that close joins."""


class OpenSearchKeeper:
    """Retention's side: makes and deletes daily indices."""

    def __init__(self, client: OpenSearchClient, *, replicas: int = 1) -> None:
        """``replicas`` of each index; 0 for a single node."""
        self._client = client
        self._replicas = replicas

    async def prepare(self, days: Sequence[str], classes: Sequence[str]) -> None:
        """Make the template, the fixed indices, and the indices of these UTC days and classes.

        Raises:
            RejectedError: a day or class cannot stand in a name.
            RefusedError: the credentials do not allow it.
            TransientError: not reachable.

        """
        wanted = [mapping.index_of(name, day) for day in days for name in classes]
        await self._client.ask(
            "PUT", f"/_index_template/{mapping.TEMPLATE}", body=mapping.template(replicas=self._replicas)
        )
        present = set(await self._names())
        if mapping.STATE not in present:
            await self._create(mapping.STATE, mapping.state_index(replicas=self._replicas))
        for name in (mapping.MISDATED, *wanted):
            if name not in present:
                await self._create(name, {})

    async def days(self) -> Sequence[tuple[str, str]]:
        """Return (day, class) of every daily index, in order."""
        found = (mapping.day_and_class(name) for name in await self._names())
        return sorted(pair for pair in found if pair is not None)

    async def drop(self, day: str, retention_class: str) -> None:
        """Delete one daily index; one that is gone already is success."""
        try:
            await self._client.ask("DELETE", f"/{mapping.index_of(retention_class, day)}")
        except NotHeldError:
            return

    async def close(self) -> None:
        """Let go of the connection."""
        await self._client.close()

    async def _names(self) -> list[str]:
        answer = await self._client.ask(
            "GET", f"/_cat/indices/{mapping.PREFIX}*", params={"format": "json", "h": "index"}
        )
        return [str(line["index"]) for line in answer.get("items", ())]

    async def _create(self, name: str, body: Mapping[str, object]) -> None:
        try:
            await self._client.ask("PUT", f"/{name}", body=body)
        except AlreadyExistsError:
            return


@dataclass(slots=True)
class _Waiting:
    """A document on its way in."""

    document: Document
    index: str
    projected: bool = False


@dataclass(slots=True)
class _Tally:
    created: int = 0
    already_there: int = 0
    projected: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)

    @property
    def settled(self) -> int:
        return self.created + self.already_there + self.projected + len(self.refused)

    def outcome(self) -> IndexOutcome:
        return IndexOutcome(
            created=self.created,
            already_there=self.already_there,
            projected=self.projected,
            refused=tuple(self.refused),
        )


class OpenSearchWriter:
    """Ingest's side: creates documents in prepared indices, and publishes positions."""

    def __init__(self, client: OpenSearchClient, *, patience_s: float = 30.0) -> None:
        """``patience_s``: how long items that must wait (too busy, read-only) are tried again in one call."""
        self._client = client
        self._patience_s = patience_s
        self._body_bytes = BODY_BYTES_START
        self._touched: set[str] = set()
        self._missing: dict[str, float] = {}

    async def write(self, documents: Sequence[Document]) -> IndexOutcome:
        """Create the documents. What is there already is success; a replay changes nothing.

        Raises:
            TransientError: not reachable, or items had to wait for longer than this writer's patience. Some
                documents may have been created: write the whole again.
            RefusedError: the credentials do not allow it.

        """
        tally = _Tally()
        queue = [_Waiting(document, self._home(document)) for document in documents]
        backoff_s, deadline = _BACKOFF_S_MIN, time.monotonic() + self._patience_s
        while queue:
            before = tally.settled
            content, sent = await asyncio.to_thread(self._fill, queue, tally)
            again = await self._send(content, sent, tally) if sent else []
            queue = [*again, *queue[len(sent) :]] if sent else queue
            if tally.settled > before:
                backoff_s, deadline = _BACKOFF_S_MIN, time.monotonic() + self._patience_s
            elif again:
                if time.monotonic() >= deadline:
                    raise TransientError("opensearch keeps documents waiting", documents=len(again))
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, _BACKOFF_S_MAX)
        return tally.outcome()

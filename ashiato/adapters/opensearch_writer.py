"""Writing to the hot index: bulk requests of our own, because every item's fate matters.

An item is settled when it was created, was there already, was taken in a safe projection, or was refused in both
forms and counted. Every other item waits and is sent again: nothing is dropped, and a replay changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Final, assert_never

import orjson
import pyarrow as pa

from ashiato.adapters import opensearch_columns
from ashiato.adapters import opensearch_mapping as mapping
from ashiato.adapters.opensearch_client import TOO_LARGE, Answer, OpenSearchClient, error_type
from ashiato.core.errors import NotHeldError, OutcomeUnknownError, RefusedError, RejectedError, TransientError
from ashiato.core.limits import KIB, MIB
from ashiato.core.ports import Document, IndexOutcome, Partition
from ashiato.core.record import UID_FIELD

BODY_BYTES_MIN: Final = 256 * KIB
BODY_BYTES_START: Final = 4 * MIB
BODY_BYTES_MAX: Final = 10 * MIB
"""Bytes of one bulk request: halved when OpenSearch has too much to do, slowly raised while it has not."""
_BODY_BYTES_STEP: Final = 256 * KIB
_BACKOFF_S_MIN: Final = 0.1
_BACKOFF_S_MAX: Final = 5.0
_PARTITIONS_MAX: Final = 10_000

WHOLE_ONLY: Final = {"allow_partial_search_results": "false"}
"""Parameters of every search: an answer speaks for all shards or is none."""
_BULK_PARAMS: Final = {
    # Indices are made beforehand: a name that nobody prepared is refused, and never made by writing to it.
    "require_alias": "true",
    # How long OpenSearch may wait for a shard before it answers 503.
    "timeout": "10s",
    "filter_path": "items.*.status,items.*.error.type",
}


@dataclass(slots=True)
class _Waiting:
    """A document on its way in."""

    uid: str
    index: str
    document: Callable[[], Document]
    source: bytes = b""
    """Its ``_source``, where that is made already."""
    projected: bool = False
    """It goes, or went in part, as a safe projection."""
    scrubbed: bool = False


@dataclass(slots=True)
class _Tally:
    """What became of a batch so far."""

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

    def __init__(self, client: OpenSearchClient, *, patience_s: float = 30.0, missing_s: float = 60.0) -> None:
        """Write through ``client``.

        ``patience_s``: how long items that must wait (too busy, read-only) are tried again in one call.
        ``missing_s``: how long an index that was not prepared is not asked for again.
        """
        self._client = client
        self._patience_s = patience_s
        self._missing_s = missing_s
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
        return await self._write(deque(map(_of_document, documents)))

    async def write_rows(self, rows: pa.Table, retention_class: str) -> IndexOutcome:
        """Create the documents of rows of one class, as :meth:`write` does; two calls may be under way at once."""
        return await self._write(await asyncio.to_thread(_of_rows, rows, retention_class))

    async def _write(self, queue: deque[_Waiting]) -> IndexOutcome:
        tally = _Tally()
        backoff_s, deadline = _BACKOFF_S_MIN, time.monotonic() + self._patience_s
        while queue:
            before = tally.settled
            content, sent = await asyncio.to_thread(self._fill, queue)
            again, busy = await self._send(content, sent, tally)
            queue.extendleft(reversed(again))
            if tally.settled > before:
                backoff_s, deadline = _BACKOFF_S_MIN, time.monotonic() + self._patience_s
            if busy:
                if time.monotonic() >= deadline:
                    raise TransientError("opensearch keeps documents waiting", documents=len(again), reason=busy)
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, _BACKOFF_S_MAX)
        return tally.outcome()

    async def publish_position(self, positions: Mapping[Partition, int]) -> None:
        """Make everything written so far visible, then publish the next positions as documents (I4).

        Raises:
            TransientError: not done; ask again. RefusedError: the credentials do not allow it.

        """
        # What is written meanwhile is for the next time.
        touched, self._touched = self._touched, set()
        try:
            await self._refresh(touched)
        except BaseException:
            self._touched |= touched
            raise
        if positions:
            await self._put_positions(positions)

    async def positions(self) -> Mapping[Partition, int]:
        """Return the published next positions, {} where none were. Raises TransientError."""
        return await read_positions(self._client)

    async def close(self) -> None:
        """Let go of the connection."""
        await self._client.close()

    # -- sending ---------------------------------------------------------------------------------------------

    def _fill(self, queue: deque[_Waiting]) -> tuple[bytes, list[_Waiting]]:
        """Take documents from the queue until a request is full, at least one."""
        parts: list[bytes] = []
        taken: list[_Waiting] = []
        size = 0
        while queue and size < self._body_bytes:
            item = queue.popleft()
            if self._is_missing(item.index):
                item.index = mapping.MISDATED
            content = _encode(item)
            parts.append(content)
            taken.append(item)
            size += len(content)
        return b"".join(parts), taken

    async def _send(self, content: bytes, sent: list[_Waiting], tally: _Tally) -> tuple[list[_Waiting], str]:
        """Send one request; return the items to send again, and why, where that must wait."""
        try:
            answer = await self._client.ask("POST", "/_bulk", params=_BULK_PARAMS, body=content)
        except RejectedError as error:
            if error.facts["type"] != TOO_LARGE:
                raise
            return self._too_large(len(content), sent, tally), ""
        except TransientError:
            self._slower()
            raise
        items = [next(iter(item.values())) for item in answer.get("items", ())]
        if len(items) != len(sent):
            raise OutcomeUnknownError("opensearch answered for other items than were sent", items=len(items))
        again: list[_Waiting] = []
        busy = ""
        for item, told in zip(sent, items, strict=True):
            fate, reason = _fate(int(told["status"]), error_type(told.get("error", {})))
            if self._settle(item, fate, reason, tally):
                continue
            again.append(item)
            if fate is _Fate.WAIT:
                busy = reason
        if busy:
            self._slower()
        else:
            self._body_bytes = min(self._body_bytes + _BODY_BYTES_STEP, BODY_BYTES_MAX)
        return again, busy

    def _settle(self, item: _Waiting, fate: _Fate, reason: str, tally: _Tally) -> bool:
        """Count what became of an item, or change how it goes next; tell whether it is settled."""
        match fate:
            case _Fate.CREATED:
                tally.created += not (item.projected or item.scrubbed)
                tally.projected += item.projected or item.scrubbed
            case _Fate.THERE:
                tally.already_there += 1
            case _Fate.NO_INDEX if item.index != mapping.MISDATED:
                self._missing[item.index] = time.monotonic() + self._missing_s
                item.index = mapping.MISDATED
                return False
            case _Fate.NO_INDEX:
                raise TransientError("opensearch has no indices: they are made by retention", index=item.index)
            case _Fate.WAIT:
                return False
            case _Fate.FORBIDDEN:
                raise RefusedError("opensearch refuses this act to these credentials", index=item.index, type=reason)
            case _Fate.REFUSED if not item.projected:
                item.projected = True
                return False
            case _Fate.REFUSED:
                tally.refused.append((item.uid, reason))
                return True
            case _:
                assert_never(fate)
        self._touched.add(item.index)
        return True

    def _too_large(self, size: int, sent: list[_Waiting], tally: _Tally) -> list[_Waiting]:
        self._body_bytes = max(1, size // 2)
        if len(sent) > 1:
            return sent
        tally.refused.append((sent[0].uid, TOO_LARGE))
        return []

    def _slower(self) -> None:
        self._body_bytes = max(self._body_bytes // 2, BODY_BYTES_MIN)

    def _is_missing(self, index: str) -> bool:
        until = self._missing.get(index)
        if until is None:
            return False
        if time.monotonic() < until:
            return True
        self._missing.pop(index, None)
        return False

    async def _refresh(self, touched: set[str]) -> None:
        if not touched:
            return
        names = ",".join(sorted(touched))
        try:
            answer = await self._client.ask("POST", f"/{names}/_refresh", params={"ignore_unavailable": "true"})
        except NotHeldError as error:
            raise TransientError("opensearch indices are not there", indices=names) from error
        if _failed_shards(answer):
            raise TransientError("opensearch could not refresh every shard", failed=_failed_shards(answer))

    async def _put_positions(self, positions: Mapping[Partition, int]) -> None:
        lines: list[bytes] = []
        for where, following in sorted(positions.items()):
            head = {"index": {"_index": mapping.STATE, "_id": f"{where.topic}:{where.number}"}}
            body = {"topic": where.topic, "partition": where.number, "next": following}
            lines += [orjson.dumps(head), orjson.dumps(body)]
        answer = await self._client.ask(
            "POST", "/_bulk", params={**_BULK_PARAMS, "refresh": "true"}, body=b"\n".join([*lines, b""])
        )
        for item in answer.get("items", ()):
            told = next(iter(item.values()))
            fate, reason = _fate(int(told["status"]), error_type(told.get("error", {})))
            if fate is _Fate.FORBIDDEN:
                raise RefusedError("opensearch refuses to keep positions", type=reason)
            if fate is not _Fate.CREATED:
                raise TransientError("opensearch does not keep positions now", type=reason)


class _Fate(Enum):
    """What OpenSearch said of one item of a bulk request."""

    CREATED = "created"
    THERE = "there"
    NO_INDEX = "no_index"
    WAIT = "wait"
    FORBIDDEN = "forbidden"
    REFUSED = "refused"


_WAITING: Final = frozenset({
    "cluster_block_exception", "index_closed_exception", "unavailable_shards_exception",
    "process_cluster_event_timeout_exception", "opensearch_rejected_execution_exception",
    "rejected_execution_exception", "circuit_breaking_exception",
})  # fmt: skip
"""Errors that go away: they are waited for whatever status they come with."""


def _fate(status: int, kind: str) -> tuple[_Fate, str]:
    if status in (200, 201):
        return _Fate.CREATED, ""
    if kind in _WAITING or status in (408, 429) or status >= 500:
        return _Fate.WAIT, kind
    told = {409: _Fate.THERE, 404: _Fate.NO_INDEX, 401: _Fate.FORBIDDEN, 403: _Fate.FORBIDDEN}
    return told.get(status, _Fate.REFUSED), kind or str(status)


def _of_document(document: Document) -> _Waiting:
    return _Waiting(uid=str(document[UID_FIELD]), index=mapping.home_of(document), document=lambda: document)


def _of_rows(rows: pa.Table, retention_class: str) -> deque[_Waiting]:
    made = opensearch_columns.rows_of(rows, retention_class)
    return deque(
        _Waiting(uid=uid, index=index, document=partial(made.document, row), source=source)
        for row, (uid, index, source) in enumerate(zip(made.uids, made.indices, made.sources, strict=True))
    )


def _encode(item: _Waiting) -> bytes:
    if item.source and not item.projected:
        return mapping.created(item.index, item.uid, item.source)
    document = item.document()
    try:
        return mapping.action(document, item.index, projected=item.projected)
    except UnicodeEncodeError:
        item.scrubbed = True
        return mapping.action(mapping.scrubbed(document), item.index, projected=item.projected)


def _failed_shards(answer: Answer) -> int:
    return int(answer.get("_shards", {}).get("failed", 0))


async def read_positions(client: OpenSearchClient) -> dict[Partition, int]:
    """Return the published next positions, {} where none were. Raises TransientError."""
    try:
        answer = await client.ask(
            "POST",
            f"/{mapping.STATE}/_search",
            params=WHOLE_ONLY,
            body={"size": _PARTITIONS_MAX, "track_total_hits": False},
        )
    except NotHeldError:
        return {}
    refuse_partial(answer)
    sources = (hit["_source"] for hit in answer["hits"]["hits"])
    return {Partition(str(s["topic"]), int(s["partition"])): int(s["next"]) for s in sources}


def refuse_partial(answer: Answer) -> None:
    """Raise TransientError for an answer that does not speak for every shard."""
    if answer.get("timed_out") or _failed_shards(answer):
        raise TransientError("opensearch answered for some shards only", failed=_failed_shards(answer))

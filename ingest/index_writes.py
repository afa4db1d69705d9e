"""Rows on their way into the index, and the positions that follow them.

A few slices of rows are under way at once, so that documents are made while the index takes the ones before them. A
position is published only after every write that was under way when it was reached is done, and the writer makes them
visible before that (I4); what is read meanwhile waits for the next time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Final, Protocol, TypeVar

import pyarrow as pa

from ashiato.adapters.telemetry import Telemetry
from ashiato.core.limits import MIB
from ashiato.core.ports import IndexOutcome, IndexWriter, Partition
from ingest.index_events import RowsIndexed, RowsNotIndexed

T = TypeVar("T")

FOLLOWED: Final = Partition("journal", 0)
"""Published beside the bus's partitions: the next commit whose packs are to be looked through for forks."""

SLICE_ROWS: Final = 4096
SLICE_BYTES: Final = 8 * MIB
"""Rows, and their bytes, that are written at once."""
WRITES_MAX: Final = 2
"""Slices under way; what is read waits for them."""


class RowsWriter(IndexWriter, Protocol):
    """An index that takes rows as they are, so that documents are made from columns."""

    async def write_rows(self, rows: pa.Table, retention_class: str) -> IndexOutcome:
        """As ``write`` for the documents of rows of one class; several calls may be under way at once."""
        ...


class Patience(Protocol):
    """Calls until the index answers, or raises where it is time to stop."""

    def __call__(self, part: str, call: Callable[[], Awaitable[T]]) -> Awaitable[T]:
        """Return what ``call`` returns in the end."""
        ...


class IndexWrites:
    """What is under way to one index, and what was published there."""

    def __init__(self, writer: RowsWriter, *, telemetry: Telemetry, patiently: Patience) -> None:
        self._writer = writer
        self._telemetry = telemetry
        self._patiently = patiently
        self._under_way: deque[asyncio.Task[None]] = deque()
        self._publishing: asyncio.Task[None] | None = None
        self.published: dict[Partition, int] = {}

    @property
    def is_publishing(self) -> bool:
        """Whether a publication is under way."""
        return self._publishing is not None and not self._publishing.done()

    async def begin_anew(self) -> None:
        """Let go of what is under way and ask what was published.

        Raises:
            TransientError: the index does not answer.

        """
        await self.abandon()
        self.published = dict(await self._writer.positions())

    async def write(self, rows: pa.Table, retention_class: str) -> None:
        """Begin to write rows; wait where enough is under way already."""
        for part in _slices(rows):
            while len(self._under_way) >= WRITES_MAX:
                await self._under_way.popleft()
            self._under_way.append(asyncio.create_task(self._write_slice(part, retention_class)))

    async def begin_to_publish(self, followed: int, reached: Mapping[Partition, int]) -> None:
        """Publish these positions as soon as every write that is under way now is done."""
        if self._publishing is not None:
            await self._publishing
        self._publishing = asyncio.create_task(self._publish(list(self._under_way), followed, reached))

    async def publish(self, followed: int, reached: Mapping[Partition, int]) -> None:
        """Publish these positions, and return when that is done."""
        await self.begin_to_publish(followed, reached)
        if self._publishing is not None:
            await self._publishing

    async def abandon(self) -> None:
        """Let go of what is under way: no position covers such writes, and they change nothing when repeated."""
        tasks = [*self._under_way, *([self._publishing] if self._publishing is not None else [])]
        self._under_way.clear()
        self._publishing = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _write_slice(self, rows: pa.Table, retention_class: str) -> None:
        """Write rows, for as long as it takes. What the index takes in no form is counted and named."""
        outcome = await self._patiently("index", partial(self._writer.write_rows, rows, retention_class))
        self._telemetry.emit(
            RowsIndexed(
                retention_class=retention_class,
                created=outcome.created,
                already_there=outcome.already_there,
                projected=outcome.projected,
            )
        )
        for uid, reason in outcome.refused:
            self._telemetry.emit(RowsNotIndexed(rows=1, reason=reason, name=uid))

    async def _publish(
        self, covered: list[asyncio.Task[None]], followed: int, reached: Mapping[Partition, int]
    ) -> None:
        """Publish the positions that moved. How far the journal was followed goes first: they rely on it."""
        await asyncio.gather(*covered)
        if followed != self.published.get(FOLLOWED, 0):
            await self._publish_now({FOLLOWED: followed})
        if moved := {where: at for where, at in reached.items() if self.published.get(where) != at}:
            await self._publish_now(moved)

    async def _publish_now(self, positions: Mapping[Partition, int]) -> None:
        await self._patiently("index", partial(self._writer.publish_position, positions))
        self.published.update(positions)


def _slices(rows: pa.Table) -> Iterator[pa.Table]:
    start = 0
    while start < rows.num_rows:
        count = SLICE_ROWS
        while count > 1 and rows.slice(start, count).nbytes > SLICE_BYTES:
            count //= 2
        yield rows.slice(start, count)
        start += count

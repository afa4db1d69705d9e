"""Rows under way to the index: positions follow them, and reading waits for neither."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import pyarrow as pa
import pytest

from ashiato.adapters.index_memory import MemoryIndexKeeper, MemoryIndexWriter, MemoryIndices
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.errors import RefusedError
from ashiato.core.ids import CLASSES
from ashiato.core.ports import IndexOutcome, Partition
from ingest.index_writes import FOLLOWED, WRITES_MAX, IndexWrites
from tests.contract.index_rows import DAY, chunk, rows_of

T = TypeVar("T")

WHERE = Partition("ashiato.bulk", 0)
ROWS = rows_of(chunk(b"2026-11-24T11:00:00.123456789Z stdout F hello\n"))


class Gated(MemoryIndexWriter):
    """Takes rows when it is let to, and keeps the order of what was done."""

    def __init__(self, indices: MemoryIndices) -> None:
        super().__init__(indices)
        self.gate = asyncio.Event()
        self.done: list[object] = []
        self.refuses = False

    async def write_rows(self, rows: pa.Table, retention_class: str) -> IndexOutcome:
        await self.gate.wait()
        if self.refuses:
            raise RefusedError("not with these credentials")
        self.done.append("written")
        return await super().write_rows(rows, retention_class)

    async def publish_position(self, positions: Mapping[Partition, int]) -> None:
        self.done.append(dict(positions))
        await super().publish_position(positions)


async def _at_once(part: str, call: Callable[[], Awaitable[T]]) -> T:
    del part
    return await call()


@pytest.fixture
async def writer() -> Gated:
    indices = MemoryIndices()
    await MemoryIndexKeeper(indices).prepare([DAY], CLASSES)
    return Gated(indices)


@pytest.fixture
def writes(writer: Gated) -> IndexWrites:
    return IndexWrites(writer, telemetry=Telemetry("ingest", stream=io.StringIO()), patiently=_at_once)


async def _settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_position_waits_for_the_writes_before_it_and_not_for_those_behind(
    writer: Gated, writes: IndexWrites
) -> None:
    await writes.write(ROWS, "container")
    await writes.begin_to_publish(0, {WHERE: 1})
    await writes.write(ROWS, "container")
    await _settle()
    assert writes.is_publishing
    assert writer.done == []
    writer.gate.set()
    await writes.publish(0, {WHERE: 2})
    assert writer.done == ["written", "written", {WHERE: 1}, {WHERE: 2}]


async def test_how_far_the_journal_was_followed_goes_before_the_positions(writer: Gated, writes: IndexWrites) -> None:
    writer.gate.set()
    await writes.publish(3, {WHERE: 1})
    await writes.publish(3, {WHERE: 1})
    assert writer.done == [{FOLLOWED: 3}, {WHERE: 1}]


async def test_no_position_is_published_over_a_write_that_failed(writer: Gated, writes: IndexWrites) -> None:
    writer.refuses = True
    writer.gate.set()
    await writes.write(ROWS, "container")
    with pytest.raises(RefusedError):
        await writes.publish(0, {WHERE: 1})
    with pytest.raises(RefusedError):
        await writes.publish(0, {WHERE: 2})
    assert writer.done == []
    await writes.abandon()


async def test_reading_waits_where_enough_is_under_way(writer: Gated, writes: IndexWrites) -> None:
    for _ in range(WRITES_MAX):
        await writes.write(ROWS, "container")
    waiting = asyncio.create_task(writes.write(ROWS, "container"))
    await _settle()
    assert not waiting.done()
    writer.gate.set()
    await waiting
    await writes.publish(0, {})
    assert writer.done == ["written"] * (WRITES_MAX + 1)


async def test_what_is_abandoned_publishes_nothing(writer: Gated, writes: IndexWrites) -> None:
    await writes.write(ROWS, "container")
    await writes.begin_to_publish(0, {WHERE: 1})
    await writes.begin_anew()
    writer.gate.set()
    await _settle()
    assert writer.done == []
    assert writes.published == {}

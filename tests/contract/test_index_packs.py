"""The packs of an archive keep the contract of every place that is searched."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from ashiato.adapters.archive_directory import DirectoryReader
from ashiato.adapters.index_packs import PackIndex
from ashiato.core.chunk import Chunk, ChunkFlags
from ashiato.core.limits import LINE_CUT_BYTES
from tests.contract import index_rows as rows
from tests.contract.index_contract import Held, SearchContract
from tests.unit.ingest.index_line import Line


async def archived(folder: Path, chunks: Sequence[Chunk]) -> PackIndex:
    """Archive in two commits."""
    line = Line(folder)
    await line.prepare()
    for count, chunk in enumerate(chunks):
        await line.send(chunk)
        if count == len(chunks) // 2:
            await line.commit()
    await line.commit()
    return PackIndex(DirectoryReader(folder / "archive"))


def as_shipped(whole: Chunk) -> Iterator[Chunk]:
    """Cut a line that is too long for one chunk, as the collector does."""
    for start in range(0, len(whole.payload), LINE_CUT_BYTES):
        payload = whole.payload[start : start + LINE_CUT_BYTES]
        flags = ChunkFlags.STARTS_AT_LINE if start == 0 else ChunkFlags(0)
        flags |= ChunkFlags.ENDS_AT_LINE if payload.endswith(b"\n") else ChunkFlags(0)
        yield msgspec.structs.replace(whole, payload=payload, offset_start=whole.offset_start + start, flags=int(flags))


@pytest.fixture(scope="module", params=["incident", "defects"])
def held(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Held:
    whole = rows.incident_chunks() if request.param == "incident" else rows.defect_chunks()
    chunks = [piece for one in whole for piece in as_shipped(one)]
    reader = asyncio.run(archived(tmp_path_factory.mktemp("line"), chunks))
    return Held(reader=reader, table=rows.rows_of(*chunks))


class TestPackIndex(SearchContract):
    """The claims, over the module's archive."""

"""Packs of equal bytes are different objects: each carries its version and random bytes of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ashiato.adapters.bus_memory import MemoryReader
from ashiato.adapters.journal import Journal
from ashiato.core.journal import AddedPack
from tests.simulation.house import cri_file, make_topics, new_archiver, new_broker, pod_in, send
from tests.simulation.memory_archive import MemoryArchive


async def _archive(folder: Path) -> tuple[MemoryArchive, AddedPack]:
    archive, broker, file = MemoryArchive(), new_broker(), cri_file(pod_in(0), 0, 6)
    await make_topics(broker)
    await send(broker, [file.chunk(0, len(file.content))])
    await new_archiver(archive, MemoryReader(broker), folder).drain()
    (pack,) = Journal(archive).refresh().packs.values()
    return archive, pack


def test_two_packs_of_the_same_bytes_have_different_names_and_say_their_version(tmp_path: Path) -> None:
    # given two archivers that build the same batch
    made = [asyncio.run(_archive(tmp_path / name)) for name in ("a", "b")]
    # then neither name tells that the bytes are equal, and a digest outlives deleted bytes without telling them
    assert len({pack.path for _, pack in made}) == 2
    for archive, pack in made:
        content, _ = archive.get("evidence", pack.path, pack.version_id)
        metadata = pq.read_metadata(pa.BufferReader(content)).metadata or {}
        assert len(metadata[b"ashiato.random"]) == 64
        assert metadata[b"ashiato.row_version"] == b"1"

"""A whole line in one process for tests of the indexer: a bus, an archive in a folder, an index; all of them real."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from ashiato.adapters.archive_directory import DirectoryReader, DirectoryWriter
from ashiato.adapters.bus_memory import MemoryBroker, MemoryKeeper, MemoryReader, MemoryWriter
from ashiato.adapters.clock import FixedClock
from ashiato.adapters.index_memory import MemoryIndex, MemoryIndexKeeper, MemoryIndexWriter, MemoryIndices
from ashiato.adapters.index_packs import PackIndex
from ashiato.adapters.telemetry import Telemetry
from ashiato.core import frame
from ashiato.core.chunk import Chunk
from ashiato.core.ids import CLASSES, TOPIC_BULK, TOPIC_PRIORITY, Source
from ashiato.core.ports import ArchiveReader, Partition
from ashiato.core.query import All, Node, Query
from ingest.archiver import Archiver, ArchiverSettings
from ingest.index_writes import RowsWriter
from ingest.indexer import Indexer, IndexerSettings
from tests.contract.index_rows import DAY, NOON

BULK = Partition(TOPIC_BULK, 0)
PRIORITY = Partition(TOPIC_PRIORITY, 0)


class Line:
    """Send, archive, index, search."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "scratch").mkdir()
        self.archive = DirectoryWriter(root / "archive")
        self.broker = MemoryBroker()
        self.indices = MemoryIndices()
        self.clock = FixedClock(unix_nano=NOON)
        self._log = io.StringIO()
        self.telemetry = Telemetry("ingest", stream=self._log)

    def log(self) -> str:
        """Return all log lines."""
        return self._log.getvalue()

    async def prepare(self, *days: str) -> None:
        await MemoryKeeper(self.broker).create_topics({TOPIC_BULK: 1, TOPIC_PRIORITY: 1})
        await MemoryIndexKeeper(self.indices).prepare(days or (DAY,), CLASSES)

    async def new_bus(self, bus_id: str) -> None:
        """Replace the bus by an empty one."""
        self.broker = MemoryBroker(bus_id=bus_id)
        await MemoryKeeper(self.broker).create_topics({TOPIC_BULK: 1, TOPIC_PRIORITY: 1})

    async def send(self, *chunks: Chunk) -> int:
        """Send chunks of one topic as one frame; return its position."""
        where = Partition(Source.parse(chunks[0].file.source).topic, 0)
        return await MemoryWriter(self.broker).send(where, frame.encode(chunks))

    async def send_raw(self, value: bytes) -> int:
        return await MemoryWriter(self.broker).send(BULK, value)

    async def free(self, before: int) -> None:
        await MemoryKeeper(self.broker).free(BULK, before)

    async def commit(self) -> None:
        """Archive all that is on the bus and commit it."""
        archiver = Archiver(
            ArchiverSettings(actor="t", commit_raw_bytes=1 << 30, commit_age_ns=1 << 60, poll_wait_ns=1_000_000),
            reader=MemoryReader(self.broker),
            archive=self.archive,
            clock=self.clock,
            telemetry=self.telemetry,
            scratch=self.root / "scratch",
        )
        await archiver.drain()

    def indexer(self, *, writer: RowsWriter | None = None, archive: ArchiveReader | None = None) -> Indexer:
        return Indexer(
            IndexerSettings(poll_wait_ns=1_000_000, gather_ns=0, follow_age_ns=0, publish_age_ns=0),
            reader=MemoryReader(self.broker),
            archive=archive or DirectoryReader(self.root / "archive"),
            writer=writer or MemoryIndexWriter(self.indices),
            clock=self.clock,
            telemetry=self.telemetry,
        )

    async def index(self) -> Indexer:
        """Index all that is there, as a process that starts and ends."""
        indexer = self.indexer()
        await indexer.drain()
        return indexer

    async def hot(self, where: Node | None = None) -> pa.Table:
        query = Query(where=where or All(), limit=100_000, order="oldest_first")
        return (await MemoryIndex(self.indices).search(query)).rows

    async def packed(self, where: Node | None = None) -> pa.Table:
        query = Query(where=where or All(), limit=100_000, order="oldest_first")
        return (await PackIndex(DirectoryReader(self.root / "archive")).search(query)).rows

    async def bodies(self) -> Sequence[object]:
        return (await self.hot())["body"].to_pylist()

    @property
    def published(self) -> int:
        """The published position of the bulk topic."""
        return self.indices.positions.get(BULK, 0)

    @property
    def end(self) -> int:
        """The position that the next record of the bulk topic will get."""
        return self.broker.log(BULK).end

    @property
    def ends(self) -> dict[Partition, int]:
        """The same of every partition."""
        return {where: self.broker.log(where).end for where in (BULK, PRIORITY)}

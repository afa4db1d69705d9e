"""A house to ask questions in: a memory bus, a real archiver, a directory archive, a tail, and a node's ledger.

What a node would send is sent here by hand, so that a test decides what is acknowledged, held, missing or late.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from ashiato.adapters.archive_directory import DirectoryReader, DirectoryWriter
from ashiato.adapters.bus_memory import MemoryBroker, MemoryKeeper, MemoryReader, MemoryWriter
from ashiato.adapters.clock import FixedClock
from ashiato.adapters.index_packs import PackIndex
from ashiato.adapters.telemetry import Telemetry
from ashiato.core import frame, ledger
from ashiato.core.chunk import Chunk, ChunkFlags, FileFacts
from ashiato.core.ids import TOPICS, Kind, Source, partition_of, ulid
from ashiato.core.ledger import Acknowledged, Beat, Born, Closed, Head, Statement
from ashiato.core.limits import LOGS_BYTES_MAX, QUERY_BYTES_MAX
from ashiato.core.ports import IndexKeeper, IndexWriter, Partition
from ashiato.core.record import to_document
from ashiato.core.search import IndexReader
from collector.importer import Importer
from ingest.archiver import Archiver, ArchiverSettings
from ingest.tail import TailFolder
from query.answer import Answer, to_ndjson
from query.engine import Engine

INCIDENT: Final = Path(__file__).parents[3] / "ashiato" / "demo" / "incident"
FACTS: Final = json.loads((INCIDENT / "facts.json").read_text())

SECOND: Final = 1_000_000_000
NOON: Final = 1_795_608_000_000_000_000
"""2026-11-25 12:00:00 UTC."""
CLUSTER: Final = "c1"
NODE: Final = "node-1"


def container(pod: str, *, uid: str = "u-1", name: str = "web", namespace: str = "shop", node: str = NODE) -> Source:
    return Source(
        kind=Kind.CONTAINER, cluster=CLUSTER, node=node, namespace=namespace, pod=pod, pod_uid=uid, container=name
    )


def cri(*texts: str, start: int = NOON) -> bytes:
    """Return CRI lines, one a second from ``start`` on."""
    lines = []
    for number, text in enumerate(texts):
        seconds = (start + number * SECOND) // SECOND % 86_400
        clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        lines.append(f"2026-11-25T{clock}.000000001Z stdout F {text}\n")
    return "".join(lines).encode()


def stripped(line: bytes) -> bytes:
    """An implementation of its own: what is behind time, stream and tag, and a newline after F."""
    found = re.fullmatch(rb"(\S+) (stdout|stderr) ([FP]) (.*)\n", line, re.DOTALL)
    assert found is not None
    return found[4] + (b"\n" if found[3] == b"F" else b"")


@dataclass(slots=True)
class LogFile:
    """A file on the node, and what of it was sent."""

    facts: FileFacts
    source: Source
    offset: int = 0
    position: int = -1
    flags: int = 0

    @property
    def file_id(self) -> str:
        return self.facts.file_id


@dataclass
class House:
    """One of everything. ``tail`` and ``commit`` say when what was sent becomes visible, and where."""

    root: Path
    clock: FixedClock = field(default_factory=lambda: FixedClock(unix_nano=NOON))
    broker: MemoryBroker = field(default_factory=MemoryBroker)
    heads: dict[str, Head] = field(default_factory=dict)
    ledgers: dict[str, LogFile] = field(default_factory=dict)
    files: int = 0

    async def open(self) -> House:
        await MemoryKeeper(self.broker).create_topics(dict.fromkeys(TOPICS, 2))
        (self.root / "scratch").mkdir()
        self.archive = DirectoryWriter(self.root / "archive")
        self.telemetry = Telemetry("ingest", stream=io.StringIO())
        self.archiver = Archiver(
            ArchiverSettings(actor="test", commit_raw_bytes=1 << 30, commit_age_ns=1 << 62, poll_wait_ns=1),
            reader=MemoryReader(self.broker), archive=self.archive, clock=self.clock, telemetry=self.telemetry,
            scratch=self.root / "scratch", tail=TailFolder(self.root / "tail"),
        )  # fmt: skip
        await self.archiver.open()
        return self

    # -- the node --------------------------------------------------------------------------------------------

    def file(self, source: Source, *, path: str = "", restart: int = 0, flags: int = 0) -> LogFile:
        self.files += 1
        file_id = ulid(NOON // 1_000_000, self.files.to_bytes(10, "big"))
        folder = f"{source.namespace}_{source.pod}_{source.pod_uid}/{source.container}"
        where = path or (
            f"/var/log/pods/{folder}/{restart}.log" if source.kind is Kind.CONTAINER else f"/{source.path}"
        )
        is_container = source.kind is Kind.CONTAINER
        facts = FileFacts(
            file_id=file_id, source=str(source), path=where, restart_count=restart if is_container else -1
        )
        return LogFile(facts=facts, source=source, flags=flags)

    async def born(self, source: Source, *, node: str = NODE, restart: int = 0, path: str = "") -> LogFile:
        """A file whose birth its node has stated."""
        file = self.file(source, restart=restart, path=path)
        where = self._partition(source)
        await self.state(
            Born(
                file_id=file.file_id, source=str(source), path=file.facts.path, partition=where.number,
                topic=where.topic, restart_count=file.facts.restart_count,
            ),
            node=node,
        )  # fmt: skip
        return file

    async def send(self, file: LogFile, payload: bytes, *, at: int | None = None, closed: bool = False) -> None:
        """Ship bytes of a file, as the bus then has them."""
        start = file.offset if at is None else at
        flags = ChunkFlags(file.flags) | ChunkFlags.STARTS_AT_LINE
        if payload.endswith(b"\n"):
            flags |= ChunkFlags.ENDS_AT_LINE
        if closed:
            flags |= ChunkFlags.FILE_CLOSED
        chunk = Chunk(
            file=file.facts, offset_start=start, observed_time_unix_nano=self.clock.now_unix_nano(), flags=int(flags),
            payload=payload,
        )  # fmt: skip
        writer = MemoryWriter(self.broker)
        file.position = await writer.send(self._partition(file.source), frame.encode([chunk]))
        file.offset = max(file.offset, start + len(payload))

    async def state(self, *statements: Statement, node: str = NODE) -> None:
        """Write statements into a node's ledger, and ship them."""
        if node not in self.ledgers:
            source = Source(kind=Kind.LEDGER, cluster=CLUSTER, node=node, path="ledger.jsonl")
            self.ledgers[node] = self.file(source, path="/state/ledger/ledger-000001.jsonl")
            self.heads[node] = Head()
        lines = []
        for statement in statements:
            line, self.heads[node] = ledger.append(
                self.heads[node], statement, node=node, time_unix_nano=self.clock.now_unix_nano(), boot_nano=0
            )
            lines.append(line)
        await self.send(self.ledgers[node], b"".join(lines))

    async def beat(
        self, *files: LogFile, node: str = NODE, watermark: int | None = None, bus_id: str | None = None
    ) -> None:
        """State how far files are acknowledged, on which bus, and up to which moment all is."""
        moved = tuple(
            Acknowledged(
                file_id=file.file_id, offset=str(file.offset), topic=self._partition(file.source).topic,
                incarnation=f"{bus_id or self.broker.bus_id}/{self._partition(file.source).topic}",
                partition=self._partition(file.source).number, position=str(file.position),
            )
            for file in files
        )  # fmt: skip
        reached = self.clock.now_unix_nano() if watermark is None else watermark
        await self.state(Beat(watermark_unix_nano=str(reached), moved=moved), node=node)

    async def close(self, file: LogFile, *, node: str = NODE) -> None:
        """End a file, and state it."""
        await self.send(file, b"", closed=True)
        await self.state(
            Closed(file_id=file.file_id, source=str(file.source), size=str(file.offset), reason="unlinked"), node=node
        )

    # -- ingest ----------------------------------------------------------------------------------------------

    async def tail(self) -> None:
        """Take in what the bus has, and publish it in the tail."""
        self.clock.advance(SECOND)
        await self.archiver.step()

    async def commit(self) -> None:
        """Take in what the bus has, and commit it."""
        await self.tail()
        assert await self.archiver.flush()
        await self.archiver.step()

    async def take(self, paths: Sequence[Path], *, cluster: str = CLUSTER, node: str = "imported") -> None:
        """Import folders and archive them."""
        importer = Importer(MemoryWriter(self.broker), clock=self.clock, telemetry=self.telemetry)
        await importer.run(paths, cluster=cluster, node=node)
        await self.archiver.drain()

    # -- asking ----------------------------------------------------------------------------------------------

    def engine(
        self,
        hot: IndexReader | None = None,
        *,
        has_tail: bool = True,
        answer_bytes_max: int = QUERY_BYTES_MAX,
        logs_bytes_max: int = LOGS_BYTES_MAX,
    ) -> Engine:
        reader = DirectoryReader(self.root / "archive")
        return Engine(
            PackIndex(reader, tail=self.root / "tail" if has_tail else None),
            hot,
            archive=reader,
            clock=self.clock,
            has_tail=has_tail,
            answer_bytes_max=answer_bytes_max,
            logs_bytes_max=logs_bytes_max,
        )

    def where(self, source: Source) -> Partition:
        """Return where a source goes on the bus."""
        return self._partition(source)

    def _partition(self, source: Source) -> Partition:
        return Partition(source.topic, partition_of(source, 2))


def documents(answer: Answer) -> list[dict[str, Any]]:
    """Return an answer's records as they leave."""
    lines = b"".join(to_ndjson(answer)).splitlines()
    return [json.loads(line) for line in lines[:-1]]


def seen(answer: Any) -> list[tuple[str, str, str, int]]:
    """Return (kind of source, what is known, reason, bytes) of each interval that is not searched."""
    return [
        (interval.source.partition("/")[0], str(interval.seen), interval.reason, interval.bytes)
        for interval in answer.coverage.intervals
        if interval.seen != "searched"
    ]


async def index_tail_into(house: House, keeper: IndexKeeper, writer: IndexWriter) -> None:
    """Put into a hot index what the tail has, and take the tail away: as it is at scale."""
    rows: list[Mapping[str, object]] = []
    positions: dict[Partition, int] = {}
    for path in sorted((house.root / "tail").glob("*.arrow")):
        topic, number, _, end = path.stem.rsplit("-", 3)
        where = Partition(topic, int(number))
        for place in (where, Partition(f"{house.broker.bus_id}/{topic}#0", int(number))):
            positions[place] = max(int(end), positions.get(place, 0))
        with pa.memory_map(str(path)) as source:
            rows += pa.ipc.open_file(source).read_all().to_pylist()
        path.unlink()
    await keeper.prepare(["2026-11-25"], ["container", "ledger"])
    await writer.write([to_document(row) for row in rows])
    await writer.publish_position(positions)

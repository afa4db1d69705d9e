"""An archive of real packs with small row groups, made by the archiver from frames on a bus, and a tail behind it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader, BytesIO, FileIO, StringIO
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ashiato import demo
from ashiato.adapters.archive_directory import DirectoryReader, DirectoryWriter
from ashiato.adapters.bus_memory import MemoryBroker, MemoryReader
from ashiato.adapters.clock import FixedClock
from ashiato.adapters.journal import Journal
from ashiato.adapters.tail_folder import TailReader
from ashiato.adapters.telemetry import Telemetry
from ashiato.core import layout, ledger
from ashiato.core.chunk import Chunk, ChunkFlags, FileFacts
from ashiato.core.errors import TransientError
from ashiato.core.ids import Kind, Source
from ashiato.core.ports import ObjectRef
from ashiato.core.table import conform, without_doubles
from ingest.archiver import Archiver, ArchiverSettings
from ingest.tail import TailFolder
from tests.simulation.house import make_topics, send

INCIDENT: Final = Path(next(iter(demo.__path__))) / "incident"
NOON: Final = 1_795_608_000_000_000_000
SECOND: Final = 1_000_000_000
ROUNDS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """What was built, and every row of it, each once."""

    root: Path
    tail: Path
    rows: pa.Table

    @property
    def archive(self) -> DirectoryReader:
        return DirectoryReader(self.root)


def container(name: str, *, namespace: str = "shop", node: str = "node-1") -> Source:
    return Source(
        kind=Kind.CONTAINER,
        cluster="c",
        node=node,
        namespace=namespace,
        pod=name,
        pod_uid=f"uid-{name}",
        container="web",
    )


def chunk(source: Source, file_id: str, offset: int, payload: bytes, observed: int) -> Chunk:
    facts = FileFacts(file_id=file_id, source=str(source), path=f"/var/log/{file_id}", restart_count=0)
    flags = int(ChunkFlags.STARTS_AT_LINE | ChunkFlags.ENDS_AT_LINE)
    return Chunk(file=facts, offset_start=offset, observed_time_unix_nano=observed, flags=flags, payload=payload)


def archiver(root: Path, broker: MemoryBroker, clock: FixedClock, tail: TailFolder | None = None) -> Archiver:
    scratch = root.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    return Archiver(
        ArchiverSettings(actor="ingest", commit_raw_bytes=1 << 40, commit_age_ns=1 << 62, poll_wait_ns=0),
        reader=MemoryReader(broker),
        archive=DirectoryWriter(root),
        clock=clock,
        telemetry=Telemetry("ingest", stream=StringIO()),
        scratch=scratch,
        tail=tail,
    )


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Return a corpus that nobody changes; folders of tests take this fixture into their conftest."""
    return build(tmp_path_factory.mktemp("packs"))


def build(folder: Path) -> Corpus:
    """Archive the incident, some pods and a ledger in several commits; leave a tail, half of it committed already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ingest.pack.ROW_GROUP_BYTES", 4_000)
        return asyncio.run(_build(folder))


async def _build(folder: Path) -> Corpus:
    root, tail, again = folder / "archive", folder / "tail", folder / "again"
    broker, clock = MemoryBroker(bus_id="bus"), FixedClock(unix_nano=NOON)
    await make_topics(broker)
    works = archiver(root, broker, clock, TailFolder(tail))
    files = [*_incident(), *_pods(), _ledger()]
    for number in range(ROUNDS - 2):
        await _send_round(broker, files, number)
        await works.drain()
    # what is committed last stays in the tail as well, as after a crash between commit and removal
    await _send_round(broker, files, ROUNDS - 2)
    clock.advance(SECOND)
    await works.step()
    shutil.copytree(tail, again)
    await works.flush()
    # and what comes after it is published only
    await _send_round(broker, files, ROUNDS - 1)
    clock.advance(SECOND)
    await works.step()
    for path in again.iterdir():
        shutil.copy(path, tail / path.name)
    return Corpus(root=root, tail=tail, rows=all_rows(DirectoryReader(root), tail))


async def _send_round(broker: MemoryBroker, files: Sequence[tuple[Source, str, bytes]], number: int) -> None:
    for source, file_id, content in files:
        await _send_part(broker, source, file_id, content, number)


async def _send_part(broker: MemoryBroker, source: Source, file_id: str, content: bytes, number: int) -> None:
    lines = content.splitlines(keepends=True)
    size = -(-len(lines) // ROUNDS)
    before = b"".join(lines[: number * size])
    own = lines[number * size : (number + 1) * size]
    chunks, offset = [], len(before)
    for at in range(0, len(own), 10):
        payload = b"".join(own[at : at + 10])
        chunks.append(chunk(source, file_id, offset, payload, NOON + number * 60 * SECOND + at))
        offset += len(payload)
    if chunks:
        await send(broker, chunks)


def _incident() -> Iterator[tuple[Source, str, bytes]]:
    for number, path in enumerate(sorted(p for p in INCIDENT.rglob("*") if p.suffix in (".log", ".json", ".jsonl"))):
        if path.name == "facts.json":
            continue
        node, _, rest = path.relative_to(INCIDENT).as_posix().partition("/")
        content = path.read_bytes()
        source = layout.recognise(rest or node, cluster="c", node=node, head=content[:4096]).source
        yield source, f"01J0000000000000000000I{number:03d}", content


def _pods() -> Iterator[tuple[Source, str, bytes]]:
    pods = (container("web-1"), container("web-2", node="node-2"), container("db-1", namespace="data"))
    for number, source in enumerate(pods):
        lines = [
            f"2026-11-{24 + number}T03:{at // 60:02}:{at % 60:02}.{number:09}Z stdout F "
            + (f'{{"level": "error", "at": {at}}}' if at % 7 == 0 else f"GET /cart/{at} timeout 認証{at % 3}")
            for at in range(120)
        ]
        yield source, f"01J0000000000000000000P{number:03d}", "".join(f"{line}\n" for line in lines).encode()


def _ledger() -> tuple[Source, str, bytes]:
    """Rows of a ledger that speak of pods whose own files are elsewhere."""
    source = Source(kind=Kind.LEDGER, cluster="c", node="node-1", path="ledger.jsonl")
    lines, head = [], ledger.Head()
    for number in range(8):
        gap = ledger.Gap(source=str(container(f"web-{number % 4}")), reason="truncated")
        line, head = ledger.append(head, gap, node="node-1", time_unix_nano=NOON + number, boot_nano=0)
        lines.append(line)
    return source, "01J0000000000000000000L000", b"".join(lines)


def all_rows(archive: DirectoryReader, tail: Path) -> pa.Table:
    """Read everything, without this room's code for packs."""
    tables = []
    for pack in Journal(archive).refresh().packs.values():
        ref = ObjectRef(bucket="evidence", path=pack.path, version_id=pack.version_id, size=pack.size)
        with archive.open(ref) as stored:
            tables.append(conform(pq.read_table(BytesIO(stored.read()))))
    tables += [segment.rows for segment in TailReader(tail).read()]
    return without_doubles(pa.concat_tables(tables))


class CountingFile(BufferedReader):
    """Notes how many bytes each read gives; after ``reads_left`` reads the store is gone."""

    reads: list[int]
    reads_left: int = 1 << 30

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads_left -= 1
        if self.reads_left < 0:
            raise TransientError("connection lost")
        content = super().read(size)
        self.reads.append(len(content))
        return content


class CountingArchive(DirectoryReader):
    """Notes what is read of which packs."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reads: list[int] = []
        self.opened: list[str] = []

    def open(self, ref: ObjectRef) -> BufferedReader:
        super().open(ref).close()
        self.opened.append(ref.path)
        file = CountingFile(FileIO(self.root / ref.bucket / ref.path))
        file.reads = self.reads
        return file

"""A small house for simulations: sources, frames of their bytes, a bus in memory, and archivers over any archive."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from ashiato.adapters.bus_memory import MemoryBroker, MemoryKeeper, MemoryWriter
from ashiato.adapters.clock import FixedClock
from ashiato.adapters.journal import Journal
from ashiato.adapters.telemetry import Telemetry
from ashiato.core import frame
from ashiato.core.chunk import Chunk, ChunkFlags, FileFacts
from ashiato.core.ids import TOPIC_BULK, TOPIC_PRIORITY, Kind, Source, partition_of, ulid
from ashiato.core.journal import AddedPack, JournalState
from ashiato.core.ports import ArchiveReader, ArchiveWriter, BusReader, ObjectRef, Partition
from ashiato.core.render import render_rows
from ashiato.core.table import conform
from ingest.archiver import Archiver, ArchiverSettings

NOON: Final = 1_795_608_000_000_000_000
"""2026-11-25 12:00:00 UTC."""
DAY_NS: Final = 86_400_000_000_000
BULK_PARTITIONS: Final = 2


def pod(name: str) -> Source:
    uid = f"0000000{len(name)}-aaaa-4bbb-8ccc-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return Source(
        kind=Kind.CONTAINER, cluster="c1", node="node-1", namespace="shop", pod=name, pod_uid=uid, container="web"
    )


def pod_in(partition: int) -> Source:
    """Return a container source of the given bulk partition."""
    return next(source for source in map(pod, map("web-{}".format, range(99))) if where_of(source).number == partition)


AUDIT: Final = Source(kind=Kind.AUDIT, cluster="c1", node="control-plane", path="var/log/audit.log")


def where_of(source: Source) -> Partition:
    partitions = {TOPIC_BULK: BULK_PARTITIONS, TOPIC_PRIORITY: 1}
    return Partition(source.topic, partition_of(source, partitions[source.topic]))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFile:
    """One file of a source, and every byte that it will ever have."""

    source: Source
    number: int
    content: bytes

    @property
    def file_id(self) -> str:
        return ulid(NOON // 1_000_000, hashlib.sha256(f"{self.source}/{self.number}".encode()).digest()[:10])

    def chunk(self, start: int, end: int, *, observed_unix_nano: int = NOON, closed: bool = False) -> Chunk:
        facts = FileFacts(
            file_id=self.file_id, source=str(self.source), path=f"/var/log/{self.number}.log", restart_count=self.number
        )
        flags = ChunkFlags(0)
        if start == 0 or self.content[start - 1 : start] == b"\n":
            flags |= ChunkFlags.STARTS_AT_LINE
        if self.content[end - 1 : end] == b"\n":
            flags |= ChunkFlags.ENDS_AT_LINE
        if closed:
            flags |= ChunkFlags.FILE_CLOSED
        return Chunk(
            file=facts, offset_start=start, observed_time_unix_nano=observed_unix_nano, flags=int(flags),
            payload=self.content[start:end],
        )  # fmt: skip

    def lines(self) -> list[int]:
        """Return the offsets of the line borders, 0 and the end included."""
        return [0, *(at + 1 for at, byte in enumerate(self.content) if byte == 10)]


def cri_file(source: Source, number: int, lines: int, *, day: int = 24, hour: int = 3) -> LogFile:
    text = "".join(
        f"2026-11-{day:02}T{hour:02}:{at // 60 % 60:02}:{at % 60:02}.{number:09}Z stdout F GET /cart/{at} 200\n"
        for at in range(lines)
    )
    return LogFile(source=source, number=number, content=text.encode())


def audit_file(lines: int, *, day: int = 24) -> LogFile:
    text = "".join(
        f'{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"a-{at}","stage":'
        f'"ResponseComplete","requestURI":"/api/v1/pods","verb":"list","user":{{"username":"mallory"}},'
        f'"requestReceivedTimestamp":"2026-11-{day:02}T03:00:{at % 60:02}.000000Z"}}\n'
        for at in range(lines)
    )
    return LogFile(source=AUDIT, number=day, content=text.encode())


def new_broker(bus_id: str = "bus") -> MemoryBroker:
    return MemoryBroker(bus_id=bus_id)


async def make_topics(broker: MemoryBroker) -> None:
    await MemoryKeeper(broker).create_topics({TOPIC_PRIORITY: 1, TOPIC_BULK: BULK_PARTITIONS})


async def send(broker: MemoryBroker, chunks: Sequence[Chunk]) -> int:
    """Send chunks of one source as one frame."""
    where = where_of(Source.parse(chunks[0].file.source))
    return await MemoryWriter(broker).send(where, frame.encode(chunks))


def new_archiver(
    archive: ArchiveWriter,
    reader: BusReader,
    scratch: Path,
    *,
    actor: str = "ingest-1",
    raw_bytes: int = 1 << 40,
    retry_ns: int = 0,
) -> Archiver:
    scratch.mkdir(parents=True, exist_ok=True)
    return Archiver(
        ArchiverSettings(
            actor=actor, commit_raw_bytes=raw_bytes, commit_age_ns=1 << 62, poll_wait_ns=0, retry_wait_ns=retry_ns
        ),
        reader=reader,
        archive=archive,
        clock=FixedClock(unix_nano=NOON),
        telemetry=Telemetry("ingest", stream=StringIO()),
        scratch=scratch,
    )


@dataclass(slots=True, kw_only=True)
class Held:
    """What the committed packs of an archive hold, read back from their bytes."""

    state: JournalState
    bytes_by_file: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)

    def of(self, file_id: str) -> bytes:
        """Return a file's bytes in offset order; holes and doubles make it differ from what was written."""
        return b"".join(content for _, content in sorted(self.bytes_by_file.get(file_id, [])))

    def doubles(self) -> list[tuple[str, int]]:
        """Return every (file, byte) that is held more than once; forks hold their own bytes and count apart."""
        found: list[tuple[str, int]] = []
        for file_id, lines in self.bytes_by_file.items():
            counts = Counter(offset + at for offset, content in lines for at in range(len(content)))
            found += [(file_id, byte) for byte, times in sorted(counts.items()) if times > 1]
        return found


def read_held(archive: ArchiveReader) -> Held:
    held = Held(state=Journal(archive).refresh())
    for pack in held.state.packs.values():
        rows = read_pack(archive, pack)
        columns = (rows[name].to_pylist() for name in ("file_id", "offset_start"))
        for file_id, offset, line in zip(*columns, render_rows(rows).to_pylist(), strict=True):
            held.bytes_by_file.setdefault(file_id, []).append((offset, line or b""))
    return held


def read_pack(archive: ArchiveReader, pack: AddedPack) -> pa.Table:
    ref = ObjectRef(bucket="evidence", path=pack.path, version_id=pack.version_id, size=pack.size, sha256=pack.sha256)
    stored = archive.open(ref)
    try:
        return conform(pq.read_table(pa.BufferReader(stored.read())))
    finally:
        stored.close()

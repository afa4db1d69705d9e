"""A node for collector tests: real files, a real collector in this process, a broker in memory that can fail."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from ashiato.adapters.bus import BusSettings
from ashiato.adapters.bus_memory import MemoryBroker, MemoryKeeper, MemoryWriter
from ashiato.adapters.clock import SystemClock
from ashiato.adapters.telemetry import Telemetry
from ashiato.core import frame, ledger
from ashiato.core.chunk import Chunk, ChunkFlags
from ashiato.core.errors import RefusedError, TransientError
from ashiato.core.ids import Kind, Source
from ashiato.core.ledger import Born
from ashiato.core.ports import BusWriter, Partition
from collector.service import Collector
from collector.settings import CollectorSettings

DEADLINE_S = 30.0
QUICK = {
    "poll_interval_s": 0.01, "sweep_interval_s": 0.02, "linger_s": 0.02, "beat_interval_s": 0.05,
    "idle_beat_interval_s": 0.2, "settle_s": 0.2, "drain_s": 20.0,
}  # fmt: skip


@dataclass(slots=True, kw_only=True)
class HeldFile:
    """What the bus holds of one file."""

    source: Source
    path: str
    content: bytes = b""
    closed: bool = False
    flags: int = 0
    restart_count: int = -1
    bytes_sent: int = 0


def reassemble(chunks: Iterable[Chunk]) -> dict[str, HeldFile]:
    """Trim by offset, as ingest does. A hole, or bytes that contradict what was sent before, fail."""
    files: dict[str, HeldFile] = {}
    for chunk in chunks:
        facts = chunk.file
        file = files.setdefault(
            facts.file_id,
            HeldFile(source=Source.parse(facts.source), path=facts.path, restart_count=facts.restart_count),
        )
        assert chunk.offset_start <= len(file.content), f"a hole in {facts.path}: {chunk.offset_start}"
        overlap = file.content[chunk.offset_start : chunk.offset_end]
        assert chunk.payload[: len(overlap)] == overlap, f"{facts.path} differs at {chunk.offset_start}"
        file.content += chunk.payload[len(overlap) :]
        file.bytes_sent += len(chunk.payload)
        file.flags |= chunk.flags
        file.closed |= bool(chunk.flags & ChunkFlags.FILE_CLOSED)
    return files


def chunks_of(broker: MemoryBroker) -> list[Chunk]:
    """Return everything on the bus, in the order of each partition."""
    return [chunk for logs in broker.topics.values() for log in logs for v in log.values for chunk in frame.decode(v)]


@dataclass(slots=True)
class LateClock(SystemClock):
    """A wall clock that was put back."""

    behind_ns: int = 0

    def now_unix_nano(self) -> int:
        return time.time_ns() - self.behind_ns


class FlakyWriter(MemoryWriter):
    """A bus that is away as long as ``away`` is set, forbids where it is told to, and may keep a frame in silence."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.away = False
        self.forbids = False
        self.lose_replies = 0
        self.resets = 0
        self.refused = 0

    async def send(self, partition: Partition, value: bytes) -> int:
        if self.away:
            self.refused += 1
            raise TransientError("the bus is away")
        if self.forbids:
            self.refused += 1
            raise RefusedError("the bus does not let this user write")
        position = await super().send(partition, value)
        if self.lose_replies > 0:
            self.lose_replies -= 1
            raise TransientError("the reply was lost")
        return position

    async def reset(self) -> None:
        self.resets += 1


@dataclass(slots=True, kw_only=True)
class Node:
    """One node and its bus."""

    root: Path
    broker: MemoryBroker = field(default_factory=MemoryBroker)
    log: io.StringIO = field(default_factory=io.StringIO)
    settings: Mapping[str, Any] = field(default_factory=dict)
    telemetry: Telemetry | None = None
    bulk_partitions: int = 3
    clock: LateClock = field(default_factory=LateClock)

    @property
    def logs(self) -> Path:
        return self.root / "var/log"

    @property
    def state(self) -> Path:
        return self.root / "state"

    def pod_log(self, name: str = "0.log", *, pod: str = "web", container: str = "c") -> Path:
        path = self.logs / "pods" / f"shop_{pod}_uid-{pod}" / container / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(content)

    @contextlib.asynccontextmanager
    async def collector(self, writer: BusWriter | None = None, **settings: Any) -> AsyncIterator[Collector]:
        """Run a collector for the block, then stop it cleanly."""
        await MemoryKeeper(self.broker).create_topics({"ashiato.priority": 2, "ashiato.bulk": self.bulk_partitions})
        told = {"roots": (str(self.logs),), "node": "n1", "cluster": "c1", **QUICK, **self.settings, **settings}
        self.telemetry = Telemetry("collector", stream=self.log)
        collector = Collector(
            CollectorSettings(bus=BusSettings(path="unused"), state_dir=str(self.state), **told),
            writer=writer or MemoryWriter(self.broker), clock=self.clock, telemetry=self.telemetry,
        )  # fmt: skip
        stop = asyncio.Event()
        task = asyncio.create_task(collector.run(stop))
        try:
            yield collector
        finally:
            stop.set()
            await asyncio.wait_for(task, DEADLINE_S)

    @contextlib.asynccontextmanager
    async def cut_off(self, log: Path, *, kind: Kind = Kind.CONTAINER) -> AsyncIterator[FlakyWriter]:
        """Run a collector for the block that has shipped ten lines of a log when its bus goes away."""
        writer = FlakyWriter(self.broker)
        self.write(log, lines(0, 10))
        async with self.collector(writer):
            await until(lambda: self.contents(kind) == [lines(0, 10)])
            writer.away = True
            yield writer

    def files(self, kind: Kind = Kind.CONTAINER) -> list[HeldFile]:
        """Return what the bus holds of files of a kind, in the order of their ids."""
        held = reassemble(chunks_of(self.broker))
        return [held[file_id] for file_id in sorted(held) if held[file_id].source.kind is kind]

    def contents(self, kind: Kind = Kind.CONTAINER) -> list[bytes]:
        return [file.content for file in self.files(kind)]

    def statements(self) -> list[Any]:
        """Return what the ledger's files on the node state; the chain is checked."""
        lines = [
            line for path in sorted((self.state / "ledger").glob("*.jsonl")) for line in path.read_bytes().splitlines()
        ]
        ledger.verify_chain(lines)
        return [ledger.decode(line).statement for line in lines]

    def stated(self, type_: type[Any]) -> list[Any]:
        return [statement for statement in self.statements() if isinstance(statement, type_)]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [event for line in self.log.getvalue().splitlines() if (event := json.loads(line))["event"] == name]


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, looking often, and fail at the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "not reached before the deadline"
        await asyncio.sleep(0.01)


async def until_born(node: Node, count: int) -> None:
    await until(lambda: len(node.stated(Born)) == count)


def lines(first: int, count: int, *, width: int = 40) -> bytes:
    """Return lines as a container's log has them, each of which says its number."""
    return b"".join(b"2026-11-24T10:00:00.%09dZ stdout F %0*d\n" % (n, width, n) for n in range(first, first + count))


@contextlib.contextmanager
def unreadable(log: Path) -> Iterator[set[Path]]:
    """Let every read of a log fail, for the block or until it is taken from the set."""
    really_read, broken = os.pread, {log}

    def fail(descriptor: int, length: int, offset: int) -> bytes:
        if Path(f"/proc/self/fd/{descriptor}").resolve() in broken:
            raise OSError(errno.EIO, "Input/output error")
        return really_read(descriptor, length, offset)

    with mock.patch("collector.content.os.pread", fail):
        yield broken

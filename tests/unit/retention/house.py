"""A small house for retention's tests: a real bus, a real archiver, a real directory, and a clock that tests move."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ashiato.adapters.archive import ArchiveSettings
from ashiato.adapters.archive_directory import DirectoryGovernor
from ashiato.adapters.bus import BusSettings
from ashiato.adapters.bus_memory import MemoryBroker, MemoryKeeper, MemoryReader, MemoryWriter
from ashiato.adapters.bus_sqlite import SqliteKeeper, SqliteReader, SqliteWriter
from ashiato.adapters.clock import FixedClock
from ashiato.adapters.journal import JournalWriter
from ashiato.adapters.telemetry import Telemetry
from ashiato.core import frame
from ashiato.core.chunk import Chunk, ChunkFlags, FileFacts
from ashiato.core.commit import AddedPack
from ashiato.core.events import Level
from ashiato.core.ids import TOPICS, Kind, Source, ulid
from ashiato.core.journal import JournalState
from ashiato.core.ports import ArchiveGovernor, BusKeeper, BusReader, BusWriter, Partition
from ingest.archiver import Archiver, ArchiverSettings
from retention.policy import DAY_NS, Policy, Rule
from retention.settings import RetentionSettings, policy_of
from retention.sweep import Sweep

NOON: Final = 1_795_000_000_000_000_000
"""A moment in 2026."""

POLICY: Final = Policy(
    rules={
        "container": Rule(keep_ns=10 * DAY_NS, minimum_ns=2 * DAY_NS),
        "audit": Rule(keep_ns=20 * DAY_NS, minimum_ns=20 * DAY_NS),
        "ledger": Rule(keep_ns=20 * DAY_NS, minimum_ns=20 * DAY_NS),
    },
    clock_ahead_ns_max=DAY_NS,
)


def source_of(kind: Kind) -> Source:
    if kind is Kind.CONTAINER:
        return Source(
            kind=kind, cluster="test", node="node-1", namespace="shop", pod="web", pod_uid="u-1", container="web"
        )
    return Source(kind=kind, cluster="test", node="node-1", path=f"var/log/{kind}")


def cri(text: str, at_ns: int) -> bytes:
    seconds, nanos = divmod(at_ns, 10**9)
    day, rest = divmod(seconds, 86_400)
    del day
    hours, rest = divmod(rest, 3600)
    return f"2026-11-20T{hours:02}:{rest // 60:02}:{rest % 60:02}.{nanos:09}Z stdout F {text}\n".encode()


def chunk_of(
    text: str,
    *,
    at_ns: int,
    offsets: dict[str, int],
    kind: Kind = Kind.CONTAINER,
    lines: int = 20,
    observed_ns: int | None = None,
    born_ns: int | None = None,
    name: str = "",
) -> Chunk:
    """Lines of one file, following on what ``offsets`` says was written of it."""
    source = source_of(kind)
    birth_ms = (at_ns if born_ns is None else born_ns) // 1_000_000
    seed = (name or text).encode()[:10].ljust(10, b"\0")
    facts = FileFacts(file_id=ulid(birth_ms, seed), source=str(source), path=f"/var/log/{name or text}")
    if kind is Kind.CONTAINER:
        payload = b"".join(cri(f"{text} {n}", at_ns) for n in range(lines))
    else:
        payload = b"".join(json.dumps({"text": text, "n": n}).encode() + b"\n" for n in range(lines))
    start = offsets.get(facts.file_id, 0)
    offsets[facts.file_id] = start + len(payload)
    return Chunk(
        file=facts,
        offset_start=start,
        observed_time_unix_nano=at_ns if observed_ns is None else observed_ns,
        flags=int(ChunkFlags.STARTS_AT_LINE | ChunkFlags.ENDS_AT_LINE),
        payload=payload,
    )


@dataclass(slots=True)
class House:
    """Everything over one folder. ``bus`` is ``memory`` or ``sqlite``."""

    root: Path
    bus: str = "memory"
    clock: FixedClock = field(default_factory=lambda: FixedClock(unix_nano=NOON))
    log: io.StringIO = field(default_factory=io.StringIO)
    broker: MemoryBroker = field(default_factory=MemoryBroker)
    archive: DirectoryGovernor = field(init=False)
    telemetry: Telemetry = field(init=False)
    keeper: BusKeeper = field(init=False)
    writer: BusWriter = field(init=False)
    offsets: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.archive = DirectoryGovernor(self.root / "archive")
        self.telemetry = Telemetry("retention", stream=self.log, level=Level.DEBUG)
        self.keeper = MemoryKeeper(self.broker) if self.bus == "memory" else SqliteKeeper(self.bus_path)
        self.writer = MemoryWriter(self.broker) if self.bus == "memory" else SqliteWriter(self.bus_path)

    @property
    def bus_path(self) -> str:
        return str(self.root / "bus" / "bus.sqlite")

    async def prepare(self) -> None:
        await self.keeper.create_topics(dict.fromkeys(TOPICS, 1))

    async def close(self) -> None:
        await self.keeper.close()
        await self.writer.close()

    def reader(self) -> BusReader:
        return MemoryReader(self.broker) if self.bus == "memory" else SqliteReader(self.bus_path)

    async def write(
        self,
        text: str,
        *,
        kind: Kind = Kind.CONTAINER,
        lines: int = 20,
        observed_ns: int | None = None,
        born_ns: int | None = None,
        name: str = "",
    ) -> FileFacts:
        """Put lines of one file on the bus, following on what was written of it."""
        now = self.clock.now_unix_nano()
        chunk = chunk_of(
            text, kind=kind, lines=lines, at_ns=now, observed_ns=observed_ns, born_ns=born_ns, name=name,
            offsets=self.offsets,
        )  # fmt: skip
        await self.writer.send(Partition(source_of(kind).topic, 0), frame.encode([chunk]))
        return chunk.file

    async def commit(self) -> Archiver:
        """Archive what the bus holds as one more start of a real archiver does."""
        reader = self.reader()
        scratch = self.root / "scratch"
        scratch.mkdir(exist_ok=True)
        archiver = Archiver(
            ArchiverSettings(actor="ingest", commit_raw_bytes=1 << 30, commit_age_ns=10**18, poll_wait_ns=1_000_000),
            reader=reader,
            archive=self.archive,
            clock=self.clock,
            telemetry=Telemetry("ingest", stream=self.log),
            scratch=scratch,
        )
        try:
            await archiver.drain()
        finally:
            await reader.close()
        return archiver

    async def packed(self, text: str, **how: Any) -> AddedPack:
        """Write, commit, and return the one pack that came of it."""
        before = set(self.state().packs)
        await self.write(text, **how)
        await self.commit()
        (path,) = set(self.state().packs) - before
        return self.state().packs[path]

    def state(self) -> JournalState:
        return JournalWriter(self.archive).refresh()

    def sweep(self, *, policy: Policy = POLICY, archive: ArchiveGovernor | None = None) -> Sweep:
        """A runner as a process that starts now has it."""
        on = archive or self.archive
        return Sweep(
            policy=policy,
            actor="retention",
            archive=on,
            journal=JournalWriter(on),
            clock=self.clock,
            telemetry=self.telemetry,
        )

    def stored(self) -> set[str]:
        """Every pack and manifest that lies in the store."""
        return {ref.path for ref in self.archive.list("evidence", "retention_class=")}

    def events(self, name: str) -> list[Mapping[str, Any]]:
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == name]

    def settings(self, **given: Any) -> RetentionSettings:
        settings = RetentionSettings(
            bus=BusSettings(kind="sqlite", path=self.bus_path),
            archive=ArchiveSettings(directory=str(self.root / "archive")),
            **{"priority_partitions": 1, "bulk_partitions": 1, **given},
        )
        policy_of(settings)
        return settings

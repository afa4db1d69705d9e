"""The whole line, held together for tests: the services in process with told ids, or as the processes they are."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import ashiato.demo
from ashiato.adapters import archive as archives
from ashiato.adapters import bus as buses
from ashiato.adapters.archive import ArchiveSettings
from ashiato.adapters.bus import BusSettings
from ashiato.adapters.clock import SystemClock
from ashiato.adapters.opensearch_client import OpenSearchClient
from ashiato.adapters.opensearch_settings import OpenSearchSettings
from ashiato.adapters.opensearch_writer import OpenSearchWriter
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.ids import TOPIC_BULK, TOPIC_PRIORITY
from collector.service import Collector
from collector.settings import CollectorSettings
from ingest.archiver import Archiver, ArchiverSettings
from ingest.indexer import Indexer, IndexerSettings
from ingest.tail import TailFolder
from tests.parts.stack import Stack, toml

READ_UNIX_NANO: Final = 1_795_600_000_000_000_000
"""When the told clock says that everything is read."""

WAIT_S: Final = 90.0


@dataclass(slots=True)
class ToldClock:
    """A wall clock that stands, beside a monotonic one that runs: births and readings have told times."""

    unix_nano: int = READ_UNIX_NANO

    def now_unix_nano(self) -> int:
        return self.unix_nano

    def monotonic_nano(self) -> int:
        return SystemClock().monotonic_nano()


def told_randomness(length: int) -> bytes:
    """Return the same bytes each time: ids then follow from the order of births alone."""
    return b"\x17" * length


def incident_nodes(folder: Path) -> Path:
    """Copy the recorded incident as its nodes left it, and return the folder of the nodes."""
    beside = shutil.ignore_patterns("facts.json", "expected.csv", "README.md")
    shutil.copytree(Path(ashiato.demo.__file__).parent / "incident", folder, ignore=beside)
    return folder


async def make_topics(keeper_settings: BusSettings, partitions: int = 1) -> None:
    keeper = await buses.open_keeper(keeper_settings)
    try:
        await keeper.create_topics({TOPIC_PRIORITY: partitions, TOPIC_BULK: partitions})
    finally:
        await keeper.close()


async def collect(bus: BusSettings, roots: Sequence[Path], state: Path) -> None:
    """Read everything below ``roots`` once, as a node does that is stopped as soon as it has started."""
    stop = asyncio.Event()
    settings = CollectorSettings(
        bus=bus, state_dir=str(state), cluster="told", node="told", roots=tuple(map(str, roots)), all_files=True,
        drain_s=60,
    )  # fmt: skip
    writer = await buses.open_writer(bus)
    try:
        collector = Collector(
            settings, writer=writer, clock=ToldClock(), telemetry=Telemetry("collector"), randomness=told_randomness
        )
        asyncio.get_running_loop().call_later(1.0, stop.set)
        await collector.run(stop)
    finally:
        await writer.close()


async def archive_all(
    bus: BusSettings, archive: ArchiveSettings, scratch: Path, *, tail: Path | None = None
) -> Telemetry:
    """Archive everything that the bus holds."""
    telemetry = Telemetry("ingest")
    scratch.mkdir(parents=True, exist_ok=True)
    reader = await buses.open_reader(bus)
    try:
        archiver = Archiver(
            ArchiverSettings(actor="test", commit_raw_bytes=1 << 20, commit_age_ns=10**18),
            reader=reader, archive=archives.open_writer(archive), clock=ToldClock(), telemetry=telemetry,
            scratch=scratch, tail=TailFolder(tail) if tail is not None else None,
        )  # fmt: skip
        await archiver.drain()
    finally:
        await reader.close()
    return telemetry


async def index_all(bus: BusSettings, archive: ArchiveSettings, opensearch: OpenSearchSettings) -> Telemetry:
    """Index everything that the bus holds."""
    telemetry = Telemetry("ingest")
    reader = await buses.open_reader(bus)
    writer = OpenSearchWriter(OpenSearchClient(opensearch))
    try:
        indexer = Indexer(
            IndexerSettings(), reader=reader, archive=archives.open_reader(archive), writer=writer, clock=ToldClock(),
            telemetry=telemetry,
        )  # fmt: skip
        await indexer.drain()
    finally:
        await writer.close()
        await reader.close()
    return telemetry


async def forget_index(opensearch: OpenSearchSettings) -> None:
    """Delete every index of ours."""
    client = OpenSearchClient(opensearch)
    try:
        answer = await client.ask("GET", "/_cat/indices/ashiato-*", params={"format": "json", "h": "index"})
        for line in answer.get("items", ()):
            await client.ask("DELETE", f"/{line['index']}")
    finally:
        await client.close()


ROLES: Final[Mapping[str, Sequence[str]]] = {
    "retention": ("-m", "retention"),
    "archive": ("-m", "ingest", "archive"),
    "index": ("-m", "ingest", "index"),
    "collector": ("-m", "collector"),
    "query": ("-m", "query"),
}


@dataclass(slots=True, kw_only=True)
class Services:
    """Service processes, each with settings of its own; each can be stopped, killed and started again."""

    folder: Path
    settings: Mapping[str, Path]
    token: str = ""
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, *roles: str) -> None:
        for role in roles:
            log = (self.folder / f"{role}.log").open("ab")
            with log:
                self.children[role] = subprocess.Popen(
                    [sys.executable, "-P", *ROLES[role], "--config", str(self.settings[role])],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                )  # fmt: skip

    def stop(self, *roles: str) -> None:
        for role in roles or tuple(self.children):
            child = self.children.pop(role, None)
            if child is not None and child.poll() is None:
                child.send_signal(signal.SIGTERM)
                try:
                    child.wait(30)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
                    raise

    def kill(self, role: str) -> None:
        child = self.children.pop(role)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()

    def alive(self) -> list[str]:
        return [role for role, child in self.children.items() if child.poll() is None]

    def log(self, role: str) -> str:
        return (self.folder / f"{role}.log").read_text(encoding="utf-8")

    def ask(self, path: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Return records and coverage of a question to the query service."""
        address = json.loads((self.folder / "address.json").read_bytes())["url"]
        request = urllib.request.Request(f"{address}{path}", headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            lines = [json.loads(line) for line in answer.read().splitlines()]
        return lines[:-1], lines[-1]["coverage"]


def until(true: Any, what: str, *, wait_s: float = WAIT_S) -> Any:
    """Call until it returns something true, and return that; fail with ``what`` when the time is over."""
    deadline = time.monotonic() + wait_s
    last: object = None
    while time.monotonic() < deadline:
        try:
            if found := true():
                return found
        except (OSError, ValueError, KeyError, IndexError) as error:
            last = error
        time.sleep(0.2)
    raise AssertionError(f"not within {wait_s:.0f} s: {what} ({last})")


def settings_at_scale(stack: Stack, folder: Path, nodes: Path) -> Mapping[str, Path]:
    """Write the settings of each role: the same line on Kafka, OpenSearch and S3, each with its own credentials."""
    token = folder / "token"
    token.write_text("told-token-of-a-test\n", encoding="ascii")
    token.chmod(0o600)
    ingest = {"scratch_dir": str(folder / "scratch"), "commit_age_s": 3.0, "opensearch": stack.index()}
    tables: Mapping[str, tuple[str, Mapping[str, object]]] = {
        "collector": ("collector", {
            "bus": stack.bus("collector"), "state_dir": str(folder / "state"), "cluster": "scale", "node": "n1",
            "roots": [str(nodes)], "beat_interval_s": 1.0, "sweep_interval_s": 0.4, "settle_s": 2.0,
        }),
        "archive": ("ingest", {**ingest, "bus": stack.bus("ingest"), "archive": stack.archive("ingest")}),
        "index": ("ingest", {**ingest, "bus": stack.bus("ingest"), "archive": stack.archive("index")}),
        "query": ("query", {
            "archive": stack.archive("query"), "opensearch": stack.index(), "token_file": str(token),
            "address_file": str(folder / "address.json"), "access_dir": str(folder / "access"),
        }),
        "retention": ("retention", {
            "bus": stack.bus("retention"), "archive": stack.archive("retention"), "opensearch": stack.index(),
            "opensearch_replicas": 0, "free_interval_s": 2.0, "prepare_interval_s": 5.0,
        }),
    }  # fmt: skip
    written = {}
    for role, (table, values) in tables.items():
        written[role] = folder / f"{role}.toml"
        written[role].write_text(toml({table: values}), encoding="utf-8")
    return written

"""The services as processes, embedded or on Kafka, OpenSearch and S3, with the settings that they have in use."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ashiato.adapters.archive_directory import DirectoryReader
from ashiato.adapters.data_folder import DataFolder
from ashiato.adapters.journal import Journal
from ashiato.core.ids import TOPIC_BULK
from ashiato.core.ports import Partition
from ashiato.standalone import Options, settings_document, toml
from bench.kit.processes import Measured, free_port, wait_until

if TYPE_CHECKING:
    from tests.parts.stack import Stack

BULK = Partition(TOPIC_BULK, 0)
TOKEN = "only-for-this-run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One process to start."""

    name: str
    arguments: tuple[str, ...]
    settings: str
    """TOML."""
    metrics_port: int = 0


@dataclass(slots=True, kw_only=True)
class Running:
    """Services that run; ``start`` adds one."""

    data: DataFolder
    services: Mapping[str, Service]
    processes: dict[str, Measured] = field(default_factory=dict)

    def start(self, name: str) -> Measured:
        """Start one service."""
        service = self.services[name]
        file = self.data.run / f"{name}.toml"
        file.write_text(service.settings)
        one = Measured.start(
            name, [*service.arguments, "--config", str(file)], self.data.run / f"{name}.log",
            metrics_port=service.metrics_port,
        )  # fmt: skip
        self.processes[name] = one
        return one

    def start_ready(self, name: str) -> None:
        """Start one service and wait until it says that it is ready."""
        one = self.start(name)
        wait_until(f"{name} is ready", partial(_is_ready, one), timeout_s=90, processes=self.all)

    def address(self) -> str:
        """Return the URL of the query service."""
        wait_until("query answers", self.data.address_file.exists, timeout_s=60, processes=self.all)
        return str(json.loads(self.data.address_file.read_bytes())["url"])

    @property
    def all(self) -> list[Measured]:
        """Every process."""
        return list(self.processes.values())


def embedded(data: DataFolder, root: Path) -> Mapping[str, Service]:
    """Return the four services of ``ashiato up ROOT``."""
    tables = {name: dict(table) for name, table in settings_document(data, Options(roots=(str(root),))).items()}
    ports = {name: free_port() for name in ("collector", "ingest")}
    for name, port in ports.items():
        tables[name]["metrics_port"] = port
    return {
        name: Service(name=name, arguments=(name,), settings=toml(tables), metrics_port=ports.get(name, 0))
        for name in tables
    }


def at_scale(data: DataFolder, root: Path, stack: Stack) -> Mapping[str, Service]:
    """Return the five services over a running stack, each with its own user, and the collector's usual settings."""
    from tests.parts.stack import toml as toml_of  # noqa: PLC0415 - only with --live

    tables: dict[str, dict[str, object]] = {
        "collector": {"bus": stack.bus("collector"), "state_dir": str(data.collector_state), "roots": [str(root)]},
        "archive": {
            "bus": stack.bus("ingest"), "archive": stack.archive("ingest"), "scratch_dir": str(data.scratch),
        },
        "index": {
            "bus": stack.bus("ingest"), "archive": stack.archive("index"), "opensearch": stack.index(),
            "scratch_dir": str(data.scratch),
        },
        "query": {
            "archive": stack.archive("query"), "opensearch": stack.index(), "token_file": str(data.token_file),
            "address_file": str(data.address_file), "access_dir": str(data.access),
        },
        "retention": {
            "bus": stack.bus("retention"), "archive": stack.archive("retention"), "opensearch": stack.index(),
            "opensearch_replicas": 0,
        },
    }  # fmt: skip
    arguments = {"archive": ("ingest", "archive"), "index": ("ingest", "index")}
    return {
        name: Service(
            name=name,
            arguments=arguments.get(name, (name,)),
            settings=toml_of({arguments.get(name, (name,))[0]: table}),
        )
        for name, table in tables.items()
    }


def reached(data: DataFolder, journal: Journal) -> int:
    """Return the bus position up to which rows are committed or in the tail."""
    ends = [int(path.stem.rpartition("-")[2]) for path in data.tail.glob(f"{BULK.topic}-{BULK.number}-*.arrow")]
    txn = journal.refresh().positions.get(BULK)
    return max([*ends, txn.next if txn is not None else 0])


def journal_of(data: DataFolder) -> Journal:
    """Return the journal as it stands."""
    journal = Journal(DirectoryReader(data.archive))
    journal.refresh()
    return journal


@contextmanager
def running(data: DataFolder, services: Mapping[str, Service]) -> Iterator[Running]:
    """Yield a place to start services in; those that still run at the end are killed."""
    for folder in (data.run, data.scratch, data.tail, data.access):
        folder.mkdir(parents=True)
    data.token_file.write_text(f"{TOKEN}\n")
    data.token_file.chmod(0o600)
    place = Running(data=data, services=services)
    try:
        yield place
    finally:
        for one in place.all:
            one.kill()


def _is_ready(one: Measured) -> bool:
    return b"service_started" in one.log.read_bytes()

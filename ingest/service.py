"""The two consumers as processes: waits for parts that are not there yet, stops in order when it is asked to."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from ashiato import __version__
from ashiato.adapters import archive, bus, files
from ashiato.adapters.clock import SystemClock
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.errors import AshiatoError, SettingsError, TransientError
from ashiato.core.events import PartUnavailable, ServiceStarted, ServiceStopped
from ashiato.core.ports import BusReader
from ingest import leftovers
from ingest.archiver import Archiver, ArchiverSettings
from ingest.fsck import Fsck
from ingest.inventory_events import InventoryStopped
from ingest.reparse import reparse
from ingest.settings import IngestSettings
from ingest.sidecars import rebuild
from ingest.tail import TailFolder

if TYPE_CHECKING:
    from ingest.inventory import InventoryKeeper

_RETRY_S_MAX: Final = 5.0


async def run_archive(settings: IngestSettings, telemetry: Telemetry, stop: asyncio.Event) -> None:
    """Archive until ``stop`` is set."""
    reader = await _reader(settings, telemetry, stop)
    if reader is None:
        return
    beside = asyncio.create_task(_keep_inventory(settings, telemetry, stop)) if settings.keeps_inventory else None
    try:
        await _archiver(settings, telemetry, reader).run(stop)
    finally:
        stop.set()
        if beside is not None:
            await beside
        await reader.close()


async def run_inventory(settings: IngestSettings, telemetry: Telemetry, stop: asyncio.Event) -> None:
    """Keep the pod inventory until ``stop`` is set.

    Raises:
        EvidenceError: the journal has a hole, or cannot be read.

    """
    keeper = _keeper(settings, telemetry)
    telemetry.emit(ServiceStarted(version=__version__, detail="inventory"))
    await keeper.run(stop)
    telemetry.emit(ServiceStopped(reason="asked to"))


def make_inventory(settings: IngestSettings, telemetry: Telemetry, *, again: bool) -> bytes:
    """Take in what is archived now, and return what that is as a line of JSON.

    Raises:
        TransientError: the archive does not answer.
        EvidenceError: the journal has a hole, or cannot be read.

    """
    keeper = _keeper(settings, telemetry)
    keeper.open(again=again)
    keeper.step()
    root = keeper.root
    told = {"commits": root.next_commit, "objects": root.objects, "gaps": len(root.gaps)} if root is not None else {}
    return msgspec.json.encode(told)


async def _keep_inventory(settings: IngestSettings, telemetry: Telemetry, stop: asyncio.Event) -> None:
    """Keep the pod inventory beside the archiver, which it must not stop: answers say how old it is."""
    try:
        await _keeper(settings, telemetry).run(stop)
    except AshiatoError as error:
        telemetry.emit(InventoryStopped(error=str(error)))


def _keeper(settings: IngestSettings, telemetry: Telemetry) -> InventoryKeeper:
    from ingest.inventory import InventoryKeeper  # noqa: PLC0415 - an archiver that keeps none needs it not

    return InventoryKeeper(archive.open_writer(settings.archive), telemetry=telemetry)


async def drain_archive(settings: IngestSettings, telemetry: Telemetry) -> Mapping[str, int]:
    """Archive what the bus holds now, and return what that was.

    Raises:
        TransientError: the bus does not answer at all.

    """
    reader = await bus.open_reader(settings.bus)
    try:
        await _archiver(settings, telemetry, reader).drain()
    finally:
        await reader.close()
    told = {
        "rows": "archived_rows_total",
        "raw_bytes": "archived_raw_bytes_total",
        "quarantined_rows": "quarantined_rows_total",
        "commits": "commits_total",
    }
    counts = {name: int(telemetry.value(metric)) for name, metric in told.items()}
    forks = sum(telemetry.value("files_forked_total", reason=reason) for reason in ("differs", "cannot_compare"))
    return {**counts, "forks": int(forks)}


def reparse_archive(settings: IngestSettings, *, write: bool) -> bytes:
    """Parse what is in quarantine again, and return the report as a line of JSON."""
    return reparse(archive.open_writer(settings.archive), write=write).as_json()


def rebuild_sidecars(settings: IngestSettings, *, again: bool) -> bytes:
    """Make sidecars again, and return what that was as a line of JSON."""
    return msgspec.json.encode(rebuild(archive.open_writer(settings.archive), again=again))


def run_fsck(settings: IngestSettings, *, full: bool, as_json: bool) -> int:
    """Print what an archive has wrong; return 0 where it is clean, and there is something that it proves.

    Raises:
        TransientError: the archive does not answer; nothing was proved.
        NotHeldError: there is no archive.

    """
    reader = archive.open_reader(settings.archive)
    reader.check()
    run = Fsck(reader, full=full)
    for finding in run.run():
        _print(msgspec.json.encode(finding) if as_json else finding.line().encode())
    report = run.report
    _print(msgspec.json.encode(report) if as_json else report.line().encode())
    return 0 if report.clean else 1


def _print(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


async def run_index(settings: IngestSettings, telemetry: Telemetry, stop: asyncio.Event) -> None:
    """Index until ``stop`` is set.

    Raises:
        SettingsError: OpenSearch is not named.

    """
    from ashiato.adapters.opensearch_client import OpenSearchClient  # noqa: PLC0415 - only this role needs the driver
    from ashiato.adapters.opensearch_writer import OpenSearchWriter  # noqa: PLC0415 - the same
    from ingest.indexer import Indexer, IndexerSettings  # noqa: PLC0415 - the same

    if settings.opensearch is None:
        raise SettingsError("the index role needs the table [ingest.opensearch] with its urls")
    reader = await _reader(settings, telemetry, stop)
    if reader is None:
        return
    writer = OpenSearchWriter(OpenSearchClient(settings.opensearch))
    try:
        indexer = Indexer(
            IndexerSettings(),
            reader=reader,
            archive=archive.open_reader(settings.archive),
            writer=writer,
            clock=SystemClock(),
            telemetry=telemetry,
        )
        telemetry.emit(ServiceStarted(version=__version__, detail="index"))
        await indexer.run(stop)
    finally:
        await writer.close()
        await reader.close()
    telemetry.emit(ServiceStopped(reason="asked to"))


async def _reader(settings: IngestSettings, telemetry: Telemetry, stop: asyncio.Event) -> BusReader | None:
    """Ask until the bus is there; None where it is time to stop first."""
    wait_s = 0.2
    while not stop.is_set():
        try:
            return await bus.open_reader(settings.bus)
        except TransientError as error:
            telemetry.emit(PartUnavailable(part="bus", error=str(error), retry_in_ms=int(wait_s * 1000)))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), wait_s)
        wait_s = min(wait_s * 2, _RETRY_S_MAX)
    return None


def _archiver(settings: IngestSettings, telemetry: Telemetry, reader: BusReader) -> Archiver:
    scratch = Path(settings.scratch_dir)
    files.make_folder(scratch)
    leftovers.sweep(scratch)
    return Archiver(
        ArchiverSettings(
            actor=settings.actor,
            commit_raw_bytes=settings.commit_raw_bytes,
            commit_age_ns=int(settings.commit_age_s * 1e9),
            stop_grace_s=settings.stop_grace_s,
        ),
        reader=reader,
        archive=archive.open_writer(settings.archive),
        clock=SystemClock(),
        telemetry=telemetry,
        scratch=scratch,
        tail=TailFolder(Path(settings.tail_dir)) if settings.tail_dir else None,
    )

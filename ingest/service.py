"""The two consumers as processes: waits for parts that are not there yet, stops in order when it is asked to."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from ashiato import __version__
from ashiato.adapters import archive, bus, files
from ashiato.adapters.clock import SystemClock
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.errors import SettingsError
from ashiato.core.events import ServiceStarted, ServiceStopped
from ingest import leftovers
from ingest.archiver import Archiver, ArchiverSettings
from ingest.settings import IngestSettings
from ingest.tail import TailFolder


async def run_archive(settings: IngestSettings, telemetry: Telemetry, stop: asyncio.Event) -> None:
    """Archive until ``stop`` is set."""
    async with _Opened(settings, telemetry) as archiver:
        await archiver.run(stop)


async def drain_archive(settings: IngestSettings, telemetry: Telemetry) -> Mapping[str, int]:
    """Archive what the bus holds now, and return what that was."""
    async with _Opened(settings, telemetry) as archiver:
        await archiver.drain()
    told = {
        "rows": "archived_rows_total",
        "raw_bytes": "archived_raw_bytes_total",
        "quarantined_rows": "quarantined_rows_total",
        "commits": "commits_total",
    }
    counts = {name: int(telemetry.value(metric)) for name, metric in told.items()}
    forks = sum(telemetry.value("files_forked_total", reason=reason) for reason in ("differs", "cannot_compare"))
    return {**counts, "forks": int(forks)}


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
    reader = await bus.open_reader(settings.bus)
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


class _Opened:
    """An archiver with the parts that its settings name."""

    def __init__(self, settings: IngestSettings, telemetry: Telemetry) -> None:
        self._settings = settings
        self._telemetry = telemetry

    async def __aenter__(self) -> Archiver:
        settings = self._settings
        scratch = Path(settings.scratch_dir)
        files.make_folder(scratch)
        leftovers.sweep(scratch)
        self._reader = await bus.open_reader(settings.bus)
        return Archiver(
            ArchiverSettings(
                actor=settings.actor,
                commit_raw_bytes=settings.commit_raw_bytes,
                commit_age_ns=int(settings.commit_age_s * 1e9),
                stop_grace_s=settings.stop_grace_s,
            ),
            reader=self._reader,
            archive=archive.open_writer(settings.archive),
            clock=SystemClock(),
            telemetry=self._telemetry,
            scratch=scratch,
            tail=TailFolder(Path(settings.tail_dir)) if settings.tail_dir else None,
        )

    async def __aexit__(self, *_: object) -> None:
        await self._reader.close()

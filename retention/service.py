"""The keeper: expiry, the disk budget, daily indices and freeing the bus, each as a job of its own.

Connections are opened by the first job that needs them, so that retention starts, and says what it waits for, while
Kafka or OpenSearch is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ashiato import __version__
from ashiato.adapters import bus as buses
from ashiato.adapters.archive import open_governor
from ashiato.adapters.archive_directory import DirectoryGovernor
from ashiato.adapters.journal import JournalWriter
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.events import ServiceStarted, ServiceStopped
from ashiato.core.ports import ArchiveGovernor, BusKeeper, BusReader, Clock, IndexKeeper
from retention.freeing import Freeing
from retention.policy import DAY_NS
from retention.prepare import Prepare, topics_of
from retention.schedule import Job, Schedule
from retention.settings import RetentionSettings, policy_of
from retention.steady import Steady
from retention.sweep import Sweep

UNFINISHED_NS: Final = DAY_NS
"""No writer is at one object for so long."""


@dataclass(slots=True, kw_only=True)
class Retention:
    """One process. ``run`` returns when ``stop`` was set."""

    settings: RetentionSettings
    clock: Clock
    telemetry: Telemetry
    _archive: ArchiveGovernor = field(init=False)
    _journal: JournalWriter = field(init=False)
    _sweep: Sweep = field(init=False)
    _keeper: BusKeeper | None = None
    _reader: BusReader | None = None
    _index: IndexKeeper | None = field(init=False)
    _steady: Steady = field(init=False)
    _prepare: Prepare | None = None
    _freeing: Freeing | None = None

    def __post_init__(self) -> None:
        self._archive = open_governor(self.settings.archive)
        self._journal = JournalWriter(self._archive)
        self._sweep = Sweep(
            policy=policy_of(self.settings),
            actor=self.settings.actor,
            archive=self._archive,
            journal=self._journal,
            clock=self.clock,
            telemetry=self.telemetry,
        )
        self._steady = Steady(clock=self.clock, telemetry=self.telemetry)
        self._index = _open_index(self.settings)

    async def run(self, stop: asyncio.Event) -> None:
        """Do every job at its interval until ``stop`` is set.

        Raises:
            Exception: our own bug in a job.

        """
        schedule = Schedule(self.jobs(), clock=self.clock, telemetry=self.telemetry)
        self.telemetry.emit(ServiceStarted(version=__version__, detail=f"policy {self._sweep.policy.text}"))
        try:
            await schedule.run(stop)
        finally:
            await self.close()
        self.telemetry.emit(ServiceStopped(reason="asked to"))

    def jobs(self) -> list[Job]:
        """Return the jobs, in the order of their first run."""
        settings = self.settings
        jobs = [
            Job(name="prepare", run=self.prepare, interval_s=settings.prepare_interval_s),
            Job(name="free", run=self.free, interval_s=settings.free_interval_s),
            Job(name="expire", run=self.expire, interval_s=settings.expire_interval_s),
        ]
        if settings.disk_budget_bytes:
            jobs.append(Job(name="budget", run=self.keep_budget, interval_s=settings.budget_interval_s))
        return jobs

    async def prepare(self) -> None:
        """Make the journal's first commit, topics and daily indices; drop old indices."""
        if self._prepare is None:
            keeper, reader = await self._bus()
            self._prepare = Prepare(
                keeper=keeper,
                reader=reader,
                index=self._index,
                topics=topics_of(
                    priority_partitions=self.settings.priority_partitions,
                    bulk_partitions=self.settings.bulk_partitions,
                ),
                hot_days=self.settings.hot_days,
                days_ahead=self.settings.prepare_days_ahead,
                clock=self.clock,
                telemetry=self.telemetry,
            )
        await asyncio.to_thread(
            self._journal.ensure_created, actor=self.settings.actor, time_unix_nano=self.clock.now_unix_nano()
        )
        await self._prepare.prepare(self._journal.state)

    async def free(self) -> None:
        """Let the bus forget what the archive has."""
        if self._freeing is None:
            keeper, reader = await self._bus()
            self._freeing = Freeing(keeper=keeper, reader=reader, archive=self._archive, telemetry=self.telemetry)
        await self._freeing.free(await self._journal.refresh_async())

    async def expire(self) -> None:
        """Remove and delete packs whose time is over, and what killed writers left in a folder."""
        if not await self._believes_clock():
            return
        await asyncio.to_thread(self._sweep.expire)
        if isinstance(self._archive, DirectoryGovernor):
            before = self.clock.now_unix_nano() - UNFINISHED_NS
            await asyncio.to_thread(self._archive.clean_unfinished, older_than_unix_nano=before)

    async def keep_budget(self) -> None:
        """Make room where archive and bus take more of the disk than they may."""
        if await self._believes_clock():
            await asyncio.to_thread(self._keep_budget)

    async def close(self) -> None:
        """Let go of all connections."""
        for part in (self._keeper, self._reader, self._index):
            if part is not None:
                await part.close()

    async def _believes_clock(self) -> bool:
        state = await self._journal.refresh_async()
        return self._steady.believes(pack.commit_time_unix_nano for pack in state.packs.values())

    def _keep_budget(self) -> None:
        folders = [Path(self.settings.archive.directory)] if self.settings.archive.directory else []
        if self.settings.bus.kind == "sqlite":
            folders.append(Path(self.settings.bus.path).parent)
        self._sweep.keep_budget(used_bytes=disk_bytes(folders), budget_bytes=self.settings.disk_budget_bytes)

    async def _bus(self) -> tuple[BusKeeper, BusReader]:
        if self._keeper is None:
            self._keeper = await buses.open_keeper(self.settings.bus)
        if self._reader is None:
            self._reader = await buses.open_reader(self.settings.bus)
        return self._keeper, self._reader


def _open_index(settings: RetentionSettings) -> IndexKeeper | None:
    if settings.opensearch is None:
        return None
    # Only those with a hot index load what reads and writes it.
    from ashiato.adapters.opensearch_client import OpenSearchClient  # noqa: PLC0415
    from ashiato.adapters.opensearch_keeper import OpenSearchKeeper  # noqa: PLC0415

    return OpenSearchKeeper(OpenSearchClient(settings.opensearch), replicas=settings.opensearch_replicas)


def disk_bytes(folders: Iterable[Path]) -> int:
    """Return what the files below ``folders`` take of the disk; a file that goes meanwhile takes nothing."""
    total = 0
    waiting = [os.fspath(folder) for folder in folders]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except FileNotFoundError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            else:
                with contextlib.suppress(FileNotFoundError):
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total

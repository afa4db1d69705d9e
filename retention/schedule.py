"""Jobs on a schedule: each runs once at the start and then at its interval, never two at a time.

What a job could not do because a part is away, it does at its next time. A job that broke an invariant is stopped and
counted: it must not go on deleting. The rest goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from apscheduler.events import EVENT_JOB_MAX_INSTANCES
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from ashiato.adapters.telemetry import Telemetry
from ashiato.core.errors import AshiatoError, SettingsError, TransientError
from ashiato.core.events import PartUnavailable
from ashiato.core.invariants import InvariantError
from ashiato.core.ports import Clock
from retention.events import JobFailed, JobLate, JobRan, JobStopped

_DRAIN_S: Final = 10.0

# The scheduler logs beside our events, and a job that it would report has reported itself.
logging.getLogger("apscheduler").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One thing done again and again."""

    name: str
    run: Callable[[], Awaitable[None]]
    interval_s: float


class Schedule:
    """Runs jobs until it is stopped. They take turns, because they share the journal's fold."""

    def __init__(self, jobs: list[Job], *, clock: Clock, telemetry: Telemetry) -> None:
        self._jobs = jobs
        self._clock = clock
        self._telemetry = telemetry
        self._turn = asyncio.Lock()
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.stopped: set[str] = set()
        """Jobs that an invariant has stopped."""

    async def run(self, stop: asyncio.Event) -> None:
        """Run the jobs until ``stop`` is set.

        Raises:
            SettingsError: a job found that the settings cannot work.
            Exception: our own bug in a job; everything is stopped.

        """
        now = datetime.fromtimestamp(self._clock.now_unix_nano() / 1e9, UTC)
        for job in self._jobs:
            self._scheduler.add_job(
                self._run_job, IntervalTrigger(seconds=job.interval_s, timezone=UTC), args=(job,), id=job.name,
                next_run_time=now, coalesce=True, max_instances=1, misfire_grace_time=None,
            )  # fmt: skip
        self._scheduler.add_listener(self._late, EVENT_JOB_MAX_INSTANCES)
        self._scheduler.start()
        asked = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((asked, self._failed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            await self._shut_down()
        if self._failed.done():
            self._failed.result()

    async def run_once(self, job: Job) -> None:
        """Run one job in its turn, and say what became of it; settings that cannot work and our own bugs are raised."""
        if job.name in self.stopped:
            return
        async with self._turn:
            began = self._clock.monotonic_nano()
            try:
                await job.run()
            except TransientError as error:
                self._telemetry.emit(
                    PartUnavailable(
                        part=str(error.facts.get("part", job.name)),
                        error=str(error),
                        retry_in_ms=int(job.interval_s * 1000),
                    )
                )
            except InvariantError as error:
                self.stopped.add(job.name)
                self._telemetry.refused(error)
                self._telemetry.emit(JobStopped(job=job.name, error=str(error)))
            except SettingsError:
                raise
            except AshiatoError as error:
                self._telemetry.emit(JobFailed(job=job.name, code=error.code, error=str(error)))
            else:
                took_ms = (self._clock.monotonic_nano() - began) // 1_000_000
                self._telemetry.emit(JobRan(job=job.name, took_ms=took_ms))

    async def _run_job(self, job: Job) -> None:
        try:
            await self.run_once(job)
        except Exception as error:  # noqa: BLE001 - the service loop: it is counted, and the service stops
            code = error.code if isinstance(error, AshiatoError) else "bug"
            self._telemetry.emit(JobFailed(job=job.name, code=code, error=repr(error)))
            if not self._failed.done():
                self._failed.set_exception(error)
        if job.name in self.stopped and self._scheduler.get_job(job.name) is not None:
            self._scheduler.remove_job(job.name)

    def _late(self, event: Any) -> None:
        self._telemetry.emit(JobLate(job=str(event.job_id)))

    async def _shut_down(self) -> None:
        """Let the job that runs come to its end; a crash in its middle would be as safe, only less tidy."""
        self._scheduler.pause()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._turn.acquire(), _DRAIN_S)
        self._scheduler.shutdown(wait=False)

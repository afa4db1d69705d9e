"""Jobs run at the start and again; what fails is said, and what broke an invariant runs no more."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ashiato.adapters.clock import SystemClock
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.errors import AshiatoError, EvidenceError, SettingsError, TransientError
from ashiato.core.events import Level
from ashiato.core.invariants import R2, check
from retention.schedule import Job, Schedule


class Watched:
    """A schedule and what it said."""

    def __init__(self, *runs: Callable[[], Awaitable[None]], interval_s: float = 0.01) -> None:
        self.log = io.StringIO()
        self.telemetry = Telemetry("retention", stream=self.log, level=Level.DEBUG)
        jobs = [Job(name=f"job{n}", run=run, interval_s=interval_s) for n, run in enumerate(runs)]
        self.schedule = Schedule(jobs, clock=SystemClock(), telemetry=self.telemetry)
        self.stop = asyncio.Event()

    async def run(self) -> None:
        await asyncio.wait_for(self.schedule.run(self.stop), 20)

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in map(json.loads, self.log.getvalue().splitlines()) if line["event"] == name]


async def test_each_job_runs_at_the_start_and_again_at_its_interval() -> None:
    runs = 0

    async def count() -> None:
        nonlocal runs
        runs += 1
        if runs == 3:
            watched.stop.set()

    watched = Watched(count)
    await watched.run()

    assert runs >= 3
    assert watched.telemetry.value("job_runs_total", job="job0") == runs


async def test_jobs_never_run_beside_each_other() -> None:
    running, most, runs = 0, 0, 0

    async def work() -> None:
        nonlocal running, most, runs
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        await asyncio.to_thread(lambda: None)
        running -= 1
        runs += 1
        if runs >= 10:
            watched.stop.set()

    watched = Watched(work, work, work)
    await watched.run()

    assert most == 1


@pytest.mark.parametrize(
    ("error", "event"),
    [(TransientError("away", part="bus"), "part_unavailable"), (EvidenceError("differs"), "job_failed")],
)
async def test_a_job_that_fails_is_said_and_runs_again(error: AshiatoError, event: str) -> None:
    runs = 0

    async def fail() -> None:
        nonlocal runs
        runs += 1
        if runs == 3:
            watched.stop.set()
        raise error

    watched = Watched(fail)
    await watched.run()

    assert len(watched.events(event)) == runs >= 3
    assert watched.schedule.stopped == set()


async def test_a_job_that_breaks_an_invariant_stops_and_the_others_go_on() -> None:
    broken = others = 0

    async def breaks() -> None:
        nonlocal broken
        broken += 1
        check(R2, condition=False)

    async def other() -> None:
        nonlocal others
        others += 1
        if others >= 5:
            watched.stop.set()

    watched = Watched(breaks, other)
    await watched.run()

    assert broken == 1
    assert watched.telemetry.value("invariant_refused_total", number="R2") == 1
    assert watched.telemetry.value("jobs_stopped_total", job="job0") == 1


@pytest.mark.parametrize(
    ("error", "code"), [(ZeroDivisionError("a bug"), "bug"), (SettingsError("cannot work"), "settings")]
)
async def test_a_bug_or_settings_that_cannot_work_end_the_service(error: Exception, code: str) -> None:
    async def fail() -> None:
        raise error

    watched = Watched(fail)
    with pytest.raises(type(error)):
        await watched.run()

    assert [event["code"] for event in watched.events("job_failed")] == [code]


async def test_stopping_waits_for_the_job_that_runs() -> None:
    begun, ended = asyncio.Event(), False

    async def slow() -> None:
        nonlocal ended
        begun.set()
        await watched.stop.wait()
        await asyncio.to_thread(lambda: None)
        ended = True

    watched = Watched(slow)
    running = asyncio.create_task(watched.run())
    await begun.wait()
    watched.stop.set()
    await running

    assert ended

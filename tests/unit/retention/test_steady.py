"""A clock that leaps ahead makes nothing old."""

from __future__ import annotations

import io
from pathlib import Path

from ashiato.adapters.clock import FixedClock
from ashiato.adapters.telemetry import Telemetry
from retention.policy import DAY_NS
from retention.service import Retention
from retention.steady import DOUBT_NS, JUMP_NS, Steady
from tests.unit.retention.house import NOON, House

HOUR_NS = 3_600_000_000_000


def steady(clock: FixedClock) -> Steady:
    return Steady(clock=clock, telemetry=Telemetry("retention", stream=io.StringIO()))


def test_a_clock_that_runs_on_is_believed() -> None:
    clock = FixedClock(unix_nano=NOON)
    judge = steady(clock)

    assert judge.believes([NOON - 2 * HOUR_NS])
    clock.advance(40 * DAY_NS)
    assert judge.believes([NOON - 2 * HOUR_NS])


def test_a_leap_ahead_is_doubted_for_an_hour_and_then_believed() -> None:
    clock = FixedClock(unix_nano=NOON)
    judge = steady(clock)
    assert judge.believes([NOON - 2 * HOUR_NS])

    clock.unix_nano += JUMP_NS + 1

    assert not judge.believes([])
    clock.advance(DOUBT_NS - 1)
    assert not judge.believes([])
    clock.advance(1)
    assert judge.believes([])


def test_a_clock_that_is_set_back_and_leaps_again_is_doubted() -> None:
    clock = FixedClock(unix_nano=NOON)
    judge = steady(clock)
    assert judge.believes([])

    clock.unix_nano -= 3650 * DAY_NS
    assert judge.believes([])
    clock.unix_nano += 3650 * DAY_NS
    assert not judge.believes([])


def test_a_start_long_after_the_newest_commit_is_doubted() -> None:
    assert not steady(FixedClock(unix_nano=NOON)).believes([NOON - 400 * DAY_NS])
    assert steady(FixedClock(unix_nano=NOON)).believes([NOON - 400 * DAY_NS, NOON - DAY_NS])
    assert steady(FixedClock(unix_nano=NOON)).believes([])


def test_commits_since_the_leap_vouch_for_nothing() -> None:
    assert not steady(FixedClock(unix_nano=NOON)).believes([NOON - 400 * DAY_NS, NOON - HOUR_NS // 2])


async def test_nothing_expires_because_a_clock_leapt(tmp_path: Path) -> None:
    house = House(tmp_path, bus="sqlite")
    await house.prepare()
    pack = await house.packed("just written")
    retention = Retention(settings=house.settings(disk_budget_bytes=1), clock=house.clock, telemetry=house.telemetry)
    await retention.expire()

    house.clock.unix_nano += 400 * DAY_NS
    await retention.expire()
    await retention.keep_budget()
    assert set(house.state().packs) == {pack.path}
    assert [event["ahead_s"] for event in house.events("clock_doubted")] == [400 * 86_400]

    house.clock.unix_nano -= 400 * DAY_NS
    house.clock.advance(2 * HOUR_NS)
    await retention.expire()
    await retention.keep_budget()
    assert set(house.state().packs) == {pack.path}

    house.clock.advance(400 * DAY_NS)
    await retention.expire()
    assert house.state().packs == {}
    await retention.close()
    await house.close()

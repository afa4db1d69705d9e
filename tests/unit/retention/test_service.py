"""The whole service as a process, over a SQLite bus and a directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ashiato.adapters import files
from ashiato.adapters.clock import SystemClock
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.ids import TOPIC_BULK
from ashiato.core.ports import Partition
from retention.policy import DAY_NS
from retention.service import UNFINISHED_NS, Retention, disk_bytes
from tests.unit.retention.house import House

DEADLINE_S = 30


def config(house: House, tmp_path: Path, **given: object) -> Path:
    lines = [
        "[retention]",
        f'bus = {{ kind = "sqlite", path = {json.dumps(house.bus_path)} }}',
        f"archive = {{ directory = {json.dumps(str(tmp_path / 'archive'))} }}",
        "priority_partitions = 1",
        "bulk_partitions = 1",
        "free_interval_s = 0.1",
        "expire_interval_s = 0.1",
        "budget_interval_s = 0.1",
        *(f"{name} = {value}" for name, value in given.items()),
    ]
    file = tmp_path / "settings.toml"
    file.write_text("\n".join(lines))
    return file


def start(file: Path, *command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "retention", *command, "--config", str(file)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def end(process: subprocess.Popen[bytes]) -> list[dict[str, object]]:
    """Ask the process to end and return what it logged."""
    process.send_signal(signal.SIGTERM)
    _, words = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, words.decode()
    return [json.loads(line) for line in words.splitlines()]


async def test_prepare_makes_topics_and_journal_and_exits(tmp_path: Path) -> None:
    house = House(tmp_path, bus="sqlite")
    process = start(config(house, tmp_path), "prepare")
    _, words = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == 0, words.decode()
    assert await house.keeper.bounds(Partition(TOPIC_BULK, 0)) == (0, 0)
    assert house.state().next_n == 1
    await house.close()


async def test_a_running_process_expires_frees_and_ends_cleanly(tmp_path: Path) -> None:
    house = House(tmp_path, bus="sqlite")
    await house.prepare()
    now = SystemClock().now_unix_nano()
    house.clock.unix_nano = now - 40 * DAY_NS
    for n in range(4):
        await house.write(f"old {n}", name="file")
    await house.commit()
    house.clock.unix_nano = now - DAY_NS // 2
    young = await house.packed("young", name="file")
    await house.write("not committed", name="file")

    process = start(config(house, tmp_path, keep_days="{ container = 30 }"))
    try:
        wait_for(lambda: house.stored() == {young.path, young.manifest_path})
        while (await house.keeper.bounds(Partition(TOPIC_BULK, 0)))[0] != 4:
            assert process.poll() is None
    finally:
        words = end(process)

    assert await house.keeper.bounds(Partition(TOPIC_BULK, 0)) == (4, 6)
    assert set(house.state().packs) == {young.path}
    assert [word["event"] for word in words if word["event"] in ("service_started", "service_stopped")] == [
        "service_started",
        "service_stopped",
    ]
    assert all(word["level"] in ("info", "debug") for word in words), words
    await house.close()


async def test_a_process_over_budget_says_so_and_keeps_what_is_young(tmp_path: Path) -> None:
    house = House(tmp_path, bus="sqlite")
    await house.prepare()
    house.clock.unix_nano = SystemClock().now_unix_nano()
    pack = await house.packed("young")
    process = start(config(house, tmp_path, disk_budget_bytes=1))
    assert process.stderr is not None
    try:
        words = b""
        while b"budget_exceeded" not in words:
            words = process.stderr.readline()
            assert words, "the process ended"
    finally:
        end(process)

    assert set(house.state().packs) == {pack.path}
    await house.close()


def test_settings_that_cannot_work_exit_with_2(tmp_path: Path) -> None:
    house = House(tmp_path, bus="sqlite")
    process = start(config(house, tmp_path, keep_days="{ odd = 3 }"))
    _, words = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == 2
    assert b"odd" in words


async def test_the_budget_is_measured_over_archive_and_bus(tmp_path: Path) -> None:
    house = House(tmp_path, bus="sqlite")
    await house.prepare()
    house.clock.unix_nano = SystemClock().now_unix_nano() - 5 * DAY_NS
    await house.packed("old enough")
    house.clock.unix_nano = SystemClock().now_unix_nano() - DAY_NS // 2
    young = await house.packed("young")
    retention = Retention(
        settings=house.settings(disk_budget_bytes=4096), clock=SystemClock(), telemetry=house.telemetry
    )

    await retention.keep_budget()
    await retention.close()

    assert house.telemetry.value("disk_used_bytes") >= 4096 * 3
    assert set(house.state().packs) == {young.path}
    await house.close()


def test_disk_bytes_counts_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(os.urandom(100_000))
    (tmp_path / "link").symlink_to(tmp_path / "a")

    assert 100_000 <= disk_bytes([tmp_path / "a"]) < 200_000
    assert disk_bytes([tmp_path / "gone"]) == 0


@pytest.mark.parametrize("budget", [0, 1])
async def test_the_budget_is_a_job_only_where_there_is_one(tmp_path: Path, budget: int) -> None:
    house = House(tmp_path, bus="sqlite")
    retention = Retention(
        settings=house.settings(disk_budget_bytes=budget), clock=SystemClock(), telemetry=Telemetry("retention")
    )

    assert ("budget" in [job.name for job in retention.jobs()]) is bool(budget)
    await retention.close()
    await house.close()


async def test_what_a_killed_writer_left_in_the_folder_goes_once_nobody_can_be_at_it(tmp_path: Path) -> None:
    house = House(tmp_path, bus="sqlite")
    await house.prepare()
    await house.packed("one")
    now = house.clock.now_unix_nano()
    old, new = (
        tmp_path / "archive" / "evidence" / f"{files.TEMPORARY_PREFIX}{name}" for name in ("0011223344556677", "8899")
    )
    for left, age_ns in ((old, UNFINISHED_NS + 1), (new, UNFINISHED_NS)):
        left.write_bytes(b"half a pack")
        os.utime(left, ns=(now - age_ns, now - age_ns))
    retention = Retention(settings=house.settings(), clock=house.clock, telemetry=house.telemetry)

    await retention.expire()

    assert (old.exists(), new.exists()) == (False, True)
    await retention.close()
    await house.close()

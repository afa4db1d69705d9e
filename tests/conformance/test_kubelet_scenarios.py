"""Scenarios of rotation: what kubelet and the runtimes do to a log while a collector is there, slow, or away.

Sizes and rates are a hundredth of a node's (a log rotates at 100 KiB), times are a node's own.
"""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest

from ashiato.core.ledger import Born
from tests.conformance.kubelet import Conmon, Container, Kubelet, summer_time_ends
from tests.conformance.site import IS_LONG, Site

KIB = 1024
SIZE = 100 * KIB
WIDTH = 1000
"""Of one line."""
TOO_SHORT = pytest.mark.xfail(strict=True, reason="what is gone when the early sweep begins is neither read nor named")


async def write(container: Container, bytes_per_s: float, *, tick_s: float = 0.5) -> None:
    """Write at a rate as long as the container runs."""
    while container.running:
        container.say(max(1, int(bytes_per_s * tick_s / WIDTH)), width=WIDTH)
        container.say(1, "stderr")
        await asyncio.sleep(tick_s)


def kubelet_of(site: Site, **more: object) -> Kubelet:
    kubelet = Kubelet(truth=site.truth, max_bytes=SIZE, gzip_bytes_per_s=1024 * KIB)
    for name, value in more.items():
        setattr(kubelet, name, value)
    site.plant(kubelet.run())
    return kubelet


def end(kubelet: Kubelet) -> None:
    for container in kubelet.containers:
        if container.running:
            container.exit()


@pytest.mark.parametrize("megabytes_per_s", [1, 10, 100, 400])
def test_k1_rotations_at_every_rate_lose_nothing_while_a_collector_runs(site: Site, megabytes_per_s: int) -> None:
    # given: a container at the rate and a slow one beside it, which both wait for the one worker
    kubelet = kubelet_of(site, no_path_s=0.3)
    flood = kubelet.add(site.pod_log(pod="flood"), "flood")
    quiet = kubelet.add(site.pod_log(pod="quiet"), "quiet")
    rate = megabytes_per_s * 10_000
    site.plant(write(flood, rate))
    site.plant(write(quiet, 5_000))
    site.start()
    # when
    site.pass_time(120 if megabytes_per_s < 100 or IS_LONG else 45)
    end(kubelet)
    # then
    verdict = site.settled()
    assert verdict.bytes_held == verdict.bytes_written > 0
    assert kubelet.rotations >= 3 or megabytes_per_s == 1
    assert not verdict.gaps


def test_k1_a_collector_that_is_slower_than_the_log_holds_on_to_what_is_removed(site: Site) -> None:
    # given: a bus that takes less than is written, so that files are deleted long before they are read
    kubelet = kubelet_of(site)
    site.writer.bytes_per_s = 100
    site.plant(write(web := kubelet.add(site.pod_log(), "web"), 30_000))
    site.start()
    site.pass_time(120)
    web.exit()
    assert kubelet.deleted > 3
    assert site.judge().bytes_held < site.judge().bytes_written
    # when: it can catch up
    site.writer.bytes_per_s = 0
    # then
    verdict = site.settled(1000)
    assert verdict.bytes_held == verdict.bytes_written
    assert not verdict.gaps


def test_k1_a_rename_that_is_taken_back_is_the_same_file(site: Site) -> None:
    kubelet = kubelet_of(site, no_path_s=2.5)
    web = kubelet.add(site.pod_log(), "web")
    web.reopen_fails = 3
    site.plant(write(web, 20_000))
    site.start()
    site.pass_time(90)
    end(kubelet)
    verdict = site.settled()
    assert kubelet.renamed_back == 3
    assert verdict.bytes_held == verdict.bytes_written
    assert len(site.files()) == len(site.truth.lives)


@pytest.mark.parametrize("down", [False, True], ids=["while it runs", "while it is down"])
def test_k1_the_hour_that_comes_twice_confuses_kubelet_and_not_the_collector(site: Site, *, down: bool) -> None:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=site.virtual.now_unix_nano() // 1_000_000_000 + 35)
    kubelet = kubelet_of(site, utc_offset_s=summer_time_ends(at))
    web = kubelet.add(site.pod_log(), "web")
    site.plant(write(web, 12_000))
    site.start()
    site.pass_time(25)
    if down:
        site.stop()
        site.pass_time(20)
        site.start()
    site.pass_time(60)
    end(kubelet)
    verdict = site.settled()
    assert kubelet.rotations > 5
    assert verdict.bytes_held + verdict.bytes_in_silence == verdict.bytes_written
    assert down or not verdict.bytes_in_silence


def test_k1_rotations_within_one_second_of_which_kubelet_itself_loses_some(site: Site) -> None:
    kubelet = kubelet_of(site, interval_s=0.2, max_bytes=KIB)
    web = kubelet.add(site.pod_log(), "web")
    site.plant(write(web, 20_000, tick_s=0.1))
    site.start()
    site.pass_time(8)
    end(kubelet)
    verdict = site.settled()
    assert kubelet.mistaken > 0
    # A file that lived less than a sweep may be unseen: none of the others may lack anything.
    assert not verdict.gaps


@pytest.mark.parametrize("close_after_s", [0.0, 0.4, 3.0, 25.0])
def test_k2_a_late_write_to_the_rotated_file_is_held_in_that_file(site: Site, close_after_s: float) -> None:
    kubelet = Kubelet(truth=site.truth, max_bytes=1)
    web = kubelet.add(site.pod_log(), "web")
    site.start()
    web.say(100)
    site.pass_time(3)
    web.straggling, web.close_after_s = 5, close_after_s
    site.loop.run_until_complete(kubelet.rotate_logs())
    web.say(100)
    verdict = site.settled()
    assert verdict.bytes_held == verdict.bytes_written
    assert all(site.has(life) for life in site.truth.lives)


@pytest.mark.xfail(strict=True, reason="an unlinked file is closed although a writer has it open")
def test_k2_a_late_write_to_a_file_that_is_unlinked_already(site: Site) -> None:
    """While a writer has it open, an unlinked file is not at its end."""
    pen = site.truth.open(site.pod_log())
    pen.write(site.truth.lines("web", 5))
    site.start()
    site.pass_time(3)
    site.truth.unlink(site.pod_log())
    site.pass_time(0.6)
    pen.write(site.truth.lines("web", 5))
    pen.close()
    verdict = site.settled()
    assert verdict.bytes_held == verdict.bytes_written


def test_k3_lines_cut_by_a_rotation_on_both_streams_keep_their_bytes_and_order(site: Site) -> None:
    kubelet = Kubelet(truth=site.truth, max_bytes=1)
    web = kubelet.add(site.pod_log(), "web")
    site.start()
    web.late = [("stdout", 16 * KIB), ("stderr", 16 * KIB)]
    for _ in range(4):
        web.say_long(3)
        web.say_long(2, "stderr")
        site.loop.run_until_complete(kubelet.rotate_logs())
        site.pass_time(1.2)
    web.exit(newline=False)
    verdict = site.settled()
    assert verdict.bytes_held == verdict.bytes_written
    assert not verdict.lines_reordered


@pytest.mark.xfail(strict=True, reason="an inode that is used again says truncated instead of rotated_away")
def test_k5_down_longer_than_the_window_leaves_an_exact_gap(site: Site) -> None:
    kubelet = Kubelet(truth=site.truth, max_bytes=1)
    web = kubelet.add(site.pod_log(), "web")
    web.say(50)
    site.start()
    site.pass_time(5)
    site.stop()
    held = len(site.truth.lives[0].content)
    # when: eight rotations, of which the disk keeps four files and the live one
    for _ in range(8):
        web.say(50)
        site.loop.run_until_complete(kubelet.rotate_logs())
        site.pass_time(1)
    web.say(50)
    site.start()
    verdict = site.settled()
    # then: what follows the last acknowledged byte of the known file is the gap; what nobody saw is silence
    (gap,) = verdict.gaps
    assert (gap.reason, gap.offset_start, gap.offset_end) == ("rotated_away", str(held), "")
    gone = [life for life in site.truth.lives if life.gone_ns >= 0]
    assert verdict.bytes_in_gaps == len(gone[0].content) - held
    assert verdict.bytes_in_silence == sum(len(life.content) for life in gone[1:])
    assert verdict.bytes_held == held + sum(len(life.content) for life in site.truth.lives if life.gone_ns < 0)


def test_k5_down_for_less_than_the_window_loses_nothing(site: Site) -> None:
    kubelet = Kubelet(truth=site.truth, max_bytes=1)
    web = kubelet.add(site.pod_log(), "web")
    web.say(50)
    site.start()
    site.pass_time(5)
    for turn in range(6):
        site.kill()
        for _ in range(turn % 4):
            web.say(50)
            site.loop.run_until_complete(kubelet.rotate_logs())
            site.pass_time(1)
        web.say(5)
        site.start()
        site.pass_time(5)
    verdict = site.settled()
    assert verdict.bytes_held == verdict.bytes_written
    assert not verdict.gaps


@pytest.mark.parametrize(
    "life_ms", [*(pytest.param(life_ms, marks=TOO_SHORT) for life_ms in (0.2, 1, 10)), 50, 150, 1000, 2500]
)
@pytest.mark.parametrize("kind", ["app", "init", "ephemeral", "static"])
def test_k6_a_pod_that_lives_this_long(site: Site, life_ms: float, kind: str) -> None:
    folder = {
        "app": "shop_web_5f0c1b7e-0000-4000-8000-000000000001/app",
        "init": "shop_web_5f0c1b7e-0000-4000-8000-000000000002/init-db",
        "ephemeral": "shop_web_5f0c1b7e-0000-4000-8000-000000000003/debugger-x7k2p",
        "static": "kube-system_etcd-n1_0a1b2c3d4e5f60718293a4b5c6d7e8f9/etcd",
    }[kind]
    log = site.logs / "pods" / folder / "0.log"
    (site.logs / "pods").mkdir()
    site.start()
    site.pass_time(3.3)

    async def live() -> None:
        container = Container(truth=site.truth, path=log, writer="web")
        container.say(20)
        await asyncio.sleep(life_ms / 1000)
        container.say(1)
        container.exit()
        site.truth.remove_all(log.parent.parent)

    site.loop.run_until_complete(live())
    verdict = site.settled()
    assert verdict.bytes_held == verdict.bytes_written
    (file,) = site.files()
    assert (file.source.container, file.closed) == (log.parent.name, True)


def test_k10_a_bus_that_is_away_for_an_hour_of_rotations_loses_nothing_that_is_open(site: Site) -> None:
    kubelet = kubelet_of(site)
    site.plant(write(web := kubelet.add(site.pod_log(), "web"), 2_000, tick_s=5))
    site.start()
    site.pass_time(20)
    site.writer.away = True
    site.pass_time(3600)
    web.exit()
    site.writer.away = False
    verdict = site.settled()
    assert kubelet.deleted > 10
    assert verdict.bytes_held == verdict.bytes_written
    assert not verdict.gaps


@pytest.mark.parametrize("seed", range(4))
def test_k10_restarted_in_the_middle_of_an_outage_what_is_gone_is_an_exact_gap(site: Site, seed: int) -> None:
    rng = random.Random(seed)
    kubelet = kubelet_of(site)
    site.plant(write(web := kubelet.add(site.pod_log(), "web"), 15_000, tick_s=5))
    site.start()
    site.pass_time(rng.uniform(5, 30))
    site.writer.away = True
    site.pass_time(rng.uniform(100, 200))
    known = {line.statement.file_id for line in site.lines() if isinstance(line.statement, Born)}
    site.kill()
    site.pass_time(rng.uniform(0, 60))
    site.start()
    site.pass_time(rng.uniform(50, 100))
    web.exit()
    site.writer.away = False
    verdict = site.settled()
    # then: gaps are of files that were known and are gone, and begin where the bus's bytes end
    assert verdict.gaps
    assert {gap.reason for gap in verdict.gaps} <= {"rotated_away", "truncated"}
    assert {gap.file_id for gap in verdict.gaps} <= known
    assert verdict.bytes_held + verdict.bytes_in_gaps + verdict.bytes_in_silence == verdict.bytes_written


def test_conmon_renames_over_the_log_and_what_is_cut_off_is_read_through_its_descriptor(site: Site) -> None:
    conmon = Conmon(truth=site.truth, path=site.pod_log(), writer="web", max_bytes=10_000)
    site.start()
    for _ in range(30):
        conmon.say(30)
        site.pass_time(1.1)
    conmon.pen.close()
    verdict = site.settled()
    assert verdict.bytes_held == verdict.bytes_written
    assert len(site.files()) > 3


def test_a_crashing_container_of_which_old_instances_are_removed(site: Site) -> None:
    kubelet = Kubelet(truth=site.truth)
    web = kubelet.add(site.pod_log(), "web")
    site.start()
    for _ in range(20):
        web.say(10)
        web = kubelet.restart(web)
        site.pass_time(1.5)
    web.say(10)
    web.exit()
    verdict = site.settled()
    assert verdict.bytes_held == verdict.bytes_written
    assert sorted(file.restart_count for file in site.files()) == list(range(21))
    assert not verdict.gaps

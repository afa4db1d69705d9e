"""How long until unread bytes are deleted: held against the kubelet's own algorithm, played step by step."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashiato.core.layout import recognise
from collector.headroom import (
    HEADROOM_S_MAX,
    STILL_S,
    FileSeen,
    HeadroomMeter,
    LogSeen,
    Rotation,
    files_max_for_twice,
    logs_of,
    rotation_of,
    seconds_left,
)

SECOND = 1_000_000_000
MIB = 1024 * 1024


def kubelet_deletes_after(
    rotation: Rotation, *, live: int, rotated: int, unread_behind: int, rate: float, phase: float
) -> float:
    """Play the kubelet's loop: files are numbers, 0 is the unread one; return when it is deleted."""
    files = list(range(unread_behind, -1, -1))  # newest first; the last is the unread one
    files += [-1] * (rotated - unread_behind)
    now, size, last = 0.0, float(live), 0.0
    now = phase
    while True:
        size += rate * (now - last)
        last = now
        if size >= rotation.bytes_max:
            kept = files[: rotation.files_max - 1]  # live and files_max - 2 rotated ones
            if 0 not in kept:
                return now
            files, size = [max(files) + 1, *kept], 0.0
        now += rotation.period_s


@given(
    files_max=st.integers(2, 8), rate=st.floats(3e4, 5e7), live=st.integers(0, 40 * MIB), phase=st.floats(0.0, 10.0),
    behind=st.integers(0, 7), rotated=st.integers(0, 7),
)  # fmt: skip
def test_the_kubelet_never_deletes_unread_bytes_before_the_told_moment(
    files_max: int, rate: float, live: int, phase: float, behind: int, rotated: int
) -> None:
    rotated = min(rotated, files_max - 1)
    behind = min(behind, rotated)
    rotation = Rotation(files_max=files_max)
    seen = LogSeen(key="a", live_bytes=live, rotated_files=rotated, unread_behind=behind)
    told = seconds_left(rotation, seen, rate)
    deleted = kubelet_deletes_after(
        rotation, live=live, rotated=rotated, unread_behind=behind, rate=rate, phase=phase
    )  # fmt: skip
    assert told <= deleted + 1e-6
    # and it is no empty promise: each rotation waits for one more look at the most
    assert deleted <= told + (files_max - behind + 1) * rotation.period_s


def test_the_oldest_rotated_file_goes_with_the_next_rotation() -> None:
    seen = LogSeen(key="a", live_bytes=9 * MIB, rotated_files=4, unread_behind=4)
    assert seconds_left(Rotation(), seen, MIB) == 1.0


def test_what_is_written_now_outlives_all_rotations_but_the_last() -> None:
    seen = LogSeen(key="a", live_bytes=0, rotated_files=4)
    assert seconds_left(Rotation(), seen, MIB) == 50.0


def test_a_flood_is_rotated_once_a_period_and_not_faster() -> None:
    assert seconds_left(Rotation(), LogSeen(key="a", live_bytes=50 * MIB), 100 * MIB) == 40.0


def test_a_log_that_stands_still_is_never_rotated_away() -> None:
    assert seconds_left(Rotation(), LogSeen(key="a", live_bytes=50 * MIB), 0.0) == math.inf


def test_files_on_the_disk_outrank_what_the_settings_say() -> None:
    seen = LogSeen(key="a", live_bytes=0, rotated_bytes=(2 * MIB, 3 * MIB), rotated_files=7)
    assert rotation_of(Rotation(), seen) == Rotation(bytes_max=2 * MIB, files_max=8)


@given(rate=st.floats(1.0, 5e7), live=st.integers(0, 12 * MIB), files_max=st.integers(2, 20))
def test_the_told_number_of_files_is_the_first_that_lasts_twice_as_long(rate: float, live: int, files_max: int) -> None:
    seen = LogSeen(key="a", live_bytes=live, rotated_files=files_max - 1)
    rotation = Rotation(files_max=files_max)
    more = files_max_for_twice(rotation, seen, rate)
    now = seconds_left(rotation, seen, rate)
    assert seconds_left(Rotation(files_max=more), seen, rate) >= 2 * now * (1 - 1e-9)
    if more > files_max + 1:
        assert seconds_left(Rotation(files_max=more - 1), seen, rate) < 2 * now * (1 + 1e-9)


def file(name: str, size: int, *, unread: bool = False) -> FileSeen:
    found = recognise(f"/var/log/pods/shop_web_u-1/c/{name}", cluster="c1", node="n1")
    return FileSeen(found=found, size=size, unread=unread)


def test_files_of_one_container_make_one_log_and_count_behind_the_oldest_unread() -> None:
    (log,) = logs_of(
        [
            file("0.log.20261124-100000.gz", 100),
            file("0.log.20261124-100100", 10 * MIB, unread=True),
            file("0.log.20261124-100200", 11 * MIB),
            file("0.log", 5, unread=True),
        ]
    )
    assert (log.live_bytes, log.rotated_bytes, log.rotated_files) == (5, (10 * MIB, 11 * MIB), 3)
    assert log.unread_behind == 2


def test_between_rename_and_reopen_the_newest_rotated_file_counts_as_rotated() -> None:
    (log,) = logs_of([file("0.log.20261124-100000", 10 * MIB, unread=True)])
    assert (log.live_bytes, log.unread_behind) == (0, 1)


def test_what_docker_or_auditd_rotates_is_not_judged_by_the_kubelets_rules() -> None:
    docker = "/var/lib/docker/containers/{0}/{0}-json.log".format("ab" * 32)
    others = [recognise(path, cluster="c", node="n") for path in (docker, "/var/log/audit/audit.log")]
    assert logs_of([FileSeen(found=found, size=1, unread=True) for found in others]) == []


@pytest.fixture
def meter() -> HeadroomMeter:
    return HeadroomMeter(Rotation())


def log(key: str, live: int, *, rotated_files: int = 0, unread_behind: int = 0) -> LogSeen:
    return LogSeen(key=key, live_bytes=live, rotated_files=rotated_files, unread_behind=unread_behind)


def test_the_gauge_is_that_of_the_container_with_the_least(meter: HeadroomMeter) -> None:
    meter.swept([log("slow", 0), log("fast", 0), log("still", 9 * MIB)], 0)
    assert meter.least(0) == HEADROOM_S_MAX
    meter.swept([log("slow", 1024), log("fast", MIB), log("still", 9 * MIB)], SECOND)
    assert meter.least(SECOND) == 9 + 4 * 10


def test_a_backlog_shortens_it_to_what_the_unread_file_has_left(meter: HeadroomMeter) -> None:
    meter.swept([log("a", 0, rotated_files=4, unread_behind=4)], 0)
    meter.swept([log("a", 9 * MIB, rotated_files=4, unread_behind=4)], 9 * SECOND)
    assert meter.least(9 * SECOND) == 1.0


def test_a_rotation_between_two_sweeps_counts_what_went_into_both_files(meter: HeadroomMeter) -> None:
    meter.swept([log("a", 9 * MIB)], 0)
    after = LogSeen(key="a", live_bytes=MIB, rotated_bytes=(11 * MIB,), rotated_files=1)
    meter.swept([after], 3 * SECOND)
    assert meter.least(3 * SECOND) == seconds_left(Rotation(), after, MIB)


def test_a_container_that_is_gone_or_silent_no_longer_counts(meter: HeadroomMeter) -> None:
    meter.swept([log("gone", 0), log("silent", 0)], 0)
    meter.swept([log("gone", 9 * MIB), log("silent", MIB)], SECOND)
    meter.swept([log("silent", MIB)], 2 * SECOND)
    assert meter.least(2 * SECOND) == 9 + 40
    later = int((STILL_S + 10) * SECOND)
    meter.swept([log("silent", MIB)], later)
    assert meter.least(later) == HEADROOM_S_MAX

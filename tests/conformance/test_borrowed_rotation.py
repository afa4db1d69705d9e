"""Scenarios of other collectors' own tests: rotation, truncation, copies, links and removal.

:data:`~tests.conformance.borrowed.BORROWED` says which name of theirs each test plays.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ashiato.core.ids import Kind
from tests.conformance.borrowed import BORROWED
from tests.conformance.site import Site, descriptors


def test_the_table_names_tests_that_exist() -> None:
    tests = "\n".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    for names in BORROWED.values():
        for played_by in names.values():
            is_told = played_by == "ingest" or played_by.startswith("refused: ")
            assert is_told or re.search(rf"def {re.escape(played_by)}\(", tests), played_by


def test_files_that_are_there_and_files_that_come_are_read_from_their_first_byte(site: Site) -> None:
    for pod in "abc":
        site.truth.append(site.pod_log(pod=pod), site.truth.lines(pod, 20))
    site.start()
    site.pass_time(3)
    for pod in "defg":
        for restart in range(3):
            site.truth.append(site.pod_log(f"{restart}.log", pod=pod, container=pod * 2), site.truth.lines(pod, 20))
    site.all_held()
    assert len(site.files()) == 15


def test_rotations_by_shifted_numbers_are_followed(site: Site) -> None:
    """As auditd and logrotate do: at each rotation all names move on by one."""
    log = site.logs / "audit/audit.log"
    site.start()
    for turn in range(12):
        site.truth.append(log, site.truth.lines("audit", 30))
        site.pass_time(1.3 if turn % 3 else 0.1)
        if (oldest := log.with_name("audit.log.4")).exists():
            site.truth.unlink(oldest)
        for number in (3, 2, 1):
            if (path := log.with_name(f"audit.log.{number}")).exists():
                site.truth.rename(path, log.with_name(f"audit.log.{number + 1}"))
        site.truth.rename(log, log.with_name("audit.log.1"))
        if turn == 7:
            site.stop()
            site.start()
    site.truth.append(log, site.truth.lines("audit", 1))
    site.all_held()
    assert len(site.files(Kind.AUDITD)) == 13


def test_copytruncate_while_it_runs(site: Site) -> None:
    log = site.pod_log()
    site.start()
    for turn in range(5):
        site.truth.append(log, site.truth.lines("web", 40))
        site.pass_time(2)
        site.truth.copy(log, log.with_name(f"0.log.20261124-10000{turn}"))
        site.truth.truncate(log)
        site.truth.append(log, site.truth.lines("web", 3))
        site.pass_time(2)
    verdict = site.settled()
    assert verdict.bytes_held == verdict.bytes_written
    assert not [gap for gap in verdict.gaps if gap not in verdict.needless_gaps]


def test_a_copy_that_is_packed_before_the_truncation_was_seen(site: Site) -> None:
    """Nothing of it had left, for its only line had no end: what was copied is all there is."""
    log = site.pod_log()
    site.start()
    site.truth.append(log, site.truth.line("web", width=200)[:120])
    site.pass_time(1)
    site.truth.copy(log, to := log.with_name("0.log.20261124-100000"))
    site.truth.truncate(log)
    site.truth.compress(to)
    site.truth.unlink(log)
    site.truth.append(log, b"")
    site.all_held()


def test_a_copy_of_a_file_that_has_ended_is_read_and_let_go_of(site: Site) -> None:
    """Truncated, written to its old size, and removed at once: whatever is awaited then, no descriptor is lost."""
    site.start()
    site.pass_time(3)
    before = descriptors()
    for number in range(5):
        log = site.pod_log(pod=f"p{number}")
        site.truth.append(log, site.truth.lines("web", 1))
        site.pass_time(0.8)
        copy = Path(site.truth.copy(log, log.with_name("0.log.20261124-100000")).path)
        site.truth.truncate(log)
        site.truth.append(log, site.truth.lines("web", 1))
        site.truth.unlink(log)
        site.pass_time(12)
        site.truth.append(copy, site.truth.lines("copy", 1))
        site.pass_time(12)
        site.truth.remove_all(log.parent.parent)
        site.pass_time(12)
    verdict = site.judge()
    assert not verdict.lines_lost
    assert descriptors() <= before


def test_copytruncate_across_a_restart(site: Site) -> None:
    log = site.read_log(40)
    site.stop()
    site.truth.append(log, site.truth.lines("web", 40))
    site.truth.copy(log, log.with_name("0.log.20261124-100000"))
    site.truth.truncate(log)
    site.truth.append(log, site.truth.lines("web", 3))
    site.start()
    verdict = site.settled()
    assert verdict.bytes_held == verdict.bytes_written


def test_copytruncate_with_a_writer_that_does_not_append(site: Site) -> None:
    """Its next write leaves a hole of NULs before it: that is what the file holds, so that is what is held."""
    log = site.pod_log()
    pen = site.truth.open(log, appends=False)
    pen.write(site.truth.lines("web", 40))
    site.start()
    site.pass_time(3)
    site.truth.copy(log, log.with_name("0.log.20261124-100000"))
    site.truth.truncate(log)
    site.pass_time(1)
    pen.write(site.truth.lines("web", 3))
    verdict = site.settled()
    assert verdict.bytes_held == verdict.bytes_written
    assert site.truth.at(log).content.startswith(bytes(100))


def test_a_file_that_is_truncated_and_written_again(site: Site) -> None:
    log = site.pod_log()
    site.start()
    for turn in range(8):
        site.truth.append(log, site.truth.lines("web", 40 - 4 * turn))
        site.pass_time(2)
        if turn == 4:
            site.kill()
        site.truth.truncate(log)
        site.truth.append(log, site.truth.lines("web", 2 + turn % 3))
        if turn == 4:
            site.start()
        site.pass_time(2)
    verdict = site.settled()
    assert verdict.bytes_held == verdict.bytes_written


@pytest.mark.xfail(strict=True, reason="a truncation's gap ends with what was seen, which is no upper bound")
def test_what_is_written_between_the_last_look_and_a_truncation_is_named(site: Site) -> None:
    """Nobody can know how much it was: the gap has no end."""
    log = site.read_log(10)
    site.truth.append(log, site.truth.lines("web", 10))
    site.truth.truncate(log)
    verdict = site.settled()
    assert verdict.bytes_in_gaps > 0


def test_truncated_while_the_bus_is_away_is_an_exact_gap(site: Site) -> None:
    log = site.read_log(10)
    site.writer.away = True
    held = log.stat().st_size
    site.truth.append(log, site.truth.lines("web", 10))
    site.pass_time(1)
    site.truth.truncate(log)
    site.truth.append(log, site.truth.lines("web", 2))
    site.pass_time(30)
    site.writer.away = False
    verdict = site.settled()
    (gap,) = verdict.gaps
    assert (gap.reason, gap.offset_start) == ("truncated", str(held))
    assert verdict.bytes_in_gaps == len(site.truth.lives[0].content) - held


def test_equal_beginnings_are_different_files(site: Site) -> None:
    """Ten files of the same bytes, which differ only in their last line, and grow to it at different times."""
    site.start()
    banner = b"# the same banner\n" * 300
    logs = [site.pod_log(pod=f"p{number}") for number in range(10)]
    for size in (3, 700, 2000, len(banner)):
        for log in logs:
            content = log.read_bytes() if log.exists() else b""
            site.truth.append(log, banner[len(content) : size])
        site.pass_time(1.2)
    for number, log in enumerate(logs):
        site.truth.append(log, site.truth.lines(f"p{number}", 1))
        if number % 2:
            site.truth.rename(log, log.with_name("0.log.20261124-100000"))
            site.truth.append(log, banner + site.truth.lines(f"p{number}", 2))
    site.kill()
    site.start()
    site.all_held()
    assert len(site.files()) == 15


def test_a_file_that_is_moved_out_of_sight_is_read_to_its_end(site: Site) -> None:
    log = site.pod_log()
    pen = site.truth.open(log)
    site.start()
    pen.write(site.truth.lines("web", 40))
    site.pass_time(3)
    (site.root / "away").mkdir()
    site.truth.rename(log, site.root / "away/0.log")
    pen.write(site.truth.lines("web", 2))
    site.pass_time(0.5)
    pen.write(site.truth.lines("web", 2))
    site.all_held()


def test_moved_away_truncated_and_moved_back(site: Site) -> None:
    log = site.read_log(40)
    away = site.root / "away"
    away.mkdir()
    site.truth.rename(log, away / "0.log")
    site.truth.truncate(away / "0.log")
    site.truth.append(away / "0.log", site.truth.lines("web", 2))
    site.pass_time(5)
    site.truth.rename(away / "0.log", log)
    site.truth.append(log, site.truth.lines("web", 2))
    site.all_held()


def test_a_path_that_is_removed_and_made_anew(site: Site) -> None:
    log = site.pod_log()
    site.start()
    for turn in range(10):
        site.truth.append(log, site.truth.lines("web", 10))
        site.pass_time(1.3)
        site.truth.unlink(log)
        site.pass_time([0, 0.3, 1.2, 5][turn % 4])
    site.all_held()
    assert len(site.files()) == 10


def test_a_file_that_is_replaced_atomically(site: Site) -> None:
    """As an editor saves: the same content, then another, under the same name in another inode."""
    log = site.pod_log()
    content = site.truth.lines("web", 10)
    site.truth.append(log, content)
    site.start()
    site.pass_time(3)
    for data in (content, content + site.truth.lines("web", 1), site.truth.lines("web", 20)):
        site.truth.append(temporary := log.with_name("0.log.tmp"), data)
        site.truth.rename(temporary, log)
        site.pass_time(3)
    verdict = site.settled()
    assert verdict.bytes_held == verdict.bytes_written


def test_a_link_is_followed_to_whatever_file_it_leads_to(site: Site) -> None:
    """As docker's links in pods' folders: rotated, truncated and turned to another target, thirty of them."""
    real = site.logs / "docker/containers"
    site.start()
    ids = [f"{number:064x}" for number in range(1, 31)]
    for turn in range(3):
        for number, name in enumerate(ids):
            target = real / name / f"{name}-json.log"
            link = site.pod_log(pod=f"p{number}")
            site.truth.append(target, site.truth.lines(f"p{number}", 5))
            if not link.is_symlink():
                link.symlink_to(target)
        site.pass_time(2)
        for name in ids[: 10 * turn]:
            target = real / name / f"{name}-json.log"
            site.truth.rename(target, target.with_name(f"{target.name}.{turn}"))
    verdict = site.settled()
    assert verdict.bytes_held == verdict.bytes_written
    assert {file.source.namespace for file in site.files()} <= {"shop", "docker"}


def test_dockers_files_are_read_through_links_and_once(site: Site) -> None:
    name = "ab" * 32
    target = site.logs / "docker/containers" / name / f"{name}-json.log"
    site.truth.append(target, b'{"log":"one\\n","stream":"stdout","time":"2026-11-24T10:00:00Z"}\n')
    site.pod_log().symlink_to(target)
    site.start()
    site.all_held()
    (file,) = site.files()
    assert file.source.namespace == "shop"

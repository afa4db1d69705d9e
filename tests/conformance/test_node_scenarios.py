"""Scenarios of the node: its inodes, its directories, its rights, and what others write and edit there."""

from __future__ import annotations

import errno
import gzip
import os
import socket
from typing import Any

import pytest

from ashiato.core.ids import Kind
from tests.conformance.site import IS_LONG, Site, descriptors
from tests.simulation.collector_node import chunks_of

# -- K7 ------------------------------------------------------------------------------------------------------


def test_k7_an_inode_that_is_used_again_is_another_file(site: Site) -> None:
    log = site.pod_log()
    site.start()
    for _ in range(1000 if IS_LONG else 120):
        site.truth.append(log, site.truth.lines("web", 3))
        site.pass_time(1.6)
        site.truth.unlink(log)
        site.pass_time(2.6)
    verdict = site.settled()
    used = [life.inodes[0][1] for life in site.truth.lives]
    assert len(set(used)) < len(used), "the file system never used an inode again"
    assert verdict.bytes_held == verdict.bytes_written
    assert len(site.files()) == len(site.truth.lives)


@pytest.mark.parametrize(
    "head", [pytest.param(b"", id="lines"), pytest.param(b"# the same banner\n" * 200, id="equal heads")]
)
def test_k7_an_inode_that_is_used_again_while_it_is_down(site: Site, head: bytes) -> None:
    log = site.pod_log()
    for _ in range(200 if IS_LONG else 25):
        site.start()
        site.truth.append(log, head + site.truth.lines("web", 3))
        site.pass_time(2)
        site.kill()
        site.truth.unlink(log)
        site.truth.append(log, head + site.truth.lines("web", 7))
        site.start()
        site.pass_time(2)
        site.stop()
        site.truth.unlink(log)
    site.start()
    verdict = site.settled()
    assert verdict.bytes_held == verdict.bytes_written
    assert not verdict.lines_lost


def test_k7_the_same_bytes_in_the_same_inode_are_another_file_all_the_same(site: Site) -> None:
    """Nothing but the inode's generation tells."""
    log, content = site.pod_log(), site.truth.lines("web", 10)
    site.truth.append(log, content)
    site.start()
    site.pass_time(2)
    site.stop()
    inode = log.stat().st_ino
    # Whoever else makes files at the same time may get the inode in between.
    for _ in range(100):
        site.truth.unlink(log)
        site.truth.append(log, content)
        if log.stat().st_ino == inode:
            break
    else:
        pytest.skip("the file system gives an inode only once")
    site.start()
    verdict = site.settled()
    assert verdict.bytes_held + verdict.bytes_in_silence == verdict.bytes_written
    assert [file.content for file in site.files()] == [content, content]


def test_k7_a_file_is_known_by_its_compression_although_another_one_has_its_inode(site: Site) -> None:
    """The compression of the younger file got the inode of the older one, and needs nothing any more."""
    # given: two rotated files, read to their ends and closed
    log = site.pod_log()
    older, younger = (log.with_name(f"0.log.20261124-1{hour}0000") for hour in (0, 1))
    site.start()
    for rotated in (older, younger):
        site.write(log, site.truth.lines("web", 10))
        site.pass_time(2)
        log.rename(rotated)
    site.write(log, site.truth.lines("web", 1))
    site.pass_time(40)
    contents = [file.content for file in site.files()]
    # when: the younger one's compression is there, in that inode, and a while later the older one's
    content = older.read_bytes()
    older.write_bytes(gzip.compress(younger.read_bytes()))
    older.rename(younger.with_name(f"{younger.name}.gz"))
    younger.unlink()
    site.pass_time(20)
    older.with_name(f"{older.name}.gz").write_bytes(gzip.compress(content))
    site.pass_time(40)
    # then: nothing is held twice
    assert [file.content for file in site.files()] == contents


# -- K9 ------------------------------------------------------------------------------------------------------


def test_k9_a_flood_delays_neither_audit_lines_nor_its_neighbours(site: Site) -> None:
    # given: one partition, and a bus that takes a fraction of what the flood writes
    site.bulk_partitions = 1
    audit = site.logs / "kubernetes/audit/audit.log"
    noise = os.urandom(200_000).hex().encode()
    flood, quiet = site.truth.open(site.pod_log(pod="flood")), site.pod_log(pod="quiet")
    site.writer.bytes_per_s = 400_000
    site.start()
    late: dict[str, list[float]] = {"audit": [], "quiet": []}
    for _ in range(8):
        flood.write(
            b"".join(site.truth.line("flood")[:-1] + noise[at : at + 8000] + b"\n" for at in range(0, 4 << 17, 8000))
        )
        site.pass_time(1)
        for name, path in (("audit", audit), ("quiet", quiet)):
            site.truth.append(path, line := site.truth.line(name))
            late[name].append(_until_held(site, line))
    # then: times are the node's own, so this machine's load says nothing
    assert max(late["audit"]) <= 2.0, late
    assert max(late["quiet"]) <= 8.0, late


def _until_held(site: Site, line: bytes, limit_s: float = 60) -> float:
    began = site.clock.monotonic_nano()
    while not any(line in chunk.payload for chunk in chunks_of(site.broker)):
        site.pass_time(0.25)
        waited = (site.clock.monotonic_nano() - began) / 1e9
        if waited > limit_s:
            return waited
    return (site.clock.monotonic_nano() - began) / 1e9


# -- K11 -----------------------------------------------------------------------------------------------------


def test_k11_an_edit_just_before_the_offset_is_said(site: Site) -> None:
    log = site.read_log(50)
    original = log.read_bytes()
    with log.open("r+b") as file:
        file.seek(len(original) - 20)
        file.write(b"TAMPERED")
    site.truth.append(log, site.truth.lines("web", 1))
    site.pass_time(10)
    held = site.files()
    assert held[0].content == original
    assert [gap.reason for gap in site.judge().gaps] == ["truncated"]
    assert b"TAMPERED" in held[1].content


def test_k11_an_edit_further_back_changes_nothing_that_is_held_and_is_not_seen(site: Site) -> None:
    """What was shipped is held as it was written. That somebody edited it later, only a second reading could tell."""
    log = site.read_log(50)
    original = log.read_bytes()
    with log.open("r+b") as file:
        file.seek(2000)
        file.write(b"TAMPERED")
    site.truth.append(log, site.truth.lines("web", 1))
    site.pass_time(10)
    (held,) = site.files()
    assert held.content.startswith(original)
    assert not site.judge().gaps


# -- K13 -----------------------------------------------------------------------------------------------------


def test_k13_a_folder_of_very_many_files_and_more_events_than_a_queue_holds(site: Site) -> None:
    many = site.logs / "pods/shop_many_uid-many/c"
    many.mkdir(parents=True)
    site.truth.append(site.pod_log(), site.truth.lines("web", 10))
    site.start()
    site.pass_time(3)
    before = descriptors()
    # when: 20,000 events at once, none of which a collector could have read in between
    for number in range(200_000 if IS_LONG else 20_000):
        (many / f"core.{number}").touch()
    log = site.pod_log()
    site.truth.rename(log, log.with_name("0.log.20261124-100000"))
    site.truth.append(log, site.truth.lines("web", 10))
    for number in range(50):
        site.truth.append(many / f"{number}.log", site.truth.lines("many", 3))
    verdict = site.settled(20)
    assert verdict.bytes_held == verdict.bytes_written
    assert descriptors() < before + 200


# -- K14 -----------------------------------------------------------------------------------------------------


def test_k14_reading_needs_no_api_and_no_network_at_all(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    log = site.logs / "pods/shop_web-7f9c_0f6a2c1e-8b1d-4c3e-9a51-5d3b1b0c7e11/app/3.log"
    site.truth.append(log, site.truth.lines("web", 10))
    site.start(node="worker-1")
    site.settled()
    (file,) = site.files()
    assert (file.source.namespace, file.source.pod, file.source.container) == ("shop", "web-7f9c", "app")
    assert (file.source.pod_uid, file.restart_count) == ("0f6a2c1e-8b1d-4c3e-9a51-5d3b1b0c7e11", 3)


# -- K17 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restarts", [False, True], ids=["while it runs", "over a restart"])
def test_k17_numbers_that_auditd_counted_and_never_wrote_are_a_gap(site: Site, *, restarts: bool) -> None:
    log = site.logs / "audit/audit.log"

    def record(serial: int) -> bytes:
        return b"type=SYSCALL msg=audit(1795579600.%03d:%d): arch=c000003e\n" % (serial % 1000, serial)

    site.start()
    site.truth.append(log, b"".join(map(record, [100, 101, 101, 102, 103])))
    site.pass_time(3)
    if restarts:
        site.kill()
        site.start()
    site.truth.append(log, b"".join(map(record, [107, 108, 109])))
    site.pass_time(60)
    gaps = [gap for gap in site.judge().gaps if gap.source.startswith("auditd/")]
    assert len(gaps) == 1
    assert "104" in gaps[0].detail
    assert "106" in gaps[0].detail


# -- descriptors and rights ----------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [errno.EACCES, errno.EMFILE, errno.ENFILE, errno.EIO])
def test_a_file_that_does_not_open_for_a_while_is_held_in_the_end(site: Site, error: int) -> None:
    log = site.pod_log()
    site.disk.denied[str(log)] = error
    site.truth.append(log, site.truth.lines("web", 10))
    site.truth.append(site.pod_log(pod="other"), site.truth.lines("other", 10))
    site.start()
    site.pass_time(20)
    assert [file.source.pod for file in site.files()] == ["other"]
    site.disk.denied.clear()
    site.truth.append(log, site.truth.lines("web", 10))
    verdict = site.settled()
    assert verdict.bytes_held == verdict.bytes_written
    assert all(gap.reason == "unreadable" for gap in verdict.gaps)
    assert site.log.getvalue()
    assert Kind.CONTAINER in {file.source.kind for file in site.files()}


@pytest.mark.xfail(strict=True, reason="what was seen and never opened is forgotten at a clean stop")
def test_a_file_that_was_seen_and_not_opened_is_named_when_the_collector_stops(site: Site) -> None:
    site.start()
    site.pass_time(3)
    site.disk.denied[str(log := site.pod_log())] = errno.EMFILE
    site.truth.append(log, site.truth.lines("web", 10))
    site.pass_time(20)
    site.stop()
    site.truth.unlink(log)
    site.disk.denied.clear()
    site.start()
    verdict = site.settled()
    assert verdict.bytes_in_gaps == verdict.bytes_written


def test_a_file_that_never_opened_and_is_gone_gives_its_id_to_no_other(site: Site) -> None:
    site.start()
    site.pass_time(3)
    site.disk.denied[str(log := site.pod_log())] = errno.EACCES
    site.truth.append(log, site.truth.lines("web", 10))
    site.pass_time(12)
    site.truth.unlink(log)
    site.pass_time(20)
    site.kill()
    site.disk.denied.clear()
    site.truth.append(log, site.truth.lines("web", 10))
    site.start()
    verdict = site.settled()
    assert verdict.bytes_held == len(site.truth.lives[1].content)
    assert verdict.bytes_in_gaps == len(site.truth.lives[0].content)


def test_the_next_file_of_a_path_that_does_not_open_is_named_too(site: Site) -> None:
    site.start()
    site.pass_time(3)
    site.disk.denied[str(log := site.pod_log())] = errno.EACCES
    for turn in range(3):
        site.truth.append(log, site.truth.lines("web", 10))
        site.pass_time(12)
        site.truth.rename(log, to := log.with_name(f"0.log.20261124-10000{turn}"))
        site.truth.unlink(to)
        site.pass_time(12)
    verdict = site.settled()
    assert verdict.bytes_in_gaps == verdict.bytes_written


def test_a_file_that_does_not_open_is_not_named_under_what_had_its_inode(site: Site) -> None:
    site.start()
    site.truth.append(log := site.pod_log(pod="a"), site.truth.lines("a", 1))
    site.pass_time(20)
    site.truth.remove_all(log.parent.parent)
    site.disk.denied[str(log := site.pod_log(pod="b"))] = errno.EACCES
    site.truth.append(log, site.truth.lines("b", 1))
    site.pass_time(12)
    site.truth.unlink(log)
    verdict = site.settled()
    assert verdict.bytes_in_gaps == verdict.bytes_written - verdict.bytes_held > 0


def test_two_files_of_one_inode_that_do_not_open_are_both_named(site: Site) -> None:
    """The second one had the inode before anybody saw that the first was gone."""
    site.start()
    site.pass_time(3)
    first, second = site.pod_log(pod="a"), site.pod_log(pod="b")
    site.disk.denied |= {str(first): errno.EACCES, str(second): errno.EACCES}
    site.truth.append(first, site.truth.lines("a", 1))
    site.pass_time(12)
    inode = first.stat().st_ino
    site.truth.unlink(first)
    site.truth.append(second, site.truth.lines("b", 1))
    if second.stat().st_ino != inode:
        pytest.skip("the file system gives an inode only once")
    site.pass_time(12)
    site.truth.unlink(second)
    verdict = site.settled()
    assert verdict.bytes_in_gaps == verdict.bytes_written
    assert len({gap.file_id for gap in verdict.gaps}) == 2

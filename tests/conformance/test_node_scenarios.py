"""Scenarios of the node: its inodes, disk, clock, directories, rights, and the releases that follow each other."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ashiato.adapters.bus import BusSettings
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.errors import SettingsError
from ashiato.core.ids import Kind
from ashiato.core.ledger import Born, Config, Gap
from collector.service import Collector
from collector.settings import CollectorSettings
from tests.conformance.site import IS_LONG, Site, descriptors
from tests.simulation.collector_node import chunks_of

HOUR_NS = 3_600_000_000_000


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


# -- K8 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reserves", [True, False], ids=["reserved", "no reserve"])
@pytest.mark.parametrize("end", ["nothing", "kill", "power", "stop"])
def test_k8_a_full_disk_under_ledger_and_bookmark_loses_nothing(site: Site, end: str, *, reserves: bool) -> None:
    log = site.pod_log()
    site.disk.reserves = reserves
    site.truth.append(log, site.truth.lines("web", 50))
    site.start(drain_s=1)
    site.pass_time(5)
    site.disk.full = True
    for turn in range(6):
        site.truth.append(log, site.truth.lines("web", 50))
        site.truth.append(site.pod_log(pod=f"new{turn}"), site.truth.lines(f"new{turn}", 10))
        if turn == 3:
            site.truth.rename(log, log.with_name("0.log.20261124-100000"))
        site.pass_time(10)
    if end == "stop":
        site.stop()
    elif end != "nothing":
        site.kill(power=end == "power")
    site.disk.full = False
    if end != "nothing":
        site.start()
    verdict = site.settled()
    assert verdict.bytes_held == verdict.bytes_written
    # What a stop could not ship in its grace is said, and held all the same.
    assert {gap.reason for gap in verdict.gaps} <= {"drain_cut_short"}
    assert verdict.needless_gaps == verdict.gaps


def test_k8_births_come_soon_after_the_disk_has_room(site: Site) -> None:
    """Whatever the pace of sweeps is on a node where nothing else moves."""
    site.disk.reserves = False
    site.start()
    site.pass_time(33.3)
    site.disk.full = True
    site.truth.append(log := site.pod_log(), site.truth.lines("web", 50))
    site.pass_time(17.1)
    site.disk.full = False
    site.pass_time(2.5)
    site.truth.unlink(log)
    site.all_held()


def test_k8_a_full_disk_at_the_first_start_is_waited_for(site: Site) -> None:
    site.truth.append(site.pod_log(), site.truth.lines("web", 50))
    site.disk.full = True
    site.start()
    site.pass_time(20)
    assert not site.files()
    site.disk.full = False
    verdict = site.settled()
    assert verdict.bytes_held == verdict.bytes_written


def test_k8_a_file_that_came_and_went_while_the_disk_was_full_is_named(site: Site) -> None:
    site.disk.reserves = False
    site.start()
    site.pass_time(3)
    site.disk.full = True
    site.truth.append(log := site.pod_log(), site.truth.lines("web", 50))
    site.pass_time(10)
    site.truth.unlink(log)
    site.pass_time(10)
    site.disk.full = False
    verdict = site.settled()
    assert verdict.bytes_held + verdict.bytes_in_gaps == verdict.bytes_written


def test_k8_a_disk_that_stays_full_costs_no_descriptors(site: Site) -> None:
    site.disk.reserves = False
    log = site.pod_log()
    site.truth.append(log, site.truth.lines("web", 50))
    site.start()
    site.pass_time(5)
    site.disk.full = True
    site.truth.append(site.pod_log(pod="other"), site.truth.lines("other", 50))
    site.truth.copy(log, log.with_name("0.log.20261124-100000"))
    site.truth.append(log.with_name("0.log.20261124-100001"), site.truth.lines("old", 50))
    site.truth.compress(log.with_name("0.log.20261124-100001"))
    site.truth.truncate(log)
    site.truth.append(log, site.truth.lines("web", 5))
    site.pass_time(5)
    before = descriptors()
    site.pass_time(60)
    assert descriptors() <= before
    site.disk.full = False
    site.settled()


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
    log = site.pod_log()
    site.truth.append(log, site.truth.lines("web", 50))
    site.start()
    site.pass_time(3)
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
    log = site.pod_log()
    site.truth.append(log, site.truth.lines("web", 50))
    site.start()
    site.pass_time(3)
    original = log.read_bytes()
    with log.open("r+b") as file:
        file.seek(2000)
        file.write(b"TAMPERED")
    site.truth.append(log, site.truth.lines("web", 1))
    site.pass_time(10)
    (held,) = site.files()
    assert held.content.startswith(original)
    assert not site.judge().gaps


# -- K12 -----------------------------------------------------------------------------------------------------


def test_k12_a_clock_that_steps_back_an_hour_changes_no_order_and_closes_nothing(site: Site) -> None:
    log = site.pod_log()
    site.start()
    for turn in range(6):
        site.truth.append(log, site.truth.lines("web", 10))
        site.pass_time(4)
        site.clock.behind_ns += HOUR_NS if turn % 2 else -HOUR_NS // 2
        site.truth.rename(log, log.with_name(f"0.log.20261124-10000{turn}"))
        site.truth.append(log, site.truth.lines("web", 10))
        site.pass_time(4)
        if turn == 3:
            site.kill()
            site.clock.behind_ns += HOUR_NS
            site.start()
    verdict = site.settled()
    assert verdict.bytes_held == verdict.bytes_written
    assert not verdict.gaps
    # and: file order is birth order, and the boot clock never goes back
    births = [line.statement.file_id for line in site.lines() if isinstance(line.statement, Born)]
    assert births == sorted(births)
    boots = [int(line.boot_nano) for line in site.lines()]
    assert boots == sorted(boots)


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


# -- K15 -----------------------------------------------------------------------------------------------------


def test_k15_a_second_collector_on_the_same_state_folder_is_refused_and_harms_nobody(site: Site) -> None:
    site.start()
    site.truth.append(site.pod_log(), site.truth.lines("web", 10))
    site.pass_time(3)
    other = Collector(
        CollectorSettings(
            bus=BusSettings(path="unused"), state_dir=str(site.state), roots=(str(site.logs),), node="n1", cluster="c1"
        ),
        writer=site.writer, clock=site.clock, telemetry=Telemetry("collector", stream=site.log),
    )  # fmt: skip
    with pytest.raises(SettingsError, match="another collector"):
        site.loop.run_until_complete(other.run(asyncio.Event()))
    site.truth.append(site.pod_log(), site.truth.lines("web", 10))
    verdict = site.settled()
    assert verdict.bytes_held == verdict.bytes_written


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


# -- K18 -----------------------------------------------------------------------------------------------------

RELEASE = Path(__file__).parent / "previous_release"
"""State folder of a node as the release before left it, killed while the bus was away.

It had followed ``web`` (a rotated file of 100 lines, done; the live one with 50 of 60 lines acknowledged) and ``other``
(50 lines acknowledged). Inodes, paths and the machine's id are this machine's own from case to case.
"""


def test_k18_an_upgrade_goes_on_where_the_release_before_was_killed(site: Site) -> None:
    # given: the files as they were, and the state folder of the release before
    web = site.pod_log()
    done = web.with_name("0.log.20261124-100000")
    other = site.pod_log(pod="other")
    content = {done: _numbered(b"web", 0, 100), web: _numbered(b"web", 100, 60), other: _numbered(b"other", 0, 50)}
    for path, data in content.items():
        site.write(path, data)
    state = site.state / "ledger"
    state.mkdir(parents=True)
    before = (RELEASE / "ledger-000001.jsonl").read_bytes()
    (state / "ledger-000001.jsonl").write_bytes(before)
    (site.state / "bookmark").write_bytes(_moved_in(site, (RELEASE / "bookmark").read_bytes()))
    # when: the present release starts, and things go on
    site.start()
    site.write(web, _numbered(b"web", 160, 5))
    site.pass_time(10)
    web.rename(web.with_name("0.log.20261124-110000"))
    site.write(web, _numbered(b"web", 165, 5))
    site.pass_time(40)
    # then: the rest came, from the right bytes on, under the same ids; nothing came twice, and nothing is missing
    births = [line.statement for line in site.lines() if isinstance(line.statement, Born)]
    ids = {Path(born.path).parent.parent.name: born.file_id for born in births[:1]}
    sent: dict[str, bytes] = {}
    first: dict[str, int] = {}
    for chunk in chunks_of(site.broker):
        if chunk.file.source.startswith("container/") and chunk.payload:
            first.setdefault(chunk.file.file_id, chunk.offset_start)
            sent[chunk.file.file_id] = sent.get(chunk.file.file_id, b"") + chunk.payload
    assert sorted(sent.values()) == sorted([_numbered(b"web", 150, 15), _numbered(b"web", 165, 5)])
    assert sorted(first.values()) == [0, len(_numbered(b"web", 100, 50))]
    assert ids["shop_other_uid-other"] not in sent
    assert not [line for line in site.lines() if isinstance(line.statement, Gap)]
    # and: the ledger is the same chain, gone on (site.lines() checks it), of the same incarnation
    assert (state / "ledger-000001.jsonl").read_bytes().startswith(before)
    configs = [line.statement for line in site.lines() if isinstance(line.statement, Config)]
    assert len(configs) == 2
    assert len({config.incarnation for config in configs}) == 1


def _numbered(name: bytes, first: int, count: int) -> bytes:
    return b"".join(
        b"2026-11-24T10:00:00.%09dZ stdout F %s %032d\n" % (n, name, n) for n in range(first, first + count)
    )


def _moved_in(site: Site, stored: bytes) -> bytes:
    """Return a bookmark with paths, inodes and machine of this place; the framing is that of the release before."""
    path_of: dict[str, str] = {}
    entries, at = [], 0
    while at < len(stored):
        length, _ = struct.unpack_from("<II", stored, at)
        entry = msgspec.msgpack.decode(stored[at + 8 : at + 8 + length])
        at += 8 + length
        if "path" in entry:
            entry["path"] = path_of[entry["file_id"]] = entry["path"].replace("/node", str(site.root))
        if entry["type"] == "owner":
            entry["machine"] = _machine()
        entries.append(entry)
    moved = b""
    for entry in entries:
        if entry["type"] == "known":
            stat = Path(path_of[entry["file_id"]]).stat()
            entry |= {"device": stat.st_dev, "inode": stat.st_ino}
        payload = msgspec.msgpack.encode(entry)
        moved += struct.pack("<II", len(payload), zlib.crc32(payload)) + payload
    return moved


def _machine() -> str:
    try:
        return Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


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


@pytest.mark.xfail(strict=True, reason="a path is named as unreadable once, whichever file has it")
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

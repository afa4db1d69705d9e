"""Scenarios of the state folder: a full disk below it, the clock, a second collector, the release before."""

from __future__ import annotations

import asyncio
import struct
import zlib
from pathlib import Path

import msgspec
import pytest

from ashiato.adapters.bus import BusSettings
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.errors import SettingsError
from ashiato.core.ledger import Born, Config, Gap
from collector.service import Collector
from collector.settings import CollectorSettings
from tests.conformance.site import Site, descriptors
from tests.simulation.collector_node import chunks_of

HOUR_NS = 3_600_000_000_000


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


def start_and_fill_disk(site: Site, *, after_s: float) -> None:
    """Start a collector whose disk has no reserve, and leave it no room."""
    site.disk.reserves = False
    site.start()
    site.pass_time(after_s)
    site.disk.full = True


def test_k8_births_come_soon_after_the_disk_has_room(site: Site) -> None:
    """Whatever the pace of sweeps is on a node where nothing else moves."""
    start_and_fill_disk(site, after_s=33.3)
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
    start_and_fill_disk(site, after_s=3)
    site.truth.append(log := site.pod_log(), site.truth.lines("web", 50))
    site.pass_time(10)
    site.truth.unlink(log)
    site.pass_time(10)
    site.disk.full = False
    verdict = site.settled()
    assert verdict.bytes_held + verdict.bytes_in_gaps == verdict.bytes_written


@pytest.mark.xfail(strict=True, reason="nothing is swept before the beginning could be stated")
def test_k8_a_file_that_came_and_went_before_there_was_room_to_begin_is_named(site: Site) -> None:
    site.disk.reserves, site.disk.full = False, True
    site.start()
    site.pass_time(1)
    site.truth.append(log := site.pod_log(), site.truth.lines("web", 1))
    site.pass_time(20)
    site.disk.full = False
    site.truth.unlink(log)
    verdict = site.settled()
    assert verdict.bytes_in_gaps == verdict.bytes_written


def test_k8_a_disk_that_stays_full_costs_no_descriptors(site: Site) -> None:
    site.disk.reserves = False
    log = site.read_log(50, seconds=5)
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

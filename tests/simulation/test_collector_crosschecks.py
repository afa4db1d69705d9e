"""Loss that no single file shows, found by a running collector: stated once, also across a restart."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from ashiato.core.ids import Kind
from ashiato.core.ledger import Gap
from collector import vigil
from tests.simulation.collector_node import Node, until

DROP = (
    b'{"output":"Falco internal: syscall event drop. 7 system calls dropped in last second.",'
    b'"output_fields":{"n_drops":"7"},"rule":"Falco internal: syscall event drop","time":"2026-11-24T10:00:05.5Z"}\n'
)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    monkeypatch.setattr("collector.crosschecks.SETTLE_NS", 100_000_000)
    monkeypatch.setattr(vigil, "HEADROOM_INTERVAL_NS", 10_000_000)
    return Node(root=tmp_path)


def events(*serials: int) -> bytes:
    return b"".join(b"type=USER_CMD msg=audit(1795600000.%03d:%d): pid=1\n" % (n % 1000, n) for n in serials)


def gaps(node: Node) -> list[tuple[str, str, str]]:
    return [(gap.source.partition("/")[0], gap.reason, gap.detail) for gap in node.stated(Gap)]


async def test_losses_of_every_sort_are_stated_once_and_not_again_after_a_restart(node: Node) -> None:
    # given: a restart without its predecessors, a hole in auditd's numbers and in its rotations, a drop of Falco's
    node.write(node.pod_log("3.log"), b"2026-11-24T10:00:00Z stdout F x\n")
    audit = node.logs / "audit/audit.log"
    node.write(Path(f"{audit}.3"), events(1, 2))
    node.write(Path(f"{audit}.1"), events(3, 4))
    node.write(audit, events(5, 8))
    node.write(node.logs / "falco/events.json", b"start-up text\n" + DROP)
    expected = {
        ("container", "no_inode", "restarts 0 to 2 came before restart 3 and left no log that was seen"),
        ("auditd", "no_inode", f"rotation .2 beside {audit}.3 was not there when it was looked for"),
        ("auditd", "lost_upstream", "auditd never wrote 2 events, 6 to 7,"),
        ("falco", "lost_upstream", "Falco dropped 7 system calls (byte 14)"),
    }
    # when
    async with node.collector():
        await until(lambda: set(gaps(node)) >= expected)
        assert node.telemetry is not None
        assert node.telemetry.value("losses_found_total", reason="lost_upstream") == 2
    async with node.collector():
        node.write(audit, events(9, 11))
        node.write(node.pod_log("4.log"), b"2026-11-24T10:00:01Z stdout F y\n")
        late = ("auditd", "lost_upstream", "auditd never wrote event 10")
        await until(lambda: late in gaps(node))
        await until(lambda: len(node.files(Kind.CONTAINER)) == 2)
    # then
    assert sorted(gaps(node)) == sorted([*expected, late])
    files = {file_id.file_id for file_id in node.stated(Gap) if file_id.source.startswith(("container", "falco"))}
    assert "" not in files


async def test_headroom_is_told_while_a_container_writes(node: Node) -> None:
    log = node.pod_log()
    node.write(log, b"")
    async with node.collector(container_log_bytes_max=100_000, container_log_check_s=1.0):
        for _ in range(30):
            node.write(log, b"2026-11-24T10:00:00Z stdout F %s\n" % (b"x" * 900))
            await until(lambda: node.contents() == [log.read_bytes()])
        assert node.telemetry is not None
        telemetry = node.telemetry
        await until(lambda: 0 < telemetry.value("rotation_headroom_seconds") < 7 * 86_400)


def is_held(node: Node, events_written: int) -> bool:
    return b"".join(node.contents(Kind.AUDITD)).count(b"\n") == events_written


async def test_a_rotation_that_is_never_seen_by_name_is_no_hole_when_it_was_read(node: Node) -> None:
    audit = node.logs / "audit/audit.log"
    node.write(audit, events(1))
    async with node.collector():
        for turn in range(2, 6):
            for number in range(turn - 2, 0, -1):
                Path(f"{audit}.{number}").rename(f"{audit}.{number + 1}")
            audit.rename(f"{audit}.1")
            node.write(audit, events(turn))
            await until(functools.partial(is_held, node, turn))
    assert gaps(node) == []

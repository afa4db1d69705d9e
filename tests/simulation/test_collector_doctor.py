"""The doctor beside a running collector: it sees what is so, and changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from ashiato.adapters.bus import BusSettings
from collector.bookmark import remembered
from collector.doctor.command import examine
from collector.doctor.report import State
from collector.settings import CollectorSettings
from tests.simulation.collector_node import FlakyWriter, Node, until


def line(number: int) -> bytes:
    return b"2026-11-24T10:00:00.%09dZ stdout F x\n" % number


def bookmarked(node: Node) -> int:
    """Return how far the bookmark has the container's log."""
    files = remembered(node.state / "bookmark").files.values()
    return max((file.offset for file in files if file.known.source.startswith("container/")), default=0)


async def test_it_tells_what_a_running_collector_is_behind_with_and_does_not_disturb_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: a collector that has read a file, and whose bus is away now
    node = Node(root=tmp_path)
    log, writer = node.pod_log(), FlakyWriter(node.broker)
    node.write(log, line(0))
    settings = CollectorSettings(
        bus=BusSettings(path=str(tmp_path / "bus.db")), state_dir=str(node.state), roots=(str(node.logs),), node="n1",
        span_interval_s=0.01,
    )  # fmt: skip
    monkeypatch.setattr("collector.doctor.command.SETTLE_S", 0.0)
    async with node.collector(writer, span_interval_s=0.01):
        await until(lambda: bookmarked(node) == len(line(0)))
        before = await examine(settings, seconds=0.05)
        writer.away = True
        node.write(log, line(1) + line(2))
        await until(lambda: writer.refused > 0)
        # when
        state = (node.state / "lock").stat()
        report = await examine(settings, seconds=0.05)
        writer.away = False
        # then: it goes on as before
        await until(lambda: node.contents() == [line(0) + line(1) + line(2)])
        assert (node.state / "lock").stat() == state
    said = {finding.what: finding for finding in report.findings}
    assert said["collector"].said == "one runs on this state folder"
    assert said["unread bytes"].said.startswith(f"{len(line(1) + line(2))} bytes of 1 containers")
    assert "unread bytes" not in {finding.what for finding in before.findings}
    assert State.LOSS not in {finding.state for finding in before.findings if finding.what != "bus"}
    assert not list(node.state.glob(".doctor-*"))

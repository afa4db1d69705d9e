"""The incident's replay writes what its nodes wrote."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path

from ashiato.demo.replay import Script, replay, script, shifted


def told_time(start: int) -> Callable[[], int]:
    """Return a clock that leaps ahead whenever it is asked, so that a replay waits for nothing."""
    now = start

    def tell() -> int:
        nonlocal now
        now += 3_600_000_000_000
        return now

    return tell


def test_every_time_of_a_line_is_shifted_by_the_same_seconds() -> None:
    klog = b'2026-11-21T21:08:56.089713517Z stdout F I1121 21:08:56.089641       1 settle.go:88] "Settled"\n'
    falco = (
        b'{"output": "21:10:13.755507725: Notice", "output_fields": {"evt.time": 1795295413755812429}, '
        b'"time": "2026-11-21T21:10:13.755507725Z"}\n'
    )

    assert shifted(klog, 86_400 + 60) == (
        b'2026-11-22T21:09:56.089713517Z stdout F I1122 21:09:56.089641       1 settle.go:88] "Settled"\n'
    )
    assert shifted(falco, 60) == (
        b'{"output": "21:11:13.755507725: Notice", "output_fields": {"evt.time": 1795295473755812429}, '
        b'"time": "2026-11-21T21:11:13.755507725Z"}\n'
    )


def test_the_script_is_in_order_and_ends_the_deleted_pods() -> None:
    incident = script()

    times = [step.at_unix_nano for step in incident.steps]
    assert times == sorted(times)
    removed = [step.path for step in incident.steps if step.act == "remove"]
    assert len(removed) == 2
    for path in removed:
        own = [step for step in incident.steps if step.path.startswith(f"{path}/")]
        assert own
        assert max(step.at_unix_nano for step in own) < incident_end(incident, path)
    assert sum(step.act == "rotate" for step in incident.steps) == 2


def incident_end(incident: Script, path: str) -> int:
    return next(step.at_unix_nano for step in incident.steps if step.act == "remove" and step.path == path)


async def test_a_replay_leaves_what_a_node_would_have_left(tmp_path: Path) -> None:
    incident = script()
    told: list[float] = []

    await asyncio.wait_for(
        replay(incident, tmp_path, speed=200, now_unix_nano=told_time(1_800_000_000_000_000_000), progress=told.append),
        60,
    )

    pods = [path.name.split("_")[1] for path in tmp_path.glob("*/var/log/pods/*")]
    assert incident.facts["web_deleted"] not in pods
    assert incident.facts["evil"] not in pods
    assert incident.facts["web_kept"] in pods
    audit = (tmp_path / "control-plane/var/log/kubernetes/audit.log").read_bytes().splitlines()
    assert len(audit) == 1041
    assert all(json.loads(line)["auditID"] for line in audit)
    assert not re.search(rb"2026-11-21T21:0[89]", b"\n".join(audit))
    assert told[-1] == 1.0

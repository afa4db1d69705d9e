"""The whole line on one machine: four real processes over one folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ashiato.demo.replay import script
from ashiato.standalone import SERVICES

INCIDENT = script()
UID = "log.record.uid"


def ashiato(*arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "ashiato", *arguments], capture_output=True, check=False, timeout=timeout_s
    )


def answer(done: subprocess.CompletedProcess[bytes]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    assert done.returncode == 0, done.stderr.decode()
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return lines[:-1], lines[-1]["coverage"]


def told(records: Sequence[dict[str, Any]]) -> Counter[tuple[str, str]]:
    """What records say, without what differs from one replay to the next (ids, offsets, reading times)."""
    return Counter((str(record["ashiato.timeline.kind"]), _timeless(record)) for record in records)


def _timeless(record: dict[str, Any]) -> str:
    kept = ("audit_id", "user.name", "event.action", "k8s.container.name", "log.iostream", "security_rule.name")
    body = record.get("body", "") if record["ashiato.timeline.kind"] == "output" else record.get("event_name", "")
    return json.dumps([body, *(record.get(name) for name in kept)])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("demo") / "quiet"
    records, coverage = answer(ashiato("demo", "--data", str(folder), "--speed", "20", "--json"))
    return records, coverage, folder


def test_the_demo_tells_what_a_dead_pod_did(
    undisturbed: tuple[list[dict[str, Any]], dict[str, Any], Path],
) -> None:
    records, coverage, folder = undisturbed
    namespace, uid, node = INCIDENT.facts["pods"][INCIDENT.facts["web_deleted"]]
    pod = f"{namespace}_{INCIDENT.facts['web_deleted']}_{uid}"

    kinds = Counter(record["ashiato.timeline.kind"] for record in records)
    assert not (folder / "nodes" / node / "var/log/pods" / pod).exists()
    assert kinds["output"] == sum(pod in step.path and step.act == "append" for step in INCIDENT.steps)
    assert kinds["exec"] >= 1
    assert kinds["alert"] >= 1
    assert kinds["lifecycle"] >= 2
    assert coverage["complete"] is True
    assert coverage["legs"]
    assert len({record[UID] for record in records}) == len(records)


def test_a_folder_answers_when_nothing_runs_any_more(
    undisturbed: tuple[list[dict[str, Any]], dict[str, Any], Path],
) -> None:
    records, _, folder = undisturbed

    again, coverage = answer(
        ashiato("timeline", f"pod:{INCIDENT.deleted_pod}", "--data", str(folder), "--json", "--limit", "100000")
    )
    archived, _ = answer(
        ashiato(
            "timeline",
            f"pod:{INCIDENT.deleted_pod}",
            "--archive",
            str(folder / "archive"),
            "--json",
            "--limit",
            "100000",
        )
    )

    assert [record[UID] for record in again] == [record[UID] for record in records]
    assert [record[UID] for record in archived] == [record[UID] for record in records]
    assert coverage["complete"] is True


def test_logs_prints_what_kubectl_would_have_printed(
    undisturbed: tuple[list[dict[str, Any]], dict[str, Any], Path],
) -> None:
    _, _, folder = undisturbed
    name = str(INCIDENT.facts["web_deleted"])
    lines = [step.line for step in INCIDENT.steps if f"_{name}_" in step.path and step.act == "append"]

    done = ashiato("logs", name, "-n", "shop", "--data", str(folder))

    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == b"".join(line.split(b" ", 3)[3] for line in lines)


def test_the_same_is_told_when_every_process_is_killed_in_the_middle(
    undisturbed: tuple[list[dict[str, Any]], dict[str, Any], Path], tmp_path: Path
) -> None:
    quiet, _, _ = undisturbed
    folder = tmp_path / "killed"
    demo = subprocess.Popen(
        [sys.executable, "-m", "ashiato", "demo", "--data", str(folder), "--speed", "12", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        killed = [kill_once_it_works(folder, service) for service in SERVICES]
        stdout, stderr = demo.communicate(timeout=150)
    finally:
        demo.kill()
    records, coverage = answer(subprocess.CompletedProcess(demo.args, demo.returncode, stdout, stderr))

    assert all(killed)
    for service in SERVICES:
        assert f"{service} was killed by SIGKILL".encode() in stderr
    assert coverage["complete"] is True
    assert len({record[UID] for record in records}) == len(records)
    assert told(records) == told(quiet)


def kill_once_it_works(folder: Path, service: str) -> bool:
    """Kill -9 a service as soon as the replay is under way; each a little later than the one before."""
    pid_file, deadline = folder / "run" / f"{service}.pid", time.monotonic() + 60
    started = folder / "nodes" / "node-1"
    while time.monotonic() < deadline:
        if pid_file.exists() and started.exists():
            os.kill(int(pid_file.read_text()), signal.SIGKILL)
            waits = time.monotonic() + 1.5
            while time.monotonic() < waits:
                time.sleep(0.1)
            return True
        time.sleep(0.05)
    return False

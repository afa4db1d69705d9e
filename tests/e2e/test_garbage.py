"""Whatever a node writes is kept, named and counted, and no process dies of it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.line import until

POD = "var/log/pods/shop_odd_11111111-2222-3333-4444-555555555555/app"
HEAD = b"2026-11-24T10:00:00.000000001Z stdout F "
GARBAGE = {
    f"{POD}/0.log": HEAD + b"\xff\xfe\x80 not UTF-8\n",
    f"{POD}-nul/0.log": HEAD + b"a\0b\0c\n" + b"\0" * 64 + b"\n",
    f"{POD}-empty/0.log": b"",
    f"{POD}-long/0.log": HEAD + b"0123456789" * 1_000_000 + b"\n" + HEAD + b"after the long line\n",
    f"{POD}-half/0.log": HEAD + b"whole\n2026-11-24T10:00:01.0Z stdo\n",
    f"{POD}-wide/0.log": HEAD + json.dumps({f"field{n}": {"deep": n} for n in range(10_000)}).encode() + b"\n",
    f"{POD}-deep/0.log": HEAD + b"[" * 50_000 + b"]" * 50_000 + b"\n",
    f"{POD}-year/0.log": b"9999-12-31T23:59:59.999999999Z stderr F beyond the end of time\n",
    "var/log/kubernetes/audit.log": b'{"kind":"Event","auditID":"x"\nnot json at all\n{"auditID": 7, "stage": []}\n',
    "var/log/falco/events.json": b'Falco starting up\n{"rule": 1, "output": null}\n',
}


@pytest.fixture
def up(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """An Ashiato that follows the garbage; (data folder, folder of the logs)."""
    logs, data = tmp_path / "logs", tmp_path / "data"
    for name, content in GARBAGE.items():
        path = logs / "n1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with (tmp_path / "up.log").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "ashiato", "up", str(logs), "--data", str(data)], stdout=said, stderr=said
        )
    try:
        yield data, logs
        assert process.poll() is None
    finally:
        process.terminate()
        process.wait(60)
    assert process.returncode == 0
    told = (tmp_path / "up.log").read_text(encoding="utf-8")
    assert "started again" not in told, told


def ask(data: Path, *arguments: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "ashiato", *arguments, "--data", str(data), "--json"], capture_output=True, check=False,
        timeout=120,
    )  # fmt: skip
    if done.returncode:
        raise OSError(done.stderr.decode())
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return lines[:-1], lines[-1]["coverage"]


def raw_log(data: Path, container: str) -> bytes:
    done = subprocess.run(
        [sys.executable, "-m", "ashiato", "logs", "odd", "-c", container, "--raw", "--data", str(data)],
        capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    if done.returncode:
        raise OSError(done.stderr.decode())
    return done.stdout


def test_garbage_is_kept_named_and_counted(up: tuple[Path, Path]) -> None:
    """P1, Q4."""
    data, logs = up
    for name, content in GARBAGE.items():
        if name.startswith(POD) and content:
            container = name.removesuffix("/0.log").rpartition("/")[2]
            until(lambda c=container, b=content: raw_log(data, c) == b, f"{name} comes back byte for byte")

    quarantined, _ = ask(data, "search", "flags:quarantined", "--limit", "1000")
    bodies = [record.get("body", "") for record in quarantined]
    assert "not json at all" in bodies
    assert any(body.startswith("2026-11-24T10:00:01.0Z stdo") for body in bodies)
    odd, _ = ask(data, "search", "k8s.container.name:app AND kind:container", "--limit", "10")
    assert base64.b64decode(odd[0]["log.record.original"]["base64"]) == GARBAGE[f"{POD}/0.log"]
    long, _ = ask(data, "search", "after AND long AND line")
    assert [record["k8s.container.name"] for record in long] == ["app-long"]
    deep, _ = ask(data, "search", "field9999.deep:9999", "--limit", "10")
    assert [record["k8s.container.name"] for record in deep] == ["app-wide"]

    # A file that shrinks: what was read stays, what is written next is another file's, and both are named.
    log = logs / "n1" / POD / "0.log"
    log.write_bytes(HEAD + b"anew\n")
    until(lambda: ask(data, "search", "anew")[0], "what follows a shrinking is there")

    def is_named() -> bool:
        closed, _ = ask(data, "search", "event_name:ashiato.ledger.closed", "--limit", "100")
        return any('"reason":"truncated"' in record["body"] for record in closed)

    until(is_named, "the shrinking is named")
    kept, coverage = ask(data, "search", "k8s.container.name:app AND kind:container", "--limit", "10")
    assert len(kept) == 2
    assert coverage["intervals"]

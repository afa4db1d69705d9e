"""Docker's own files as facts: name, image and times, and nothing that may be a secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ashiato.adapters.clock import SystemClock
from collector.discovery import Root, sweep
from collector.docker import FILE_NAME, DockerFacts

ID = "ab" * 32


def container(root: Path, *, container_id: str = ID, name: str = "/web", running: bool = True) -> Path:
    """Write what dockerd writes; its secrets included."""
    folder = root / "containers" / container_id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{container_id}-json.log").write_bytes(b'{"log":"x\\n"}\n')
    config = {
        "StreamConfig": {}, "ID": container_id, "Created": "2026-11-24T10:00:00.123456789Z", "Managed": False,
        "Path": "sh", "Args": ["-c", "echo hunter2"], "Name": name, "Image": "sha256:" + "cd" * 32,
        "Config": {"Image": "nginx:1.27", "Env": ["PASSWORD=hunter2"], "Labels": {"team": "shop"}, "Hostname": "abab"},
        "State": {
            "Running": running, "ExitCode": 0, "StartedAt": "2026-11-24T10:00:01Z",
            "FinishedAt": "0001-01-01T00:00:00Z", "OOMKilled": False,
        },
        "RestartCount": 2, "LogPath": str(folder / f"{container_id}-json.log"),
    }  # fmt: skip
    temporary = folder / ".tmp-config"
    temporary.write_text(json.dumps(config))
    temporary.rename(folder / "config.v2.json")
    return folder


def take(facts: DockerFacts, root: Path) -> int:
    return facts.take(sweep([Root(path=root, cluster="c", node="n")]).candidates)


def stated(facts: DockerFacts) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (facts.folder / FILE_NAME).read_bytes().splitlines()]


def test_name_image_and_times_are_stated_and_no_secret(tmp_path: Path) -> None:
    container(tmp_path / "docker")
    facts = DockerFacts(tmp_path / "state", clock=SystemClock())
    assert take(facts, tmp_path / "docker") == 1
    (line,) = stated(facts)
    told = line["object"]
    assert (line["type"], told["kind"], told["metadata"]["uid"], told["metadata"]["name"]) == (
        "ADDED", "Container", ID, "web",
    )  # fmt: skip
    assert (told["spec"]["image"], told["spec"]["imageID"]) == ("nginx:1.27", "sha256:" + "cd" * 32)
    assert told["metadata"]["creationTimestamp"] == "2026-11-24T10:00:00.123456789Z"
    assert told["status"]["startedAt"] == "2026-11-24T10:00:01Z"
    assert "finishedAt" not in told["status"]
    assert "hunter2" not in (facts.folder / FILE_NAME).read_text()


def test_only_what_changed_is_stated_and_a_removed_container_is_said(tmp_path: Path) -> None:
    folder = container(tmp_path / "docker")
    facts = DockerFacts(tmp_path / "state", clock=SystemClock())
    assert take(facts, tmp_path / "docker") == 1
    assert take(facts, tmp_path / "docker") == 0
    container(tmp_path / "docker", running=False)
    assert take(facts, tmp_path / "docker") == 1
    # a new process remembers what was stated
    facts = DockerFacts(tmp_path / "state", clock=SystemClock())
    assert take(facts, tmp_path / "docker") == 0
    for path in folder.iterdir():
        path.unlink()
    container(tmp_path / "docker", container_id="ef" * 32)
    assert take(facts, tmp_path / "docker") == 2
    assert [line["type"] for line in stated(facts)] == ["ADDED", "MODIFIED", "ADDED", "DELETED"]


def test_a_file_that_is_no_json_is_tried_again(tmp_path: Path) -> None:
    folder = container(tmp_path / "docker")
    whole = (folder / "config.v2.json").read_bytes()
    (folder / "config.v2.json").write_bytes(whole[:50])
    facts = DockerFacts(tmp_path / "state", clock=SystemClock())
    assert take(facts, tmp_path / "docker") == 0
    (folder / "config.v2.json").write_bytes(whole)
    assert take(facts, tmp_path / "docker") == 1


def test_a_torn_line_stays_one_of_its_own(tmp_path: Path) -> None:
    container(tmp_path / "docker")
    facts = DockerFacts(tmp_path / "state", clock=SystemClock())
    facts.folder.mkdir()
    (facts.folder / FILE_NAME).write_bytes(b'{"type":"ADD')
    assert take(facts, tmp_path / "docker") == 1
    assert json.loads((facts.folder / FILE_NAME).read_bytes().splitlines()[1])["type"] == "ADDED"

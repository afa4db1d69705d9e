"""What docker's own files say of its containers: name, image and times, stated as facts that travel like any source.

A container's log path tells nothing but its id. Beside the log lies ``config.v2.json``; what it says of name, image,
labels and times is written as a line of a watch stream (kind watch) when it changes, and nothing else of it: it
holds environment and arguments, which may hold secrets. The source's own name stays made from the id, which never
changes, where a name may.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from ashiato.adapters import files
from ashiato.core.ids import Kind
from ashiato.core.ports import Clock
from collector.append_file import AppendFile
from collector.discovery import Candidate

NAMESPACE: Final = "docker"
FILE_NAME: Final = "docker.watch.jsonl"
ROTATE_BYTES: Final = 4 * 1024 * 1024
CONFIG_BYTES_MAX: Final = 1024 * 1024
_NEVER: Final = "0001-01-01T00:00:00Z"


class _State(msgspec.Struct, rename="pascal"):
    running: bool = False
    exit_code: int = 0
    started_at: str = _NEVER
    finished_at: str = _NEVER
    o_o_m_killed: bool = msgspec.field(name="OOMKilled", default=False)


class _Config(msgspec.Struct, rename="pascal"):
    image: str = ""
    labels: dict[str, str] | None = None
    hostname: str = ""


class _Container(msgspec.Struct, rename="pascal"):
    """The part of ``config.v2.json`` that is read."""

    container_id: str = msgspec.field(name="ID")
    name: str = ""
    created: str = ""
    image: str = ""
    config: _Config = msgspec.field(default_factory=_Config)
    state: _State = msgspec.field(default_factory=_State)
    restart_count: int = 0


class _Line(msgspec.Struct):
    type: str
    object: dict[str, Any]


class DockerFacts:
    """Watches docker's files and writes what changed in them."""

    def __init__(self, folder: Path, *, clock: Clock) -> None:
        self.folder = folder
        self._clock = clock
        self._seen: dict[str, tuple[int, int]] = {}
        """Of each container, the state of its file when it was read."""
        self._stated: dict[str, str] | None = None
        """Of each container, the digest of what was stated."""

    def take(self, candidates: Iterable[Candidate]) -> int:
        """State what changed of the containers whose logs a whole sweep saw; return how many lines that made.

        Raises TransientError where the disk is full; the next sweep tries again.
        """
        logs = {c.found.source.pod_uid: c for c in candidates if _is_docker(c)}
        if not logs and not self._seen:
            return 0
        stated = self._recall() if self._stated is None else self._stated
        lines, seen, after = [], dict(self._seen), dict(stated)
        for container_id, candidate in logs.items():
            path = Path(candidate.os_path).with_name("config.v2.json")
            if (told := self._read(path, seen.get(container_id))) is None:
                continue
            seen[container_id], facts = told
            digest = _digest(facts)
            if after.get(container_id) != digest:
                lines.append(self._line("MODIFIED" if container_id in after else "ADDED", facts))
                after[container_id] = digest
        for gone in [container_id for container_id in after if container_id not in logs]:
            lines.append(self._line("DELETED", _object(gone, {}, {}, {})))
            seen.pop(gone, None)
            del after[gone]
        self._append(lines)
        self._seen, self._stated = seen, after
        return len(lines)

    def _read(self, path: Path, before: tuple[int, int] | None) -> tuple[tuple[int, int], dict[str, Any]] | None:
        """Return what docker says now; None where it says what it said, or nothing that can be read."""
        try:
            stat = path.lstat()
            state = stat.st_mtime_ns, stat.st_ino
            if state == before or stat.st_size > CONFIG_BYTES_MAX:
                return None
            container = msgspec.json.decode(path.read_bytes(), type=_Container)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            # Docker puts a new file in the place of the old one: what cannot be read now can be soon.
            return None
        return state, _facts(container)

    def _line(self, kind: str, facts: dict[str, Any]) -> bytes:
        told = {"type": kind, "object": facts, "observed_time_unix_nano": str(self._clock.now_unix_nano())}
        return msgspec.json.encode(told) + b"\n"

    def _append(self, lines: list[bytes]) -> None:
        if not lines:
            return
        path = self.folder / FILE_NAME
        try:
            if path.exists() and path.stat().st_size > ROTATE_BYTES:
                path.rename(path.with_name(f"{FILE_NAME}.1"))
            file = AppendFile(path)
        except OSError as error:
            raise files.disk_error(error, path) from error
        try:
            # A line that a crash has torn stays one of its own.
            torn = file.size and not path.read_bytes().endswith(b"\n")
            file.append((b"\n" if torn else b"") + b"".join(lines))
        finally:
            file.close()

    def _recall(self) -> dict[str, str]:
        """Return what was stated before this process began."""
        stated: dict[str, str] = {}
        for name in (f"{FILE_NAME}.1", FILE_NAME):
            try:
                lines = (self.folder / name).read_bytes().splitlines()
            except OSError:
                continue
            for raw in lines:
                try:
                    line = msgspec.json.decode(raw, type=_Line)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue
                container_id = str(line.object.get("metadata", {}).get("uid", ""))
                if line.type == "DELETED":
                    stated.pop(container_id, None)
                else:
                    stated[container_id] = _digest(line.object)
        return stated


def _is_docker(candidate: Candidate) -> bool:
    source = candidate.found.source
    return source.kind is Kind.CONTAINER and source.namespace == NAMESPACE and not candidate.linked


def _facts(container: _Container) -> dict[str, Any]:
    config, state = container.config, container.state
    times = {"startedAt": state.started_at, "finishedAt": state.finished_at}
    return _object(
        container.container_id,
        {
            "name": container.name.removeprefix("/"),
            **({"creationTimestamp": container.created} if container.created else {}),
            **({"labels": config.labels} if config.labels else {}),
        },
        {"image": config.image, "imageID": container.image, "hostname": config.hostname},
        {
            "running": state.running, "exitCode": state.exit_code, "oomKilled": state.o_o_m_killed,
            "restartCount": container.restart_count,
            **{name: time for name, time in times.items() if time and time != _NEVER},
        },
    )  # fmt: skip


def _object(
    container_id: str, metadata: dict[str, Any], spec: dict[str, Any], status: dict[str, Any]
) -> dict[str, Any]:
    return {
        "apiVersion": "docker/config.v2", "kind": "Container",
        "metadata": {"uid": container_id, "namespace": NAMESPACE, **metadata}, "spec": spec, "status": status,
    }  # fmt: skip


def _digest(facts: dict[str, Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(facts, order="sorted")).hexdigest()

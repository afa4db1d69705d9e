"""The recorded incident, written live: as its two nodes and its control plane wrote it, at several times their speed.

Every time in the lines is shifted by one number of whole seconds, so that the incident ends when the replay does.
The pod's log file is rotated twice while it is written, and all files of a pod are removed when the pod is deleted,
as the kubelet does.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import resources
from importlib.resources.abc import Traversable
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal

_NS: Final = 1_000_000_000
_STAMP: Final = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?Z")
_KLOG: Final = re.compile(rb"(?<= F [IWEF])(\d{4} \d\d:\d\d:\d\d)(?=\.\d{6} )")
_FALCO_OUTPUT: Final = re.compile(rb'(?<="output": ")(\d\d:\d\d:\d\d)(?=\.\d{9}:)')
_FALCO_NANOS: Final = re.compile(rb'(?<="evt\.time": )(\d{19})')
_ROTATIONS_BEFORE_END_S: Final = (80, 40)
"""When the deleted pod's file is rotated, in incident seconds before its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that happens on a node, ``at_unix_nano`` of the recording."""

    at_unix_nano: int
    path: str
    """Relative to the folder that is written: ``<node>/var/log/...``."""
    act: Literal["append", "rotate", "remove"]
    line: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """The whole incident in order."""

    steps: tuple[Step, ...]
    facts: Mapping[str, Any]

    @property
    def start_unix_nano(self) -> int:
        """When it began."""
        return self.steps[0].at_unix_nano

    @property
    def end_unix_nano(self) -> int:
        """When it ended."""
        return self.steps[-1].at_unix_nano

    @property
    def deleted_pod(self) -> str:
        """``namespace/name`` of the pod that the story is about."""
        name = str(self.facts["web_deleted"])
        return f"{self.facts['pods'][name][0]}/{name}"


def script() -> Script:
    """Return the recorded incident."""
    root = resources.files("ashiato.demo") / "incident"
    facts: Mapping[str, Any] = json.loads((root / "facts.json").read_text(encoding="utf-8"))
    steps: list[Step] = []
    for path, content in _log_files(root):
        steps += _appends(path, content)
    for name in (facts["web_deleted"], facts["evil"]):
        steps += _endings(steps, str(name))
    return Script(steps=tuple(sorted(steps, key=lambda step: step.at_unix_nano)), facts=facts)


async def replay(
    script_: Script,
    folder: Path,
    *,
    speed: float,
    now_unix_nano: Callable[[], int],
    progress: Callable[[float], None] = lambda _: None,
) -> None:
    """Write the incident below ``folder``, ``speed`` times as fast as it happened. ``progress`` is told 0 to 1."""
    lasts_ns = int((script_.end_unix_nano - script_.start_unix_nano) / speed)
    started = now_unix_nano()
    shift_s = -((script_.end_unix_nano - started - lasts_ns) // _NS)
    for step in script_.steps:
        due = started + int((step.at_unix_nano - script_.start_unix_nano) / speed)
        while (wait_ns := due - now_unix_nano()) > 0:
            await asyncio.sleep(min(wait_ns / _NS, 0.25))
            progress((now_unix_nano() - started) / max(lasts_ns, 1))
        _perform(step, folder, shift_s)
    progress(1.0)


def shifted(line: bytes, shift_s: int) -> bytes:
    """Return a line with every time in it moved by whole seconds."""
    by = timedelta(seconds=shift_s)

    def stamp(match: re.Match[bytes]) -> bytes:
        moved = datetime.strptime(match[1].decode(), "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC) + by
        return moved.strftime("%Y-%m-%dT%H:%M:%S").encode() + (match[2] or b"") + b"Z"

    whole = _STAMP.search(line)
    year = int(whole[1][:4]) if whole else 2000
    day = datetime.strptime((whole[1][:10] if whole else b"2000-01-01").decode(), "%Y-%m-%d").replace(tzinfo=UTC)

    def klog(match: re.Match[bytes]) -> bytes:
        moved = datetime.strptime(f"{year}{match[1].decode()}", "%Y%m%d %H:%M:%S").replace(tzinfo=UTC) + by
        return moved.strftime("%m%d %H:%M:%S").encode()

    def clock(match: re.Match[bytes]) -> bytes:
        hours, minutes, seconds = map(int, match[1].split(b":"))
        return (day + timedelta(hours=hours, minutes=minutes, seconds=seconds) + by).strftime("%H:%M:%S").encode()

    line = _KLOG.sub(klog, line)
    line = _FALCO_OUTPUT.sub(clock, line)
    line = _FALCO_NANOS.sub(lambda match: str(int(match[1]) + shift_s * _NS).encode(), line)
    return _STAMP.sub(stamp, line)


def _perform(step: Step, folder: Path, shift_s: int) -> None:
    path = folder / step.path
    if step.act == "remove":
        shutil.rmtree(path, ignore_errors=True)
        return
    if step.act == "rotate":
        stamp = datetime.fromtimestamp(step.at_unix_nano // _NS + shift_s, UTC).strftime("%Y%m%d-%H%M%S")
        path.rename(path.with_name(f"{path.name}.{stamp}"))
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(shifted(step.line, shift_s))


def _log_files(root: Traversable, below: str = "") -> Iterator[tuple[str, bytes]]:
    """Yield (path as a node would have it, content) of every log of the recording."""
    for entry in sorted(root.iterdir(), key=lambda item: item.name):
        path = f"{below}{entry.name}"
        if entry.is_dir():
            yield from _log_files(entry, f"{path}/")
        elif path == "control-plane/audit.log":
            yield "control-plane/var/log/kubernetes/audit.log", entry.read_bytes()
        elif path.endswith(".watch.jsonl"):
            yield f"control-plane/var/log/ashiato/{path}", entry.read_bytes()
        elif "/var/log/" in path:
            yield path, entry.read_bytes()


def _appends(path: str, content: bytes) -> list[Step]:
    lines = content.splitlines(keepends=True)
    times = list(_line_times(lines))
    return [
        Step(at_unix_nano=time, path=path, act="append", line=line) for line, time in zip(lines, times, strict=True)
    ]


def _line_times(lines: Iterable[bytes]) -> Iterator[int]:
    """Yield when each line was written: the newest time in it, but never before the line in front of it.

    Lines that tell no time at a file's start were written with the first that does.
    """
    times, newest = [], 0
    for line in lines:
        stamps = _STAMP.findall(line[:64] if line[:1].isdigit() else line)
        newest = max([newest, *(_unix_nano(stamp, fraction) for stamp, fraction in stamps)])
        times.append(newest)
    first = next((time for time in times if time), 0)
    yield from (time or first for time in times)


def _unix_nano(stamp: bytes, fraction: bytes) -> int:
    seconds = int(datetime.strptime(stamp.decode(), "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp())
    return seconds * _NS + int((fraction[1:] + b"000000000")[:9])


def _endings(steps: list[Step], pod: str) -> list[Step]:
    """Return the rotations of a pod's file and the removal of its folder when the pod was deleted."""
    own = [step for step in steps if f"_{pod}_" in step.path]
    path, last = own[0].path, own[-1].at_unix_nano
    gone = max(
        (step.at_unix_nano for step in steps if step.path.endswith("pods.watch.jsonl") and _deletes(step.line, pod)),
        default=last,
    )
    endings = [Step(at_unix_nano=max(last, gone) + 1, path=str(Path(path).parent.parent), act="remove")]
    rotations = [last - before_s * _NS for before_s in _ROTATIONS_BEFORE_END_S]
    for rotation, following in pairwise([*rotations, last]):
        before = any(step.at_unix_nano < rotation for step in own)
        if before and any(rotation < step.at_unix_nano < following for step in own):
            endings.append(Step(at_unix_nano=rotation, path=path, act="rotate"))
    return endings


def _deletes(line: bytes, pod: str) -> bool:
    event = json.loads(line)
    return bool(event["type"] == "DELETED" and event["object"]["metadata"].get("name") == pod)

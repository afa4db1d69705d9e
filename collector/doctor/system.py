"""The node around the collector: its state folder, its limits, its clock, its bus, and its container runtime."""

from __future__ import annotations

import asyncio
import os
import resource
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from ashiato.adapters.bus import BusSettings, open_writer
from ashiato.adapters.clock import clock_state
from ashiato.core.errors import AshiatoError, NotHeldError
from ashiato.core.ids import TOPICS
from collector.discovery import Candidate
from collector.doctor.report import Finding, State
from collector.generation import generation_of

STATE_BYTES_FREE_MIN: Final = 256 * 1024 * 1024
BUS_TIMEOUT_S: Final = 20.0
DESCRIPTORS_ELSE: Final = 128
"""Descriptors that are not log files."""
_VOLATILE: Final = ("tmpfs", "ramfs", "overlay")


# -- state folder --------------------------------------------------------------------------------------------


def state_folder(state: Path, logs: Iterable[str]) -> list[Finding]:
    """Try whether the bookmark's folder can be written durably, and say what threatens it."""
    if not state.exists():
        parent = next(folder for folder in state.parents if folder.exists())
        may = os.access(parent, os.W_OK | os.X_OK)
        said = f"{state} is not there yet; {parent} {'lets' if may else 'does not let'} it be made"
        return [Finding(what="state_dir", state=State.WARNING if may else State.LOSS, said=said)]
    probe = state / f".doctor-{secrets.token_hex(8)}"
    try:
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, b"\0" * 4096)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            probe.unlink(missing_ok=True)
    except OSError as error:
        said = f"{state} cannot be written durably: {error.strerror}"
        return [Finding(what="state_dir", state=State.LOSS, said=said, remedy="nothing can be shipped without it")]
    return [_room(state), *_volatile(state), *_shared(state, logs)]


def _room(state: Path) -> Finding:
    free = os.statvfs(state)
    left = free.f_bavail * free.f_frsize
    if left < STATE_BYTES_FREE_MIN:
        said = f"writable and durable, but {left} bytes are left on its disk"
        return Finding(what="state_dir", state=State.LOSS, said=said, remedy="births wait where it is full")
    return Finding(what="state_dir", state=State.WELL, said=f"writable, fsynced; {left} bytes free")


def _volatile(state: Path) -> Iterator[Finding]:
    kind = _file_system(state)
    if kind in _VOLATILE:
        said = f"lies on {kind}, which does not outlive the {'container' if kind == 'overlay' else 'machine'}"
        yield Finding(
            what="state_dir", state=State.LOSS, said=said,
            remedy="mount a folder of the node: a lost bookmark means that all is sent again",
        )  # fmt: skip


def _shared(state: Path, logs: Iterable[str]) -> Iterator[Finding]:
    device = state.stat().st_dev
    for path in logs:
        if (found := Path(path)).exists() and found.stat().st_dev == device:
            said = f"lies on the disk of {path}: a flood of logs leaves no room for it"
            yield Finding(what="state_dir", state=State.WARNING, said=said)
            return


def _file_system(path: Path) -> str:
    """Return the type of the file system that a path lies on; '' where it is not told."""
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2:3] == [wanted]:
            return after.split()[0]
    return ""


def running(state: Path) -> Finding:
    """Say whether a collector holds the state folder, without touching its lock."""
    what = "collector"
    try:
        lock = (state / "lock").stat()
        locks = Path("/proc/locks").read_text(encoding="ascii", errors="replace")
    except OSError:
        return Finding(what=what, state=State.WELL, said="none has run on this state folder")
    place = f"{os.major(lock.st_dev):02x}:{os.minor(lock.st_dev):02x}:{lock.st_ino}"
    if any(place in line.split() for line in locks.splitlines()):
        return Finding(what=what, state=State.WELL, said="one runs on this state folder")
    return Finding(
        what=what, state=State.WARNING, said="none runs on this state folder now, and one has",
        remedy="the safe outage has begun",
    )  # fmt: skip


# -- limits --------------------------------------------------------------------------------------------------


def limits(files: int, folders: int, proc: Path = Path("/proc")) -> list[Finding]:
    """Hold the system's limits against what there is to follow."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = hard == resource.RLIM_INFINITY or hard >= files + DESCRIPTORS_ELSE
    descriptors = Finding(
        what="open files", state=State.WELL if enough else State.WARNING, said=f"{files} files, limit {hard}",
        remedy="" if enough else "raise RLIMIT_NOFILE: files beyond it wait, and may be rotated away meanwhile",
    )  # fmt: skip
    found = [descriptors]
    for name, needed in (("max_user_watches", folders + 8), ("max_user_instances", 1)):
        try:
            limit = int((proc / "sys/fs/inotify" / name).read_text())
        except (OSError, ValueError):
            continue
        if limit < needed:
            said = f"{name} is {limit}, {needed} are wanted: new files are seen by sweeps only"
            found.append(Finding(what="inotify", state=State.WARNING, said=said, remedy=f"raise fs.inotify.{name}"))
    if not found[1:]:
        found.append(Finding(what="inotify", state=State.WELL, said=f"{folders} folders fit the limits"))
    return found


def generations(candidates: Iterable[Candidate]) -> list[Finding]:
    """Say of each file system whether it tells a reused inode from the file before."""
    tried: dict[int, bool] = {}
    for candidate in candidates:
        if candidate.identity[0] in tried:
            continue
        try:
            descriptor = os.open(candidate.os_path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            continue
        try:
            tried[candidate.identity[0]] = generation_of(descriptor) != 0
        finally:
            os.close(descriptor)
    said = {True: "are told by the file system", False: "are not told: heads and guards alone tell files apart"}
    return [
        Finding(
            what="inode generations", state=State.WELL if tells else State.WARNING,
            said=f"{said[tells]} (device {os.major(device)}:{os.minor(device)})",
        )
        for device, tells in sorted(tried.items())
    ]  # fmt: skip


def clock() -> Finding:
    """Say whether the clock is kept right."""
    state = clock_state()
    if state == "synchronised":
        return Finding(what="clock", state=State.WELL, said=state)
    return Finding(
        what="clock", state=State.WARNING, said=state,
        remedy="times of reading are evidence: run chrony, or another NTP client",
    )  # fmt: skip


# -- bus -----------------------------------------------------------------------------------------------------


async def bus(settings: BusSettings) -> list[Finding]:
    """Ask the bus what a writer asks before it writes. That it may write is known only once it has."""
    if settings.kind == "sqlite" and not await asyncio.to_thread(Path(settings.path).exists):
        said = f"{settings.path} is not there yet"
        return [Finding(what="bus", state=State.WARNING, said=said, remedy="the first service makes it")]
    try:
        async with asyncio.timeout(BUS_TIMEOUT_S):
            return [await _topics(settings)]
    except (AshiatoError, TimeoutError, OSError) as error:
        said = f"does not answer: {str(error) or 'too late'}"
        return [Finding(what="bus", state=State.LOSS, said=said, remedy="bytes wait in their files until rotation")]


async def _topics(settings: BusSettings) -> Finding:
    writer = await open_writer(settings)
    try:
        told = []
        for topic in TOPICS:
            try:
                told.append(f"{topic} has {await writer.partitions(topic)} partitions")
            except NotHeldError:
                said = f"answers, and has no topic {topic}"
                return Finding(what="bus", state=State.LOSS, said=said, remedy="retention makes the topics")
    finally:
        await writer.close()
    return Finding(what="bus", state=State.WELL, said=f"answers; {', '.join(told)} (nothing was written)")


# -- docker --------------------------------------------------------------------------------------------------


class _LogConfig(msgspec.Struct, frozen=True):
    type: str = msgspec.field(name="Type", default="")
    options: dict[str, str] | None = msgspec.field(name="Config", default=None)


class _HostConfig(msgspec.Struct, frozen=True):
    log: _LogConfig | None = msgspec.field(name="LogConfig", default=None)


def docker(roots: Iterable[str]) -> list[Finding]:
    """Say which containers of Docker write where nobody can read, or without a limit."""
    by_fault: dict[str, list[str]] = {}
    for root in roots:
        try:
            configurations = sorted(Path(root).glob("*/hostconfig.json"))
        except OSError:
            continue
        for path in configurations:
            try:
                log = msgspec.json.decode(path.read_bytes(), type=_HostConfig).log
            except (OSError, msgspec.DecodeError):
                continue
            if log is not None and (fault := _fault(log)):
                by_fault.setdefault(fault, []).append(path.parent.name[:12])
    return [_docker_finding(fault, names) for fault, names in sorted(by_fault.items())]


def _fault(log: _LogConfig) -> str:
    if log.type == "json-file":
        return "" if (log.options or {}).get("max-size", "-1") != "-1" else "json-file"
    return log.type


def _docker_finding(driver: str, names: Sequence[str]) -> Finding:
    which = f"{len(names)} containers ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
    if driver == "json-file":
        said = f"{which} write without rotation: their logs fill the disk"
        return Finding(what="docker", state=State.WARNING, said=said, remedy="set log-opts max-size and max-file")
    why = "a binary format of its own" if driver == "local" else f"what the {driver} driver takes, and no file"
    return Finding(
        what="docker", state=State.LOSS, said=f"{which} write {why}: it is not collected",
        remedy='use the log driver "json-file" for them',
    )  # fmt: skip

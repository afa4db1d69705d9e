"""The pinner: looks at the log folders five times a second and links each new file, by its descriptor.

Never by its path: between opening and linking the kubelet renames, and a pin by path then holds another file. Standard
library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ashiato.adapters.clock import SystemClock
from collector.generation import generation_of

LOG_NAME: Final = re.compile(r"\.(?:log|jsonl?|txt|ndjson)(?:[.-]\d[0-9T.:_-]*)?\Z")
DEPTH_MAX: Final = 12
FROM: Final = ".from"
GONE: Final = ".gone"
_AT_FDCWD: Final = -100
_AT_SYMLINK_FOLLOW: Final = 0x400
NO_LOGS: Final = ("config.v2.json", "hostconfig.json")
"""Docker's own files, which it replaces all the time: nobody follows them, so nobody would let their pins go."""
STAMP_SURE_NS: Final = 2_000_000_000
"""A folder that was changed this lately may have changed again within one step of its clock."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What pins may hold that nothing else does."""

    bytes_max: int
    free_share_min: float
    """Share of the file system that must stay free; beyond it, pins go."""


class Pinner:
    """Of one folder of pins."""

    def __init__(self, roots: Sequence[str], pins: str, budget: Budget) -> None:
        self._roots = roots
        self._pins = pins
        self._budget = budget
        self._clock = SystemClock()
        self._folders: dict[str, tuple[int, list[str]]] = {}
        """Modification time and folders of each folder that need not be listed until it changes."""
        self._refused: set[str] = set()

    def sweep(self) -> int:
        """Pin every log file that has no pin yet; return how many there were."""
        before, self._folders = self._folders, {}
        return sum(self._pin(path) for root in self._roots for path in self._files(root, 0, before))

    def keep_budget(self) -> int:
        """Give up pins that are the only name of their file, the oldest first, while they hold too much."""
        alone = []
        for name in sorted(entry.name for entry in os.scandir(self._pins)):
            if name.endswith((FROM, GONE)):
                continue
            try:
                found = os.lstat(f"{self._pins}/{name}")
            except FileNotFoundError:
                # The collector has done with it.
                continue
            if found.st_nlink == 1:
                alone.append((found.st_mtime_ns, found.st_blocks * 512, found.st_size, name))
        held = sum(size for _, size, _, _ in alone)
        space = os.statvfs(self._pins)
        wanting = int(space.f_blocks * space.f_frsize * self._budget.free_share_min) - space.f_bavail * space.f_frsize
        over = max(held - self._budget.bytes_max, min(wanting, held))
        given_up = 0
        for _, size, length, name in sorted(alone):
            if over <= 0:
                break
            pin = Path(self._pins, name)
            # First it is said, then it is done: a crash in between is made up for by the next turn.
            with contextlib.suppress(FileNotFoundError):
                pin.with_name(name + FROM).rename(pin.with_name(f"{name}-{length}{GONE}"))
            pin.unlink(missing_ok=True)
            say("pin_given_up", level="error", pin=name, bytes=length)
            over -= size
            given_up += 1
        return given_up

    def _files(self, folder: str, depth: int, before: dict[str, tuple[int, list[str]]]) -> Iterator[str]:
        """Yield the files of folders that changed since they were listed."""
        no_files: list[str] = []
        try:
            changed = os.lstat(folder).st_mtime_ns
            known = before.get(folder)
            if known is not None and known[0] == changed:
                folders, files = known[1], no_files
            else:
                folders, files = _listed(folder)
        except OSError as error:
            if error.errno != errno.ENOENT and folder not in self._refused:
                self._refused.add(folder)
                say("folder_unreadable", level="warning", path=folder, error=error.strerror)
            return
        if self._clock.now_unix_nano() - changed > STAMP_SURE_NS:
            self._folders[folder] = changed, folders
        yield from files
        if depth < DEPTH_MAX:
            for below in folders:
                yield from self._files(below, depth + 1, before)

    def _pin(self, path: str) -> bool:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ELOOP) and path not in self._refused:
                self._refused.add(path)
                say("file_unreadable", level="warning", path=path, error=error.strerror)
            return False
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink == 0:
                return False
            return self._link(descriptor, f"{found.st_dev}-{found.st_ino}-{generation_of(descriptor)}", path)
        finally:
            os.close(descriptor)

    def _link(self, descriptor: int, key: str, path: str) -> bool:
        pin = f"{self._pins}/{key}"
        if os.path.lexists(pin):
            return False
        # The name is there before the bytes: a pin that does not tell where it is from is of no use.
        with contextlib.suppress(FileExistsError):
            Path(f"{pin}{FROM}").symlink_to(path)
        try:
            link(descriptor, pin)
        except OSError as error:
            if error.errno == errno.EEXIST:
                return False
            Path(f"{pin}{FROM}").unlink(missing_ok=True)
            # Without a name left there is nothing to link; the collector's descriptor may hold it.
            if error.errno != errno.ENOENT:
                say("not_pinned", level="error", path=path, error=error.strerror)
            return False
        return True


def _listed(folder: str) -> tuple[list[str], list[str]]:
    """Return the folders and the log files of a folder. Raises OSError."""
    folders, files = [], []
    with os.scandir(folder) as listing:
        for entry in listing:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif LOG_NAME.search(entry.name) and entry.name not in NO_LOGS:
                files.append(entry.path)
    return folders, files


def link(descriptor: int, path: str) -> None:
    """Give the file behind a descriptor a further name. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    behind = f"/proc/self/fd/{descriptor}".encode()
    if libc.linkat(_AT_FDCWD, behind, _AT_FDCWD, os.fsencode(path), _AT_SYMLINK_FOLLOW) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def say(event: str, *, level: str = "info", **facts: object) -> None:
    """Write one line of the log."""
    sys.stderr.write(json.dumps({"event": event, "level": level, "service": "pin", **facts}) + "\n")
    sys.stderr.flush()


def unfit(roots: Sequence[str], pins: str) -> str:
    """Return why ``pins`` cannot hold files of ``roots``; '' where it can."""
    for root in roots:
        if Path(root).name == "pods" and Path(pins).is_relative_to(root):
            return f"the kubelet removes what is no pod's below {root}"
        if Path(root).stat().st_dev != Path(pins).stat().st_dev:
            return f"no link leads from {root} to {pins}: they lie on two file systems"
    return "" if roots else "there is no folder of logs"

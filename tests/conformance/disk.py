"""The state folder's disk: it can be full, lose power, or be the last thing a killed process touched.

The system calls that change files are taken in hand while the disk is ``mounted``; nothing else is patched. A killed
process neither writes nor renames any more (:class:`Killed` comes out of every call), so its clean-up does no harm.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from collector import append_file

WRITES = ("write", "pwrite", "writev")
SYNCS = ("fsync", "fdatasync")
BY_PATH = ("rename", "replace", "unlink", "truncate", "link")
BY_DESCRIPTOR = ("ftruncate", "posix_fallocate")


class Killed(BaseException):
    """The process is dead: nothing that it would have done happens."""


@dataclass(slots=True, kw_only=True)
class Disk:
    """What lies below ``root`` (a state folder), and which log files do not open."""

    root: Path
    now: Callable[[], int] = lambda: 0
    """The time, for :attr:`died_ns`."""
    died_ns: int = 0
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    full: bool = False
    reserves: bool = True
    """Whether room can be taken beforehand; some file systems cannot."""
    dead: bool = False
    denied: dict[str, int] = field(default_factory=dict)
    """Paths that do not open for reading, and with which error."""
    calls: int = 0
    """How many calls there were."""
    _left: int = 0
    """The process dies in this many calls; 0 for never."""
    _when: str = "after"
    _is_armed: bool = False
    _synced: dict[int, int] = field(default_factory=dict)
    _real: dict[str, Callable[..., Any]] = field(default_factory=dict)

    @contextlib.contextmanager
    def mounted(self) -> Iterator[None]:
        """Take the calls in hand for the block."""
        with contextlib.ExitStack() as stack:
            for name in (*WRITES, *SYNCS, *BY_PATH, *BY_DESCRIPTOR, "open"):
                self._real[name] = getattr(os, name)
                stack.enter_context(mock.patch.object(os, name, self._in_hand(name)))
            self._real["allocate"] = append_file._allocate
            stack.enter_context(mock.patch.object(append_file, "_allocate", self._allocate))
            yield

    def kill_in(self, calls: int, when: str) -> None:
        """Die at the n-th call from now on: ``before`` it, with half of a write done (``torn``), or ``after`` it."""
        self._left, self._when, self._is_armed = calls, when, True

    def revive(self) -> None:
        """Let another process begin."""
        self.dead, self._left, self._is_armed = False, 0, False

    @property
    def _dies_now(self) -> bool:
        return self._is_armed and self._left == 0

    def lose_power(self) -> None:
        """Cut off, somewhere, what was written and not synced."""
        for path in self.root.rglob("*"):
            if path.is_file():
                synced, size = self._synced.get(path.stat().st_ino, 0), path.stat().st_size
                if synced < size:
                    self._real["truncate"](path, self.rng.randint(synced, size))

    def _in_hand(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            if name == "open":
                return self._open(*arguments, **more)
            if not self._is_ours(arguments[0]):
                return self._real[name](*arguments, **more)
            return self._do(name, arguments, more)

        return call

    def _open(self, path: Any, *arguments: Any, **more: Any) -> int:
        reads = not (arguments[0] if arguments else more.get("flags", 0)) & os.O_ACCMODE
        if reads and isinstance(path, str | os.PathLike) and (error := self.denied.get(str(path))):
            raise OSError(error, os.strerror(error), os.fspath(path))
        descriptor: int = self._real["open"](path, *arguments, **more)
        return descriptor

    def _do(self, name: str, arguments: tuple[Any, ...], more: dict[str, Any]) -> Any:
        if self.dead:
            raise Killed(name)
        self.calls += 1
        self._left -= self._left > 0
        if not self._dies_now:
            return self._really(name, arguments, more)
        self.dead, self.died_ns = True, self.now()
        if self._when == "torn" and name == "write":
            self._real[name](arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
        elif self._when == "after":
            self._really(name, arguments, more)
        raise Killed(name)

    def _really(self, name: str, arguments: tuple[Any, ...], more: dict[str, Any]) -> Any:
        if name in SYNCS:
            # What is synced is remembered instead: it decides what a power cut takes.
            stat = os.fstat(arguments[0])
            self._synced[stat.st_ino] = stat.st_size
            return None
        if self.full and name == "posix_fallocate":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.full and name == "write":
            return self._write_what_fits(*arguments)
        return self._real[name](*arguments, **more)

    def _allocate(self, descriptor: int, offset: int, length: int) -> int:
        if self.dead:
            raise Killed("allocate")
        if not self.reserves:
            return errno.EOPNOTSUPP
        return errno.ENOSPC if self.full else int(self._real["allocate"](descriptor, offset, length))

    def _write_what_fits(self, descriptor: int, data: Any) -> int:
        """Write as a full disk does: into blocks that the file has already."""
        stat = os.fstat(descriptor)
        room = max(0, stat.st_blocks * 512 - stat.st_size)  # reserved beforehand, or the rest of the last block
        if room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written: int = self._real["write"](descriptor, bytes(data)[:room])
        return written

    def _is_ours(self, what: Any) -> bool:
        path = str(Path(f"/proc/self/fd/{what}").readlink()) if isinstance(what, int) else os.fspath(what)
        return str(path).startswith(f"{self.root}/") or str(path) == str(self.root)

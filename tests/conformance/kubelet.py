"""Kubelet and container runtimes as they treat log files: what a collector meets here is what nodes do.

Kubelet's rotation follows ``pkg/kubelet/logs/container_log_manager.go`` step by step, containerd's writer
``internal/cri/io/logger.go`` and ``container_log_reopen.go``, conmon's ``ctr_logging.c``. Their mistakes are kept:
names in local time and whole seconds, deletion in the order of names, one worker that compresses inline, a rename
that is taken back, a moment without a path, the old file that still grows when the new one exists.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.conformance.truth import Pen, Truth

MIB = 1024 * 1024


@dataclass(slots=True, kw_only=True)
class Container:
    """One container's log under containerd: an open writer, which a reopen swaps."""

    truth: Truth
    path: Path
    """``.../<namespace>_<pod>_<uid>/<container>/<restart>.log``."""
    writer: str
    """What its lines are counted under."""
    running: bool = True
    reopen_fails: int = 0
    """How often the runtime will refuse to reopen."""
    close_after_s: float = 0.0
    """The old writer is closed this long after the new one took over."""
    late: list[tuple[str, int]] = field(default_factory=list)
    """Lines (stream, width) that are in flight at a reopen: the old file gets their ``P``, the new one the rest."""
    straggling: int = 0
    """Whole lines that reach the old file after the new one has lines."""
    pen: Pen = field(init=False)

    def __post_init__(self) -> None:
        self.pen = self.truth.open(self.path)

    def say(self, count: int = 1, stream: str = "stdout", *, width: int = 40) -> None:
        """Write whole lines."""
        self.pen.write(self.truth.lines(self.writer, count, stream, width=width))

    def say_long(self, parts: int, stream: str = "stdout", *, width: int = 16 * 1024) -> None:
        """Write one line that is longer than 16 KiB: ``P`` parts and an ``F``."""
        for _ in range(parts - 1):
            self.pen.write(self.truth.line(self.writer, stream, "P", width=width))
        self.pen.write(self.truth.line(self.writer, stream, "F", width=40))

    async def reopen(self) -> None:
        """Open the new file first, swap, close the old one later: it still grows when the new one exists."""
        if self.reopen_fails > 0 or not self.running:
            self.reopen_fails -= 1
            raise OSError("the runtime does not reopen")
        before, after = self.pen, self.truth.open(self.path)
        for stream, width in self.late:
            before.write(self.truth.line(self.writer, stream, "P", width=width))
        self.pen = after
        for stream, _ in self.late:
            self.say(1, stream)
        straggler = f"{self.writer}-late"
        before.write(self.truth.lines(straggler, self.straggling))
        await asyncio.sleep(self.close_after_s)
        before.write(self.truth.lines(straggler, self.straggling))
        before.close()

    def exit(self, *, newline: bool = True) -> None:
        """End: without a final newline, containerd leaves a ``P`` that no ``F`` follows."""
        if not newline:
            self.pen.write(self.truth.line(self.writer, "stdout", "P"))
        self.pen.close()
        self.running = False


@dataclass(slots=True, kw_only=True)
class Kubelet:
    """Rotates the logs of running containers, and removes what pods leave."""

    truth: Truth
    max_bytes: int = 10 * MIB
    max_files: int = 5
    interval_s: float = 10.0
    gzip_bytes_per_s: float = 100 * MIB
    """How fast its one worker compresses; all other rotations wait for it."""
    no_path_s: float = 0.0
    """How long the log has no path between rename and reopen."""
    utc_offset_s: Callable[[datetime], int] = lambda _: 0
    containers: list[Container] = field(default_factory=list)
    rotations: int = 0
    renamed_back: int = 0
    mistaken: int = 0
    """Rotated files removed because an older one, of the same second, had been packed under their name."""
    deleted: int = 0

    def add(self, path: Path, writer: str) -> Container:
        container = Container(truth=self.truth, path=path, writer=writer)
        self.containers.append(container)
        return container

    async def run(self) -> None:
        """Look at all running containers at each interval."""
        while True:
            await asyncio.sleep(self.interval_s)
            await self.rotate_logs()

    async def rotate_logs(self) -> None:
        """One worker takes the queue: what stalls it stalls them all."""
        for container in [container for container in self.containers if container.running]:
            await self._process(container)

    async def _process(self, container: Container) -> None:
        if not container.path.exists():
            # "In rotateLatestLog, there are several cases that we may lose original container log after
            # ReopenContainerLog fails": try to reopen again.
            await self._reopen(container)
            return
        if container.path.stat().st_size >= self.max_bytes:
            await self.rotate_log(container)

    async def rotate_log(self, container: Container) -> None:
        """Clean up, remove the excess, compress, rename and reopen."""
        log = container.path
        logs = self._remove_excess(self._without_unused(sorted(map(str, log.parent.glob(f"{log.name}.*")))))
        for name in logs:
            if not name.endswith(".gz"):
                await self._compress(Path(name))
        await self._rotate_latest(container)

    def _without_unused(self, logs: list[str]) -> list[str]:
        used = [name for name in logs if not name.endswith(".tmp") and f"{name}.gz" not in logs]
        for name in logs:
            if name not in used:
                self._remove(Path(name))
                self.mistaken += f"{name}.gz" in logs
        return used

    def _remove_excess(self, logs: list[str]) -> list[str]:
        """Keep two fewer than the limit (the live file, and the one to be rotated), in the order of their names."""
        logs = sorted(logs)
        excess = max(0, len(logs) - max(0, self.max_files - 2))
        for name in logs[:excess]:
            self._remove(Path(name))
            self.deleted += 1
        return logs[excess:]

    async def _compress(self, path: Path) -> None:
        temporary = self.truth.compress_begin(path)
        await asyncio.sleep(path.stat().st_size / self.gzip_bytes_per_s)
        self.truth.compress_end(path, temporary)

    async def _rotate_latest(self, container: Container) -> None:
        log = container.path
        to = log.with_name(f"{log.name}.{self.local_time():%Y%m%d-%H%M%S}")
        self.truth.rename(log, to)
        self.rotations += 1
        await asyncio.sleep(self.no_path_s)
        if not await self._reopen(container):
            # Rename back, so that the log is not lost. A kubelet that is restarted here loses it.
            self.truth.rename(to, log)
            self.renamed_back += 1

    async def _reopen(self, container: Container) -> bool:
        try:
            await container.reopen()
        except OSError:
            return False
        return True

    def local_time(self) -> datetime:
        """Return what it puts into names."""
        now = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self.truth.clock.now_unix_nano() // 1000)
        return now + timedelta(seconds=self.utc_offset_s(now))

    def restart(self, container: Container) -> Container:
        """Start the next instance: of the dead ones, only the last keeps its log (``N-2.log*`` is removed)."""
        number = int(container.path.name.removesuffix(".log"))
        if container.running:
            container.exit()
        following = self.add(container.path.with_name(f"{number + 1}.log"), container.writer)
        self.clean(container.path.with_name(f"{number - 1}.log"))
        return following

    def clean(self, log: Path) -> None:
        """Remove ``<logpath>*``, as on a container's removal."""
        for path in sorted(log.parent.glob(f"{log.name}*")):
            self._remove(path)

    def evict(self, pod: Path) -> None:
        """Remove a pod's folder with all that is in it, as the garbage collection of deleted pods does."""
        for container in self.containers:
            if container.running and pod in container.path.parents:
                container.exit()
        self.containers = [container for container in self.containers if pod not in container.path.parents]
        self.truth.remove_all(pod)

    def _remove(self, path: Path) -> None:
        if path.name.endswith(".tmp"):
            path.unlink()
        else:
            self.truth.unlink(path)


@dataclass(slots=True, kw_only=True)
class Conmon:
    """CRI-O's writer with ``log_size_max`` and no rotation: a new file is renamed *over* the log."""

    truth: Truth
    path: Path
    writer: str
    max_bytes: int
    pen: Pen = field(init=False)

    def __post_init__(self) -> None:
        self.pen = self.truth.open(self.path)

    def say(self, count: int = 1) -> None:
        for _ in range(count):
            line = self.truth.line(self.writer)
            if os.fstat(self.pen.descriptor).st_size + len(line) > self.max_bytes:
                self._start_over()
            self.pen.write(line)

    def _start_over(self) -> None:
        temporary = self.path.with_name(f"{self.path.name}.tmp")
        after = self.truth.open(temporary)
        self.pen.close()
        self.truth.rename(temporary, self.path)
        self.pen = after


def summer_time_ends(at: datetime, *, hours: int = 1) -> Callable[[datetime], int]:
    """Return local time that falls back at a moment: the names of an hour come twice."""
    return lambda now: hours * 3600 if now < at else 0

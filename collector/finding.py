"""Finding: sweeps as often as they are needed, and the kernel's hints that make them early.

A whole sweep is the truth. While something moves it comes at the set interval; on a node where nothing does, and where
the kernel tells of every folder, it comes seldom. In between only the folders are looked at of which the kernel spoke.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from ashiato.adapters.telemetry import Telemetry
from ashiato.core.ports import Clock
from collector.discovery import Memory, Root, Swept, sweep
from collector.events import HintsLost, HintsOverflowed
from collector.notify import Notifier
from collector.settings import CollectorSettings

CALM_SWEEP_NS: Final = 10_000_000_000
"""A whole sweep where nothing moves and the kernel tells of every folder."""
COALESCE_S: Final = 0.02
"""Hints that come closer together make one sweep."""
_GLOB: Final = re.compile(r"[*?\[]")


def roots_of(settings: CollectorSettings, *, node: str) -> list[Root]:
    """Return the folders that settings ask for: the roots, and those in which the globs begin."""
    ours = tuple(str(Path(folder).absolute()) for folder in (*settings.ours, settings.state_dir))
    exclude = tuple(str(Path(folder).absolute()) for folder in settings.exclude)
    globs = tuple(str(Path(pattern).absolute()) for pattern in settings.files)
    paths = [Path(root).absolute() for root in settings.roots]
    for pattern in globs:
        begin = _begin_of(pattern)
        if not any(begin.is_relative_to(path) for path in paths):
            paths.append(begin)
    return [
        Root(
            path=path, cluster=settings.cluster, node=node, all_files=settings.all_files, exclude=exclude, ours=ours,
            globs=globs,
        )
        for path in paths
    ]  # fmt: skip


class Finder:
    """Sweeps, and knows when the next one is due."""

    def __init__(
        self, roots: Iterable[Root], *, interval_s: float, clock: Clock, telemetry: Telemetry,
        holds: Callable[[tuple[int, int]], bool],
    ) -> None:  # fmt: skip
        self._roots = list(roots)
        self._interval_ns = int(interval_s * 1e9)
        self._clock = clock
        self._telemetry = telemetry
        self._memory = Memory(holds=holds, monotonic_nano=clock.monotonic_nano)
        self._changed: set[str] = set()
        """Folders of which the kernel spoke since they were looked at."""
        self._is_told_all = False
        """The kernel tells of every folder."""
        self._whole_nano = -CALM_SWEEP_NS
        self._stopped: asyncio.Task[bool] | None = None
        self._woken: asyncio.Future[None] | None = None
        self._notifier: Notifier | None = None
        self._lost = ""
        self._is_closed = False

    def close(self) -> None:
        """Let go of the kernel's hints."""
        self._is_closed = True
        if self._stopped is not None:
            self._stopped.cancel()
        if self._notifier is not None:
            asyncio.get_running_loop().remove_reader(self._notifier.fileno())
            self._notifier.close()
            self._notifier = None

    def is_due(self, *, eager: bool) -> bool:
        """Whether it is time for a whole sweep; ``eager`` where something waits for one."""
        interval = self._interval_ns
        if self._is_told_all and not eager:
            interval = max(interval, CALM_SWEEP_NS)
        return self._clock.monotonic_nano() - self._whole_nano >= interval

    def hurry(self) -> None:
        """Let a whole sweep be due now."""
        self._whole_nano = -CALM_SWEEP_NS

    @property
    def is_hinted(self) -> bool:
        """Whether the kernel spoke of folders that were not looked at since."""
        return bool(self._changed)

    async def sweep(self, *, whole: bool) -> Swept:
        """Look at all folders, or at those of which the kernel spoke."""
        changed, self._changed = self._changed, set()
        self._memory.changed = None if whole else changed
        if whole:
            self._whole_nano = self._clock.monotonic_nano()
        swept = await asyncio.to_thread(sweep, self._roots, self._memory)
        self._watch(swept)
        return swept

    async def pause(self, stop: asyncio.Event, seconds: float) -> None:
        """Wait for so long, for ``stop`` or for a hint, whichever is first."""
        loop = asyncio.get_running_loop()
        if self._stopped is None:
            # One task for all pauses: making one for each would cost more than what is waited for.
            self._stopped = asyncio.create_task(stop.wait())
            self._stopped.add_done_callback(lambda _: self._wake())
        if stop.is_set():
            return
        if not self._changed:
            self._woken = loop.create_future()
            timer = loop.call_later(seconds, self._wake)
            try:
                await self._woken
            finally:
                timer.cancel()
        if self._changed and not stop.is_set():
            await asyncio.sleep(COALESCE_S)

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    # -- hints -----------------------------------------------------------------------------------------------

    def _told(self) -> None:
        assert self._notifier is not None
        changes = self._notifier.changes()
        self._changed |= changes.folders
        if changes.overflowed:
            self._telemetry.emit(HintsOverflowed())
            self.hurry()
        self._wake()

    def _watch(self, swept: Swept) -> None:
        """Ask the kernel to tell of every folder; one that it tells of only now is looked at once more."""
        if self._is_closed:
            return
        folders = [*swept.folders, *(str(_there(Path(root))) for root in swept.missing)]
        try:
            notifier = self._open()
            for folder in folders:
                if notifier.watch(folder):
                    self._changed.add(folder)
        except OSError as error:
            self._lose(error)
        else:
            self._is_told_all, self._lost = True, ""

    def _open(self) -> Notifier:
        """Return the kernel's ear; where it had none left it is asked again at each sweep. Raises OSError."""
        if self._notifier is None:
            self._notifier = Notifier()
            asyncio.get_running_loop().add_reader(self._notifier.fileno(), self._told)
        return self._notifier

    def _lose(self, error: OSError) -> None:
        """Go on without: the sweep is the truth."""
        self._is_told_all = False
        why = error.strerror or str(error)
        if why != self._lost:
            self._lost = why
            self._telemetry.emit(HintsLost(error=why))


def _there(path: Path) -> Path:
    while not os.path.lexists(path):
        path = path.parent
    return path


def _begin_of(pattern: str) -> Path:
    """Return the folder below which everything lies that a glob can name."""
    parts: list[str] = []
    for part in Path(pattern).parts[:-1]:
        if _GLOB.search(part):
            break
        parts.append(part)
    return Path(*parts)

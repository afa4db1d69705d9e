"""Time that only passes when nothing else can happen: a day of a node runs in seconds, and always in the same way.

The loop's clock moves to the next timer once every task waits, so an interval of 30 s costs what is done in it.
Threads are waited for in real time, during which virtual time stands still.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, TypeVar, TypeVarTuple

from tests.simulation.collector_node import LateClock

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")
THREAD_S_MAX = 60.0
"""A thread that takes longer than this hangs."""


class _Selector(selectors.EpollSelector):
    """Never sleeps for a timer: it moves the clock instead."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self.clock = clock
        self.threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self.threads:
            ready = super().select(THREAD_S_MAX)
            assert ready, "a thread hangs"
            return ready
        assert timeout is not None, "every task waits for something that nobody will do"
        self.clock.passed_ns += max(1, round(timeout * 1e9))
        return ready


@dataclass(slots=True)
class VirtualClock(LateClock):
    """Both clocks of a node; ``behind_ns`` puts the wall clock back."""

    began_unix_nano: int = field(default_factory=lambda: time.time_ns() // 10**10 * 10**10)
    passed_ns: int = 0

    def now_unix_nano(self) -> int:
        return self.began_unix_nano + self.passed_ns - self.behind_ns

    def monotonic_nano(self) -> int:
        return 1_000_000_000 + self.passed_ns


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time is ``clock``'s."""

    def __init__(self, clock: VirtualClock) -> None:
        self._virtual = _Selector(clock)
        super().__init__(self._virtual)
        self.clock = clock

    def time(self) -> float:
        return self.clock.passed_ns / 1e9

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Arguments], Result], *args: *Arguments
    ) -> asyncio.Future[Result]:
        self._virtual.threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_ended)
        return future

    def pass_time(self, seconds: float) -> None:
        """Let everything that runs on this loop go on for this long."""
        self.run_until_complete(asyncio.sleep(seconds))

    def end(self) -> None:
        """Cancel what is left and close."""
        for task in (left := asyncio.all_tasks(self)):
            task.cancel()
        try:
            if left:
                self.run_until_complete(asyncio.wait(left))
            self._virtual.threads += 1
            self.run_until_complete(self.shutdown_default_executor())
        finally:
            self.close()

    def _thread_ended(self, _: asyncio.Future[Any]) -> None:
        self._virtual.threads -= 1

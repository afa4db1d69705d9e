"""One node under test: real files, the real collector in virtual time, a bus that fails, and the truth beside them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from ashiato.adapters.bus import BusSettings
from ashiato.adapters.bus_memory import MemoryKeeper
from ashiato.adapters.telemetry import Telemetry
from ashiato.core import ledger
from ashiato.core.ledger import Line
from ashiato.core.ports import Partition
from collector.plan import Plan
from collector.registry import Registry
from collector.service import Collector
from collector.settings import CollectorSettings
from tests.conformance.disk import Disk, Killed
from tests.conformance.oracle import Range, Verdict, judge, merge
from tests.conformance.truth import Life, Truth
from tests.conformance.virtual import VirtualClock, VirtualLoop
from tests.simulation.collector_node import FlakyWriter, Node, chunks_of

IS_LONG = bool(os.environ.get("ASHIATO_CONFORMANCE_LONG"))
"""Whether scenarios run at their full size and the model searches for long."""
_NOTHING = SimpleNamespace(files={})
QUIET_S = 40.0
"""Longer than every interval of the collector's defaults but that of an unterminated end."""


class MortalWriter(FlakyWriter):
    """A bus that hears nothing from the dead."""

    disk: Disk
    bytes_per_s: float = 0
    """How fast frames go; 0 for at once."""

    async def send(self, partition: Partition, value: bytes) -> int:
        if self.bytes_per_s:
            await asyncio.sleep(len(value) / self.bytes_per_s)
        if self.disk.dead:
            raise Killed("send")
        return await super().send(partition, value)


@dataclass(slots=True, kw_only=True)
class Site(Node):
    """A node whose time the test moves."""

    virtual: VirtualClock = field(default_factory=VirtualClock)
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    truth: Truth = field(init=False)
    disk: Disk = field(init=False)
    loop: VirtualLoop = field(init=False)
    writer: MortalWriter = field(init=False)
    task: asyncio.Task[None] | None = None
    service: Collector | None = None
    silences: list[Range] = field(default_factory=list)
    _down_ns: int = 0
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.clock = self.virtual
        self.truth = Truth(clock=self.virtual, root=self.logs)
        self.disk = Disk(root=self.state, now=self.virtual.monotonic_nano)
        self.loop = VirtualLoop(self.virtual)
        self.writer = MortalWriter(self.broker)
        self.writer.disk = self.disk
        self.logs.mkdir(parents=True, exist_ok=True)

    # -- the collector ---------------------------------------------------------------------------------------

    def start(self, **settings: Any) -> None:
        """Start a collector, with the defaults of production where nothing else is told."""
        assert self.task is None
        self.disk.revive()
        self._run(
            MemoryKeeper(self.broker).create_topics({"ashiato.priority": 2, "ashiato.bulk": self.bulk_partitions})
        )
        told = {"roots": (str(self.logs),), "node": "n1", "cluster": "c1", **self.settings, **settings}
        self.telemetry = Telemetry("collector", stream=self.log)
        self.service = Collector(
            CollectorSettings(bus=BusSettings(path="unused"), state_dir=str(self.state), **told),
            writer=self.writer, clock=self.clock, telemetry=self.telemetry, randomness=self.rng.randbytes,
        )  # fmt: skip
        self._stop = asyncio.Event()
        self.silences.append((self._down_ns, self.clock.monotonic_nano()))
        self.task = self.loop.create_task(self.service.run(self._stop))

    def stop(self) -> None:
        """Ask it to stop, and wait until it has."""
        assert self.task is not None
        self._stop.set()
        self._run(self.task)
        self._is_down()

    def kill(self, *, power: bool = False) -> None:
        """End it as kill -9 does, and with ``power`` as a power cut does."""
        assert self.task is not None
        if not self.disk.dead:
            self.disk.dead, self.disk.died_ns = True, self.clock.monotonic_nano()
        left = [task for task in asyncio.all_tasks(self.loop) if task is not self.task]
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Killed):
            self.loop.run_until_complete(self.task)
        for task in left:
            if task.get_name() != "plant":
                task.cancel()
        for file in list(getattr(self.service, "registry", _NOTHING).files.values()):
            # A process that dies holds no descriptor.
            file.let_go()
        self._is_down()
        if power:
            self.disk.lose_power()

    @property
    def is_dead(self) -> bool:
        """Whether a kill that was armed has struck."""
        return self.disk.dead or (self.task is not None and self.task.done())

    def pass_time(self, seconds: float) -> None:
        """Let the node go on; a collector that fails by itself fails the test, one that was killed is buried."""
        self.loop.pass_time(seconds)
        if self.task is not None and self.disk.dead:
            self.kill()
        elif self.task is not None and self.task.done():
            self.task.result()
            raise AssertionError("the collector stopped by itself")

    def read_log(self, count: int, *, seconds: float = 3, **settings: Any) -> Path:
        """Write a log of so many lines, start a collector, and give it time to read them; return where it lies."""
        log = self.pod_log()
        self.truth.append(log, self.truth.lines("web", count))
        self.start(**settings)
        self.pass_time(seconds)
        return log

    def plant(self, what: Any) -> asyncio.Task[Any]:
        """Let something of the node run beside the collector, and outlive it."""
        return self.loop.create_task(what, name="plant")

    # -- the judge -------------------------------------------------------------------------------------------

    def judge(self) -> Verdict:
        """Judge what is there now."""
        silences = (
            [*self.silences, (self._down_ns, self.clock.monotonic_nano())] if self.task is None else self.silences
        )
        return judge(self.truth, chunks_of(self.broker), self.lines(), silences)

    def settled(self, seconds: float = QUIET_S) -> Verdict:
        """Give it time until nothing is left to do, and judge: a fault fails."""
        self.pass_time(seconds)
        verdict = self.judge()
        assert not verdict.faults(), verdict.faults()
        return verdict

    def all_held(self) -> Verdict:
        """Give it time, and expect every byte on the bus."""
        verdict = self.settled()
        assert verdict.bytes_held == verdict.bytes_written > 0
        assert not verdict.unseen
        return verdict

    def lines(self) -> list[Line]:
        """Return the ledger's lines on the node; the chain is checked."""
        raw = [
            line for path in sorted((self.state / "ledger").glob("*.jsonl")) for line in path.read_bytes().splitlines()
        ]
        ledger.verify_chain(raw)
        return [ledger.decode(line) for line in raw]

    def has(self, life: Life) -> bool:
        """Whether the bus holds all of a life under one id."""
        content = bytes(life.content)
        return not content or any(file.content == content for file in merge(chunks_of(self.broker), Verdict()).values())

    def end(self) -> None:
        """Let go of everything; a collector that failed by itself has told so already."""
        if self.task is not None and self.task.done():
            self.task.exception()
        elif self.task is not None:
            self.kill()
        self.loop.end()
        self.truth.close()

    def _run(self, what: Any) -> Any:
        return self.loop.run_until_complete(what)

    def _is_down(self) -> None:
        self.task, self.service = None, None
        self._down_ns = self.disk.died_ns if self.disk.dead else self.clock.monotonic_nano()


@contextlib.contextmanager
def site_at(root: Path, **more: Any) -> Iterator[Site]:
    """Give a node below a folder, its disk in our hands for the block."""
    site = Site(root=root, **more)
    with site.disk.mounted(), mock.patch.object(Registry, "carry_out", _let_go_when_killed(Registry.carry_out)):
        try:
            yield site
        finally:
            site.end()


def _let_go_when_killed(carry_out: Callable[[Registry, Plan], None]) -> Callable[[Registry, Plan], None]:
    """What a plan has opened must not stay open when the process that made it is dead."""

    def carry_out_and_let_go(registry: Registry, plan: Plan) -> None:
        try:
            carry_out(registry, plan)
        except Killed:
            plan.discard()
            raise

    return carry_out_and_let_go


def descriptors() -> int:
    """Return how many descriptors this process has."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())

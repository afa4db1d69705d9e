"""Archivers on a stage: the real ones, with every write to the archive held at a gate until the play lets it pass.

A write that waits is a process that was paused; letting it pass late makes it a zombie. A gate may also lose the
reply, lose the request, or let the process die there.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

from ashiato.adapters.bus_memory import MemoryBroker, MemoryReader
from ashiato.core.errors import OutcomeUnknownError
from ashiato.core.ports import ArchiveFacts, Bucket, BusRecord, ObjectRef, ObjectVersion, Partition, ReadableObject
from ingest.archiver import Archiver, BatchLostError
from tests.simulation.house import new_archiver
from tests.simulation.memory_archive import MemoryArchive

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_QUIET_SECONDS_MAX = 30
_TURNS = 60
"""Turns of the event loop after which nothing that is ready is left."""


class Fate(Enum):
    """What becomes of a write."""

    DONE = "done"
    REPLY_LOST = "reply lost"
    REQUEST_LOST = "request lost"
    DEATH = "death"


class DeathError(Exception):
    """The process is gone."""


class Stage(asyncio.SelectorEventLoop):
    """An event loop that knows which calls run in threads, so that it can say when nothing moves by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.gates: list[Gate] = []
        self._pool = ThreadPoolExecutor(16)
        self._running = 0

    def run_in_executor(self, _: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        self._running += 1
        inner: Future[T] = self._pool.submit(func, *args)
        outer = asyncio.wrap_future(inner, loop=self)

        def ended(_: object) -> None:
            self._running -= 1

        def settled(_: object) -> None:
            if inner.done():
                ended(None)
            else:
                # given up while it runs: the thread goes on, as a zombie
                inner.add_done_callback(lambda future: self.call_soon_threadsafe(ended, future))

        outer.add_done_callback(settled)
        return outer

    def play(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, then wait until nothing moves by itself."""
        result = self.run_until_complete(coroutine)
        self.settle()
        return result

    def settle(self) -> None:
        """Wait until every call that runs stands at a gate."""
        self.run_until_complete(self._quiet())

    async def _quiet(self) -> None:
        async with asyncio.timeout(_QUIET_SECONDS_MAX):
            while True:
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
                if self._running == sum(len(gate.waiting) for gate in self.gates):
                    return
                await asyncio.sleep(0.0005)

    def leave(self) -> None:
        """End every thread and close."""
        for gate in self.gates:
            gate.dead = True
            while gate.waiting:
                gate.let_pass(0, Fate.DEATH)
        self._pool.shutdown(wait=True)
        self.close()


@dataclass(slots=True, kw_only=True)
class Write:
    """A write that waits."""

    what: str
    answer: queue.SimpleQueue[Fate] = field(default_factory=queue.SimpleQueue)


@dataclass(slots=True, kw_only=True)
class Gate:
    """Where the writes of one process wait."""

    waiting: list[Write] = field(default_factory=list)
    dead: bool = False
    open: bool = False
    """Lets everything pass: a process that nobody disturbs."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def arrive(self, what: str) -> Fate:
        """Wait for the fate of a write (in a worker thread)."""
        write = Write(what=what)
        with self._lock:
            if self.dead:
                raise DeathError
            if self.open:
                return Fate.DONE
            self.waiting.append(write)
        fate = write.answer.get()
        if fate is Fate.DEATH:
            raise DeathError
        return fate

    def let_pass(self, index: int, fate: Fate) -> None:
        """Decide the fate of a waiting write."""
        with self._lock:
            write = self.waiting.pop(index)
        write.answer.put(fate)


@dataclass(slots=True, kw_only=True)
class StagedArchive:
    """One process's way to the archive."""

    inner: MemoryArchive
    gate: Gate

    def get(self, bucket: Bucket, path: str, version_id: str | None = None) -> tuple[bytes, ObjectRef]:
        return self.inner.get(bucket, path, version_id)

    def get_range(self, ref: ObjectRef, start: int, end: int) -> bytes:
        return self.inner.get_range(ref, start, end)

    def open(self, ref: ObjectRef) -> ReadableObject:
        return self.inner.open(ref)

    def list(self, bucket: Bucket, prefix: str, *, start_after: str = "") -> Iterator[ObjectRef]:
        return self.inner.list(bucket, prefix, start_after=start_after)

    def list_versions(self, bucket: Bucket, prefix: str) -> Iterator[ObjectVersion]:
        return self.inner.list_versions(bucket, prefix)

    def check(self) -> ArchiveFacts:
        return self.inner.check()

    def put(self, bucket: Bucket, path: str, content: bytes) -> ObjectRef:
        return self._staged(path, lambda: self.inner.put(bucket, path, content))

    def put_file(self, bucket: Bucket, path: str, file: str) -> ObjectRef:
        content = Path(file).read_bytes()
        return self._staged(path, lambda: self.inner.put(bucket, path, content))

    def put_if_absent(self, bucket: Bucket, path: str, content: bytes) -> ObjectRef:
        return self._staged(path, lambda: self.inner.put_if_absent(bucket, path, content))

    def _staged(self, what: str, write: Callable[[], ObjectRef]) -> ObjectRef:
        fate = self.gate.arrive(what)
        if fate is Fate.REQUEST_LOST:
            raise OutcomeUnknownError("no reply", path=what)
        ref = write()
        if fate is Fate.REPLY_LOST:
            raise OutcomeUnknownError("no reply", path=what)
        return ref


class StagedReader(MemoryReader):
    """A reader whose brokers answer one by one: ``only`` says whose records come with the next poll."""

    only: Partition | None = None

    def _read(self, bytes_max: int) -> list[BusRecord]:
        every = self._next
        self._next = {where: at for where, at in every.items() if self.only in (None, where)}
        try:
            return super()._read(bytes_max)
        finally:
            self._next = {**every, **self._next}


class Process:
    """One archiving process."""

    def __init__(
        self, stage: Stage, archive: MemoryArchive, broker: MemoryBroker, scratch: Path, *, name: str, raw_bytes: int
    ) -> None:
        self._stage = stage
        self.gate = Gate()
        stage.gates.append(self.gate)
        staged = StagedArchive(inner=archive, gate=self.gate)
        self._reader = StagedReader(broker)
        self.archiver: Archiver = new_archiver(staged, self._reader, scratch, actor=name, raw_bytes=raw_bytes)
        self._task: asyncio.Task[None] | None = None
        self.opened = False

    @property
    def busy(self) -> bool:
        """Whether a command waits for a write."""
        return self._task is not None and not self._task.done()

    def open(self) -> None:
        """Start, or look again at which bus this is."""
        self.opened = True
        self._start(self.archiver.open())

    def step(self, only: Partition | None = None) -> None:
        """Read once, from one partition or all; a full batch is sealed."""
        self._reader.only = only
        self._start(self._step())

    def flush(self) -> None:
        """Commit what was admitted."""
        self._start(self._flush())

    def let_pass(self, index: int, fate: Fate) -> None:
        """Decide the fate of a write that waits."""
        self.gate.let_pass(index, fate)
        self._stage.settle()
        self._raise()

    def undisturbed(self) -> None:
        """Let everything pass from now on."""
        self.gate.open = True
        while self.gate.waiting:
            self.let_pass(0, Fate.DONE)

    def die(self) -> None:
        """Crash, wherever it stands."""
        self.gate.dead = True
        tasks = [task for task in (self._task, self.archiver._committing) if task is not None]
        for task in tasks:
            task.cancel()
        while self.gate.waiting:
            self.gate.let_pass(0, Fate.DEATH)
        self._stage.run_until_complete(_ended(tasks))
        self._stage.settle()

    def drain(self) -> None:
        """Archive everything that the bus holds, undisturbed."""
        self.gate.open = True
        self._reader.only = None
        self._stage.play(self.archiver.drain())

    async def _step(self) -> None:
        try:
            await self.archiver.step()
        except BatchLostError:
            await self.archiver.open()

    async def _flush(self) -> None:
        await self.archiver.flush()

    def _start(self, command: Coroutine[Any, Any, None]) -> None:
        assert not self.busy
        self._task = self._stage.create_task(command)
        self._stage.settle()
        self._raise()

    def _raise(self) -> None:
        if self._task is not None and self._task.done():
            task, self._task = self._task, None
            task.result()


async def _ended(tasks: list[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)

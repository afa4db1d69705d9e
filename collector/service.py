"""The collector: sweep, look, ship, beat. Durable before it counts, kept by the bus before it is acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from ashiato import __version__
from ashiato.adapters import files
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.errors import (
    AshiatoError,
    NotHeldError,
    RefusedError,
    RejectedError,
    SettingsError,
    TransientError,
)
from ashiato.core.events import PartUnavailable, ServiceStarted, ServiceStopped
from ashiato.core.ids import TOPICS, Kind, check_name
from ashiato.core.ledger import Config
from ashiato.core.ports import BusWriter, Clock, Partition
from collector.beat import Pulse
from collector.bookmark import Bookmark, Owner, Stated, Topics
from collector.discovery import Recognised, Root, sweep
from collector.events import Backlog, BookmarkBegun, BookmarkTorn, FrameAcknowledged
from collector.followed import ContentChangedError, Followed
from collector.ledger_file import LedgerFile
from collector.registry import Registry
from collector.settings import CollectorSettings
from collector.ship import Load, Moment, closing_load, gather

DRAIN_POLL_S = 0.02
RETRY_S_MIN = 0.2
RETRY_S_MAX = 5.0
UNLINKED_SETTLE_NS = 1_000_000_000
"""An unlinked file that is drained closes after standing still this long: its writer may still be at it."""


class Collector:
    """One node. ``run`` returns when ``stop`` was set and what is on disk is acknowledged, or the grace is over.

    Made for a node or a cluster whose name cannot stand in a source, it raises SettingsError.
    """

    def __init__(
        self,
        settings: CollectorSettings,
        *,
        writer: BusWriter,
        clock: Clock,
        telemetry: Telemetry,
        randomness: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._settings = settings
        self._writer = writer
        self._clock = clock
        self._telemetry = telemetry
        self._randomness = randomness
        self._node = check_name(settings.node or socket.gethostname(), "node")
        check_name(settings.cluster, "cluster")
        self._state = Path(settings.state_dir).absolute()
        self._wake: dict[Partition, asyncio.Event] = {}
        self._session = 0
        """Counts the bus writer's sessions, so that a failure that several partitions share resets it once."""
        self._session_lock = asyncio.Lock()
        self._incarnations: dict[str, str] = {}
        """Of each topic, as the present session found it."""
        self._turn = 0
        self._recognised: Recognised = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Follow files until ``stop`` is set, then drain.

        Raises:
            SettingsError: another collector runs on the same state folder.
            TransientError: the state folder cannot be opened.

        """
        with _claimed(self._state):
            self._bookmark = Bookmark(self._state / "bookmark")
            self._ledger = LedgerFile(self._state / "ledger", node=self._node, clock=self._clock)
            try:
                await self._run(stop)
            finally:
                self._bookmark.close()
                self._ledger.close()

    async def _run(self, stop: asyncio.Event) -> None:
        partitions = await self._partitions(stop)
        resent = await self._begin(stop)
        if partitions is None or resent is None:
            return
        self._bookmark.note(Topics(partitions=partitions))
        self.registry = Registry(
            bookmark=self._bookmark, ledger=self._ledger, clock=self._clock, telemetry=self._telemetry,
            randomness=self._randomness, partitions=partitions, resent=resent,
        )  # fmt: skip
        self._pulse = Pulse(self._settings, registry=self.registry, ledger=self._ledger, clock=self._clock)
        self._roots = self._all_roots()
        tasks = []
        for topic, count in partitions.items():
            for number in range(count):
                partition = Partition(topic, number)
                self._wake[partition] = asyncio.Event()
                tasks.append(asyncio.create_task(self._ship(partition)))
        self._telemetry.emit(ServiceStarted(version=__version__, detail=f"node {self._node}"))
        try:
            await self._follow(stop, tasks)
            await self._drain(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for file in self.registry.files.values():
                file.let_go()
            self._flush()
        self._telemetry.emit(ServiceStopped(reason="asked to"))

    # -- beginning -------------------------------------------------------------------------------------------

    async def _partitions(self, stop: asyncio.Event) -> dict[str, int] | None:
        """Ask the bus; where it is away, go on with what it said before, so that births need not wait."""
        wait = RETRY_S_MIN
        while not stop.is_set():
            try:
                return {topic: await self._writer.partitions(topic) for topic in TOPICS}
            except (TransientError, NotHeldError, RefusedError) as error:
                self._unavailable("bus", error, wait)
                if self._bookmark.contents.partitions:
                    return self._bookmark.contents.partitions
                await _pause(stop, wait)
                wait = min(wait * 2, RETRY_S_MAX)
        return None

    async def _begin(self, stop: asyncio.Event) -> bool | None:
        """State the beginning; wait for room on the disk. Return whether what is on disk was sent before (C5)."""
        if self._bookmark.bytes_cut:
            self._telemetry.emit(BookmarkTorn(bytes_cut=self._bookmark.bytes_cut))
        resent = self._claim()
        while not stop.is_set():
            try:
                owner = self._bookmark.contents.owner
                assert owner is not None
                digest = hashlib.sha256(msgspec.json.encode(self._settings, order="sorted")).hexdigest()
                self._bookmark.flush()
                self._ledger.append([Config(sha256=digest, exclusions=self._excluded(), incarnation=owner.incarnation)])
            except TransientError as error:
                self._unavailable("state_dir", error, 1)
                await _pause(stop, 1)
            else:
                return resent
        return None

    def _claim(self) -> bool:
        """Make the bookmark this node's; another node's, or none, begins a new incarnation (C5)."""
        machine = _machine_id()
        owner = self._bookmark.contents.owner
        if owner is not None and (owner.node, owner.machine) == (self._node, machine):
            return False
        reason = "there is none" if owner is None else f"it belongs to node {owner.node}, or to another machine"
        new = Owner(node=self._node, machine=machine, incarnation=self._randomness(16).hex())
        # The ledger's present lines, if there are any, speak of the incarnation before.
        resent = owner is not None or self._ledger.head.n > 0
        self._bookmark.note(new, Stated(n=self._ledger.head.n))
        self._telemetry.emit(BookmarkBegun(incarnation=new.incarnation, reason=reason))
        return resent

    def _all_roots(self) -> list[Root]:
        cluster, node = self._settings.cluster, self._node
        roots = [Root(path=self._ledger.folder, cluster=cluster, node=node, kind=Kind.LEDGER)]
        if self._settings.access_dir:
            access = Path(self._settings.access_dir).absolute()
            roots.append(Root(path=access, cluster=cluster, node=node, kind=Kind.ACCESS))
        all_files = self._settings.all_files
        return roots + [
            Root(path=Path(root).absolute(), cluster=cluster, node=node, all_files=all_files, exclude=self._excluded())
            for root in self._settings.roots
        ]

    def _excluded(self) -> tuple[str, ...]:
        return tuple(str(Path(folder).absolute()) for folder in self._settings.exclude)

    # -- following -------------------------------------------------------------------------------------------

    async def _follow(self, stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
        sweep_due = 0
        while not stop.is_set():
            now = self._clock.monotonic_nano()
            if now >= sweep_due and await self._sweep():
                sweep_due = now + int(self._settings.sweep_interval_s * 1e9)
            self._look(settle_ns=int(self._settings.settle_s * 1e9), unlinked_settle_ns=UNLINKED_SETTLE_NS)
            self._beat(last=False)
            self._flush()
            _raise_failed(tasks)
            await _pause(stop, self._settings.poll_interval_s)

    async def _sweep(self, *, anew: bool = False) -> bool:
        """Take in what there is; return False where files were left for the next sweep."""
        started = self._clock.now_unix_nano()
        swept = await asyncio.to_thread(sweep, self._roots, self._recognised)
        plan = await asyncio.to_thread(self.registry.plan, swept)
        try:
            self.registry.carry_out(plan)
        except TransientError as error:
            self._unavailable("state_dir", error, self._settings.sweep_interval_s)
            return True
        if plan.deferred:
            return False
        self._pulse.swept(started, anew=anew)
        return True

    def _look(self, *, settle_ns: int, unlinked_settle_ns: int) -> None:
        try:
            self.registry.look(settle_ns=settle_ns, unlinked_settle_ns=unlinked_settle_ns)
        except TransientError as error:
            self._unavailable("state_dir", error, self._settings.poll_interval_s)
        waiting = 0
        for file in self.registry.files.values():
            waiting += file.waiting
            if file.waiting or (file.closing and not file.end_sent):
                self._wake[file.partition].set()
        self._telemetry.emit(Backlog(count=waiting, files=len(self.registry.files)))

    def _beat(self, *, last: bool) -> None:
        try:
            self._pulse.beat(last=last)
        except TransientError as error:
            self._unavailable("state_dir", error, self._settings.poll_interval_s)

    def _flush(self) -> None:
        """Make the bookmark durable; one that lags only means that bytes are sent and trimmed again."""
        try:
            self._bookmark.flush()
        except TransientError as error:
            self._unavailable("state_dir", error, self._settings.poll_interval_s)

    async def _drain(self, tasks: list[asyncio.Task[None]]) -> None:
        """Ship what is on the disk, within the grace; what is left stays on the disk and is shipped next time."""
        deadline = self._clock.monotonic_nano() + int(self._settings.drain_s * 1e9)
        settle_ns = int(self._settings.settle_s * 1e9)
        await self._sweep(anew=True)
        beaten = False
        while self._clock.monotonic_nano() < deadline:
            _raise_failed(tasks)
            # An unlinked file cannot be opened again: it is closed now.
            self._look(settle_ns=settle_ns, unlinked_settle_ns=0)
            if not any(_is_left(file) for file in self.registry.files.values() if beaten or not file.is_ledger):
                if beaten:
                    return
                self._beat(last=True)
                beaten = True
            else:
                await asyncio.sleep(DRAIN_POLL_S)

    # -- shipping --------------------------------------------------------------------------------------------

    async def _ship(self, partition: Partition) -> None:
        wake = self._wake[partition]
        while True:
            wake.clear()
            while (load := self._next_load(partition)) is not None:
                await self._send(load)
            await wake.wait()

    def _next_load(self, partition: Partition) -> Load | None:
        present = list(self.registry.by_partition[partition].values())
        if not present:
            return None
        self._turn += 1
        at = self._turn % len(present)
        now = Moment(unix_nano=self._clock.now_unix_nano(), monotonic_nano=self._clock.monotonic_nano())
        idle_ns = int(self._settings.unterminated_idle_s * 1e9)
        load = gather(partition, present[at:] + present[:at], now=now, idle_ns=idle_ns)
        if load is not None:
            return load
        closing = next((file for file in present if file.closing and not file.end_sent and not file.waiting), None)
        return closing_load(closing, now_unix_nano=now.unix_nano) if closing is not None else None

    async def _send(self, load: Load) -> None:
        """Send until the bus keeps it; then the files move on, and the bookmark after them (C2, C4)."""
        # (C7) what tells a file again after a crash is durable before its bytes leave
        if heads := [head for file, cursor in load.behind if (head := file.guarded(cursor)) is not None]:
            self._bookmark.note(*heads)
            self._flush()
        position, incarnation = await self._keep_sending(load)
        for file, cursor in load.behind:
            file.end_sent = load.ends
            file.advance(cursor, position, incarnation)
            self._bookmark.note(file.acked())
        self._pulse.acknowledged(load)
        topic, number = load.partition
        self._telemetry.emit(
            FrameAcknowledged(
                topic=topic, partition=number, position=position, raw_bytes=load.raw_bytes, frame_bytes=len(load.value)
            )
        )

    async def _keep_sending(self, load: Load) -> tuple[int, str]:
        """Return where on which bus the frame lies."""
        wait = RETRY_S_MIN
        while True:
            async with self._session_lock:
                session = self._session
            try:
                # Asked before: a log that is made anew in between is never taken for the one before it.
                incarnation = await self._incarnation(load.partition.topic)
                return await self._writer.send(load.partition, load.value), incarnation
            except (TransientError, NotHeldError, RejectedError, RefusedError) as error:
                self._unavailable("bus", error, wait)
            await asyncio.sleep(wait)
            wait = min(wait * 2, RETRY_S_MAX)
            await self._reset(session)

    async def _incarnation(self, topic: str) -> str:
        if topic not in self._incarnations:
            self._incarnations[topic] = await self._writer.incarnation(topic)
        return self._incarnations[topic]

    async def _reset(self, session: int) -> None:
        """Close the session in which a send failed, unless another partition has done so already."""
        async with self._session_lock:
            if self._session != session:
                return
            try:
                await self._writer.reset()
            except (TransientError, RefusedError) as error:
                self._unavailable("bus", error, 0)
            else:
                self._session += 1
                self._incarnations.clear()

    def _unavailable(self, part: str, error: AshiatoError, wait_s: float) -> None:
        self._telemetry.emit(PartUnavailable(part=part, error=str(error), retry_in_ms=int(wait_s * 1000)))


def _is_left(file: Followed) -> bool:
    """Whether a file has something that can be shipped now: an unterminated end stays on the disk."""
    if file.closing or file.waiting == 0:
        return bool(file.closing)
    try:
        return file.next_chunk(file.cursor, ended=False) is not None
    except (OSError, ContentChangedError):
        # What cannot be read cannot be waited for: the next sweep or the next start names it.
        return False


@contextlib.contextmanager
def _claimed(state: Path) -> Iterator[None]:
    """Hold the state folder: it belongs to one process, however often it is started."""
    try:
        files.make_folder(state)
        descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise files.disk_error(error, state) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SettingsError(f"another collector runs on {state}: stop it, or choose another state_dir") from error
    else:
        yield
    finally:
        os.close(descriptor)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


def _raise_failed(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done():
            task.result()


def _machine_id() -> str:
    try:
        return Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""

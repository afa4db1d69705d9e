"""The collector: sweep, look, ship, beat. Everything durable before it counts, nothing acknowledged before it is kept."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ashiato import __version__
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.chunk import ChunkFlags
from ashiato.core.errors import NotHeldError, RejectedError, TransientError
from ashiato.core.events import PartUnavailable, ServiceStarted, ServiceStopped
from ashiato.core.ids import TOPICS, Kind
from ashiato.core.ledger import Acknowledged, Beat, Config
from ashiato.core.ports import BusWriter, Clock, Partition
from collector.bookmark import Acked, Bookmark, Owner
from collector.discovery import Candidate, Root, sweep
from collector.events import Backlog, BookmarkBegun, BookmarkTorn, FrameAcknowledged
from collector.followed import Followed
from collector.ledger_file import LedgerFile
from collector.registry import Registry, is_ledger
from collector.settings import CollectorSettings
from collector.ship import Load, closing_load, gather

_RETRY_S_MAX = 5.0


class Collector:
    """One node. ``run`` returns when ``stop`` was set and what is on disk is acknowledged, or the grace is over."""

    def __init__(self, settings: CollectorSettings, *, writer: BusWriter, clock: Clock, telemetry: Telemetry) -> None:
        self._settings = settings
        self._writer = writer
        self._clock = clock
        self._telemetry = telemetry
        self._node = settings.node or socket.gethostname()
        self._state = Path(settings.state_dir)
        self._wake: dict[Partition, asyncio.Event] = {}
        self._stopping = False
        self._failed: Exception | None = None
        self._watermark = 0
        self._awaited: tuple[int, dict[str, int]] | None = None
        self._bytes_acknowledged = 0
        self._turn = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Follow files until ``stop`` is set, then drain."""
        partitions = {topic: await self._partitions_of(topic, stop) for topic in TOPICS}
        if stop.is_set():
            return
        self._open(partitions)
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
            self._close()
        if self._failed is not None:
            raise self._failed
        self._telemetry.emit(ServiceStopped(reason="asked to"))

    # -- opening and closing ---------------------------------------------------------------------------------

    async def _partitions_of(self, topic: str, stop: asyncio.Event) -> int:
        """Ask until the bus is there: the files wait on the disk."""
        wait = 0.2
        while not stop.is_set():
            try:
                return await self._writer.partitions(topic)
            except (TransientError, NotHeldError) as error:
                self._telemetry.emit(PartUnavailable(part="bus", error=str(error), retry_in_ms=int(wait * 1000)))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), wait)
                wait = min(wait * 2, _RETRY_S_MAX)
        return 0

    def _open(self, partitions: dict[str, int]) -> None:
        self._bookmark = Bookmark(self._state / "bookmark")
        if self._bookmark.contents.bytes_cut:
            self._telemetry.emit(BookmarkTorn(bytes_cut=self._bookmark.contents.bytes_cut))
        self._ledger = LedgerFile(self._state / "ledger", node=self._node, clock=self._clock)
        flags = self._claim()
        self._roots = [
            Root(path=Path(root), cluster=self._settings.cluster, node=self._node, all_files=self._settings.all_files)
            for root in self._settings.roots
        ]
        self._roots.append(self._own_root(self._ledger.folder, Kind.LEDGER))
        if self._settings.access_dir:
            self._roots.append(self._own_root(Path(self._settings.access_dir), Kind.ACCESS))
        self.registry = Registry(
            bookmark=self._bookmark, ledger=self._ledger, clock=self._clock, telemetry=self._telemetry,
            randomness=secrets.token_bytes, partitions=partitions, flags=flags, scratch=self._state,
        )  # fmt: skip

    def _own_root(self, folder: Path, kind: Kind) -> Root:
        return Root(path=folder, cluster=self._settings.cluster, node=self._node, kind=kind)

    def _claim(self) -> ChunkFlags:
        """Make the bookmark this node's; another node's, or none, begins a new incarnation (C5)."""
        machine = _machine_id()
        owner = self._bookmark.contents.owner
        flags = ChunkFlags(0)
        if owner is None or (owner.node, owner.machine) != (self._node, machine):
            reason = "no bookmark yet" if owner is None else f"it belongs to {owner.node}"
            if owner is not None:
                flags = ChunkFlags.RESENT
                self._bookmark.contents.files.clear()
            owner = Owner(node=self._node, machine=machine, incarnation=secrets.token_hex(16))
            self._bookmark.append(owner)
            self._bookmark.compact()
            self._telemetry.emit(BookmarkBegun(incarnation=owner.incarnation, reason=reason))
        digest = hashlib.sha256(msgspec.json.encode(self._settings, order="sorted")).hexdigest()
        self._ledger.append([Config(sha256=digest, incarnation=owner.incarnation)])
        return flags

    def _close(self) -> None:
        for file in self.registry.files.values():
            file.close()
        self._bookmark.close()
        self._ledger.close()

    # -- following -------------------------------------------------------------------------------------------

    async def _follow(self, stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
        sweep_due = beat_due = 0
        while not stop.is_set():
            now = self._clock.monotonic_nano()
            if now >= sweep_due:
                await self._sweep()
                sweep_due = now + int(self._settings.sweep_interval_s * 1e9)
            self._look()
            if now >= beat_due and self._watermark:
                self._beat()
                beat_due = now + int(self._settings.beat_interval_s * 1e9)
            for task in tasks:
                if task.done():
                    task.result()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._settings.poll_interval_s)

    async def _sweep(self) -> None:
        started = self._clock.now_unix_nano()
        try:
            candidates = await asyncio.to_thread(lambda: list(self._candidates()))
            self.registry.sweep(candidates)
        except TransientError as error:
            self._telemetry.emit(PartUnavailable(part="state_dir", error=str(error), retry_in_ms=1000))
            return
        self.registry.settle(int(self._settings.settle_s * 1e9))
        if self._awaited is None:
            self._look()
            sizes = {f.facts.file_id: f.size for f in self.registry.files.values() if not is_ledger(f)}
            self._awaited = (started, sizes)

    def _candidates(self) -> Iterator[Candidate]:
        for root in self._roots:
            yield from sweep(root)

    def _look(self) -> None:
        self.registry.look()
        waiting = 0
        for file in self.registry.files.values():
            waiting += file.waiting
            if file.waiting or file.closing:
                self._wake[file.partition].set()
        self._telemetry.emit(Backlog(count=waiting, files=len(self.registry.files)))
        self._move_watermark()

    def _move_watermark(self) -> None:
        """Every byte seen before the watermark is acknowledged or named: checked against a whole sweep."""
        if self._awaited is None:
            return
        started, sizes = self._awaited
        files = self.registry.files
        if all(files[file_id].offset >= size for file_id, size in sizes.items() if file_id in files):
            self._watermark, self._awaited = started, None

    def _beat(self) -> None:
        moved = [f for f in self.registry.files.values() if f.moved_since_beat and not is_ledger(f)]
        statement = Beat(
            watermark_unix_nano=str(self._watermark),
            moved=tuple(
                Acknowledged(
                    file_id=f.facts.file_id, offset=str(f.offset), incarnation="", topic=f.partition.topic,
                    partition=f.partition.number, position=str(f.position),
                )
                for f in moved
            ),
            files_open=len(self.registry.files),
            bytes_acknowledged=str(self._bytes_acknowledged),
            bytes_lost=str(int(self._lost())),
        )  # fmt: skip
        try:
            self._ledger.append([statement])
        except TransientError as error:
            self._telemetry.emit(PartUnavailable(part="state_dir", error=str(error), retry_in_ms=1000))
            return
        for file in moved:
            file.moved_since_beat = False

    def _lost(self) -> float:
        return sum(self._telemetry.value("bytes_lost_total", reason=reason) for reason in ("truncated", "rotated_away"))

    async def _drain(self, tasks: list[asyncio.Task[None]]) -> None:
        """Ship what is on the disk, within the grace; what is left stays on the disk and is shipped next time."""
        deadline = self._clock.monotonic_nano() + int(self._settings.drain_s * 1e9)
        await self._sweep()
        beaten = False
        while self._clock.monotonic_nano() < deadline and not any(task.done() for task in tasks):
            self._look()
            if not any(file.waiting for file in self.registry.files.values() if not is_ledger(file)):
                if not beaten:
                    self._awaited = self._awaited or (self._clock.now_unix_nano(), {})
                    self._move_watermark()
                    self._beat()
                    beaten = True
                    continue
                if not any(file.waiting for file in self.registry.files.values()):
                    return
            await asyncio.sleep(0.02)

    # -- shipping --------------------------------------------------------------------------------------------

    async def _ship(self, partition: Partition) -> None:
        wake = self._wake[partition]
        while True:
            load = self._next_load(partition)
            if load is not None:
                await self._send(load)
                continue
            closing = next((f for f in self._of(partition) if f.closing and f.waiting == 0), None)
            if closing is not None:
                now = self._clock.now_unix_nano()
                await self._send(closing_load(closing, now_unix_nano=now, flags=self.registry.flags))
                if closing.waiting == 0:
                    self.registry.closed(closing)
                continue
            wake.clear()
            await wake.wait()

    def _next_load(self, partition: Partition) -> Load | None:
        files = self._of(partition)
        if not files:
            return None
        self._turn += 1
        at = self._turn % len(files)
        return gather(
            partition, files[at:] + files[:at], now_unix_nano=self._clock.now_unix_nano(),
            now_monotonic_nano=self._clock.monotonic_nano(), flags=self.registry.flags,
        )  # fmt: skip

    def _of(self, partition: Partition) -> list[Followed]:
        return [file for file in self.registry.files.values() if file.partition == partition]

    async def _send(self, load: Load) -> None:
        """Send until the bus keeps it; then the files move on, and the bookmark after them (C2, C4)."""
        wait = 0.2
        while True:
            try:
                position = await self._writer.send(load.partition, load.value)
                break
            except (TransientError, NotHeldError, RejectedError) as error:
                self._telemetry.emit(PartUnavailable(part="bus", error=str(error), retry_in_ms=int(wait * 1000)))
                await asyncio.sleep(wait)
                wait = min(wait * 2, _RETRY_S_MAX)
                with contextlib.suppress(TransientError):
                    await self._writer.reset()
        entries = []
        for advance in load.advances:
            file = advance.file
            file.offset, file.at_line, file.position = advance.offset, advance.at_line or file.at_line, position
            file.at_line = advance.at_line
            file.moved_since_beat = True
            entries.append(Acked(file_id=file.facts.file_id, offset=file.offset, position=position))
            entries += self.registry.acknowledged(file)  # type: ignore[arg-type]
        self._bytes_acknowledged += load.raw_bytes
        try:
            self._bookmark.append(*entries)
        except TransientError as error:
            # The bytes are kept by the bus; a bookmark that lags only means that they are sent and trimmed again.
            self._telemetry.emit(PartUnavailable(part="state_dir", error=str(error), retry_in_ms=0))
        topic, number = load.partition
        self._telemetry.emit(
            FrameAcknowledged(
                topic=topic, partition=number, position=position, raw_bytes=load.raw_bytes, frame_bytes=len(load.value)
            )
        )


def _machine_id() -> str:
    try:
        return Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""

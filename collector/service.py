"""The collector: sweep, look, ship, beat. Durable before it counts, kept by the bus before it is acknowledged."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec

from ashiato import __version__
from ashiato.adapters.signer import open_signer, read_or_make
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.errors import AshiatoError, NotHeldError, RefusedError, TransientError
from ashiato.core.events import PartUnavailable, ServiceStarted, ServiceStopped
from ashiato.core.ids import TOPICS, Kind, check_name
from ashiato.core.ledger import Config, Gap
from ashiato.core.ports import BusWriter, Clock
from collector.attention import Attention
from collector.beat import Pulse
from collector.bookmark import Bookmark, Late, Owner, Secret, Stated, Topics
from collector.claim import claimed
from collector.delivery import RETRY_S_MAX, RETRY_S_MIN, Delivery
from collector.discovery import Root, Swept
from collector.docker import DockerFacts
from collector.events import BookmarkBegun, BookmarkTorn, DrainCutShort
from collector.finding import Finder, roots_of
from collector.followed import ContentChangedError, Followed
from collector.ledger_file import LedgerFile
from collector.open_span import Attester
from collector.pin.held import Pins
from collector.registry import Registry
from collector.settings import CollectorSettings
from collector.span_events import StateNotReserved, StateReserve, StateReserveUsed
from collector.spans import Spans
from collector.vigil import Vigil

DRAIN_POLL_S = 0.02
SECRET_BYTES = 32
ALIVE_NS = 60_000_000_000
"""A loop that has not come round for this long hangs: it waits for nothing but its own disk."""
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
        self._configuration = hashlib.sha256(msgspec.json.encode(settings, order="sorted")).hexdigest()
        self._docker = DockerFacts(self._state / "docker", clock=clock)
        self._pins = Pins(folder=Path(settings.pins_dir).absolute()) if settings.pins_dir else None
        self._attention = Attention()
        self._has_swept = False
        self._owes_sweep = False
        """What the last sweep saw could not be stated: what it was told of stands in no hint any more."""
        self._turned_nano = clock.monotonic_nano()
        """When the loop last came round."""
        self._reserve: StateReserve | None = None
        self._reserve_is_used = False

    async def run(self, stop: asyncio.Event) -> None:
        """Follow files until ``stop`` is set, then drain.

        Raises:
            SettingsError: another collector runs on the same state folder.
            TransientError: the state folder cannot be opened.

        """
        with claimed(self._state, by="collector"):
            self._open()
            try:
                await self._run(stop)
            finally:
                self._bookmark.close()
                self._ledger.close()

    def _open(self) -> None:
        reserve_bytes = self._settings.reserve_bytes
        key_file = Path(self._settings.node_key_file or self._state / "node.key").absolute()
        self._signer = open_signer(key_file, self._randomness)
        self._secret = read_or_make(self._state / "secret", lambda: self._randomness(SECRET_BYTES))
        self._bookmark = Bookmark(self._state / "bookmark", reserve_bytes=reserve_bytes)
        self._ledger = LedgerFile(
            self._state / "ledger", node=self._node, clock=self._clock, signer=self._signer,
            reserve_bytes=reserve_bytes, durable_n=self._bookmark.contents.stated,
        )  # fmt: skip

    async def _run(self, stop: asyncio.Event) -> None:
        partitions = await self._partitions(stop)
        resent = await self._begin(stop)
        if partitions is None or resent is None:
            return
        self._bookmark.note(Topics(partitions=partitions))
        self._vigil = Vigil(
            self._settings, bookmark=self._bookmark, ledger=self._ledger, clock=self._clock, telemetry=self._telemetry
        )
        self._spans = Spans(
            attester=Attester(secret=self._secret, clock=self._clock), ledger=self._ledger, bookmark=self._bookmark,
            clock=self._clock, telemetry=self._telemetry, interval_ns=int(self._settings.span_interval_s * 1e9),
        )  # fmt: skip
        self.registry = Registry(
            spans=self._spans, clock=self._clock, telemetry=self._telemetry, randomness=self._randomness,
            partitions=partitions, resent=resent, configuration=self._configuration,
        )  # fmt: skip
        self._finder = Finder(
            self._all_roots(), interval_s=self._settings.sweep_interval_s, clock=self._clock,
            telemetry=self._telemetry, holds=self.registry.holds,
        )  # fmt: skip
        self._pulse = Pulse(self._settings, registry=self.registry, ledger=self._ledger, clock=self._clock)
        self.delivery = Delivery(
            self._settings, partitions=partitions, writer=self._writer, spans=self._spans, vigil=self._vigil,
            pulse=self._pulse, clock=self._clock, telemetry=self._telemetry,
        )  # fmt: skip
        shipping = asyncio.create_task(self.delivery.run())
        self._telemetry.emit(ServiceStarted(version=__version__, detail=f"node {self._node}"))
        try:
            await self._follow(stop, shipping)
            await self._drain(shipping)
        finally:
            shipping.cancel()
            await asyncio.gather(shipping, return_exceptions=True)
            self._finder.close()
            self._spans.conclude(self.registry.files.values())
            for file in self.registry.files.values():
                file.let_go()
            self.delivery.flush()
        self._telemetry.emit(ServiceStopped(reason="asked to"))

    # -- telling ---------------------------------------------------------------------------------------------

    def ails(self) -> str:
        """Say why this process should be started anew; '' where it should not (``/healthz``)."""
        still_ns = self._clock.monotonic_nano() - self._turned_nano
        return "" if still_ns < ALIVE_NS else f"the loop stands still since {still_ns // 1_000_000_000} s"

    def waits_for(self) -> str:
        """Say what is not ready yet, or not any more; '' where all is (``/readyz``)."""
        if not self._has_swept:
            return "the first sweep"
        return "" if self.delivery.is_reachable else "the bus"

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
                self._bookmark.flush()
                public_key = base64.b64encode(self._signer.public_key).decode()
                config = Config(
                    sha256=self._configuration, exclusions=self._excluded(), incarnation=owner.incarnation,
                    key_id=self._signer.key_id, public_key=public_key,
                )  # fmt: skip
                self._ledger.append([config])
            except TransientError as error:
                self._unavailable("state_dir", error, 1)
                await _pause(stop, 1)
            else:
                return resent
        return None

    def _claim(self) -> bool:
        """Make the bookmark this node's; another node's, or none, begins a new incarnation (C5)."""
        machine, secret_id = _machine_id(), hashlib.sha256(b"ashiato secret/1\n" + self._secret).hexdigest()[:16]
        contents = self._bookmark.contents
        owner = contents.owner
        if owner is None:
            reason = "there is none"
        elif (owner.node, owner.machine) != (self._node, machine):
            reason = f"it belongs to node {owner.node}, or to another machine"
        elif contents.secret_id not in ("", secret_id):
            reason = "its spans have salts of a secret that is gone"
        elif contents.stated > self._ledger.head.n:
            # (C3) A number would be used twice for the files that it knows.
            reason = f"the ledger lacks lines from {self._ledger.head.n} on"
        else:
            if not contents.secret_id:
                self._bookmark.note(Secret(id=secret_id))
            return False
        new = Owner(node=self._node, machine=machine, incarnation=self._randomness(16).hex())
        # The ledger's present lines, if there are any, speak of the incarnation before.
        resent = owner is not None or self._ledger.head.n > 0
        self._bookmark.note(new, Stated(n=self._ledger.head.n), Secret(id=secret_id), Late(is_late=False))
        self._telemetry.emit(BookmarkBegun(incarnation=new.incarnation, reason=reason))
        return resent

    def _all_roots(self) -> list[Root]:
        cluster, node = self._settings.cluster, self._node
        roots = [Root(path=self._ledger.folder, cluster=cluster, node=node, kind=Kind.LEDGER)]
        roots.append(Root(path=self._docker.folder, cluster=cluster, node=node, kind=Kind.WATCH))
        if self._settings.access_dir:
            access = Path(self._settings.access_dir).absolute()
            roots.append(Root(path=access, cluster=cluster, node=node, kind=Kind.ACCESS))
        return roots + roots_of(self._settings, node=node)

    def _excluded(self) -> tuple[str, ...]:
        return tuple(str(Path(folder).absolute()) for folder in self._settings.exclude)

    # -- following -------------------------------------------------------------------------------------------

    async def _follow(self, stop: asyncio.Event, shipping: asyncio.Task[None]) -> None:
        while not stop.is_set():
            self._turned_nano = self._clock.monotonic_nano()
            if self._finder.is_due(eager=self._wants_sweep()):
                await self._sweep()
            elif self._finder.is_hinted:
                await self._sweep(whole=False)
            self._look(settle_ns=int(self._settings.settle_s * 1e9), unlinked_settle_ns=UNLINKED_SETTLE_NS)
            self._spans.tick(self.registry.files.values())
            self._beat(last=False)
            self.delivery.flush()
            self._tell_reserve()
            _raise_failed(shipping)
            await self._finder.pause(stop, self._settings.poll_interval_s * (1 + self._attention.rests))

    def _wants_sweep(self) -> bool:
        registry = self.registry
        return bool(registry.wants_sweep or registry.files_unreadable or self._pulse.wants_sweep or self._owes_sweep)

    async def _sweep(self, *, whole: bool = True, anew: bool = False) -> None:
        """Take in what there is; the watermark moves where all of it was seen."""
        started = self._clock.now_unix_nano()
        swept = await self._finder.sweep(whole=whole)
        if self._pins is not None:
            await asyncio.to_thread(self._pins.join, swept)
        plan = await asyncio.to_thread(self.registry.plan, swept)
        due = self._vigil.planned(plan, self._pins.given_up if self._pins is not None else ())
        try:
            self.registry.carry_out(plan)
        except TransientError as error:
            self._unavailable("state_dir", error, self._settings.sweep_interval_s)
            self._owes_sweep = True
            return
        self._vigil.carried_out(swept, plan, due, self.registry)
        if self._pins is not None:
            self._pins.stated(self._pins.given_up)
            await asyncio.to_thread(self._pins.release, self.registry.needs_nothing)
        if whole:
            await self._tell_docker(swept)
            self._owes_sweep = False
        self._has_swept = True
        self._attention.swept(self.registry.files)
        if plan.deferred:
            self._finder.hurry()
        if plan.deferred or not whole:
            return
        # Every file is asked, so that whatever was written before this sweep began is waited for.
        self._look(settle_ns=int(self._settings.settle_s * 1e9), unlinked_settle_ns=UNLINKED_SETTLE_NS, everything=True)
        self._pulse.swept(started, anew=anew)

    async def _tell_docker(self, swept: Swept) -> None:
        try:
            await asyncio.to_thread(self._docker.take, swept.candidates)
        except TransientError as error:
            self._unavailable("state_dir", error, self._settings.sweep_interval_s)

    def _look(self, *, settle_ns: int, unlinked_settle_ns: int, everything: bool = False) -> None:
        files = self._attention.due(self.registry.files, everything=everything or self._attention.rests > 0)
        try:
            self.registry.look(files, settle_ns=settle_ns, unlinked_settle_ns=unlinked_settle_ns)
        except TransientError as error:
            self._unavailable("state_dir", error, self._settings.poll_interval_s)
        self._attention.looked(files, self._clock.monotonic_nano())
        self.delivery.offer(files)
        self.delivery.tell(len(self.registry.files), self.registry.files_unreadable)

    def _beat(self, *, last: bool) -> None:
        try:
            self._pulse.beat(last=last)
        except TransientError as error:
            self._unavailable("state_dir", error, self._settings.poll_interval_s)

    def _tell_reserve(self) -> None:
        """(C8) Say how much can be stated although the disk is full, and say it aloud once it is used."""
        told = StateReserve(ledger=self._ledger.reserve_left_bytes, bookmark=self._bookmark.reserve_left_bytes)
        if told == self._reserve:
            return
        self._telemetry.emit(told)
        half = self._settings.reserve_bytes // 2
        is_used = self._ledger.is_reserved and min(told.ledger, told.bookmark) < half
        if is_used and not self._reserve_is_used:
            self._telemetry.emit(StateReserveUsed(ledger=told.ledger, bookmark=told.bookmark))
        elif self._reserve is None and half and not self._ledger.is_reserved:
            self._telemetry.emit(StateNotReserved(path=str(self._state)))
        self._reserve, self._reserve_is_used = told, is_used

    # -- stopping --------------------------------------------------------------------------------------------

    async def _drain(self, shipping: asyncio.Task[None]) -> None:
        """Ship what is on the disk, within the grace; what is left is named, and is shipped next time."""
        deadline = self._clock.monotonic_nano() + int(self._settings.drain_s * 1e9)
        settle_ns = int(self._settings.settle_s * 1e9)
        self.delivery.hurry()
        await self._sweep(anew=True)
        beaten = False
        while self._clock.monotonic_nano() < deadline:
            _raise_failed(shipping)
            # An unlinked file cannot be opened again: it is closed now.
            self._look(settle_ns=settle_ns, unlinked_settle_ns=0)
            if not any(_is_left(file) for file in self.registry.files.values() if beaten or not file.is_ledger):
                if beaten:
                    return
                self._spans.conclude(self.registry.files.values())
                self._beat(last=True)
                beaten = True
            else:
                await asyncio.sleep(DRAIN_POLL_S)
        self._cut_short()

    def _cut_short(self) -> None:
        """State what the grace was too short for: the bytes lie on the disk, and win over the gap when they come."""
        left = [file for file in self.registry.files.values() if file.waiting and not file.is_ledger]
        if not left:
            return
        gaps = [
            Gap(
                source=file.facts.source, reason="drain_cut_short", file_id=file.facts.file_id,
                offset_start=str(file.cursor.offset), offset_end=str(file.size),
            )
            for file in left
        ]  # fmt: skip
        self._telemetry.emit(DrainCutShort(count=sum(file.waiting for file in left), files=len(left)))
        cut = self._spans.before(gaps, self.registry.files)
        try:
            self._ledger.append([*cut.statements, *gaps])
            self._spans.settle(cut)
        except TransientError as error:
            self._unavailable("state_dir", error, 0)

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


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


def _raise_failed(task: asyncio.Task[None]) -> None:
    if task.done():
        task.result()


def _machine_id() -> str:
    try:
        return Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""

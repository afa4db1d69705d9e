"""``collector watch``: one thread a resource, one journal, and a main thread that keeps the state and the probes."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from ashiato import __version__
from ashiato.adapters.signer import read_or_make
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.errors import SettingsError, TransientError
from ashiato.core.events import PartUnavailable, ServiceStarted, ServiceStopped
from ashiato.core.ports import Clock
from collector.claim import claimed
from collector.watch.api import Api, Place
from collector.watch.journal import Journal
from collector.watch.keep import Keeper
from collector.watch.listwatch import Around, ListWatch
from collector.watch.resources import resource_of
from collector.watch.settings import WatchSettings
from collector.watch_events import ObjectsKnown

KEY_BYTES: Final = 32
TURN_S: Final = 0.5
ALIVE_NS: Final = 60_000_000_000
STOP_S: Final = 20.0
"""Threads end at once when their sockets are shut; what takes longer is a disk that hangs."""


class Watch:
    """Of one cluster. ``run`` returns when ``stop`` was set."""

    def __init__(
        self, settings: WatchSettings, *, environ: Mapping[str, str], clock: Clock, telemetry: Telemetry,
        randomness: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._place = Place.of(settings, environ)
        self._resources = [resource_of(name) for name in dict.fromkeys(settings.resources)]
        if not self._resources:
            raise SettingsError("no resource is to be watched: name one, or leave the setting out")
        self._clock = clock
        self._telemetry = telemetry
        self._randomness = randomness
        self._state = Path(settings.state_dir).absolute()
        self._watches: list[ListWatch] = []
        self._journal: Journal | None = None
        self._failed: BaseException | None = None
        self._turned_nano = clock.monotonic_nano()

    def run(self, stop: threading.Event) -> None:
        """Watch until ``stop`` is set.

        Raises:
            SettingsError: another watcher runs on the same state folder.
            TransientError: the folders cannot be opened.

        """
        with claimed(self._state, by="watcher"):
            key = read_or_make(self._state / "values.key", lambda: self._randomness(KEY_BYTES))
            keeper = Keeper(key, self._settings.annotations)
            journal = self._journal = self._open(stop)
            try:
                # Before the first line, so that from then on lines and state tell everything together.
                self._checkpoint(journal)
                self._run(journal, keeper, stop)
            finally:
                self._checkpoint(journal)
                journal.close()

    # -- telling ---------------------------------------------------------------------------------------------

    def ails(self) -> str:
        """Say why this process should be started anew; '' where it should not (``/healthz``)."""
        still_ns = self._clock.monotonic_nano() - self._turned_nano
        return "" if still_ns < ALIVE_NS else f"the loop stands still since {still_ns // 1_000_000_000} s"

    def waits_for(self) -> str:
        """Say what is not ready yet, or not any more; '' where all is (``/readyz``)."""
        if self._journal is not None and self._journal.is_waiting:
            return "room on the disk"
        waiting = [watch.resource.name for watch in self._watches if not watch.is_synced]
        return f"the first list of {', '.join(waiting)}" if waiting or not self._watches else ""

    # -- running ---------------------------------------------------------------------------------------------

    def _open(self, stop: threading.Event) -> Journal:
        settings = self._settings
        return Journal(
            Path(settings.folder).absolute(), self._state / "watch.state", rotate_bytes=settings.rotate_bytes,
            files_kept=settings.files_kept, reserve_bytes=settings.reserve_bytes, clock=self._clock,
            telemetry=self._telemetry, stop=stop,
        )  # fmt: skip

    def _run(self, journal: Journal, keeper: Keeper, stop: threading.Event) -> None:
        apis = [Api(self._place, silence_s=self._settings.silence_s) for _ in self._resources]
        around = Around(
            settings=self._settings, journal=journal, keeper=keeper, clock=self._clock, telemetry=self._telemetry,
            jitter=self._jitter, stop=stop,
        )  # fmt: skip
        self._watches = [ListWatch(resource, api, around) for resource, api in zip(self._resources, apis, strict=True)]
        threads = [
            threading.Thread(target=self._follow, args=(watch, stop), name=watch.resource.name, daemon=True)
            for watch in self._watches
        ]
        for thread in threads:
            thread.start()
        self._telemetry.emit(ServiceStarted(version=__version__, detail=f"watch of {self._place.url}"))
        try:
            self._keep(journal, stop)
        finally:
            stop.set()
            for api in apis:
                api.abort()
            for thread in threads:
                thread.join(STOP_S)
        if self._failed is not None:
            raise self._failed
        self._telemetry.emit(ServiceStopped(reason="asked to"))

    def _keep(self, journal: Journal, stop: threading.Event) -> None:
        """Write the state now and then, and say how much is known."""
        due = self._clock.monotonic_nano()
        while not stop.wait(TURN_S):
            self._turned_nano = now = self._clock.monotonic_nano()
            if now < due or journal.is_waiting:
                continue
            due = now + int(self._settings.checkpoint_s * 1e9)
            self._checkpoint(journal)
            for watch in self._watches:
                count = len(journal.standing(watch.resource.name).objects)
                self._telemetry.emit(ObjectsKnown(kind=watch.resource.kind, count=count))

    def _checkpoint(self, journal: Journal) -> None:
        try:
            journal.checkpoint()
        except TransientError as error:
            wait_ms = int(self._settings.checkpoint_s * 1000)
            self._telemetry.emit(PartUnavailable(part="state_dir", error=str(error), retry_in_ms=wait_ms))

    def _follow(self, watch: ListWatch, stop: threading.Event) -> None:
        """Run one resource's thread. What it did not foresee stops all, to be seen."""
        try:
            watch.run()
        except Exception as error:  # noqa: BLE001 - raised again where the process ends
            self._failed = error
            stop.set()

    def _jitter(self) -> float:
        return int.from_bytes(self._randomness(4), "big") / 2**32

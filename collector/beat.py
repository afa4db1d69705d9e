"""The beat: what the ledger says at intervals, empty or not, because silence is evidence too.

Its watermark is what *complete* rests on: every byte seen before it is acknowledged up to the stated offsets, or
named in a gap. A beat is written soon after something moved, and once more when the watermark has passed the movement;
a node where nothing moves beats at the long interval only. The ledger's own bytes are no movement.
"""

from __future__ import annotations

from typing import Final

from ashiato.adapters.clock import clock_state
from ashiato.core.ledger import Acknowledged, Beat
from ashiato.core.ports import Clock
from collector.followed import Followed
from collector.ledger_file import LedgerFile
from collector.registry import Registry
from collector.settings import CollectorSettings
from collector.ship import Load

MOVED_MAX: Final = 512
"""Files in one line, so that it stays far below the length at which lines are cut."""


class Pulse:
    """Keeps the watermark, and beats."""

    def __init__(self, settings: CollectorSettings, *, registry: Registry, ledger: LedgerFile, clock: Clock) -> None:
        self._interval_ns = int(settings.beat_interval_s * 1e9)
        self._idle_interval_ns = max(self._interval_ns, int(settings.idle_beat_interval_s * 1e9))
        self._registry = registry
        self._ledger = ledger
        self._clock = clock
        self._watermark = 0
        self._stated_watermark = -1
        self._awaited: tuple[int, dict[str, int]] | None = None
        self._has_beaten = False
        self._beaten_nano = clock.monotonic_nano()
        self._moved_unix_nano = 0
        self._bytes_acknowledged = 0

    @property
    def wants_sweep(self) -> bool:
        """Whether the watermark has not passed the last movement: the next whole sweep can move it there."""
        return self._watermark <= self._moved_unix_nano or not self._watermark

    def swept(self, started_unix_nano: int, *, anew: bool = False) -> None:
        """Take in that a whole sweep, begun at this time, is carried out: what it saw is what the watermark awaits.

        Without ``anew``, an earlier sweep that is awaited still is awaited to its end.
        """
        if self._awaited is None or anew:
            sizes = {file.facts.file_id: file.size for file in self._shipped()}
            self._awaited = (started_unix_nano, sizes)

    def acknowledged(self, load: Load) -> None:
        """Take in that the bus keeps a frame."""
        self._bytes_acknowledged += load.raw_bytes
        if any(not one.file.is_ledger for one in load.behind):
            self._moved_unix_nano = self._clock.now_unix_nano()

    def beat(self, *, last: bool) -> None:
        """Beat if it is time, or if it is the ``last``. Raises TransientError where the disk is full."""
        self._move_watermark()
        now = self._clock.monotonic_nano()
        if not last and self._has_beaten and now < self._beaten_nano + self._interval_ns:
            return
        moved = [file for file in self._shipped() if file.moved_since_beat]
        is_news = bool(moved) or self._watermark > self._stated_watermark
        is_behind = is_news and self._stated_watermark <= self._moved_unix_nano
        # The first beat waits for the first watermark, not longer than any other.
        is_soon = is_behind and self._watermark > 0
        due = self._beaten_nano + (self._interval_ns if is_soon else self._idle_interval_ns)
        if not last and now < due and (self._has_beaten or not self._watermark):
            return
        self._ledger.append(self._lines(moved))
        self._has_beaten, self._beaten_nano, self._stated_watermark = True, now, self._watermark
        for file in moved:
            file.moved_since_beat = False

    def _lines(self, moved: list[Followed]) -> list[Beat]:
        """Return as many beats as the moved files need; only the last one has the new watermark."""
        groups = [moved[at : at + MOVED_MAX] for at in range(0, len(moved), MOVED_MAX)] or [[]]
        before = max(self._stated_watermark, 0)
        return [
            Beat(
                clock=clock_state(),
                watermark_unix_nano=str(self._watermark if group is groups[-1] else before),
                moved=tuple(map(_acknowledged, group)),
                files_open=len(self._registry.files),
                bytes_acknowledged=str(self._bytes_acknowledged),
                bytes_lost=str(self._registry.bytes_lost),
            )
            for group in groups
        ]

    def _move_watermark(self) -> None:
        if self._awaited is None:
            return
        started, sizes = self._awaited
        followed = self._registry.files
        left = {
            file_id: size
            for file_id, size in sizes.items()
            if (file := followed.get(file_id)) is not None and not file.is_named and file.cursor.offset < size
        }
        if left:
            self._awaited = (started, left)
        else:
            self._watermark, self._awaited = started, None

    def _shipped(self) -> list[Followed]:
        return [file for file in self._registry.files.values() if not file.is_ledger]


def _acknowledged(file: Followed) -> Acknowledged:
    return Acknowledged(
        file_id=file.facts.file_id, offset=str(file.cursor.offset), incarnation=file.incarnation,
        topic=file.partition.topic, partition=file.partition.number, position=str(file.position),
    )  # fmt: skip

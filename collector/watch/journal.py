"""The files that lines are written to, and where each watch stands: a line is durable before anything rests on it.

The lines are their own write-ahead log. The state (resource versions, known objects, a place in the files) is written
now and then, atomically; what came behind that place is read from the lines after a crash. So a crash repeats lines and
loses none. A file is never cut: behind a torn end a new one begins, for the tailer may have read what is there. A full
disk makes everyone wait, and the API server keeps what was not read.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from ashiato.adapters import files
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.errors import AshiatoError, TransientError
from ashiato.core.events import PartUnavailable
from ashiato.core.ports import Clock
from collector.numbered_files import NumberedFiles
from collector.watch import lines
from collector.watch.lines import Entry
from collector.watch_events import WatchFileRemoved, WatchStateLost

RETRY_S: Final = 1.0
STATE_VERSION: Final = 1


class StoppedError(AshiatoError):
    """Asked to stop: what is at hand is left, and will be read again."""

    code = "stopped"


class Standing(msgspec.Struct):
    """Where the watch of one resource stands."""

    resource_version: str = ""
    """From here a watch can go on; '' where everything must be listed."""
    contact_unix_nano: int = 0
    """Up to here all that happened is known; 0 where nothing ever was."""
    refused: bool = False
    """The resource may not be read."""
    why: str = "first"
    """Why everything would be listed: a reason of :class:`Relisted`."""
    objects: dict[str, Entry] = {}


class _State(msgspec.Struct):
    number: int
    """Of the file behind whose first ``offset`` bytes lines are newer than this state."""
    offset: int
    resources: dict[str, Standing]
    v: int = STATE_VERSION


_STATE: Final = msgspec.msgpack.Decoder(_State)


@dataclass(slots=True, kw_only=True)
class Batch:
    """Lines, and what is known once they are durable."""

    lines: list[bytes] = field(default_factory=list)
    changes: dict[str, Entry | None] = field(default_factory=dict)
    resource_version: str | None = None
    contact_unix_nano: int | None = None
    refused: bool = False
    why: str | None = None


class Journal:
    """Of one watcher. Hold ``lock`` from reading what is known to committing what follows of it."""

    def __init__(
        self, folder: Path, state_file: Path, *, rotate_bytes: int, files_kept: int, reserve_bytes: int, clock: Clock,
        telemetry: Telemetry, stop: threading.Event,
    ) -> None:  # fmt: skip
        self.lock = threading.RLock()
        self._state_file = state_file
        self._rotate_bytes = rotate_bytes
        self._files_kept = files_kept
        self._clock = clock
        self._telemetry = telemetry
        self._stop = stop
        self._files = NumberedFiles(folder, "watch", reserve_bytes=reserve_bytes)
        self._stated_number, self._is_dirty = 0, False
        self.is_waiting = False
        """The disk has no room."""
        self._standing: dict[str, Standing] = {}
        is_whole = self._recover()
        number = max((*self._files.numbers(), self._stated_number))
        if not is_whole or not self._files.path(number).exists():
            # A number that was given is not given again, whatever became of its file.
            number += 1
        self._files.open(number)

    @property
    def number(self) -> int:
        """Of the present file."""
        return self._files.number

    def standing(self, resource: str) -> Standing:
        """Return where a resource stands; changed by :meth:`commit` alone."""
        return self._standing.setdefault(resource, Standing(objects={}))

    def commit(self, resource: str, batch: Batch) -> None:
        """Make lines durable, then know what they say. Waits for room on the disk.

        Raises:
            StoppedError: asked to stop before there was room; nothing is known of it.

        """
        with self.lock:
            self._write(batch.lines)
            standing = self.standing(resource)
            for uid, entry in batch.changes.items():
                if entry is None:
                    standing.objects.pop(uid, None)
                else:
                    standing.objects[uid] = entry
            if batch.resource_version is not None:
                standing.resource_version = batch.resource_version
            if batch.contact_unix_nano is not None:
                standing.contact_unix_nano = batch.contact_unix_nano
            if batch.why is not None:
                standing.why = batch.why
            standing.refused = batch.refused
            self._is_dirty = True

    def turn(self) -> int:
        """Begin a new file where the present one is full; return the number of the present one. Needs the lock."""
        if self._files.last.size >= self._rotate_bytes:
            self._files.turn()
        return self.number

    def checkpoint(self) -> None:
        """Write down where everything stands. Raises TransientError; the state before stays then."""
        with self.lock:
            if not self._is_dirty:
                return
            state = _State(number=self.number, offset=self._files.last.size, resources=self._standing)
            files.replace(self._state_file, msgspec.msgpack.encode(state))
            self._stated_number, self._is_dirty = self.number, False
            self._forget()

    def close(self) -> None:
        """Let go of the file."""
        self._files.close()

    # -- writing ---------------------------------------------------------------------------------------------

    def _write(self, added: Sequence[bytes]) -> None:
        if not added:
            return
        while True:
            if self._files.last.size == 0:
                named = lines.file_line(self.number, self._files.name_before, now=self._clock.now_unix_nano())
                added = [named, *added]
            try:
                self._files.last.append(b"".join(added))
            except TransientError as error:
                waits = PartUnavailable(part="watch_folder", error=str(error), retry_in_ms=int(RETRY_S * 1000))
                self._telemetry.emit(waits)
                self.is_waiting = True
                if self._files.last.size == 0:
                    added = added[1:]
                if self._stop.wait(RETRY_S):
                    raise StoppedError("asked to stop while there is no room on the disk") from error
            else:
                self.is_waiting = False
                return

    def _forget(self) -> None:
        """Remove the oldest files, but none that the state still needs."""
        for number in self._files.numbers()[: -self._files_kept]:
            if number < self._stated_number:
                path = self._files.path(number)
                with contextlib.suppress(OSError):
                    path.unlink()
                    self._telemetry.emit(WatchFileRemoved(path=str(path)))

    # -- reading back ----------------------------------------------------------------------------------------

    def _recover(self) -> bool:
        """Take in the state, and the lines behind it; return whether the newest file can be appended to."""
        state, why = self._load()
        numbers = self._files.numbers()
        if state is not None:
            self._standing, self._stated_number = state.resources, state.number
            return self._replay([n for n in numbers if n >= state.number], state.number, state.offset)
        is_whole = self._replay(numbers, 0, 0)
        self._is_dirty = True
        if numbers:
            # What the kept lines say is known; that they say everything is not: all has to be listed.
            self._telemetry.emit(WatchStateLost(error=why))
            for standing in self._standing.values():
                standing.resource_version, standing.why = "", "state_lost"
        return is_whole

    def _load(self) -> tuple[_State | None, str]:
        try:
            state = _STATE.decode(self._state_file.read_bytes())
        except FileNotFoundError:
            return None, "there is none"
        except OSError as error:
            raise files.disk_error(error, self._state_file) from error
        except msgspec.DecodeError as error:
            return None, str(error)
        return (state, "") if state.v == STATE_VERSION else (None, f"it is of version {state.v}")

    def _replay(self, numbers: Sequence[int], first: int, offset: int) -> bool:
        is_whole = True
        for number in numbers:
            stored = self._files.path(number).read_bytes()
            is_whole = not stored or stored.endswith(b"\n")
            for raw in stored[offset if number == first else 0 :].splitlines(keepends=True):
                try:
                    written = lines.read(raw)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    # Torn by a crash. In a file that others follow it was once the last line before a new file.
                    is_whole = False
                    continue
                if raw.endswith(b"\n"):
                    self._take(written, number)
        return is_whole

    def _take(self, written: lines.Written, number: int) -> None:
        """Know what a line says."""
        if not written.resource:
            return
        self._is_dirty = True
        standing, told = self.standing(written.resource), written.object.metadata
        observed = int(written.observed_time_unix_nano)
        match written.type:
            case "ADDED" | "MODIFIED":
                known = standing.objects.get(told.uid)
                at = known.spec_file if written.spec_same and known is not None else number
                standing.objects[told.uid] = Entry(
                    told.namespace, told.name, told.resource_version, written.digest, written.spec_sha256, at
                )
            case "DELETED":
                standing.objects.pop(told.uid, None)
            case "SYNC":
                standing.resource_version = written.object.resource_version
                standing.contact_unix_nano, standing.refused = observed, False
            case "REFUSED":
                standing.refused, standing.why = True, "forbidden"
            case "GAP":
                standing.contact_unix_nano = observed
            case _:
                pass
        if written.source == lines.WATCH:
            standing.resource_version, standing.contact_unix_nano = told.resource_version, observed
        elif written.source == lines.LIST:
            standing.contact_unix_nano = standing.contact_unix_nano or observed

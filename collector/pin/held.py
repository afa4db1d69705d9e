"""The collector's side of pins: files that have no other name left are found, read and let go of.

A pin is the last name of its file: it shows only while no other one does, and as a rotation, so that the file ends as
any other. When the file is closed and the bookmark has that, durably, its pin is removed. Pins that were given up for
want of room are told as gaps.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ashiato.core.layout import readable
from ashiato.core.ledger import Gap
from collector.discovery import Candidate, Swept, found_at, in_log_order
from collector.pin.pinner import FROM, GONE

_PIN: Final = re.compile(r"(?P<device>\d+)-(?P<inode>\d+)-\d+\Z")
_GONE: Final = re.compile(r"\d+-\d+-\d+-(?P<size>\d+)\.gone\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """A pin that was removed with bytes that nothing else holds, and what is stated of it."""

    marker: Path
    gap: Gap


@dataclass(slots=True, kw_only=True)
class Pins:
    """A folder of pins; one that is not there holds none."""

    folder: Path
    given_up: list[GivenUp] = field(default_factory=list)
    _lone: list[tuple[Candidate, Path]] = field(default_factory=list)
    _stated: set[Path] = field(default_factory=set)
    _releasable: set[Path] = field(default_factory=set)

    def join(self, swept: Swept) -> None:
        """Add to a sweep the files that pins alone hold, and take in what was given up."""
        seen = {candidate.identity for candidate in swept.candidates}
        self._lone, self.given_up = [], []
        for name in self._names():
            if (found := _PIN.match(name)) is not None:
                if (int(found["device"]), int(found["inode"])) not in seen:
                    self._take(name, swept)
            elif (gone := _GONE.match(name)) is not None:
                self._take_gone(name, int(gone["size"]), swept)
        if self._lone:
            # The sort is stable: pins of one log keep the order in which they were written.
            self._lone.sort(key=lambda one: one[0].modified_nano)
            swept.candidates = in_log_order([*(candidate for candidate, _ in self._lone), *swept.candidates])

    def release(self, needs_nothing: Callable[[Candidate], bool]) -> int:
        """Remove the pins whose files were closed at the last sweep already: the bookmark has that by now."""
        done = {pin for candidate, pin in self._lone if needs_nothing(candidate)}
        released = done & self._releasable
        for pin in released:
            _remove(pin)
            _remove(pin.with_name(pin.name + FROM))
        self._releasable = done - released
        return len(released)

    def stated(self, given_up: list[GivenUp]) -> None:
        """Take in that the ledger has the gaps of pins that were given up."""
        for one in given_up:
            self._stated.add(one.marker)
            _remove(one.marker)

    def _names(self) -> list[str]:
        try:
            return sorted(entry.name for entry in os.scandir(self.folder))
        except OSError:
            return []

    def _take(self, name: str, swept: Swept) -> None:
        pin = self.folder / name
        try:
            path = str(pin.with_name(name + FROM).readlink())
            stat = pin.lstat()
        except OSError:
            # It is being made, or given up.
            return
        found = found_at(swept.roots, path)
        if found is None or stat.st_nlink != 1:
            return
        candidate = Candidate(
            path=readable(path), os_path=str(pin), found=found, identity=(stat.st_dev, stat.st_ino),
            size=stat.st_size, modified_nano=stat.st_mtime_ns, changed_nano=stat.st_ctime_ns, rotated=True,
            pinned=True,
        )  # fmt: skip
        self._lone.append((candidate, pin))

    def _take_gone(self, name: str, size: int, swept: Swept) -> None:
        marker = self.folder / name
        if marker in self._stated:
            return
        try:
            path = str(marker.readlink())
        except OSError:
            return
        found = found_at(swept.roots, path)
        source = (
            str(found.source) if found is not None else f"file/{swept.roots[-1].cluster}/{swept.roots[-1].node}{path}"
        )
        gap = Gap(
            source=source, reason="over_budget",
            detail=f"a pin of {readable(path)} ({size} bytes, {name.removesuffix(GONE)}) was given up",
        )  # fmt: skip
        self.given_up.append(GivenUp(marker=marker, gap=gap))


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        # Without the right to remove pins, the pinner's budget does it.
        return

"""Numbered CRI lines, and the bitmap that says of each whether it arrived: not at all, once, or more than once.

A count of lines is not enough: a duplicate would make good for a loss.
"""

from __future__ import annotations

import random
import re
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench.kit.corpus import application_line

_TOKEN: Final = re.compile(rb"seq=(\d{5})-(\d{9})")
_BODIES: Final = 4096
_STEP_S: Final = 0.05
_TURNS: Final = 5


@dataclass(slots=True, kw_only=True)
class Log:
    """One container's file, and how many lines were written to it."""

    number: int
    path: Path
    lines: int = 0


@dataclass(slots=True, kw_only=True)
class Arrived:
    """What came out at the other end."""

    lost: int = 0
    duplicated: int = 0
    unknown: int = 0
    """Lines that nobody wrote: a torn one, or two in one."""


@dataclass(slots=True)
class Logs:
    """Files of one node that are written as a runtime writes them."""

    root: Path
    count: int
    seed: int = 1
    raw_bytes: int = 0
    logs: list[Log] = field(init=False)
    _bodies: list[bytes] = field(init=False)

    def __post_init__(self) -> None:
        """Make the folders and empty files."""
        source = random.Random(self.seed)
        self._bodies = [application_line(source).encode() for _ in range(_BODIES)]
        self.logs = []
        for number in range(self.count):
            uid = uuid.UUID(int=source.getrandbits(128), version=4)
            path = self.root / "var/log/pods" / f"shop_pod-{number:05d}_{uid}" / "app" / "0.log"
            path.parent.mkdir(parents=True)
            path.touch()
            self.logs.append(Log(number=number, path=path))

    @property
    def lines(self) -> int:
        """Lines written so far."""
        return sum(log.lines for log in self.logs)

    def fill(self, bytes_each: int) -> None:
        """Write this much to each file at once."""
        for log in self.logs:
            left = bytes_each
            while left > 0:
                left -= self._write(log, min(left, 1 << 20))

    def pace(self, bytes_per_s: int, seconds: float) -> None:
        """Write evenly over all files for a time, as a node's containers do."""
        began = time.monotonic()
        steps = round(seconds / _STEP_S)
        due = 0.0
        first = self.raw_bytes
        for step in range(steps):
            due += bytes_per_s * _STEP_S
            # A few files a step, in turn: containers write in bursts, not all at each moment.
            turn = self.logs[step % _TURNS :: _TURNS] or self.logs
            left = due - (self.raw_bytes - first)
            for log in turn if left > 0 else ():
                self._write(log, max(1, int(left / len(turn))))
            time.sleep(max(0.0, began + (step + 1) * _STEP_S - time.monotonic()))

    def check(self, values: Iterable[bytes]) -> Arrived:
        """Hold what came out against what was written."""
        counts = [bytearray(log.lines) for log in self.logs]
        arrived = Arrived()
        for value in values:
            for match in _TOKEN.finditer(value):
                file, line = int(match[1]), int(match[2])
                if file < len(counts) and line < len(counts[file]):
                    counts[file][line] = min(255, counts[file][line] + 1)
                else:
                    arrived.unknown += 1
        for count in counts:
            arrived.lost += count.count(0)
            arrived.duplicated += sum(count) - (len(count) - count.count(0))
        return arrived

    def _write(self, log: Log, size: int) -> int:
        now = time.time_ns()
        stamp = datetime.fromtimestamp(now // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
        lines, written, bodies = [], 0, self._bodies
        while written < size:
            n = log.lines
            line = b"%s.%09dZ stdout F %s seq=%05d-%09d\n" % (
                stamp, now % 1_000_000_000, bodies[(n * 31 + log.number) % _BODIES], log.number, n,
            )  # fmt: skip
            lines.append(line)
            written += len(line)
            log.lines = n + 1
        with log.path.open("ab", buffering=0) as file:
            file.write(b"".join(lines))
        self.raw_bytes += written
        return written

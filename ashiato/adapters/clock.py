"""The clock of the system, and one that a test moves."""

from __future__ import annotations

import time
from dataclasses import dataclass


class SystemClock:
    """The machine's clocks."""

    def now_unix_nano(self) -> int:
        """Return the wall clock in ns, UTC."""
        return time.time_ns()

    def monotonic_nano(self) -> int:
        """Return the clock that never steps back, in ns."""
        return time.monotonic_ns()


@dataclass(slots=True, kw_only=True)
class FixedClock:
    """A clock that stands until it is moved."""

    unix_nano: int
    monotonic: int = 0

    def now_unix_nano(self) -> int:
        """Return the set time."""
        return self.unix_nano

    def monotonic_nano(self) -> int:
        """Return the set time that never steps back."""
        return self.monotonic

    def advance(self, ns: int) -> None:
        """Move both clocks on."""
        self.unix_nano += ns
        self.monotonic += ns

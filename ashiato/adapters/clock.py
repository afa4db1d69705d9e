"""The clock of the system, whether it is synchronised, and one that a test moves."""

from __future__ import annotations

import ctypes
import struct
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


_TIMEX = struct.Struct("@Illlli")
"""Of Linux's ``struct timex``: modes, offset, frequency, two errors, status."""
_TIMEX_BYTES = 512
"""More than the whole of it."""
_STA_UNSYNC = 0x40
_TIME_ERROR = 5


def clock_state() -> str:
    """Return what the kernel says of its clock: ``synchronised``, ``unsynchronised`` or ``unknown``."""
    told = ctypes.create_string_buffer(_TIMEX_BYTES)
    try:
        state = ctypes.CDLL(None).adjtimex(told)
    except (OSError, AttributeError):
        return "unknown"
    if state < 0:
        return "unknown"
    *_, status = _TIMEX.unpack_from(told.raw)
    return "unsynchronised" if state == _TIME_ERROR or status & _STA_UNSYNC else "synchronised"


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

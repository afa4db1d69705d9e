"""Whether the present time can be believed: what a clock that jumped says is old must not be deleted for it.

A clock that leaps ahead, against the time that passed (a jump) or against the commits (a start), is doubted for an
hour: that is how long whoever sets clocks has to set this one right. Meanwhile nothing expires; that nothing goes a
day too early matters more than that it goes in time. Commits of the last hour vouch for nothing at a start: their
archiver may have the same clock, since the leap.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ashiato.adapters.telemetry import Telemetry
from ashiato.core.ports import Clock
from retention.events import ClockDoubted

JUMP_NS: Final = 600_000_000_000
"""What a clock may gain on the time that passed (10 minutes): nothing is kept by the minute."""
SILENCE_NS: Final = 86_400_000_000_000
"""How long nothing need have been committed before a start, without a doubt (a day)."""
DOUBT_NS: Final = 3_600_000_000_000
"""How long a clock is doubted (an hour)."""


@dataclass(slots=True, kw_only=True)
class Steady:
    """One process's judgement of its clock."""

    clock: Clock
    telemetry: Telemetry
    _begun: bool = False
    _skew_nano: int = 0
    """Wall clock less monotonic clock, as it was when the clock was last believed or doubted."""
    _doubted_until_nano: int = 0
    """On the monotonic clock."""

    def believes(self, commit_times_unix_nano: Iterable[int]) -> bool:
        """Tell whether what is old by the clock may be taken for old, where these are the times of commits."""
        now, passed = self.clock.now_unix_nano(), self.clock.monotonic_nano()
        if not self._begun:
            self._begun = True
            self._skew_nano = now - passed
            self._doubted_until_nano = passed
            before = [time for time in commit_times_unix_nano if time <= now - DOUBT_NS]
            if before and max(before) < now - DOUBT_NS - SILENCE_NS:
                self._doubt(now - max(before), passed)
        elif (gained := now - passed - self._skew_nano) > JUMP_NS:
            self._skew_nano = now - passed
            self._doubt(gained, passed)
        elif gained < -JUMP_NS:
            # Set back: nothing goes too early by that. A leap forward again is doubted like any other.
            self._skew_nano = now - passed
        return passed >= self._doubted_until_nano

    def _doubt(self, ahead_ns: int, passed: int) -> None:
        self._doubted_until_nano = passed + DOUBT_NS
        self.telemetry.emit(ClockDoubted(ahead_s=ahead_ns // 1_000_000_000, wait_s=DOUBT_NS // 1_000_000_000))

"""What a security log says, or shows, that was lost before it reached the log. Pure.

auditd numbers its events (``audit(time:serial)``): a number that never comes is an event that the kernel or auditd
lost. Files of one log are read side by side and records of one event come apart, so numbers may come in any order:
what was seen is kept as ranges, and a hole between two ranges is told only once nobody is behind with reading. Numbers
begin anew when the machine starts: a number that does not fit the times around it begins another count. Events of
auditd itself (``DAEMON_*``) are counted apart by auditd, and are no part of it.

The kernel's own count (``audit_lost=``) and Falco's drop notices are taken as they are said. Payload is scanned by
bounded patterns at line starts; bytes of any kind stop nothing.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from datetime import datetime
from typing import Final, NamedTuple

import msgspec

LATE_MS: Final = 2_000
"""Records of one event, and events of several processors, come this far out of order."""
COUNTS_MAX: Final = 8
"""Counts (machine starts, hosts that write into one log) told apart in one log."""
RANGES_MAX: Final = 512
HOLE_EVENTS_MAX: Final = 1 << 31
"""Numbers have 32 bits: what lies further apart has wrapped."""
NOTICES_MAX: Final = 64
"""Notices of one frame told one by one; further ones are added to the last."""

_RECORD: Final = re.compile(
    rb"^(?:node=(?P<node>\S{1,256}) )?type=(?P<type>[A-Z0-9_\[\]]{1,64}) "
    rb"msg=audit\((?P<s>\d{1,11})\.(?P<ms>\d{1,3}):(?P<serial>\d{1,10})\)",
    re.MULTILINE,
)
_KERNEL: Final = re.compile(
    rb"^[^\n]{0,256}?\baudit: (?:audit_lost=(?P<lost>\d{1,10})|(?P<said>backlog limit exceeded"
    rb"|rate limit exceeded|kauditd hold queue overflow|audit_backlog=\d{1,10} > audit_backlog_limit=\d{1,10}))",
    re.MULTILINE,
)
_FALCO: Final = re.compile(rb"^(?P<line>[^\n]{0,1024}?Falco internal: syscall event drop[^\n]{0,2048})", re.MULTILINE)
_DROPS: Final = re.compile(
    rb"\bn_drops\"?\s{0,4}[:=]\s{0,4}\"?(?P<count>\d{1,19})|\b(?P<said>\d{1,19}) system calls drop"
)
_TIME: Final = re.compile(
    rb'"time":\s{0,4}"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d{1,9})?(?P<zone>Z|[+-]\d\d:\d\d)"'
)


class Notice(NamedTuple):
    """A loss that a log tells of itself."""

    at_byte: int
    detail: str
    time_start_unix_nano: int
    """0 where it is not told."""
    time_end_unix_nano: int


class Hole(NamedTuple):
    """Numbers that never came, and the times around them."""

    first: int
    last: int
    time_start_unix_nano: int
    time_end_unix_nano: int
    host: str


class Range(msgspec.Struct, array_like=True):
    """Numbers that were seen without a hole, and the times of the first and the last."""

    first: int
    last: int
    first_ms: int
    last_ms: int
    noticed_ns: int = 0
    """When it began, on the clock that does not step; 0 after a restart."""


class Count(msgspec.Struct):
    """One host's numbers since one start of its kernel, in order."""

    host: str
    ranges: list[Range]

    def take(self, serial: int, ms: int, now_ns: int) -> bool:
        """Take a number in; False where it cannot belong here, for its time does not fit."""
        ranges = self.ranges
        at = bisect_right(ranges, serial, key=_first_of) - 1
        before = ranges[at] if at >= 0 else None
        after = ranges[at + 1] if at + 1 < len(ranges) else None
        if before is not None and serial <= before.last:
            return before.first_ms - LATE_MS <= ms <= before.last_ms + LATE_MS
        if (before is not None and ms < before.last_ms - LATE_MS) or (
            after is not None and ms > after.first_ms + LATE_MS
        ):
            return False
        if before is not None and before.last + 1 == serial:
            before.last, before.last_ms = serial, max(ms, before.last_ms)
            if after is not None and after.first == serial + 1:
                before.last, before.last_ms = after.last, after.last_ms
                del ranges[at + 1]
        elif after is not None and after.first == serial + 1:
            after.first, after.first_ms = serial, min(ms, after.first_ms)
        elif any(n is not None and abs(n.first - serial) > HOLE_EVENTS_MAX for n in (before, after)):
            return False
        else:
            ranges.insert(at + 1, Range(serial, serial, ms, ms, now_ns))
        return True

    def settle(self, before_ns: int, ranges_max: int = RANGES_MAX) -> list[Hole]:
        """Close and return the holes that were noticed before a moment, and the oldest ones beyond the limit."""
        holes = []
        while len(self.ranges) > 1:
            one, other = self.ranges[0], self.ranges[1]
            if max(one.noticed_ns, other.noticed_ns) >= before_ns and len(self.ranges) <= ranges_max:
                break
            holes.append(Hole(one.last + 1, other.first - 1, one.last_ms * 10**6, other.first_ms * 10**6, self.host))
            one.last, one.last_ms, one.noticed_ns = other.last, other.last_ms, max(one.noticed_ns, other.noticed_ns)
            del self.ranges[1]
        return holes


def _first_of(range_: Range) -> int:
    return range_.first


class AuditdLog(msgspec.Struct):
    """One auditd log: its counts, the newest last, and what the kernel said that it lost."""

    counts: list[Count] = []
    lost: int = 0

    def passed(self, offset: int, payload: bytes, now_ns: int) -> list[Notice]:
        """Take in bytes of the log; return the losses that they tell of."""
        newest: tuple[bytes, bytes, bytes] | None = None
        for found in _RECORD.finditer(payload):
            # Most records repeat the number of the one before.
            here = (found["node"] or b"", found["s"], found["serial"])
            if here == newest or found["type"].startswith(b"DAEMON_"):
                continue
            newest = here
            ms = int(found["s"]) * 1000 + int(found["ms"].ljust(3, b"0"))
            self._take(here[0].decode("ascii", "backslashreplace"), int(found["serial"]), ms, now_ns)
        if b"audit: " not in payload:
            return []
        return bounded([n for found in _KERNEL.finditer(payload) if (n := self._said(found, offset)) is not None])

    def settle(self, before_ns: int) -> list[Hole]:
        """Return the numbers that did not come; of counts that are over, nothing is kept."""
        holes = [hole for count in self.counts for hole in count.settle(before_ns)]
        newest = {count.host: count for count in self.counts}
        self.counts = [count for count in self.counts if newest[count.host] is count or len(count.ranges) > 1]
        return holes

    @property
    def is_settling(self) -> bool:
        """Whether :meth:`settle` has something to decide."""
        return len(self.counts) > 1 or any(len(count.ranges) > 1 for count in self.counts)

    def _take(self, host: str, serial: int, ms: int, now_ns: int) -> None:
        for count in reversed(self.counts):
            if count.host == host and count.take(serial, ms, now_ns):
                return
        if len(self.counts) >= COUNTS_MAX:
            # Further hosts are not told apart: their numbers would only contradict one another.
            if host not in {count.host for count in self.counts}:
                return
            self.counts.remove(next(count for count in self.counts if count.host == host))
        self.counts.append(Count(host, [Range(serial, serial, ms, ms, now_ns)]))

    def _said(self, found: re.Match[bytes], offset: int) -> Notice | None:
        at_byte = offset + found.start()
        if found["said"] is not None:
            return Notice(at_byte, f"the kernel says: {found['said'].decode('ascii')}", 0, 0)
        lost, before = int(found["lost"]), self.lost
        self.lost = lost
        if lost == before:
            return None
        count = lost - before if lost > before else lost
        return Notice(at_byte, f"the kernel lost {count} audit records", 0, 0)


def falco_notices(offset: int, payload: bytes) -> list[Notice]:
    """Return what Falco says that it dropped."""
    if b"Falco internal:" not in payload:
        return []
    return bounded([_falco(found, offset) for found in _FALCO.finditer(payload)])


def _falco(found: re.Match[bytes], offset: int) -> Notice:
    line = found["line"]
    dropped = _DROPS.search(line)
    count = (dropped["count"] or dropped["said"]).decode("ascii") if dropped is not None else "an unknown number of"
    end = _unix_nano(line)
    # Each notice speaks of the second before it.
    return Notice(offset + found.start(), f"Falco dropped {count} system calls", end - 10**9 if end else 0, end)


def _unix_nano(line: bytes) -> int:
    found = _TIME.search(line)
    if found is None:
        return 0
    try:
        told = datetime.fromisoformat(found["time"].decode() + found["zone"].decode().replace("Z", "+00:00"))
        # The fraction is left out: the second is over behind it.
        return (int(told.timestamp()) + 1) * 10**9
    except (ValueError, OverflowError):
        return 0


def bounded(notices: list[Notice]) -> list[Notice]:
    """Return the notices, those beyond the limit as one."""
    if len(notices) <= NOTICES_MAX:
        return notices
    first, last = notices[NOTICES_MAX - 1], notices[-1]
    more = len(notices) - NOTICES_MAX
    together = Notice(first.at_byte, f"{first.detail}, and {more} further notices", 0, last.time_end_unix_nano)
    return [*notices[: NOTICES_MAX - 1], together]

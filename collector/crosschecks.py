"""Cross-checks: loss that no single file shows, found by holding what is seen against what must have been. Pure.

- A container's fifth log without a fourth, a rotation ``.3`` without a ``.2``: there was a file that nobody saw.
- A file that a sweep saw and nobody could open, gone at the next one.
- Numbers that auditd counted and never wrote; what the kernel and Falco say that they dropped; what the watch of the
  Kubernetes API says that it did not see.

Each is a :class:`Gap`, stated once: what was stated of a log is in its mark, which the bookmark keeps, and what a crash
kept from the bookmark is found in the ledger's end. Nothing counts as stated before the ledger has it. Without a
bookmark (a new incarnation), everything that still can be seen is stated again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from ashiato.core.ids import Kind
from ashiato.core.ledger import Gap
from collector.bookmark import Known
from collector.discovery import Candidate
from collector.upstream import AuditdLog, Hole, Notice, falco_notices
from collector.watch.notices import watch_notices

SETTLE_NS: Final = 15_000_000_000
"""A number that has not come for so long, with nobody behind, does not come."""
DUE_MAX: Final = 4096
"""Gaps that wait for the disk; beyond them the newest of a source are told as one."""
HOLES_MAX: Final = 64
"""Holes remembered of one log's rotations; rotation removes them from the front."""
_UNCHECKED: Final = (Kind.LEDGER, Kind.ACCESS)

Identity = tuple[int, int]


class Mark(msgspec.Struct):
    """What is remembered of one log beyond a restart."""

    auditd: AuditdLog | None = None
    holes: list[str] = []
    """Rotations without a younger neighbour that are stated: ``device:inode`` of the older one."""


_MARK: Final = msgspec.msgpack.Decoder(Mark)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """Bytes that the bus keeps."""

    source: str
    file_id: str
    offset_start: int
    payload: bytes


def is_watched(source: str) -> bool:
    """Whether the bytes of a source are scanned: auditd's, Falco's (a file or its container) and the watch's own."""
    is_falco = source.startswith("container/") and source.endswith("/falco")
    return is_falco or source.startswith(("auditd/", "falco/", "watch/"))


class CrossChecks:
    """Of one node. Told what is seen; holds what is due to be stated until it is."""

    def __init__(self, marks: Mapping[str, bytes], known: Iterable[Known], stated: Iterable[Gap]) -> None:
        self._marks = {source: _mark(raw) for source, raw in marks.items()}
        self._highest: dict[str, int] = {}
        self._born(known)
        self._told = {(gap.source, gap.detail) for gap in stated}
        """What the ledger's end states and the bookmark may not know."""
        self._due: dict[tuple[str, str], Gap] = {}
        self._suspected: set[tuple[str, Identity]] = set()
        self._unopened: dict[Identity, Candidate] = {}

    # -- bytes -----------------------------------------------------------------------------------------------

    def passed(self, passed: Passed, now_ns: int) -> None:
        """Take in bytes of a watched source, in the order of their file."""
        if passed.source.startswith("auditd/"):
            mark = self._marks.setdefault(passed.source, Mark())
            mark.auditd = mark.auditd or AuditdLog()
            notices = mark.auditd.passed(passed.offset_start, passed.payload, now_ns)
        elif passed.source.startswith("watch/"):
            notices = watch_notices(passed.offset_start, passed.payload)
        else:
            notices = falco_notices(passed.offset_start, passed.payload)
        for notice in notices:
            self._owe(_of_notice(passed, notice))

    def settle(self, behind: Collection[str], now_ns: int) -> None:
        """Owe the numbers that did not come. ``behind`` are the sources of which bytes wait to be read."""
        for source, mark in self._marks.items():
            if mark.auditd is not None and source not in behind:
                for hole in mark.auditd.settle(now_ns - SETTLE_NS):
                    self._owe(_of_hole(source, hole))

    # -- names -----------------------------------------------------------------------------------------------

    def jumps(self, births: Sequence[Known], now_unix_nano: int) -> list[Gap]:
        """Return the gaps that births show: restarts before them that were never seen. Changes nothing."""
        gaps = []
        highest: dict[str, int] = {}
        for birth in sorted(births, key=lambda one: one.restart_count):
            before = highest.get(birth.source, self._highest.get(birth.source, -1))
            if birth.restart_count > before + 1:
                gaps.append(_of_jump(birth, before + 1, now_unix_nano))
            highest[birth.source] = max(before, birth.restart_count)
        return gaps

    def numbered(self, candidates: Iterable[Candidate], file_id_of: Callable[[Identity], str]) -> None:
        """Owe the holes in numbered rotations that two sweeps in a row have seen: a rotation may be under way."""
        suspected = set()
        for (source, _), numbers in _numbers(candidates).items():
            mark = self._marks.get(source)
            for first, last, older in _missing(source, numbers):
                key = f"{older.identity[0]}:{older.identity[1]}"
                if mark is not None and key in mark.holes:
                    continue
                suspected.add((source, older.identity))
                if (source, older.identity) in self._suspected:
                    mark = self._marks.setdefault(source, Mark())
                    mark.holes = [*mark.holes, key][-HOLES_MAX:]
                    self._owe(_of_missing(source, first, last, older, file_id_of(older.identity)))
        self._suspected = suspected

    def not_opened(self, candidates: Iterable[Candidate]) -> None:
        """Remember the files that a sweep saw and nobody could open yet; :meth:`vanished` tells which of them go."""
        self._unopened = {candidate.identity: candidate for candidate in candidates}

    def vanished(self, seen: Collection[Identity], paths: Collection[str]) -> None:
        """Owe the files that were never opened and are gone, unless their compressed form is there."""
        for identity, candidate in list(self._unopened.items()):
            if identity in seen:
                continue
            del self._unopened[identity]
            if f"{candidate.path.removesuffix('.gz')}.gz" not in paths:
                self._owe(_of_vanished(candidate))

    @property
    def is_settling(self) -> bool:
        """Whether numbers of auditd are waited for."""
        return any(mark.auditd is not None and mark.auditd.is_settling for mark in self._marks.values())

    @property
    def has_unopened(self) -> bool:
        """Whether files wait to be opened."""
        return bool(self._unopened)

    @property
    def has_suspected(self) -> bool:
        """Whether the next sweep decides over holes in rotations."""
        return bool(self._suspected)

    # -- stating ---------------------------------------------------------------------------------------------

    @property
    def due(self) -> list[Gap]:
        """Gaps that the ledger does not have yet."""
        return list(self._due.values())

    def stated(self, gaps: Iterable[Gap], births: Iterable[Known] = ()) -> None:
        """Take in that the ledger has gaps and births."""
        for gap in gaps:
            self._due.pop((gap.source, gap.detail), None)
        self._born(births)

    def mark(self, source: str) -> bytes | None:
        """Return what the bookmark is to remember of a source; None for nothing."""
        mark = self._marks.get(source)
        return msgspec.msgpack.encode(mark) if mark is not None else None

    def _owe(self, gap: Gap) -> None:
        key = (gap.source, gap.detail)
        if key in self._told:
            return
        if len(self._due) >= DUE_MAX:
            gap = Gap(
                source=gap.source, reason=gap.reason, file_id=gap.file_id, detail="more was lost than could be stated"
            )
            key = (gap.source, gap.detail)
        self._due[key] = gap

    def _born(self, births: Iterable[Known]) -> None:
        for birth in births:
            if birth.restart_count >= 0:
                self._highest[birth.source] = max(birth.restart_count, self._highest.get(birth.source, -1))


def _mark(raw: bytes) -> Mark:
    try:
        return _MARK.decode(raw)
    except msgspec.DecodeError:
        # Of another release: begin anew, at the price of stating some gaps again.
        return Mark()


# -- what is stated ------------------------------------------------------------------------------------------


def _of_jump(birth: Known, first: int, now_unix_nano: int) -> Gap:
    last = birth.restart_count - 1
    which = f"restart {first}" if first == last else f"restarts {first} to {last}"
    return Gap(
        source=birth.source, reason="no_inode", file_id=birth.file_id, time_end_unix_nano=str(now_unix_nano),
        detail=f"{which} came before restart {birth.restart_count} and left no log that was seen",
    )  # fmt: skip


def _of_missing(source: str, first: int, last: int, older: Candidate, file_id: str) -> Gap:
    which = f"rotation .{first}" if first == last else f"rotations .{first} to .{last}"
    return Gap(
        source=source, reason="no_inode", file_id=file_id, time_start_unix_nano=str(older.modified_nano),
        detail=f"{which} beside {older.path} was not there when it was looked for",
    )  # fmt: skip


def _of_vanished(candidate: Candidate) -> Gap:
    return Gap(
        source=str(candidate.found.source), reason="rotated_away",
        detail=f"{candidate.path} ({candidate.size} bytes) was seen, and was gone before it could be opened",
    )  # fmt: skip


def _of_hole(source: str, hole: Hole) -> Gap:
    count = hole.last - hole.first + 1
    which = f"event {hole.first}" if count == 1 else f"{count} events, {hole.first} to {hole.last},"
    of = f" of {hole.host}" if hole.host else ""
    return Gap(
        source=source, reason="lost_upstream", time_start_unix_nano=str(hole.time_start_unix_nano),
        time_end_unix_nano=str(hole.time_end_unix_nano + 1_000_000), detail=f"auditd never wrote {which}{of}",
    )  # fmt: skip


def _of_notice(passed: Passed, notice: Notice) -> Gap:
    return Gap(
        source=passed.source, reason="lost_upstream", file_id=passed.file_id,
        time_start_unix_nano=str(notice.time_start_unix_nano or ""),
        time_end_unix_nano=str(notice.time_end_unix_nano or ""), detail=f"{notice.detail} (byte {notice.at_byte})",
    )  # fmt: skip


# -- numbered rotations --------------------------------------------------------------------------------------


def _numbers(candidates: Iterable[Candidate]) -> dict[tuple[str, int], dict[int, Candidate]]:
    """Return per log (source and restart) its rotations by number."""
    found: defaultdict[tuple[str, int], dict[int, Candidate]] = defaultdict(dict)
    for candidate in candidates:
        rotated = candidate.found.rotated
        if rotated[:1] == "." and len(rotated) <= 5 and rotated[1:].isdecimal():
            source = candidate.found.source
            if source.kind not in _UNCHECKED:
                found[str(source), candidate.found.restart_count][int(rotated[1:])] = candidate
    return found


def _missing(source: str, numbers: Mapping[int, Candidate]) -> Iterable[tuple[int, int, Candidate]]:
    """Yield the holes: first and last missing number, and the older neighbour."""
    # auditd counts from .1; what others begin with is not known.
    expected = 1 if source.startswith("auditd/") else min(numbers)
    for number in sorted(numbers):
        if number > expected:
            yield expected, number - 1, numbers[number]
        expected = number + 1

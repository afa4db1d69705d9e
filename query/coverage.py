"""Coverage (Q4): per source and time, what an answer searched and what it could not see. Pure.

All facts come from the snapshot that was searched. A file is accounted for where what is held of it reaches what its
node says that it acknowledged, or its end. Gaps are upper bounds: held bytes win over them. What nobody can account
for is never called searched, and an answer to which no source is known is never complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from ashiato.core.coverage import Interval, Seen
from ashiato.core.limits import NODE_SILENT_NS
from query.ledger_fold import Ack, GapStated
from query.spans import Spans, size, union, without

SOURCES_LISTED_MAX: Final = 200
"""Intervals of one state that name their source; more are told by kind and node."""

_READ_LATER: Final = ("unreadable", "no_inode")
"""Reasons of gaps without an end that are over once bytes behind their start are held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What is known of one file, its forks included."""

    file_id: str
    source: str
    attester: str
    """Who follows it: ``<cluster>/<node>`` of a ledger."""
    held: Spans = ()
    """In packs and tail."""
    closed: bool = False
    """The archive has its end."""
    imported: bool = False
    size: int | None = None
    """As its node stated when it closed it."""
    ack: Ack | None = None
    passed: bool = False
    """The journal has passed the position of ``ack``."""
    hot_reaches: int = 0
    """The hot index has the file's bytes before this offset."""
    gaps: tuple[GapStated, ...] = ()
    expired_bytes: int = 0
    expired_until_unix_nano: int = 0
    """End of the day of the newest pack that was removed."""

    @property
    def reaches(self) -> int:
        """The end of what is held."""
        return max(self.held[-1][1] if self.held else 0, self.hot_reaches)

    @property
    def live(self) -> bool:
        """Whether more may come."""
        return not self.closed and self.size is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that coverage is made of."""

    files: Mapping[str, Sequence[Holding]]
    """Per source in scope, its files; a source without a file is known by name only."""
    node_gaps: tuple[GapStated, ...] = ()
    """Gaps that name no file, in scope."""
    watermarks: Mapping[str, int] = field(default_factory=dict)
    """Per attester, of its newest beat."""
    now_unix_nano: int = 0
    """The newest moment of which anything could have come; 0 where that is not known."""
    broken_ledgers: tuple[str, ...] = ()
    hot_missing: bool = False
    """There is a hot index, and it did not answer."""
    unobservable: tuple[tuple[str, str], ...] = ()
    """(what was asked, why nothing can be known of it)."""
    exclusions: tuple[tuple[str, str], ...] = ()
    """(node, folder) that a node in scope was told not to follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The time that was asked for, half open; None is unbounded."""

    start_unix_nano: int | None = None
    end_unix_nano: int | None = None

    def overlaps(self, start: int | None, end: int | None) -> bool:
        """Whether a time range has a moment in the window."""
        before = end is not None and self.start_unix_nano is not None and end <= self.start_unix_nano
        after = start is not None and self.end_unix_nano is not None and start >= self.end_unix_nano
        return not before and not after


def assess(facts: Facts, window: Window) -> tuple[tuple[Interval, ...], int | None]:
    """Return the intervals, the worst first, and the watermark that they reach."""
    found: list[Interval] = []
    for source, files in sorted(facts.files.items()):
        found += _source(source, files, facts, window)
    found += [_gap_interval(gap, 0) for gap in facts.node_gaps if window.overlaps(*_gap_time(gap))]
    found += [
        Interval(source=source, seen=Seen.PENDING, reason="ledger_incomplete", detail="lines of the ledger are missing")
        for source in facts.broken_ledgers
    ]
    found += [
        Interval(source=what, seen=Seen.UNOBSERVABLE, reason="no_source", detail=why)
        for what, why in facts.unobservable
    ]
    return bounded(found), _watermark(facts)


def bounded(intervals: Iterable[Interval], *, listed_max: int = SOURCES_LISTED_MAX) -> tuple[Interval, ...]:
    """Return the intervals, those of one state told by kind and node where they are many, the worst state first."""
    by_state: dict[tuple[Seen, str], list[Interval]] = {}
    for interval in intervals:
        by_state.setdefault((interval.seen, interval.reason), []).append(interval)
    listed: list[Interval] = []
    for (seen, _), members in sorted(by_state.items(), key=lambda item: (_WORST_FIRST.index(item[0][0]), item[0][1])):
        del seen
        listed += members if len(members) <= listed_max else _together(members, listed_max)
    return tuple(listed)


_WORST_FIRST: Final = (Seen.UNOBSERVABLE, Seen.GAP, Seen.EXPIRED, Seen.PENDING, Seen.SEARCHED)


# -- one source ----------------------------------------------------------------------------------------------


def _source(source: str, files: Sequence[Holding], facts: Facts, window: Window) -> list[Interval]:
    found: list[Interval] = []
    held = expired = 0
    expired_until = 0
    for file in files:
        found += _file(file, window)
        held += size(union([*file.held, (0, file.hot_reaches)]))
        if file.expired_bytes and window.overlaps(None, file.expired_until_unix_nano):
            expired += file.expired_bytes
            expired_until = max(expired_until, file.expired_until_unix_nano)
    if expired:
        found.append(
            Interval(
                source=source,
                seen=Seen.EXPIRED,
                time_end_unix_nano=expired_until,
                reason="retention",
                bytes=expired,
                detail="removed by policy" if expired <= held else "removed by policy, at the most",
            )
        )
    found += _reach(source, files, facts, window, held=max(held - expired, 0), others=bool(found))
    return _merged(found)


def _reach(
    source: str, files: Sequence[Holding], facts: Facts, window: Window, *, held: int, others: bool
) -> list[Interval]:
    """Return how far in time a source was searched, and what of the window lies beyond."""
    live = [file for file in files if file.live and not file.imported]
    start, end = window.start_unix_nano, window.end_unix_nano
    if not live:
        if held or not others:
            return [_searched(source, start, end, held, files)]
        return []
    attesters = sorted({file.attester for file in live})
    silent = [name for name in attesters if name not in facts.watermarks]
    reached = min((facts.watermarks[name] for name in attesters if name in facts.watermarks), default=None)
    found: list[Interval] = []
    if silent:
        told = f"node {', '.join(silent)} has not said how far it is read"
        found.append(Interval(source=source, seen=Seen.PENDING, reason="no_beat", detail=told))
    if reached is None:
        return [*found, *([_searched(source, start, end, held, files)] if held else [])]
    if start is None or start < reached:
        until = reached if end is None else min(end, reached)
        found.append(_searched(source, start, until, held, files))
    seen = Seen.PENDING
    if facts.hot_missing and (end is None or end > reached):
        reason, told = "hot_index_unavailable", "only the hot index has what is newer"
    elif (end is None or end <= reached) and (start is None or start < reached):
        return found
    elif facts.now_unix_nano - reached > NODE_SILENT_NS:
        last = [name for name in attesters if facts.watermarks.get(name) == reached]
        seen, reason, told = Seen.GAP, "no_collector", f"nothing later has come from node {', '.join(last)}"
    else:
        reason, told = "beyond_watermark", "the node has not said yet that it is read so far"
    found.append(
        Interval(
            source=source,
            seen=seen,
            reason=reason,
            detail=told,
            time_start_unix_nano=max(reached, start) if start is not None else reached,
            time_end_unix_nano=end,
        )
    )
    return found


def _searched(source: str, start: int | None, end: int | None, held: int, files: Sequence[Holding]) -> Interval:
    attested = "read once, attested by nobody" if files and all(file.imported for file in files) else ""
    return Interval(
        source=source, seen=Seen.SEARCHED, time_start_unix_nano=start, time_end_unix_nano=end, bytes=held,
        detail=attested,
    )  # fmt: skip


# -- one file ------------------------------------------------------------------------------------------------


def _file(file: Holding, window: Window) -> list[Interval]:
    """Return what is missing of one file."""
    held = union([*file.held, (0, file.hot_reaches)])
    reaches = held[-1][1] if held else 0
    end = max(reaches, file.size or 0, file.ack.offset if file.ack is not None else 0)
    missing = without([(0, end)], held)
    found: list[Interval] = []
    for gap in sorted(file.gaps, key=lambda gap: (gap.stated_unix_nano, gap.offset_start or 0)):
        interval, missing = _subtracted(gap, held, missing, end)
        if interval is not None and window.overlaps(*_gap_time(gap)):
            found.append(interval)
    if missing and file.passed:
        told = "acknowledged by the bus, passed by the archive, and not held"
        found.append(
            Interval(source=file.source, seen=Seen.GAP, reason="lost_on_bus", bytes=size(missing), detail=told)
        )
    elif missing:
        told = "the node has sent it; the archive does not hold it yet"
        found.append(
            Interval(source=file.source, seen=Seen.PENDING, reason="not_held_yet", bytes=size(missing), detail=told)
        )
    if file.imported and not file.closed:
        told = "its import has not reached the end of the file"
        found.append(Interval(source=file.source, seen=Seen.PENDING, reason="import_unfinished", detail=told))
    return found


def _subtracted(gap: GapStated, held: Spans, missing: Spans, end: int) -> tuple[Interval | None, Spans]:
    """Return what is left of a gap once held bytes have won, and what is missing without being named."""
    start = gap.offset_start
    if start is None:
        return _gap_interval(gap, 0), missing
    if gap.offset_end is not None:
        named = without([(start, gap.offset_end)], held)
        return (_gap_interval(gap, size(named)) if named else None), without(missing, named)
    reaches = held[-1][1] if held else 0
    if gap.reason in _READ_LATER and reaches > start:
        return None, missing
    named = without([(start, max(end, start))], held)
    return _gap_interval(gap, size(named)), without(missing, named)


def _gap_interval(gap: GapStated, count: int) -> Interval:
    start, end = _gap_time(gap)
    return Interval(
        source=gap.source, seen=Seen.GAP, time_start_unix_nano=start, time_end_unix_nano=end, reason=gap.reason,
        detail=gap.detail, bytes=count,
    )  # fmt: skip


def _gap_time(gap: GapStated) -> tuple[int | None, int | None]:
    """Return when the missing bytes may have been written: before it was stated, unless it says so itself."""
    if gap.time_start_unix_nano is not None:
        return gap.time_start_unix_nano, gap.time_end_unix_nano
    # A file that could not be read from some offset on goes on missing what is written to it.
    open_ended = gap.offset_end is None and gap.reason in _READ_LATER
    return None, gap.time_end_unix_nano or (None if open_ended else gap.stated_unix_nano)


# -- all together --------------------------------------------------------------------------------------------


def _watermark(facts: Facts) -> int | None:
    """Return the moment that every node in question has reached: of those with live files, else of all."""
    files = [file for members in facts.files.values() for file in members if not file.imported]
    asked = {file.attester for file in files if file.live} or {file.attester for file in files}
    return min((facts.watermarks[name] for name in asked if name in facts.watermarks), default=None)


def _merged(intervals: Iterable[Interval]) -> list[Interval]:
    """Merge one source's intervals of one state and reason; their times are the widest, their bytes are added."""
    merged: dict[tuple[Seen, str], Interval] = {}
    for interval in intervals:
        key = (interval.seen, interval.reason)
        merged[key] = _both(merged[key], interval) if key in merged else interval
    return list(merged.values())


def _both(one: Interval, other: Interval) -> Interval:
    starts = (one.time_start_unix_nano, other.time_start_unix_nano)
    ends = (one.time_end_unix_nano, other.time_end_unix_nano)
    searched = one.seen is Seen.SEARCHED
    return replace(
        one,
        time_start_unix_nano=None if None in starts else min(value for value in starts if value is not None),
        # What is called searched is what is so of all; of what is missing the most is told.
        time_end_unix_nano=(
            min((value for value in ends if value is not None), default=None)
            if searched
            else None
            if None in ends
            else max(value for value in ends if value is not None)
        ),
        bytes=one.bytes + other.bytes,
        detail=one.detail if one.detail == other.detail else "",
    )


def _together(intervals: Sequence[Interval], listed_max: int) -> list[Interval]:
    """Merge many intervals of one state by kind and node, and by kind alone where those are many still."""
    groups = _groups(intervals, 3)
    if len(groups) > listed_max:
        groups = _groups(intervals, 1)
    told = []
    for name, members in sorted(groups.items()):
        together = members[0]
        for member in members[1:]:
            together = _both(together, member)
        count = len({member.source for member in members})
        told.append(replace(together, source=name, detail=f"{count} sources") if count > 1 else together)
    return told


def _groups(intervals: Sequence[Interval], parts: int) -> dict[str, list[Interval]]:
    groups: dict[str, list[Interval]] = {}
    for interval in intervals:
        groups.setdefault(_group(interval.source, parts), []).append(interval)
    return groups


def _group(source: str, parts: int) -> str:
    return "/".join((*source.split("/")[:parts], "*"))

"""Coverage: what an answer saw and what it could not see (Q4).

Intervals per source and time. *Complete* means: everything was searched, and every file that could hold a match
is closed or acknowledged up to the stated watermark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Seen(StrEnum):
    """What is known of one interval of one source."""

    SEARCHED = "searched"
    PENDING = "pending"
    """Exists, and is not held or not visible yet."""
    GAP = "gap"
    EXPIRED = "expired"
    UNOBSERVABLE = "unobservable"
    """No source could have told, or what would tell could not be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Half-open ``[start, end)`` in ns UTC; None is unbounded."""

    source: str
    seen: Seen
    time_start_unix_nano: int | None = None
    time_end_unix_nano: int | None = None
    reason: str = ""
    detail: str = ""
    bytes: int = 0
    """Bytes that the interval speaks of, where known: held for searched, missing for pending and gap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """What stands in the last line of every answer."""

    intervals: tuple[Interval, ...]
    complete: bool
    watermark_unix_nano: int | None = None
    """Everything that the nodes in question had seen before this moment is in the answer or named."""
    legs: tuple[str, ...] = ()
    """Which places were searched: ``tail``, ``hot``, ``archive``."""
    commit: int | None = None
    """Number of the journal's last commit that was read."""
    findings: tuple[str, ...] = ()
    """Sentences for a person: an unlocked archive, a missing pack, an answer cut at its limit."""

    def to_document(self) -> dict[str, object]:
        """Return the JSON form: 64-bit integers as strings, empty members left out."""
        return {
            "complete": self.complete,
            **({"watermark_unix_nano": str(self.watermark_unix_nano)} if self.watermark_unix_nano is not None else {}),
            **({"commit": str(self.commit)} if self.commit is not None else {}),
            "legs": list(self.legs),
            "intervals": [_interval(interval) for interval in self.intervals],
            "findings": list(self.findings),
        }


def summary(coverage: Coverage) -> Mapping[Seen, int]:
    """Return how many intervals are in each state."""
    counts = dict.fromkeys(Seen, 0)
    for interval in coverage.intervals:
        counts[interval.seen] += 1
    return counts


def judge(
    intervals: Iterable[Interval],
    *,
    watermark_unix_nano: int | None,
    legs: tuple[str, ...],
    commit: int | None,
    findings: tuple[str, ...] = (),
    cut: bool = False,
) -> Coverage:
    """Return the coverage of an answer. An answer that searched nothing is never complete."""
    listed = tuple(intervals)
    complete = bool(listed) and not cut and all(interval.seen is Seen.SEARCHED for interval in listed)
    return Coverage(
        intervals=listed, complete=complete, watermark_unix_nano=watermark_unix_nano, legs=legs, commit=commit,
        findings=findings,
    )  # fmt: skip


def _interval(interval: Interval) -> dict[str, object]:
    document: dict[str, object] = {"source": interval.source, "seen": str(interval.seen)}
    if interval.time_start_unix_nano is not None:
        document["time_start_unix_nano"] = str(interval.time_start_unix_nano)
    if interval.time_end_unix_nano is not None:
        document["time_end_unix_nano"] = str(interval.time_end_unix_nano)
    if interval.reason:
        document["reason"] = interval.reason
    if interval.detail:
        document["detail"] = interval.detail
    if interval.bytes:
        document["bytes"] = str(interval.bytes)
    return document

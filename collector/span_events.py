"""What happens to attestation, as typed events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ashiato.core.events import Event, Level, Metric

_LATE = Metric(
    name="attestation_late_bytes", help="Bytes whose span is due and cannot be stated", kind="gauge", value="late_bytes"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpansStated(Event):
    """The ledger states the digests of acknowledged bytes, durably."""

    level: ClassVar[Level] = Level.DEBUG
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="spans_stated_total", help="Spans stated in the ledger", value="count"),
        Metric(name="attested_bytes_total", help="Bytes of which the ledger states the digest", value="raw_bytes"),
        _LATE,
    )
    count: int
    raw_bytes: int
    late_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpansLate(Event):
    """Spans are due and the ledger cannot be written: files go on, and their spans grow until it can."""

    level: ClassVar[Level] = Level.WARNING
    metrics: ClassVar[tuple[Metric, ...]] = (_LATE,)
    files: int
    late_bytes: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeUnattested(Event):
    """The bus keeps bytes of which no digest is stated; the ledger says so. None of them is lost."""

    level: ClassVar[Level] = Level.WARNING
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="unattested_bytes_total", help="Acknowledged bytes of which no digest is stated", value="count"),
    )
    file_id: str
    offset: int
    count: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StateReserve(Event):
    """How much can still be written to the state folder although the disk is full (C8)."""

    level: ClassVar[Level] = Level.DEBUG
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="ledger_reserve_bytes", help="Room of the ledger on a full disk", kind="gauge", value="ledger"),
        Metric(name="bookmark_reserve_bytes", help="The same of the bookmark", kind="gauge", value="bookmark"),
    )
    ledger: int
    bookmark: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StateReserveUsed(Event):
    """The disk is full: ledger and bookmark are written into the room that was taken beforehand."""

    level: ClassVar[Level] = Level.ERROR
    ledger: int
    bookmark: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StateNotReserved(Event):
    """The file system under the state folder gives no room beforehand: a full disk stops births at once."""

    level: ClassVar[Level] = Level.WARNING
    path: str

"""What happens in ``collector watch``, as typed events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ashiato.core.events import Event, Level, Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Relisted(Event):
    """Every object of a resource was listed, and why: at the first start, or because the watch could not go on."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="relists_total", help="Complete lists of a resource, by reason", labels=("reason",)),
    )
    resource: str
    reason: str
    """``first``, ``expired``, ``state_lost`` or ``forbidden``."""
    mode: str
    """``watch_list`` or ``paged_list``."""
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchGap(Event):
    """What happened to a resource in a range of time is not known in full; a line states it."""

    level: ClassVar[Level] = Level.ERROR
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name="watch_gap_seconds_total", help="Time in which objects may have come and gone unseen", value="seconds"
        ),
    )
    resource: str
    reason: str
    seconds: float
    ended_unseen: int
    """Objects that were known and are in no list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectsKnown(Event):
    """How many objects of a kind there are."""

    level: ClassVar[Level] = Level.DEBUG
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="objects", help="Objects that are known, by kind", kind="gauge", value="count", labels=("kind",)),
    )
    kind: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchHeard(Event):
    """The API server said something of a resource, if only that nothing happened."""

    level: ClassVar[Level] = Level.DEBUG
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name="last_event_timestamp_seconds", help="When the API server last spoke of a kind", kind="gauge",
            value="time_unix_s", labels=("kind",),
        ),
    )  # fmt: skip
    kind: str
    time_unix_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRefused(Event):
    """A resource may not be read, or is not served: the others go on, and the time without it is stated as a gap."""

    level: ClassVar[Level] = Level.ERROR
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="watch_refused_total", help="Resources that could not be read", labels=("resource",)),
    )
    resource: str
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchBroken(Event):
    """A connection to the API server failed or fell silent: it is made again, from where it stood."""

    level: ClassVar[Level] = Level.WARNING
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="watch_broken_total", help="Failed connections to the API server", labels=("resource",)),
    )
    resource: str
    error: str
    retry_in_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchListRefused(Event):
    """The API server does not stream its lists: they are read in pages from now on."""

    level: ClassVar[Level] = Level.WARNING
    resource: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectUnread(Event):
    """An object is not of its kind's form: its metadata is written, the rest is not."""

    level: ClassVar[Level] = Level.ERROR
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="objects_unread_total", help="Objects of which only the metadata was read", labels=("resource",)),
    )
    resource: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchFileRemoved(Event):
    """The oldest file of lines made room; a collector that was away for longer than the files reach has lost it."""

    metrics: ClassVar[tuple[Metric, ...]] = (Metric(name="watch_files_removed_total", help="Files of lines removed"),)
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchStateLost(Event):
    """There are lines and no state that can be read: everything is listed again, and the time since is a gap."""

    level: ClassVar[Level] = Level.ERROR
    error: str

"""Telemetry, typed: one frozen event per thing that happens. Log line and metric both come from it.

Each room declares its own events in its ``events.py``; this module holds their shape and the few that
several rooms share. WARNING means that nothing was lost; ERROR means that data was lost or a person is needed.
An event carries no log payload, ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class Level(StrEnum):
    """Severity of an event."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """How an event moves a metric: ``value`` and ``labels`` name fields of the event."""

    name: str
    """``<noun>_<unit>[_total]``; the adapter puts ``ashiato_<service>_`` before it."""
    help: str
    kind: str = "counter"
    """``counter`` (adds the value) or ``gauge`` (sets it)."""
    value: str = ""
    """Field with the amount; '' counts 1."""
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The root of all events. The class's name, in snake case, is the log line's name."""

    level: ClassVar[Level] = Level.INFO
    metrics: ClassVar[tuple[Metric, ...]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStarted(Event):
    """A service is ready."""

    version: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStopped(Event):
    """A service has let go of everything."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartUnavailable(Event):
    """Kafka, OpenSearch or S3 does not answer: the service waits and tries again, nothing is lost."""

    level: ClassVar[Level] = Level.WARNING
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="part_unavailable_total", help="Failed calls to a part that is waited for", labels=("part",)),
    )
    part: str
    error: str
    retry_in_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLinesUnwritten(Event):
    """Our own log could not take lines, as on a full disk; the metrics moved all the same."""

    level: ClassVar[Level] = Level.WARNING
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="log_lines_unwritten_total", help="Lines of our own log that were not written", value="count"),
    )
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InvariantRefused(Event):
    """An invariant did not hold: the act was refused, and a person is needed."""

    level: ClassVar[Level] = Level.ERROR
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="invariant_refused_total", help="Acts refused because an invariant broke", labels=("number",)),
    )
    number: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BytesLost(Event):
    """Bytes that existed are not held: always beside a gap in the ledger that names them."""

    level: ClassVar[Level] = Level.ERROR
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="bytes_lost_total", help="Bytes known lost, by reason", value="count", labels=("reason",)),
    )
    count: int
    reason: str
    file_id: str
    intentional: bool = False

"""What happens in retention, as typed events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ashiato.core.events import Event, Level, Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared(Event):
    """Topics, journal and daily indices are there for what comes."""

    level: ClassVar[Level] = Level.DEBUG
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="prepared_days_count", help="Days for which indices stand", kind="gauge", value="days"),
    )
    topics: int
    days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexDropped(Event):
    """A daily index left the hot store; its rows are in the archive."""

    metrics: ClassVar[tuple[Metric, ...]] = (Metric(name="indices_dropped_total", help="Daily indices dropped"),)
    day: str
    retention_class: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexKept(Event):
    """A daily index is old enough to go but stays: the journal does not prove yet that its rows are archived."""

    level: ClassVar[Level] = Level.WARNING
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="indices_kept_total", help="Old daily indices kept because nothing proves their rows archived"),
    )
    day: str
    retention_class: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PacksExpired(Event):
    """A numbered remove stands in the journal: from now on these packs are gone for every reader."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="expired_packs_total", help="Packs removed", value="packs", labels=("reason",)),
        Metric(name="expired_rows_total", help="Rows removed", value="rows", labels=("reason",)),
        Metric(name="expired_bytes_total", help="Bytes of removed packs", value="pack_bytes", labels=("reason",)),
    )
    commit: int
    reason: str
    packs: int
    rows: int
    pack_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PackDeleted(Event):
    """The pack and the manifest that a remove names are deleted."""

    level: ClassVar[Level] = Level.DEBUG
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="deleted_packs_total", help="Packs deleted from the store"),
        Metric(name="deleted_bytes_total", help="Bytes of packs deleted from the store", value="size"),
    )
    path: str
    version_id: str
    size: int
    commit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionRefused(Event):
    """The store's lock still forbids a deletion: it is tried again at each run."""

    level: ClassVar[Level] = Level.WARNING
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="deletions_refused_total", help="Deletions that the store refused"),
    )
    path: str
    version_id: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockAhead(Event):
    """A pack's reading time lies after its commit by more than is believed: its clock was capped (R2)."""

    level: ClassVar[Level] = Level.WARNING
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="clock_ahead_total", help="Expired packs whose reading time was capped"),
    )
    path: str
    capped_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockDoubted(Event):
    """Our own clock leapt ahead: nothing expires until it has run evenly for a while."""

    level: ClassVar[Level] = Level.WARNING
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="clock_doubted_total", help="Leaps of our own clock for which expiry waited"),
    )
    ahead_s: int
    wait_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassWithoutRule(Event):
    """Packs of a class that no rule names are kept for ever: a person has to say how long."""

    level: ClassVar[Level] = Level.ERROR
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="packs_without_rule_count", help="Packs whose class has no rule", kind="gauge", value="packs"),
    )
    packs: int
    classes: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BusFreed(Event):
    """The bus forgot positions that the archive has (M1)."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="freed_positions_total", help="Bus positions forgotten", value="positions", labels=("topic",)),
    )
    level: ClassVar[Level] = Level.DEBUG
    topic: str
    partition: int
    before: int
    positions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BusIsAnother(Event):
    """The bus is not the log that the journal has read: nothing of it is freed (J5)."""

    level: ClassVar[Level] = Level.WARNING
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="bus_is_another_total", help="Times that nothing was freed because the bus is another log"),
    )
    topic: str
    partition: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUsed(Event):
    """What archive and bus take of the disk."""

    level: ClassVar[Level] = Level.DEBUG
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="disk_used_bytes", help="Bytes of archive and bus", kind="gauge", value="used_bytes"),
        Metric(name="disk_budget_bytes", help="Bytes that they may take", kind="gauge", value="budget_bytes"),
    )
    used_bytes: int
    budget_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetExceeded(Event):
    """The disk budget is exceeded and nothing more may go: new data is still taken until the disk is full (R8)."""

    level: ClassVar[Level] = Level.ERROR
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="budget_short_bytes", help="Bytes over the budget", kind="gauge", value="short_bytes"),
    )
    used_bytes: int
    budget_bytes: int
    short_bytes: int
    remedy: str = "raise disk_budget_bytes, lower minimum_days, or give the disk more room"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRan(Event):
    """A job came to its end."""

    level: ClassVar[Level] = Level.DEBUG
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="job_runs_total", help="Jobs that came to their end", labels=("job",)),
        Metric(name="job_last_ms", help="Duration of the last run", kind="gauge", value="took_ms", labels=("job",)),
    )
    job: str
    took_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailed(Event):
    """A job could not do its work: it is tried again at its next time."""

    level: ClassVar[Level] = Level.ERROR
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="jobs_failed_total", help="Runs that failed", labels=("job", "code")),
    )
    job: str
    code: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStopped(Event):
    """A job broke an invariant and runs no more until a person has looked."""

    level: ClassVar[Level] = Level.ERROR
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="jobs_stopped_total", help="Jobs stopped by an invariant", labels=("job",)),
    )
    job: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLate(Event):
    """A job's time came while its last run was still going: it is skipped, the next one does all the work."""

    level: ClassVar[Level] = Level.DEBUG
    metrics: ClassVar[tuple[Metric, ...]] = (Metric(name="jobs_late_total", help="Runs skipped", labels=("job",)),)
    job: str

"""What happens while rows are indexed, as typed events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ashiato.core.events import Event, Level, Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsIndexed(Event):
    """The index answered for a slice of rows: every row is in exactly one of the counts, or in `RowsNotIndexed`."""

    level: ClassVar[Level] = Level.DEBUG
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="index_rows_created_total", help="Rows created in the index", value="created"),
        Metric(name="index_rows_already_there_total", help="Rows that the index held already", value="already_there"),
        Metric(
            name="index_rows_projected_total",
            help="Rows that the index refused as they were and took in a safe projection",
            value="projected",
        ),
    )
    retention_class: str
    created: int
    already_there: int
    projected: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsNotIndexed(Event):
    """Rows that the index took in no form: the archive holds them, and a search of the index alone misses them."""

    level: ClassVar[Level] = Level.ERROR
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="index_rows_refused_total", help="Rows not indexed, by reason", value="rows", labels=("reason",)),
    )
    rows: int
    reason: str
    name: str
    """The row's uid, or the pack's path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedFromPacks(Event):
    """Rows that the bus could not give, or that only the archiver can name, were taken from packs."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="index_rows_from_packs_total", help="Rows taken from packs", value="rows", labels=("reason",)),
    )
    reason: str
    """``behind_the_bus`` or ``named_by_the_archiver``."""
    packs: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionReadAgain(Event):
    """What the indexer knew of a partition is not to be trusted any more: it reads again from a commit."""

    level: ClassVar[Level] = Level.WARNING
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="index_partitions_read_again_total", help="Times that indexing began again from a commit"),
    )
    detail: str

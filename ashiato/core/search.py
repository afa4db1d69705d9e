"""The reading side of an index: what every leg of a query gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from ashiato.core.ports import Partition
from ashiato.core.query import Query
from ashiato.core.table import empty, fitting, row_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """Rows of one place that match (the one predicate has decided), in the query's order, cut to its limits."""

    rows: pa.Table
    """Schema ``core.table.SCHEMA``."""
    cut: bool = False
    """True where more matching rows exist than the query's limits, of rows and of bytes, let through."""
    beyond: pa.Table = field(default_factory=empty)
    """Where it was cut, the first row behind the cut: with it, joined legs are cut where one leg of all would be."""
    positions: Mapping[Partition, int] = field(default_factory=dict)
    """What the place had seen of the bus: next positions; {} where it does not know."""
    findings: tuple[str, ...] = ()
    expired: tuple[str, ...] = ()
    """Paths of packs that were removed while they were searched (Q2): not in the rows, or not whole."""
    unreadable: tuple[str, ...] = ()
    """Paths of packs that should be there and could not be read: each is a finding too."""
    unfiltered: int = 0
    """Packs that were read although filters might have spared it, had they been there and sound."""


def cut_to(query: Query, rows: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return of rows in order those that the query's limits let through, and the first of the others."""
    count = fitting(row_bytes(rows), rows_max=query.limit, bytes_max=query.bytes_max)
    return rows.slice(0, count), rows.slice(count, 1)


class IndexReader(Protocol):
    """A place that can be searched."""

    async def search(self, query: Query) -> Leg:
        """Return what matches.

        Raises TransientError where the place cannot be asked, RejectedError for a query that cannot be evaluated.
        """
        ...

    async def close(self) -> None:
        """Let go."""
        ...

"""An index in memory: a real one for tests, shared by its writer, its keeper and its readers.

It keeps the promises of every index: indices are made beforehand, documents are created under their record's id and
never change, what has no prepared index goes where all misdated rows go, and rows are found once they are published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from ashiato.adapters import index_documents
from ashiato.core.errors import RejectedError, TransientError
from ashiato.core.ports import Document, IndexOutcome, Partition
from ashiato.core.predicate import select
from ashiato.core.query import Query
from ashiato.core.record import UID_FIELD
from ashiato.core.search import Leg, cut_to
from ashiato.core.table import SCHEMA, empty, in_order

_MISDATED = ("", "")
"""Day and class of the fixed index."""


@dataclass(slots=True)
class _Index:
    rows: dict[str, dict[str, object]] = field(default_factory=dict)
    visible: int = 0
    """How many of the rows, in order of their creation, can be searched."""


@dataclass(slots=True)
class MemoryIndices:
    """What the sides share. ``away`` makes every call fail, as a server that is down."""

    by_day: dict[tuple[str, str], _Index] = field(default_factory=dict)
    positions: dict[Partition, int] = field(default_factory=dict)
    away: bool = False

    def reached(self) -> MemoryIndices:
        """Return this, or fail as a server that is away."""
        if self.away:
            raise TransientError("the index does not answer")
        return self


class _Side:
    def __init__(self, indices: MemoryIndices) -> None:
        self._indices = indices

    async def close(self) -> None:
        """Nothing to let go of."""


class MemoryIndexWriter(_Side):
    """Ingest's side."""

    async def write(self, documents: Sequence[Document]) -> IndexOutcome:
        """Create what is not there."""
        by_day = self._indices.reached().by_day
        if _MISDATED not in by_day:
            raise TransientError("the index has no indices: they are made by retention")
        created = 0
        for document in documents:
            home = index_documents.home_of(document)
            index = by_day.get(home or _MISDATED, by_day[_MISDATED])
            uid = str(document[UID_FIELD])
            if uid not in index.rows:
                index.rows[uid] = index_documents.row_of(document)
                created += 1
        return IndexOutcome(created=created, already_there=len(documents) - created)

    async def write_rows(self, rows: pa.Table, retention_class: str) -> IndexOutcome:
        """Create the documents of rows."""
        return await self.write([index_documents.document_of(row, retention_class) for row in rows.to_pylist()])

    async def publish_position(self, positions: Mapping[Partition, int]) -> None:
        """Make rows visible, then positions."""
        indices = self._indices.reached()
        for index in indices.by_day.values():
            index.visible = len(index.rows)
        indices.positions.update(positions)

    async def positions(self) -> Mapping[Partition, int]:
        """Return the published positions."""
        return dict(self._indices.reached().positions)


class MemoryIndexKeeper(_Side):
    """Retention's side."""

    async def prepare(self, days: Sequence[str], classes: Sequence[str]) -> None:
        """Make what does not exist."""
        by_day = self._indices.reached().by_day
        for day in days:
            for name in classes:
                if not index_documents.is_day_and_class(day, name):
                    raise RejectedError("not a class and a day of an index", retention_class=name, day=day)
        for home in (_MISDATED, *((day, name) for day in days for name in classes)):
            by_day.setdefault(home, _Index())

    async def days(self) -> Sequence[tuple[str, str]]:
        """Return what was prepared."""
        return sorted(home for home in self._indices.reached().by_day if home != _MISDATED)

    async def drop(self, day: str, retention_class: str) -> None:
        """Delete one index."""
        self._indices.reached().by_day.pop((day, retention_class), None)


class MemoryIndex(_Side):
    """The query's side."""

    async def search(self, query: Query) -> Leg:
        """Return the rows that match."""
        select(query, empty())
        indices = self._indices.reached()
        rows = [row for index in indices.by_day.values() for row in list(index.rows.values())[: index.visible]]
        # A row that came before its day was prepared, and again after, stands in two indices.
        once = {(row["file_id"], row["offset_start"], row["length"], row["join_offset"]): row for row in rows}
        table = in_order(pa.Table.from_pylist(list(once.values()), schema=SCHEMA))
        found, beyond = cut_to(query, select(_one_more(query), table))
        findings = () if indices.by_day else ("the hot index is not prepared",)
        return Leg(
            rows=found,
            cut=beyond.num_rows > 0,
            beyond=beyond,
            positions=dict(indices.positions),
            findings=findings,
        )


def _one_more(query: Query) -> Query:
    return Query(
        where=query.where, time_start_unix_nano=query.time_start_unix_nano,
        time_end_unix_nano=query.time_end_unix_nano, limit=query.limit + 1, order=query.order,
    )  # fmt: skip

"""The archive and the tail as an index: packs searched in place, newest first, reading only what can match.

A search takes a snapshot (Q1): the tail is listed and mapped, then the journal is read, so a row is in one or in both
and never in none. What no pack, row group or column can add is not read (Q3); memory holds one row group and the
rows kept so far. DuckDB has no part in it: what matches is decided by the one predicate over Arrow tables, which
pyarrow reads by row group and column already, and pruning by the manifests leaves an engine nothing to plan.
"""

from __future__ import annotations

import asyncio
import copy
import heapq
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ashiato.adapters.journal import Journal
from ashiato.adapters.pack_reader import OpenPacks, PackReader
from ashiato.adapters.sidecars import SidecarReader, UnusableError
from ashiato.adapters.tail_folder import TailReader, TailSegment, VanishedError
from ashiato.core.errors import EvidenceError, NotHeldError, TransientError
from ashiato.core.journal import AddedPack, JournalState
from ashiato.core.limits import PACKS_PLANNED_MAX
from ashiato.core.manifest import RowGroup
from ashiato.core.needs import NOTHING, met, needed
from ashiato.core.ports import ArchiveReader
from ashiato.core.predicate import compile_query, select
from ashiato.core.pruning import overlaps, row_groups_of
from ashiato.core.query import Query
from ashiato.core.search import Leg, cut_to
from ashiato.core.table import SCHEMA, empty, fitting, in_order, order_times, row_bytes, uids, without_doubles

_DECIDING: Final = (
    "time_unix_nano", "observed_time_unix_nano", "k8s_node_name", "file_id", "offset_start", "length", "join_offset",
)  # fmt: skip
"""What orders rows, and what names them."""

_ORDERING: Final = ["time_unix_nano", "observed_time_unix_nano", "k8s_node_name", "file_id", "offset_start"]

_SIZE: Final = "row_bytes"
"""Beside a part of a row's columns: how large the whole row is."""

_PLANNERS: Final = 8
"""Threads that fetch manifests and filters ahead, for all searches together."""

SNAPSHOT_ATTEMPTS_MAX: Final = 50
"""Snapshots begun again in a row because a segment vanished: commits are minutes apart, so one is usual."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What there was at one moment."""

    state: JournalState
    """The journal's fold; nobody changes it any more."""
    segments: tuple[TailSegment, ...]


class PackIndex:
    """Searches packs, and the tail segments of ``tail`` where there are any."""

    def __init__(self, archive: ArchiveReader, *, tail: Path | None = None, uses_filters: bool = True) -> None:
        self._journal = Journal(archive)
        self._reader = PackReader(archive)
        self._sidecars = SidecarReader(archive) if uses_filters else None
        self._planners = ThreadPoolExecutor(_PLANNERS, thread_name_prefix="plan")
        self._tail = TailReader(tail) if tail is not None else None
        self._lock = threading.Lock()

    async def search(self, query: Query) -> Leg:
        """Return the rows that match, in the query's order, cut to its limits.

        Raises:
            RejectedError: the query cannot be evaluated.
            TransientError: the archive does not answer.
            EvidenceError: the journal has a hole, or a commit cannot be read.

        """
        select(query, empty())
        return await self.search_in(await self.snapshot(), query)

    async def snapshot(self) -> Snapshot:
        """Return what there is now. Raises as :meth:`search`."""
        return await asyncio.to_thread(self._snapshot)

    async def search_in(self, snapshot: Snapshot, query: Query) -> Leg:
        """As :meth:`search`, in a snapshot taken before."""
        select(query, empty())
        search = _Search(self, _Places(self._reader, self._sidecars, self._planners), snapshot, query)
        try:
            return await asyncio.to_thread(search.run)
        except asyncio.CancelledError:
            # A thread cannot be cancelled: without this, questions that nobody waits for any more pile up.
            search.give_up()
            raise

    async def close(self) -> None:
        """Let go of the threads."""
        self._planners.shutdown(wait=False, cancel_futures=True)

    def refresh(self) -> JournalState:
        """Return the journal's newest fold, a copy of its own."""
        with self._lock:
            state = self._journal.refresh()
            return replace(state, **{part.name: copy.copy(getattr(state, part.name)) for part in fields(state)})

    def _segments(self) -> tuple[TailSegment, ...]:
        if self._tail is None:
            return ()
        with self._lock:
            return self._tail.read()

    def _snapshot(self) -> Snapshot:
        for _ in range(SNAPSHOT_ATTEMPTS_MAX):
            try:
                segments = self._segments()
            except VanishedError:
                # (Q1) committed since it was listed: the journal that is read next would be the wrong one for it
                continue
            return Snapshot(state=self.refresh(), segments=segments)
        raise TransientError("the tail changes faster than it can be read", attempts=SNAPSHOT_ATTEMPTS_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A pack, or one row group of it, that may hold matches."""

    pack: AddedPack
    row_group: int | None
    time_min_unix_nano: int
    time_max_unix_nano: int


def _candidate(pack: AddedPack, row_group: int | None, bounds: AddedPack | RowGroup) -> _Candidate:
    return _Candidate(
        pack=pack, row_group=row_group, time_min_unix_nano=bounds.time_min_unix_nano,
        time_max_unix_nano=bounds.time_max_unix_nano,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Places:
    """What one search reads from."""

    packs: PackReader
    sidecars: SidecarReader | None
    planners: ThreadPoolExecutor


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Which row groups of a pack are to be read."""

    row_groups: tuple[_Candidate, ...]
    is_unfiltered: bool = False
    finding: str = ""


class _Search:
    """One search; runs in one thread."""

    def __init__(self, index: PackIndex, places: _Places, snapshot: Snapshot, query: Query) -> None:
        self._index = index
        self._places = places
        self._snapshot = snapshot
        self._query = query
        self._test = compile_query(query)
        self._first = sorted(self._test.columns)
        self._rest = [name for name in SCHEMA.names if name not in self._test.columns]
        self._best = _Best(query)
        self._need = needed(query.where)
        self._unfiltered = 0
        self._open = OpenPacks(places.packs)
        self._findings: list[str] = []
        self._expired: dict[str, None] = {}
        self._unreadable: dict[str, None] = {}
        self._given_up = False

    def give_up(self) -> None:
        """Have :meth:`run` end before it reads more."""
        self._given_up = True

    def run(self) -> Leg:
        try:
            self._tail()
            self._packs()
        finally:
            self._open.close()
        rows, beyond = self._best.taken()
        return Leg(
            rows=rows, cut=beyond.num_rows > 0, beyond=beyond, findings=tuple(self._findings),
            expired=tuple(self._expired), unreadable=tuple(self._unreadable), unfiltered=self._unfiltered,
        )  # fmt: skip

    def _tail(self) -> None:
        self._findings += [
            f"tail segment {segment.name} cannot be read; its rows come with the next commit"
            for segment in self._snapshot.segments
            if segment.damaged
        ]
        tables = [segment.rows for segment in self._snapshot.segments if segment.rows.num_rows]
        if not tables:
            return
        # Thousands of small segments: what decides and orders is laid end to end first, then few rows are gathered.
        names = sorted(self._test.columns.union(_DECIDING))
        seen = pa.concat_tables([table.select(names) for table in tables]).combine_chunks()
        seen = seen.append_column("row", pa.array(np.arange(seen.num_rows)))
        seen = seen.append_column(_SIZE, pa.array(np.concatenate([row_bytes(table) for table in tables])))
        kept = self._best.cut(without_doubles(seen.filter(pa.array(self._test.evaluate(seen)))))
        self._best.begin(_gathered(tables, np.sort(kept["row"].to_numpy())))

    def _packs(self) -> None:
        """Take candidates, the most promising first, until no other can add to what is kept."""
        heap: list[tuple[int, int, _Candidate]] = []
        numbers = itertools.count()

        def push(candidates: Iterator[_Candidate]) -> None:
            for candidate in candidates:
                heapq.heappush(heap, (self._best.key(candidate), next(numbers), candidate))

        push(self._all_packs())
        ahead = 1
        while heap and self._best.may_take(heap[0][0]):
            if self._given_up:
                raise TransientError("nobody waits for the search any more")
            candidate = heapq.heappop(heap)[2]
            if (number := candidate.row_group) is not None:
                ahead = 1
                if candidate.pack.path not in self._expired and candidate.pack.path not in self._unreadable:
                    self._tried(candidate.pack, partial(self._read, candidate.pack, number))
                continue
            packs = [candidate.pack]
            while len(packs) < ahead and heap and heap[0][2].row_group is None and self._best.may_take(heap[0][0]):
                packs.append(heapq.heappop(heap)[2].pack)
            for pack, planned in self._plan_all(packs):
                self._tried(pack, partial(self._follow, pack, planned, push))
            ahead = min(2 * ahead, PACKS_PLANNED_MAX)

    def _tried(self, pack: AddedPack, act: Callable[[], None]) -> None:
        try:
            act()
        except NotHeldError:
            self._gone(pack)
        except EvidenceError as error:
            self._unreadable[pack.path] = None
            self._findings.append(f"pack {pack.path} cannot be read: {error.message}")

    def _all_packs(self) -> Iterator[_Candidate]:
        for pack in self._snapshot.state.packs.values():
            if overlaps(self._query, pack.time_min_unix_nano, pack.time_max_unix_nano):
                yield _candidate(pack, None, pack)

    def _plan_all(self, packs: list[AddedPack]) -> Iterator[tuple[AddedPack, Callable[[], _Plan | str]]]:
        """Yield each pack with what gives its plan; several are fetched at once."""
        if len(packs) == 1:
            yield packs[0], partial(self._plan, packs[0])
            return
        futures = [self._places.planners.submit(self._plan, pack) for pack in packs]
        for pack, future in zip(packs, futures, strict=True):
            yield pack, future.result

    def _plan(self, pack: AddedPack) -> _Plan | str:
        """Return what is to be read of a pack by its manifest and filters, or why the manifest cannot tell."""
        try:
            manifest = self._places.packs.manifest_of(pack)
        except (NotHeldError, EvidenceError) as error:
            return error.message
        numbers = row_groups_of(self._query, manifest)
        unfiltered, finding = False, ""
        if numbers and self._need != NOTHING and self._places.sidecars is not None:
            try:
                filters = self._places.sidecars.filters_of(pack.sha256, pack.size, numbers)
                numbers = [number for number in numbers if met(self._need, filters[number].holds)]
            except UnusableError as error:
                # (Q3) what no filter rules out is read
                unfiltered = True
                finding = f"filters of pack {pack.path}: {error.message}" if error.is_damage else ""
        return _Plan(
            row_groups=tuple(_candidate(pack, number, manifest.row_groups[number]) for number in numbers),
            is_unfiltered=unfiltered,
            finding=finding,
        )

    def _follow(
        self, pack: AddedPack, planned: Callable[[], _Plan | str], push: Callable[[Iterator[_Candidate]], None]
    ) -> None:
        plan = planned()
        if isinstance(plan, str):
            # Without its manifest a pack is searched whole, if it is there itself.
            numbers = range(self._open.get(pack).row_groups)
            self._findings.append(f"manifest of pack {pack.path} cannot be read: {plan}")
            push(_candidate(pack, number, pack) for number in numbers)
            return
        self._unfiltered += plan.is_unfiltered
        self._findings += [plan.finding] if plan.finding else []
        push(iter(plan.row_groups))

    def _read(self, pack: AddedPack, row_group: int) -> None:
        """Read what the predicate looks at, and the other columns only where something matches."""
        opened = self._open.get(pack)
        seen = opened.read(row_group, self._first)
        marks = self._test.evaluate(seen)
        if not marks.any():
            return
        marked = pa.array(marks)
        parts = {name: seen[name].filter(marked) for name in self._first}
        if self._rest:
            others = opened.read(row_group, self._rest)
            parts |= {name: others[name].filter(marked) for name in self._rest}
        self._best.add(pa.table([parts[name] for name in SCHEMA.names], schema=SCHEMA))

    def _gone(self, pack: AddedPack) -> None:
        """(Q2) a pack that is not there was removed since the snapshot, or is missing."""
        if pack.path not in self._index.refresh().packs:
            self._expired[pack.path] = None
            return
        self._unreadable[pack.path] = None
        self._findings.append(f"pack {pack.path} is missing from the archive, and no commit removed it")


def _gathered(tables: Sequence[pa.Table], rows: npt.NDArray[np.int64]) -> pa.Table:
    """Return the rows of these numbers, counted over all tables; ``rows`` is sorted."""
    parts = [empty()]
    start = 0
    for table in tables:
        end = start + table.num_rows
        own = rows[np.searchsorted(rows, start) : np.searchsorted(rows, end)]
        if len(own):
            parts.append(table.take(own - start))
        start = end
    return pa.concat_tables(parts)


class _Best:
    """The rows that would be answered if no others came, one more than the limits let through, each uid once."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self._newest_first = query.order == "newest_first"
        self._kept = empty()
        self._loose: list[pa.Table] = []
        """Rows taken and not laid among the kept ones: while there is room for all, none needs its place."""
        self._room = query.limit + 1
        self._room_bytes = query.bytes_max
        self._full = False
        """Whether what is kept is all that can be answered, and one more."""
        self._tail_uids: frozenset[str] = frozenset()

    def begin(self, rows: pa.Table) -> None:
        """Take the tail's rows, cut already; packs may hold them again."""
        self._tail_uids = frozenset(uids(rows))
        self._loose.append(self.cut(rows))
        self._lay()

    def add(self, rows: pa.Table) -> None:
        """Take a row group's rows."""
        if self._tail_uids:
            rows = rows.filter(pa.array([uid not in self._tail_uids for uid in uids(rows)], pa.bool_()))
        taken = self.cut(rows)
        self._loose.append(taken)
        self._room -= taken.num_rows
        self._room_bytes -= int(row_bytes(taken).sum())
        if self._room <= 0 or self._room_bytes < 0:
            self._lay()

    def key(self, candidate: _Candidate) -> int:
        """Return what sorts candidates: the lower, the earlier in the answer its best row may stand."""
        return -candidate.time_max_unix_nano if self._newest_first else candidate.time_min_unix_nano

    def may_take(self, key: int) -> bool:
        """Tell whether a candidate of this key can hold a row that would be kept."""
        if not self._full:
            return True
        worst = int(str(order_times(self._kept.slice(self._kept.num_rows - 1))[0].as_py()))
        return key <= (-worst if self._newest_first else worst)

    def taken(self) -> tuple[pa.Table, pa.Table]:
        """Return the answer's rows, and the first one behind them where there are more."""
        self._lay()
        return cut_to(self._query, without_doubles(self._kept))

    def _lay(self) -> None:
        self._kept, self._loose = self.cut(pa.concat_tables([self._kept, *self._loose])), []
        sizes = row_bytes(self._kept)
        self._room = self._query.limit + 1 - self._kept.num_rows
        self._room_bytes = self._query.bytes_max - int(sizes.sum())
        self._full = self._kept.num_rows > self._fitting(sizes)

    def cut(self, rows: pa.Table) -> pa.Table:
        """Return the rows that could be answered if there were no others."""
        sizes = rows[_SIZE].to_numpy() if _SIZE in rows.column_names else row_bytes(rows)
        places = pa.array(np.arange(rows.num_rows))
        keyed = rows.select(_ORDERING).append_column("place", places).append_column(_SIZE, pa.array(sizes))
        ordered = in_order(keyed, newest_first=self._newest_first, limit=self._query.limit + 1)
        # Only what is kept is copied: a slice would hold the bytes of all.
        return rows.take(ordered["place"].slice(0, self._fitting(ordered[_SIZE].to_numpy()) + 1))

    def _fitting(self, sizes: npt.NDArray[np.int64]) -> int:
        return fitting(sizes, rows_max=self._query.limit, bytes_max=self._query.bytes_max)

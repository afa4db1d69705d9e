"""The engine: one question to the packs, the tail and the hot index, one answer, and what it could not see.

All of an answer is taken from one snapshot. Each leg has decided with the one predicate already; here their rows are
joined, doubles dropped by uid, put in the total order and cut. Where the hot index does not answer, the answer still
comes from the packs, and says so.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

import pyarrow as pa

from ashiato.adapters.archive import open_reader
from ashiato.adapters.index_packs import PackIndex, Snapshot
from ashiato.core.anchor import Anchor, AnchorKind, parse_anchor
from ashiato.core.coverage import Coverage, Interval, Seen, judge
from ashiato.core.errors import AshiatoError, NotHeldError, RefusedError, RejectedError, TransientError
from ashiato.core.ids import Kind
from ashiato.core.inventory import WatchGap, wanted
from ashiato.core.journal import AddedPack
from ashiato.core.limits import COMMIT_AGE_NS, LOGS_BYTES_MAX, MIB, QUERY_BYTES_MAX, QUERY_ROWS_MAX
from ashiato.core.ports import ArchiveReader, Clock
from ashiato.core.predicate import select
from ashiato.core.query import Node, Or, Query, Term
from ashiato.core.search import IndexReader, Leg, cut_to
from ashiato.core.table import empty, in_order, without_doubles
from ashiato.core.timeline import kinds, told_by
from query import logs, metadata, subjects
from query.answer import Answer, LogsAnswer
from query.coverage import Facts, Window, assess
from query.facts import Hot, gather
from query.known import Inventory, Known
from query.logs import LogsRequest
from query.pods import PodDirectory, Wish, behind_only, between, of_anchor
from query.pods_answer import PODS_MAX, PodsAnswer, PodsRequest
from query.settings import QuerySettings

__all__ = ["Answer", "Engine", "LogsAnswer", "LogsRequest", "TimelineRequest", "open_engine"]

T = TypeVar("T")

_HOT_LEDGER_ROWS_MAX: Final = 100_000
_HOT_ENDS_MAX: Final = 50
"""Closed files of one answer whose end is looked for in the hot index."""
_LOGS_ROWS_MAX: Final = 2_000_000
"""Lines of one container's restart: kubelet keeps 10 MiB times five by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineRequest:
    """Where a timeline starts, and which time of it is wanted."""

    anchor: str
    time_start_unix_nano: int | None = None
    time_end_unix_nano: int | None = None
    limit: int = 10_000


class Engine:
    """Answers questions. Several may be asked at once."""

    def __init__(
        self,
        packs: PackIndex,
        hot: IndexReader | None,
        *,
        archive: ArchiveReader,
        clock: Clock,
        has_tail: bool = False,
        answer_bytes_max: int = QUERY_BYTES_MAX,
        logs_bytes_max: int = LOGS_BYTES_MAX,
    ) -> None:
        self._packs = packs
        self._hot = hot
        self._archive = archive
        self._clock = clock
        self._has_tail = has_tail
        self._answer_bytes_max = answer_bytes_max
        self._logs_bytes_max = logs_bytes_max
        self._inventory = Inventory(archive)
        self._directory = PodDirectory(archive)
        self._locked: bool | None = None

    async def search(self, query: Query) -> Answer:
        """Return the rows that match, and what they cover.

        Raises:
            RejectedError: the query cannot be evaluated, asks for too many rows, or for a time without a moment.
            TransientError: the archive does not answer.
            EvidenceError: the journal has a hole.

        """
        _check_limit(query.limit)
        _check_window(query.time_start_unix_nano, query.time_end_unix_nano)
        asked = await self._asked(query)
        query = replace(
            query, where=await self._resolved(asked, query), bytes_max=min(query.bytes_max, self._answer_bytes_max)
        )
        rows = await asked.rows(query)
        asked.say_cut(query)
        return Answer(rows=rows, coverage=await self._coverage(asked, query))

    async def timeline(self, request: TimelineRequest) -> Answer:
        """Return what happened around an anchor, of all sources, oldest first.

        Raises:
            RejectedError: not an anchor, or a name that several pods have (the choices are named).
            TransientError, EvidenceError: as :meth:`search`.

        """
        _check_limit(request.limit)
        _check_window(request.time_start_unix_nano, request.time_end_unix_nano)
        anchor = parse_anchor(request.anchor)
        asked = await self._asked(Query())
        pods = await self._pods(asked, anchor, request)
        query = Query(
            where=subjects.predicate(anchor, pods),
            time_start_unix_nano=request.time_start_unix_nano,
            time_end_unix_nano=request.time_end_unix_nano,
            limit=request.limit,
            order="oldest_first",
            bytes_max=self._answer_bytes_max,
        )
        rows = await asked.rows(query)
        asked.say_cut(query)
        coverage = await self._coverage(asked, query, demanded=subjects.demanded(anchor))
        return Answer(rows=rows, coverage=coverage, kinds=tuple(kinds(rows)), told_by=tuple(told_by(rows)))

    async def logs(self, request: LogsRequest) -> LogsAnswer:
        """Return what ``kubectl logs`` would have printed.

        Raises:
            NotHeldError: no such pod, container or restart is known.
            RejectedError: several pods have the name, or the pod has several containers and none is named.
            TransientError, EvidenceError: as :meth:`search`.

        """
        asked = await self._asked(Query())
        chosen = logs.choose(request, asked.known.all_files())
        query = Query(where=logs.predicate(chosen), limit=_LOGS_ROWS_MAX, order="oldest_first")
        query = replace(query, bytes_max=self._logs_bytes_max)
        rows = await asked.rows(query)
        if asked.cut:
            bound = _mib(query.bytes_max) if asked.cut_by_bytes else f"{query.limit} lines"
            asked.findings.append(f"the log was cut at {bound}: its newest lines are not printed")
        content, findings = await asyncio.to_thread(logs.printed, request, rows)
        asked.findings += [*chosen.findings, *findings]
        window = replace(query, time_start_unix_nano=request.time_start_unix_nano)
        return LogsAnswer(content=content, coverage=await self._coverage(asked, window, files=chosen.file_ids))

    async def pods(self, request: PodsRequest) -> PodsAnswer:
        """Return what ran where and when, the gone included. Raises TransientError, EvidenceError, RejectedError."""
        start, end = request.time_start_unix_nano, request.time_end_unix_nano
        _check_window(start, end)
        asked = await self._asked(Query())
        pods = await self._meant(asked, between(start, end, node=request.node, namespace=request.namespace))
        asked.cut = len(pods) > PODS_MAX
        if asked.cut:
            asked.findings.append(f"{len(pods)} pods were there: the first {PODS_MAX} are listed")
        told = Or(nodes=(wanted(), Term(field="source_kind", value=Kind.CONTAINER)))
        query = Query(where=told, time_start_unix_nano=start, time_end_unix_nano=end)
        coverage = await self._coverage(asked, query, demanded={"how pods came and went": Kind.WATCH})
        return PodsAnswer(pods=pods[:PODS_MAX], coverage=coverage)

    async def check(self) -> None:
        """Reach the archive. Raises TransientError, RefusedError, SettingsError, EvidenceError."""
        await self._is_locked()
        await self._packs.snapshot()

    async def close(self) -> None:
        """Let go of the connections."""
        await self._packs.close()
        if self._hot is not None:
            await self._hot.close()

    # -- one question ----------------------------------------------------------------------------------------

    async def _asked(self, query: Query) -> _Asked:
        select(query, empty())
        await self._is_locked()
        snapshot = await self._packs.snapshot()
        asked = _Asked(self._packs, self._hot, snapshot)
        # The ledger is asked before the rows, so that what it says is acknowledged was there to be found.
        ledger = await asked.hot_ledger()
        asked.known = await asyncio.to_thread(self._inventory.known, snapshot, ledger)
        return asked

    async def _resolved(self, asked: _Asked, query: Query) -> Node:
        """Return the predicate with what only the inventory knows of pods replaced by their uids and times."""
        conditions = metadata.conditions(query.where)
        if not conditions:
            return query.where
        wish = metadata.of_conditions(conditions, query.time_start_unix_nano, query.time_end_unix_nano)
        return metadata.resolved(query.where, (await self._meant(asked, wish)).__getitem__)

    async def _meant(self, asked: _Asked, wish: Wish[T]) -> T:
        """Return the pods of a wish; what is to be said of them becomes findings, and what nobody saw gaps."""
        meant = await self._directory.meant(asked.snapshot, wish, packs=asked.rows_behind, hot=asked.newer_rows)
        asked.findings += meant.findings
        asked.watch_gaps = meant.gaps
        return meant.found

    async def _pods(self, asked: _Asked, anchor: Anchor, request: TimelineRequest) -> list[subjects.Pod]:
        """Return the pods that an anchor names; what is to be said about the name becomes findings."""
        if anchor.kind is AnchorKind.USER:
            return []
        wish = of_anchor(anchor, request.time_start_unix_nano, request.time_end_unix_nano)
        views = await self._meant(asked, wish)
        known = subjects.merged(
            [*subjects.pods_of_sources(asked.known.sources()), *subjects.pods_of_inventory(views, anchor)]
        )
        pods = subjects.matching(anchor, known)
        if anchor.kind in subjects.PARTLY:
            asked.findings += subjects.said_of(anchor, pods, views)
            return subjects.newest(pods)
        if not pods:
            names = sorted({f"{pod.namespace}/{pod.name}" for pod in known})
            name = f"{anchor.namespace}/{anchor.name}" if anchor.namespace else anchor.name
            close = difflib.get_close_matches(name, [*names, *(name.partition("/")[2] for name in names)], n=3)
            hint = f"; close to it: {', '.join(close)}" if close else ""
            asked.findings.append(f"neither a log's path nor the inventory knows {anchor}{hint}")
        return pods

    async def _coverage(
        self,
        asked: _Asked,
        query: Query,
        *,
        demanded: Mapping[str, Kind] | None = None,
        files: Sequence[str] | None = None,
    ) -> Coverage:
        facts = await asyncio.to_thread(
            gather, asked.known, query.where, asked.hot_facts(), demanded=demanded, only_files=files
        )
        facts = replace(await asked.with_hot_ends(facts), now_unix_nano=self._now_unix_nano(asked))
        window = Window(start_unix_nano=query.time_start_unix_nano, end_unix_nano=query.time_end_unix_nano)
        intervals, watermark = assess(facts, window)
        findings = [*asked.known.findings, *asked.findings]
        for node in dict.fromkeys(node for node, _ in facts.exclusions):
            folders = ", ".join(folder for of_node, folder in facts.exclusions if of_node == node)
            findings.append(f"node {node} was told not to follow {folders}")
        if not await self._is_locked():
            findings.append("the archive is a folder: nothing there refuses deletion")
        legs = (*(("tail",) if self._has_tail else ()), *(("hot",) if asked.hot_answered else ()), "archive")
        return judge(
            (*asked.unsearched(), *intervals), watermark_unix_nano=watermark, legs=legs,
            commit=asked.snapshot.state.next_n - 1 if asked.snapshot.state.next_n else None,
            findings=tuple(dict.fromkeys(findings)), cut=asked.cut,
        )  # fmt: skip

    def _now_unix_nano(self, asked: _Asked) -> int:
        """Return when evidence could last have come: now where what is fresh is seen, else what others attest."""
        sees_fresh = self._has_tail or asked.hot_answered
        return self._clock.now_unix_nano() if sees_fresh else asked.known.fold.newest_unix_nano

    async def _is_locked(self) -> bool:
        if self._locked is None:
            try:
                self._locked = (await asyncio.to_thread(self._archive.check)).locked
            except RefusedError:
                # A reader's rights need not reach so far: what is not known is not said.
                self._locked = True
            except NotHeldError as error:
                # It may be made yet: nothing at all is not an archive that holds nothing.
                raise TransientError(error.message, **error.facts) from error
        return self._locked


class _Asked:
    """One question: its snapshot, what is known there, and what its legs said."""

    known: Known

    def __init__(self, packs: PackIndex, hot: IndexReader | None, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.findings: list[str] = []
        self.cut = False
        self.cut_by_bytes = False
        self.hot_answered = hot is not None
        self._packs = packs
        self._hot = hot
        self._hot_leg: Leg | None = None
        self._expired: set[str] = set()
        self._unreadable: set[str] = set()
        self.watch_gaps: list[WatchGap] = []

    async def rows_behind(self, query: Query, packs: Sequence[AddedPack]) -> tuple[pa.Table, bool]:
        """Return rows of some packs alone, and whether there are more."""
        leg = await self._packs.search_in(behind_only(self.snapshot, packs), query)
        self.findings += leg.findings
        return leg.rows, leg.cut

    async def newer_rows(self, query: Query) -> tuple[pa.Table, bool]:
        """Return rows of the hot index that the journal may not have yet, and whether there are more."""
        newest = self.snapshot.state.last_time_unix_nano
        leg = await self._ask_hot(replace(query, time_start_unix_nano=newest - 4 * COMMIT_AGE_NS if newest else None))
        return (leg.rows, leg.cut) if leg is not None else (empty(), False)

    async def rows(self, query: Query) -> pa.Table:
        """Return the rows of all legs, each uid once, in the query's order, cut to its limits."""
        leg, hot_leg = await asyncio.gather(self._packs.search_in(self.snapshot, query), self._ask_hot(query))
        self.findings += leg.findings
        if leg.unfiltered:
            self.findings.append(f"{leg.unfiltered} packs have no sound filters and were read: see `ingest sidecars`")
        self._expired |= set(leg.expired)
        self._unreadable |= set(leg.unreadable)
        rows, cut = leg.rows, leg.cut
        if hot_leg is not None:
            self._hot_leg = hot_leg
            self.findings += hot_leg.findings
            rows, beyond = await asyncio.to_thread(_joined, query, leg, hot_leg)
            cut = leg.cut or hot_leg.cut or beyond.num_rows > 0
        self.cut, self.cut_by_bytes = cut, cut and rows.num_rows < query.limit
        return rows

    def say_cut(self, query: Query) -> None:
        """Say it where the rows that were read last are not all."""
        if self.cut_by_bytes:
            self.findings.append(f"the answer was cut at {_mib(query.bytes_max)}: narrow the time or the words")
        elif self.cut:
            self.findings.append(f"more rows match than the {query.limit} of this answer")

    async def hot_ledger(self) -> pa.Table:
        """Return the ledger's rows that the hot index has beyond the journal."""
        where = Term(field="source_kind", value=Kind.LEDGER)
        rows, cut = await self.newer_rows(Query(where=where, limit=_HOT_LEDGER_ROWS_MAX, bytes_max=LOGS_BYTES_MAX))
        if cut:
            self.findings.append("the hot index has more lines of ledgers than were looked at")
        return rows

    async def with_hot_ends(self, facts: Facts) -> Facts:
        """Return the facts, told how far the hot index has the files that were closed since the last commit.

        A partition is indexed in order, so that who has a file's last line has all before it.
        """
        if not self.hot_answered:
            return facts
        files = {source: list(members) for source, members in facts.files.items()}
        lacking = [
            (members, at)
            for members in files.values()
            for at, file in enumerate(members)
            if file.size is not None and file.reaches < file.size and not file.passed
        ]
        for members, at in lacking[:_HOT_ENDS_MAX]:
            where = Term(field="file_id", value=members[at].file_id)
            leg = await self._ask_hot(Query(where=where, limit=1000))
            if leg is not None:
                ends = (row["offset_start"] + row["length"] for row in leg.rows.to_pylist())
                members[at] = replace(members[at], hot_reaches=max(ends, default=0))
        return replace(facts, files=files)

    def hot_facts(self) -> Hot:
        """Return what is known of the hot index."""
        positions = self._hot_leg.positions if self._hot_leg is not None else {}
        return Hot(configured=self._hot is not None, answered=self.hot_answered, positions=positions)

    def unsearched(self) -> list[Interval]:
        """Return what was to be searched and could not be: packs that went meanwhile, or cannot be read (Q2)."""
        packs = self.snapshot.state.packs
        found = []
        for paths, seen, reason in (
            (self._expired, Seen.EXPIRED, "removed_meanwhile"),
            (self._unreadable, Seen.UNOBSERVABLE, "pack_unreadable"),
        ):
            for name in sorted({packs[path].retention_class for path in paths if path in packs}):
                members = [packs[path] for path in paths if path in packs and packs[path].retention_class == name]
                found.append(
                    Interval(
                        source=f"{name}/*", seen=seen, reason=reason,
                        time_start_unix_nano=min(pack.time_min_unix_nano for pack in members),
                        time_end_unix_nano=max(pack.time_max_unix_nano for pack in members) + 1,
                        bytes=sum(pack.raw_bytes for pack in members),
                    )
                )  # fmt: skip
        found += [
            Interval(
                source=f"{where.topic}-{where.number}/*", seen=Seen.UNOBSERVABLE, reason="frontier_unreadable",
                detail="what is held of its files is not known",
            )
            for where in self.known.unreadable
        ]  # fmt: skip
        return [*found, *self._unwatched()]

    def _unwatched(self) -> list[Interval]:
        """Return the times of which the watch does not know how pods came and went, unless its node states them."""
        stated = {(gap.source, gap.time_start_unix_nano) for gap in self.known.fold.gaps}
        return [
            Interval(
                source=gap.source, seen=Seen.GAP, reason="source_reported", time_start_unix_nano=gap.start_unix_nano,
                time_end_unix_nano=gap.end_unix_nano,
                detail=f"the watch of {gap.resource} did not see all ({gap.reason})",
            )
            for gap in self.watch_gaps
            if (gap.source, gap.start_unix_nano) not in stated
        ]  # fmt: skip

    async def _ask_hot(self, query: Query) -> Leg | None:
        if self._hot is None or not self.hot_answered:
            return None
        try:
            return await self._hot.search(query)
        except RejectedError:
            raise
        except AshiatoError as error:
            self.hot_answered = False
            self.findings.append(f"the hot index does not answer: {error.message}; this answer is the archive's alone")
            return None


def _joined(query: Query, leg: Leg, other: Leg) -> tuple[pa.Table, pa.Table]:
    """Return the rows of both, each uid once, cut as one leg that had them all would have cut them."""
    rows = without_doubles(pa.concat_tables([leg.rows, leg.beyond, other.rows, other.beyond]))
    return cut_to(query, in_order(rows, newest_first=query.order == "newest_first", limit=query.limit + 1))


def _mib(size: int) -> str:
    return f"{size / MIB:g} MiB"


def open_engine(settings: QuerySettings, *, clock: Clock) -> Engine:
    """Return an engine over what the settings name. Raises SettingsError."""
    archive = open_reader(settings.archive)
    tail = Path(settings.tail_dir) if settings.tail_dir else None
    hot: IndexReader | None = None
    if settings.opensearch is not None:
        from ashiato.adapters.index_opensearch import OpenSearchIndex  # noqa: PLC0415 - only where it is configured
        from ashiato.adapters.opensearch_client import OpenSearchClient  # noqa: PLC0415 - the same

        hot = OpenSearchIndex(OpenSearchClient(settings.opensearch))
    return Engine(PackIndex(archive, tail=tail), hot, archive=archive, clock=clock, has_tail=tail is not None)


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= QUERY_ROWS_MAX:
        raise RejectedError(f"a limit lies between 1 and {QUERY_ROWS_MAX}", limit=limit)


def _check_window(start_unix_nano: int | None, end_unix_nano: int | None) -> None:
    # Of no time at all everything was searched: an answer that is complete and says nothing.
    if start_unix_nano is not None and end_unix_nano is not None and start_unix_nano >= end_unix_nano:
        raise RejectedError(
            "the time that is asked for ends before it begins", start=start_unix_nano, end=end_unix_nano
        )

"""The pods that a question means: the snapshot of the inventory, and what is newer, read here.

What is read stays: rows say the same for ever, so the inventory of this process only grows, and every question reads
no more than the packs, tail segments and hot rows that it has not seen. Where too many packs lie behind the newest
snapshot, those that name what is asked for are searched, and the answer says so.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

import pyarrow as pa
import pyarrow.compute

from ashiato.adapters.index_packs import Snapshot
from ashiato.adapters.inventory import InventoryReader, gaps_of
from ashiato.adapters.inventory_packs import heard_in
from ashiato.adapters.pack_reader import PackReader
from ashiato.adapters.tail_folder import TailSegment
from ashiato.core.anchor import Anchor, AnchorKind
from ashiato.core.errors import EvidenceError, NotHeldError, RejectedError
from ashiato.core.ids import Kind, Source, record_uid
from ashiato.core.inventory import Heard, Inventory, Pods, PodView, Sighting, WatchGap, hear, of_log, wanted
from ashiato.core.journal import AddedPack
from ashiato.core.limits import LOGS_BYTES_MAX
from ashiato.core.ports import ArchiveReader
from ashiato.core.predicate import mask
from ashiato.core.query import And, Node, Or, Query, Term
from query.known import SegmentKey, key_of

T = TypeVar("T")
pc: Final[Any] = pyarrow.compute

PACKS_READ_MAX: Final = 64
"""Packs behind the newest snapshot that one question reads whole; the rest is searched by name."""
ROWS_MAX: Final = 100_000
"""Rows of watch and audit that one search of what is newer gives."""

Search = Callable[[Query], Awaitable[tuple[pa.Table, bool]]]
"""A query to its rows, and whether there are more."""
SearchIn = Callable[[Query, Sequence[AddedPack]], Awaitable[tuple[pa.Table, bool]]]
"""The same, of some packs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish(Generic[T]):
    """Which pods are asked for."""

    what: str
    """As the person wrote it."""
    choose: Callable[[Pods], T]
    about: Node
    """The rows that may tell: asked of packs that are too many to be read."""
    start_unix_nano: int | None
    end_unix_nano: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Meant(Generic[T]):
    """What a wish means."""

    found: T
    findings: list[str]
    gaps: list[WatchGap]


class PodDirectory:
    """Of one query service; shared by the threads of many questions."""

    def __init__(self, archive: ArchiveReader) -> None:
        self._store = InventoryReader(archive)
        self._reader = PackReader(archive)
        self._lock = threading.Lock()
        self._inventory = Inventory()
        self._next = 0
        self._segments: set[str] = set()
        """Segments of snapshots that are joined in."""
        self._tail: set[SegmentKey] = set()
        self._unread: set[str] = set()

    async def meant(self, snapshot: Snapshot, wish: Wish[T], *, packs: SearchIn, hot: Search) -> Meant[T]:
        """Return the pods that are asked for; ``hot`` tells what the snapshot may lack. Raises TransientError."""
        behind = await asyncio.to_thread(self._catch_up, snapshot)
        findings: list[str] = []
        if behind:
            rows, cut = await packs(Query(where=wish.about, limit=ROWS_MAX, bytes_max=LOGS_BYTES_MAX), behind)
            await asyncio.to_thread(self._take, hear(rows))
            findings.append(
                f"the pod inventory does not know {len(behind)} packs yet: they were searched for {wish.what}"
            )
            if cut:
                findings.append("there are more watch and audit events of pods than were looked at")
        rows, cut = await hot(Query(where=wanted(), limit=ROWS_MAX, bytes_max=LOGS_BYTES_MAX))
        if cut:
            findings.append("the hot index has more watch and audit events of pods than were looked at")
        return await asyncio.to_thread(self._answer, rows, wish, findings)

    # -- taking in -------------------------------------------------------------------------------------------

    def _catch_up(self, snapshot: Snapshot) -> list[AddedPack]:
        """Take in what is newer; return the packs that are too many to be read."""
        with self._lock:
            if snapshot.state.next_n > self._next:
                self._load()
            packs = sorted(
                (pack for pack in snapshot.state.packs.values() if pack.commit >= self._next),
                key=lambda pack: (pack.commit, pack.path),
            )
            chosen = packs[:PACKS_READ_MAX]
            for pack in chosen:
                self._read(pack)
            left = packs[len(chosen) :]
            if not left:
                self._next = max(self._next, snapshot.state.next_n)
            else:
                # The commit of the first one that is left may have been begun: it is read again.
                self._next = max(self._next, left[0].commit)
            segments = {key_of(segment): segment for segment in snapshot.segments}
            for key, segment in segments.items():
                self._read_segment(key, segment)
            self._tail &= segments.keys()
            return left

    def _load(self) -> None:
        """Join in the newest snapshot, as far as it is not known."""
        root = self._store.newest()
        if root is None or root.next_commit <= self._next:
            return
        try:
            for segment in root.segments:
                if segment.sha256 not in self._segments:
                    self._inventory.join(self._store.records(segment))
                    self._segments.add(segment.sha256)
        except (NotHeldError, EvidenceError):
            # It is made again by its keeper; until then packs tell.
            return
        self._inventory.gaps |= gaps_of(root)
        self._unread |= set(root.unread_packs)
        self._next = root.next_commit

    def _read(self, pack: AddedPack) -> None:
        try:
            for heard in heard_in(self._reader, pack):
                self._join(heard)
        except (NotHeldError, EvidenceError, RejectedError):
            self._unread.add(pack.path)

    def _read_segment(self, key: SegmentKey, segment: TailSegment) -> None:
        if segment.damaged or not segment.rows.num_rows or key in self._tail:
            return
        self._join(hear(segment.rows.filter(mask(wanted(), segment.rows))))
        self._inventory.take(_logs(segment.rows))
        self._tail.add(key)

    def _take(self, heard: Heard) -> None:
        with self._lock:
            self._join(heard)

    def _join(self, heard: Heard) -> None:
        self._inventory.take(heard.sightings)
        self._inventory.gaps |= set(heard.gaps)

    # -- answering -------------------------------------------------------------------------------------------

    def _answer(self, rows: pa.Table, wish: Wish[T], findings: list[str]) -> Meant[T]:
        with self._lock:
            self._join(hear(rows))
            found = wish.choose(Pods(self._inventory))
            gaps = self._gaps(wish.start_unix_nano, wish.end_unix_nano)
            return Meant(found=found, findings=[*findings, *self._said()], gaps=gaps)

    def _said(self) -> list[str]:
        if not self._unread:
            return []
        return [f"{len(self._unread)} packs could not be read: what they say of pods is not known"]

    def _gaps(self, start: int | None, end: int | None) -> list[WatchGap]:
        return sorted(
            (
                gap
                for gap in self._inventory.gaps
                if gap.resource == "pods"
                and (end is None or gap.start_unix_nano < end)
                and (start is None or gap.end_unix_nano > start)
            ),
            key=lambda gap: (gap.start_unix_nano, gap.row),
        )


def of_anchor(anchor: Anchor, start: int | None, end: int | None) -> Wish[list[PodView]]:
    """Ask for the pods that an anchor means at a moment of a time."""
    return Wish(
        what=str(anchor), choose=lambda pods: _chosen(pods, anchor, start, end), about=_about(anchor),
        start_unix_nano=start, end_unix_nano=end,
    )  # fmt: skip


def between(start: int | None, end: int | None, *, node: str, namespace: str) -> Wish[list[PodView]]:
    """Ask for all pods of a time, of a node and a namespace where they are named."""

    def choose(pods: Pods) -> list[PodView]:
        found = pods.on_node(node, start, end) if node else pods.between(start, end, namespace=namespace)
        return [pod for pod in found if namespace in ("", pod.namespace)]

    return Wish(
        what="all pods", choose=choose, about=wanted(), start_unix_nano=start, end_unix_nano=end
    )  # fmt: skip


def behind_only(snapshot: Snapshot, packs: Sequence[AddedPack]) -> Snapshot:
    """Return a snapshot of these packs alone."""
    return Snapshot(state=replace(snapshot.state, packs={pack.path: pack for pack in packs}), segments=())


def _chosen(pods: Pods, anchor: Anchor, start: int | None, end: int | None) -> list[PodView]:
    found: list[PodView] = []
    match anchor.kind:
        case AnchorKind.POD:
            found = pods.named(anchor.name, anchor.namespace)
        case AnchorKind.UID:
            found = [one for one in (pods.with_uid(anchor.name),) if one is not None]
        case AnchorKind.WORKLOAD:
            found = pods.of_workload(anchor.name, anchor.namespace, start, end)
        case AnchorKind.IMAGE:
            found = pods.of_image(anchor.name, start, end)
        case AnchorKind.NODE:
            found = pods.on_node(anchor.name, start, end)
        case AnchorKind.SERVICE_ACCOUNT:
            found = pods.of_account(anchor.namespace, anchor.name, start, end)
        case AnchorKind.IP:
            found = pods.holding(anchor.name, start, end)
        case AnchorKind.USER:
            pass
    return found


def _about(anchor: Anchor) -> Node:
    """Return the predicate of the rows that may tell which pods an anchor means, narrowed where its name is in them."""
    words: list[Node] = []
    if anchor.kind is AnchorKind.POD:
        words = [Term(field="object_name", value=anchor.name)]
    elif anchor.kind in (AnchorKind.UID, AnchorKind.IP, AnchorKind.NODE):
        words = [Term(field="", value=anchor.name)]
    return And(nodes=(wanted(), Or(nodes=tuple(words)))) if words else wanted()


def _logs(rows: pa.Table) -> list[Sighting]:
    """Return what container rows of a tail segment say by being there."""
    own = rows.filter(pc.equal(rows["source_kind"], Kind.CONTAINER))
    table = pa.table(
        {
            "file_id": own["file_id"], "source": own["source"], "restart": own["k8s_container_restart_count"],
            "offset": own["offset_start"], "observed": own["observed_time_unix_nano"],
            "time": pc.coalesce(own["time_unix_nano"], own["observed_time_unix_nano"]),
        }
    )  # fmt: skip
    wished: Any = [("time", "min"), ("time", "max"), ("offset", "min"), ("observed", "min")]
    return [
        of_log(
            Source.parse(one["source"]), one["restart"] if one["restart"] is not None else -1,
            row=record_uid(one["file_id"], one["offset_min"]), observed=one["observed_min"], first=one["time_min"],
            last=one["time_max"],
        )
        for one in table.group_by(["file_id", "source", "restart"]).aggregate(wished).to_pylist()
    ]  # fmt: skip

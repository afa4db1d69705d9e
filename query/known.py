"""What a snapshot knows of every source and file: frontiers, tail segments and the nodes' ledgers.

Packs, pages and segments never change, so what was read of them once is remembered; memory grows with the number of
files, never with their bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ashiato.adapters.frontiers import file_states
from ashiato.adapters.index_packs import Snapshot
from ashiato.adapters.pack_reader import PackReader
from ashiato.adapters.tail_folder import TailSegment
from ashiato.core.errors import EvidenceError, NotHeldError
from ashiato.core.frontier import FileState
from ashiato.core.ids import CLASS_OF_KIND, Kind
from ashiato.core.journal import AddedPack, JournalState
from ashiato.core.layout import recognise
from ashiato.core.ports import ArchiveReader, Partition
from ashiato.core.predicate import mask
from ashiato.core.query import And, Not, Term
from ashiato.core.record import RowFlags
from query.ledger_fold import LedgerFold, fold_lines
from query.spans import Spans, union

_OWN_LEDGER: Final = And(
    nodes=(Term(field="source_kind", value=Kind.LEDGER), Not(node=Term(field="flags", value="imported")))
)
_LEDGER_COLUMNS: Final = ("source", "file_id", "source_kind", "flags", "body")


@dataclass(slots=True, kw_only=True)
class FileKnown:
    """One file and its forks, as the archive and the tail hold them."""

    source: str
    restart_count: int = -1
    states: dict[str, FileState] = field(default_factory=dict)
    """Frontier entries by file id: the file's own, and its forks'."""
    tail: Spans = ()
    imported: bool = False

    @property
    def held(self) -> Spans:
        """The bytes that packs and tail hold."""
        spans = list(self.tail)
        for state in self.states.values():
            spans.append((state.base, state.offset))
            spans += [(early.start, early.end) for early in state.early]
        return union(spans)

    @property
    def closed(self) -> bool:
        """Whether the archive has the file's end."""
        return any(state.closed for state in self.states.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One snapshot's knowledge. Files are named without the mark of a fork."""

    state: JournalState
    files: Mapping[str, FileKnown]
    fold: LedgerFold
    findings: tuple[str, ...] = ()
    unreadable: tuple[Partition, ...] = ()
    """Partitions whose frontier cannot be read: what is held of their files is not known."""

    def all_files(self) -> Mapping[str, FileKnown]:
        """Return the files that are held, and those of which only the ledger tells."""
        born = {
            file_id: FileKnown(source=birth.source, restart_count=birth.restart_count)
            for file_id, birth in self.fold.births.items()
        }
        return born | dict(self.files)

    def sources(self) -> list[str]:
        """Return every source that is known, in order."""
        named = {file.source for file in self.files.values()}
        named |= {birth.source for birth in self.fold.births.values()}
        named |= {gap.source for gap in self.fold.gaps if gap.file_id}
        return sorted(named)


def root_of(file_id: str) -> str:
    """Return the file that a fork is of."""
    return file_id.partition("~")[0]


SegmentKey = tuple[str, int, int, str, int]


def key_of(segment: TailSegment) -> SegmentKey:
    """Return what tells a segment from another of its name: a bus made anew begins at the same positions."""
    rows = segment.rows
    first = rows.slice(0, 1).select(["file_id", "offset_start"]).to_pylist() or [{"file_id": "", "offset_start": 0}]
    return segment.name, rows.num_rows, rows.nbytes, first[0]["file_id"], first[0]["offset_start"]


class Inventory:
    """Reads what a snapshot knows; shared by the threads of many questions."""

    def __init__(self, archive: ArchiveReader) -> None:
        self._archive = archive
        self._reader = PackReader(archive)
        self._lock = threading.Lock()
        self._frontiers: dict[str, tuple[FileState, ...]] = {}
        self._pages: dict[str, tuple[FileState, ...]] = {}
        self._files: dict[str, FileKnown] = {}
        self._packs: dict[str, LedgerFold] = {}
        self._segments: dict[SegmentKey, tuple[dict[str, FileKnown], LedgerFold]] = {}

    def known(self, snapshot: Snapshot, hot_ledger: pa.Table | None = None) -> Known:
        """Return what the snapshot knows; ``hot_ledger`` holds ledger rows of the hot index.

        Raises:
            TransientError: the archive does not answer.

        """
        findings: list[str] = []
        with self._lock:
            files, unreadable = self._archived(snapshot.state, findings)
            fold = LedgerFold()
            for part in self._ledgers(snapshot.state, findings):
                fold.take_all(part)
            for held, part in self._tails(snapshot.segments):
                _overlay(files, held)
                fold.take_all(part)
        if hot_ledger is not None:
            fold.take_all(_fold(hot_ledger))
        return Known(
            state=snapshot.state, files=files, fold=fold, findings=tuple(findings), unreadable=tuple(unreadable)
        )

    def _archived(self, state: JournalState, findings: list[str]) -> tuple[dict[str, FileKnown], list[Partition]]:
        kept: dict[str, tuple[FileState, ...]] = {}
        unreadable = []
        for where, txn in state.positions.items():
            sha256 = txn.frontier.sha256
            try:
                kept[sha256] = self._frontiers.get(sha256) or tuple(file_states(self._archive, txn, self._pages))
            except (EvidenceError, NotHeldError) as error:
                unreadable.append(where)
                findings.append(f"the frontier of {where.topic}-{where.number} cannot be read: {error.message}")
        if kept.keys() != self._frontiers.keys():
            self._frontiers, self._files = kept, {}
            for states in kept.values():
                for found in states:
                    _take_state(self._files, found)
        return dict(self._files), unreadable

    def _ledgers(self, state: JournalState, findings: list[str]) -> list[LedgerFold]:
        wanted = {
            path: pack for path, pack in state.packs.items() if pack.retention_class == CLASS_OF_KIND[Kind.LEDGER]
        }
        self._packs = {path: fold for path, fold in self._packs.items() if path in wanted}
        for path, pack in wanted.items():
            if path not in self._packs:
                try:
                    self._packs[path] = self._fold_pack(pack)
                except (EvidenceError, NotHeldError) as error:
                    findings.append(f"ledger pack {path} cannot be read: {error.message}")
        return list(self._packs.values())

    def _fold_pack(self, pack: AddedPack) -> LedgerFold:
        opened = self._reader.open(pack)
        fold = LedgerFold()
        try:
            for number in range(opened.footer.num_row_groups):
                fold.take_all(_fold(opened.read(number, _LEDGER_COLUMNS)))
        finally:
            opened.close()
        return fold

    def _tails(self, segments: Sequence[TailSegment]) -> Iterable[tuple[dict[str, FileKnown], LedgerFold]]:
        self._segments = {
            key: self._segments.get(key) or (_held_in(segment.rows), _fold(segment.rows))
            for segment in segments
            if not segment.damaged
            for key in (key_of(segment),)
        }
        return self._segments.values()


def _take_state(files: dict[str, FileKnown], state: FileState) -> None:
    known = files.get(root_of(state.file_id))
    if known is None:
        restart = recognise(state.path, cluster="", node="").restart_count if state.path else -1
        known = files[root_of(state.file_id)] = FileKnown(source=state.source, restart_count=restart)
    before = known.states.get(state.file_id)
    if before is None or state.offset >= before.offset:
        known.states[state.file_id] = state
    known.imported = known.imported or state.imported


def _overlay(files: dict[str, FileKnown], held: Mapping[str, FileKnown]) -> None:
    """Lay what a segment holds over what is known; what is known is shared and stays as it is."""
    for file_id, tail in held.items():
        known = files.get(file_id)
        if known is None:
            files[file_id] = tail
        else:
            files[file_id] = replace(
                known, tail=union([*known.tail, *tail.tail]), imported=known.imported or tail.imported
            )


def _held_in(rows: pa.Table) -> dict[str, FileKnown]:
    """Return what a table holds of each file."""
    if not rows.num_rows:
        return {}
    ends = pc.add(rows["offset_start"], rows["length"].cast(pa.int64()))
    columns = {
        "file_id": rows["file_id"], "source": rows["source"], "start": rows["offset_start"], "end": ends,
        "restart": rows["k8s_container_restart_count"], "flags": rows["flags"],
        "length": rows["length"].cast(pa.int64()),
    }  # fmt: skip
    table = pa.table(columns)
    keys = ["file_id", "source", "restart"]
    grouped = table.group_by(keys).aggregate(
        [("start", "min"), ("end", "max"), ("length", "sum"), ("flags", "min"), ("flags", "max")]
    )
    held: dict[str, FileKnown] = {}
    for group in grouped.to_pylist():
        start, end = group["start_min"], group["end_max"]
        spans: Spans = ((start, end),) if start < end else ()
        if group["length_sum"] != end - start:
            spans = _spans(table.filter(pc.equal(table["file_id"], group["file_id"])))
        flags = RowFlags((group["flags_min"] or 0) | (group["flags_max"] or 0))
        restart = group["restart"] if group["restart"] is not None else -1
        part = FileKnown(
            source=group["source"], restart_count=restart, tail=spans, imported=bool(flags & RowFlags.IMPORTED)
        )
        _overlay(held, {root_of(group["file_id"]): part})
    return held


def _spans(table: pa.Table) -> Spans:
    starts, ends = (np.asarray(table[name].to_numpy(), np.int64).tolist() for name in ("start", "end"))
    return union(zip(starts, ends, strict=True))


def _fold(rows: pa.Table) -> LedgerFold:
    """Fold the ledger rows of a table. A ledger that was imported attests other file ids than the archive has."""
    lines = rows.filter(mask(_OWN_LEDGER, rows))
    columns = (lines[name].to_pylist() for name in ("source", "file_id", "body"))
    return fold_lines(zip(*columns, strict=True))

"""From admitted pieces to physical lines: one buffer, and arrays that say where each line is and whose it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ashiato.core.chunk import ChunkFlags, FileFacts
from ashiato.core.ids import Kind, Source
from ashiato.core.limits import ROW_GROUP_BYTES
from ashiato.core.record import RowFlags
from ingest.contracts import LineState, Piece
from ingest.parse import cri

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(slots=True, kw_only=True)
class Run:
    """Contiguous pieces of one file, to be parsed from one state."""

    facts: FileFacts
    source: Source
    pieces: list[Piece]
    state: LineState
    early: bool = False
    first_row: int = 0
    end_row: int = 0

    @property
    def ends_joins(self) -> bool:
        """Joins that are open behind the run close with it."""
        return self.pieces[-1].ends_joins


@dataclass(slots=True, kw_only=True)
class Lines:
    """The physical lines of one or more runs in one buffer; arrays of length n."""

    buffer: bytes
    """The lines end to end, and :data:`cri.PAD` behind them."""
    starts: Ints
    ends: Ints
    run: Ints
    """Index of each line's run."""
    offset: Ints
    observed: Ints
    flags: Ints
    newline: Bools
    follows_cut: Bools
    """The line's beginning was shipped before: this is a part C."""

    def __len__(self) -> int:
        return len(self.ends)

    def line(self, row: int) -> bytes:
        """Return a line's bytes, newline included."""
        return self.buffer[int(self.starts[row]) : int(self.ends[row])]


def runs_of(pieces: Iterable[Piece], states: Mapping[str, LineState]) -> list[Run]:
    """Gather the pieces of each file. A run ends where joins do; early pieces stand alone and change no state."""
    runs: list[Run] = []
    current: dict[str, Run] = {}
    for piece in pieces:
        facts = piece.chunk.file
        if piece.row_flags & RowFlags.EARLY:
            state = LineState(at_line=bool(piece.chunk.flags & ChunkFlags.STARTS_AT_LINE))
            runs.append(_run(piece, state, early=True))
        elif (run := current.get(facts.file_id)) is not None and not run.ends_joins:
            run.pieces.append(piece)
        else:
            # The state of a second run of a file is the one behind the first: see rows.build_rows.
            current[facts.file_id] = _run(piece, states.get(facts.file_id, LineState()), early=False)
            runs.append(current[facts.file_id])
    return runs


def groups_of(runs: Sequence[Run]) -> Iterator[list[Run]]:
    """Gather container runs into buffers of a few MiB, where vectors pay; other kinds go one by one.

    No group has two runs of one file, but for early ones.
    """
    gathered: list[Run] = []
    known: set[str] = set()
    size = 0
    for run in runs:
        if run.source.kind is not Kind.CONTAINER:
            yield [run]
            continue
        if gathered and (size >= ROW_GROUP_BYTES or run.facts.file_id in known):
            yield gathered
            gathered, known, size = [], set(), 0
        gathered.append(run)
        size += sum(len(piece.chunk.payload) for piece in run.pieces)
        if not run.early:
            known.add(run.facts.file_id)
    if gathered:
        yield gathered


def lines_of(runs: Sequence[Run]) -> Lines:
    """Cut the bytes of ``runs`` into lines, and note in each run which rows are its own."""
    pieces = [piece for run in runs for piece in run.pieces]
    buffer = b"".join((*(piece.chunk.payload for piece in pieces), cri.PAD))
    assert len(buffer) < 1 << 31, "offsets in Arrow's binary columns are 32 bits"
    sizes = np.array([len(piece.chunk.payload) for piece in pieces], dtype=np.int64)
    piece_ends = np.cumsum(sizes)
    octets = np.frombuffer(buffer, np.uint8)[: len(buffer) - len(cri.PAD)]
    ends = np.flatnonzero(octets == ord("\n")) + 1
    cut = piece_ends[sizes > 0]
    cut = cut[octets[cut - 1] != ord("\n")]
    if len(cut):
        ends = np.sort(np.concatenate((ends, cut)))
    starts = np.concatenate((np.zeros(1, np.int64), ends))[:-1]
    piece_of = np.searchsorted(piece_ends, ends - 1, side="right")
    base = np.array([piece.chunk.offset_start for piece in pieces], dtype=np.int64) - (piece_ends - sizes)
    observed = np.array([piece.chunk.observed_time_unix_nano for piece in pieces], dtype=np.int64)
    flags = np.array([piece.row_flags for piece in pieces], dtype=np.int64)
    unterminated = np.array([bool(piece.chunk.flags & ChunkFlags.UNTERMINATED) for piece in pieces], np.bool_)
    run = np.repeat(np.arange(len(runs)), [len(run.pieces) for run in runs])[piece_of]
    newline = octets[ends - 1] == ord("\n")
    lines = Lines(
        buffer=buffer,
        starts=starts,
        ends=ends,
        run=run,
        offset=base[piece_of] + starts,
        observed=observed[piece_of],
        flags=flags[piece_of] | np.where(unterminated[piece_of] & ~newline, int(RowFlags.UNTERMINATED), 0),
        newline=newline,
        follows_cut=np.concatenate((np.zeros(1, np.bool_), ~newline))[:-1],
    )
    bounds = np.searchsorted(run, np.arange(len(runs) + 1)).tolist()
    for one, (first, end) in zip(runs, pairwise(bounds), strict=True):
        one.first_row, one.end_row = first, end
        if end > first:
            lines.follows_cut[first] = not one.state.at_line
    return lines


def _run(piece: Piece, state: LineState, *, early: bool) -> Run:
    facts = piece.chunk.file
    return Run(facts=facts, source=Source.parse(facts.source), pieces=[piece], state=state, early=early)

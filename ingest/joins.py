"""Joins: partial lines put together, across pieces, batches and commits.

A join closes on F, at the part where its body passes 1 MiB, or where its file ends; never on a timer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ashiato.core.limits import JOIN_BODY_BYTES_MAX
from ingest.columns import NONE, PARTIAL, STREAMS, WHOLE, Columns
from ingest.contracts import LineState, OpenPart
from ingest.lines import Lines, Run


def join(runs: Sequence[Run], lines: Lines, columns: Columns) -> list[LineState]:
    """Join the partial lines of each run and return how its lines stand behind it."""
    partial = bool((columns.part == PARTIAL).any())
    cut = bool(lines.follows_cut.any())
    states = []
    for index, run in enumerate(runs):
        open_parts = {part.iostream: part for part in run.state.open_parts}
        if partial or open_parts:
            for row in _rows_of_joins(run, lines, columns):
                _join_row(row, open_parts, lines, columns)
        state = _border(run, lines, columns)
        if cut:
            _inherit(run, lines, columns)
        states.append(_ended(index, run, state, open_parts, lines, columns))
    return states


def with_part(before: OpenPart | None, iostream: str, offset: int, content: bytes) -> OpenPart:
    """Return a join with one more part."""
    if before is None:
        return OpenPart(iostream=iostream, first_offset=offset, bodies=(content,), part_offsets=(offset,))
    return replace(before, bodies=(*before.bodies, content), part_offsets=(*before.part_offsets, offset))


def _ended(
    index: int, run: Run, state: LineState, open_parts: dict[str, OpenPart], lines: Lines, columns: Columns
) -> LineState:
    """Return ``state`` with the joins that are open behind the run, or close them."""
    if run.early:
        _stand_alone(run, open_parts, lines, columns)
    elif run.ends_joins:
        columns.closers += [(index, part) for part in open_parts.values()]
    elif open_parts:
        state = replace(state, open_parts=tuple(open_parts.values()))
    return state


def _rows_of_joins(run: Run, lines: Lines, columns: Columns) -> list[int]:
    """Return the partial rows of a run, and of its whole ones those that close a join."""
    own = slice(run.first_row, run.end_row)
    found: list[npt.NDArray[np.intp]] = []
    for code, stream in enumerate(STREAMS):
        part = columns.part[own]
        # A partial line that is itself cut cannot be put together from whole parts: it stands for itself.
        partial = (part == PARTIAL) & lines.newline[own]
        rows = np.flatnonzero((columns.stream[own] == code) & (partial | (part == WHOLE)))
        is_open = any(open_part.iostream == stream for open_part in run.state.open_parts)
        after_partial = np.concatenate((np.array([is_open]), partial[rows]))[:-1]
        found.append(rows[partial[rows] | after_partial] + run.first_row)
    return sorted(np.concatenate(found).tolist())


def _join_row(row: int, open_parts: dict[str, OpenPart], lines: Lines, columns: Columns) -> None:
    stream = STREAMS[columns.stream[row]]
    before = open_parts.get(stream)
    if columns.part[row] == WHOLE:
        if before is not None:
            columns.body[row] = b"".join((*before.bodies, columns.own(row, lines)))
            columns.join_offset[row] = before.first_offset
            del open_parts[stream]
        return
    joined = with_part(before, stream, int(lines.offset[row]), columns.own(row, lines))
    if joined.body_bytes > JOIN_BODY_BYTES_MAX:
        columns.body[row] = b"".join(joined.bodies)
        columns.join_offset[row] = joined.first_offset
        open_parts.pop(stream, None)
        return
    columns.body[row] = b""
    open_parts[stream] = joined


def _stand_alone(run: Run, open_parts: dict[str, OpenPart], lines: Lines, columns: Columns) -> None:
    """Give parts back their own text where no row will ever close their join."""
    offsets = lines.offset[run.first_row : run.end_row]
    for part in open_parts.values():
        for offset, body in zip(part.part_offsets, part.bodies, strict=True):
            columns.body[run.first_row + int(np.searchsorted(offsets, offset))] = body


def _border(run: Run, lines: Lines, columns: Columns) -> LineState:
    """Return the state behind a run, joins aside."""
    if run.end_row == run.first_row:
        return replace(run.state, open_parts=())
    if lines.newline[run.end_row - 1]:
        return LineState()
    heads = np.flatnonzero(~lines.follows_cut[run.first_row : run.end_row])
    if not len(heads):
        return replace(run.state, open_parts=())
    head = run.first_row + int(heads[-1])
    return LineState(
        at_line=False,
        cut_iostream=STREAMS[columns.stream[head]] if columns.stream[head] != NONE else "",
        cut_time_unix_nano=int(columns.time[head]) if columns.timed[head] else None,
    )


def _inherit(run: Run, lines: Lines, columns: Columns) -> None:
    """Give the pieces of a long line the stream and time of its beginning."""
    stream = STREAMS.index(run.state.cut_iostream) if run.state.cut_iostream else NONE
    time = run.state.cut_time_unix_nano
    for row in (np.flatnonzero(lines.follows_cut[run.first_row : run.end_row]) + run.first_row).tolist():
        if row > run.first_row and not lines.follows_cut[row - 1]:
            stream = int(columns.stream[row - 1])
            time = int(columns.time[row - 1]) if columns.timed[row - 1] else None
        columns.stream[row] = stream
        if time is not None:
            columns.time[row], columns.timed[row], columns.uncertainty[row] = time, True, 1

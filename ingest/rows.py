"""From admitted pieces to rows: one row per physical line (CONTRACTS section 4).

``build_rows`` is a pure function, and its rows do not depend on where the bytes of a file were cut on their way: the
tail, the packs and the hot index are built from different pieces and hold the same rows. Every row's columns are
rendered and held against the bytes; where they differ, the bytes stay in ``raw``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ashiato.core.chunk import ChunkFlags, FileFacts
from ashiato.core.ids import Kind, Source
from ashiato.core.limits import JOIN_BODY_BYTES_MAX, ROW_GROUP_BYTES
from ashiato.core.record import COLUMNS, RowFlags
from ashiato.core.render import CRI_PARSER, render_rows
from ashiato.core.table import SCHEMA, empty
from ingest.contracts import LineState, OpenPart, Piece
from ingest.parse import auditd, cri, docker_json, falco, kube_audit, ledger_rows, text, watch
from ingest.parse.fields import Fields

_Ints = npt.NDArray[np.int64]

_PARSERS: Final = {
    Kind.AUDIT: kube_audit.parse,
    Kind.FALCO: falco.parse,
    Kind.WATCH: watch.parse,
    Kind.AUDITD: auditd.parse,
    Kind.LEDGER: ledger_rows.parse,
    Kind.FILE: text.parse,
    Kind.ACCESS: text.parse,
}
_FIELD_COLUMNS: Final = tuple(
    name for name in Fields.__struct_fields__ if name not in {"flags", "body", "part", "log_iostream", "parser"}
)


@dataclass(slots=True, kw_only=True)
class _Run:
    """Contiguous pieces of one file, to be parsed from one state."""

    facts: FileFacts
    source: Source
    pieces: list[Piece]
    state: LineState
    early: bool = False
    first_row: int = 0
    end_row: int = 0


@dataclass(slots=True, kw_only=True)
class _Lines:
    """The physical lines of one or more runs in one buffer; arrays of length n."""

    buffer: bytes
    starts: _Ints
    ends: _Ints
    run: _Ints
    """Index of each line's run."""
    offset: _Ints
    observed: _Ints
    flags: _Ints
    newline: npt.NDArray[np.bool_]
    follows_cut: npt.NDArray[np.bool_]
    """The line's beginning was shipped before: this is a part C."""

    def line(self, row: int) -> bytes:
        """Return a line's bytes."""
        return self.buffer[int(self.starts[row]) : int(self.ends[row])]


@dataclass(slots=True, kw_only=True)
class _Columns:
    """What the parsers found, per row; None and absent entries are nulls."""

    count: int
    time: _Ints
    timed: npt.NDArray[np.bool_]
    uncertainty: _Ints
    severity: dict[int, int] = field(default_factory=dict)
    stream: list[str | None] = field(default_factory=list)
    part: list[str | None] = field(default_factory=list)
    parser: list[str | None] = field(default_factory=list)
    body_start: _Ints
    body_end: _Ints
    body: dict[int, bytes] = field(default_factory=dict)
    """Bodies that are not the line's own bytes ``[body_start, body_end)``."""
    join_offset: dict[int, int] = field(default_factory=dict)
    said: dict[str, dict[int, Any]] = field(default_factory=dict)
    quarantined: list[int] = field(default_factory=list)
    flags: dict[int, int] = field(default_factory=dict)
    closers: list[tuple[int, OpenPart]] = field(default_factory=list)
    """(run, join) that the file's end closes with an empty row."""


def build_rows(pieces: Sequence[Piece], states: Mapping[str, LineState]) -> tuple[pa.Table, dict[str, LineState], int]:
    """Return the rows of ``pieces``, how the lines of each file stand behind them, and how many were quarantined.

    ``pieces`` are, per file, contiguous and in order; those flagged EARLY stand alone and change no state.
    """
    tables: list[pa.Table] = []
    after: dict[str, LineState] = {}
    quarantined = 0
    for group in _groups(_runs(pieces, states)):
        table, group_states, count = _build_group(group)
        tables.append(table)
        after.update(group_states)
        quarantined += count
    return (pa.concat_tables(tables) if tables else empty()), after, quarantined


def reopen(file_id: str, rows: pa.Table) -> LineState:
    """Return how the joins of a file stand, from its archived rows since the first part that may be open."""
    open_parts: dict[str, OpenPart] = {}
    ordered = rows.filter(pc.equal(rows["file_id"], file_id)).sort_by("offset_start")
    lines = render_rows(ordered).to_pylist()
    columns = (ordered[name].to_pylist() for name in ("log_iostream", "part", "join_offset", "offset_start", "parser"))
    for line, stream, part, joined, offset, parser in zip(lines, *columns, strict=True):
        if joined is not None:
            open_parts.pop(stream, None)
        elif part == "P" and stream:
            content = _content(line, parser or "")
            before = open_parts.get(stream)
            open_parts[stream] = _with_part(before, stream, offset, content)
    return LineState(open_parts=tuple(open_parts.values()))


# -- runs and lines ------------------------------------------------------------------------------------------


def _runs(pieces: Iterable[Piece], states: Mapping[str, LineState]) -> list[_Run]:
    runs: dict[str, _Run] = {}
    early: list[_Run] = []
    for piece in pieces:
        facts = piece.chunk.file
        if piece.row_flags & RowFlags.EARLY:
            state = LineState(at_line=bool(piece.chunk.flags & ChunkFlags.STARTS_AT_LINE))
            early.append(_Run(facts=facts, source=Source.parse(facts.source), pieces=[piece], state=state, early=True))
        elif (run := runs.get(facts.file_id)) is not None:
            run.pieces.append(piece)
        else:
            state = states.get(facts.file_id, LineState())
            runs[facts.file_id] = _Run(facts=facts, source=Source.parse(facts.source), pieces=[piece], state=state)
    return [*runs.values(), *early]


def _groups(runs: list[_Run]) -> Iterable[list[_Run]]:
    """Gather container runs into buffers of a few MiB, where vectors pay; other kinds go one by one."""
    gathered: list[_Run] = []
    size = 0
    for run in runs:
        if run.source.kind is not Kind.CONTAINER:
            yield [run]
            continue
        gathered.append(run)
        size += sum(len(piece.chunk.payload) for piece in run.pieces)
        if size >= ROW_GROUP_BYTES:
            yield gathered
            gathered, size = [], 0
    if gathered:
        yield gathered


def _lines(runs: list[_Run]) -> _Lines:
    payloads = [piece.chunk.payload for run in runs for piece in run.pieces]
    buffer = b"".join((*payloads, cri.PAD))
    piece_ends = np.cumsum([len(payload) for payload in payloads], dtype=np.int64)
    size = int(piece_ends[-1]) if len(piece_ends) else 0
    octets = np.frombuffer(buffer, np.uint8)
    newlines = np.flatnonzero(octets[:size] == 10) + 1
    ends = np.unique(np.concatenate((newlines, piece_ends))) if size else np.zeros(0, np.int64)
    ends = ends[ends > 0]
    starts = np.concatenate((np.zeros(1, np.int64), ends[:-1])) if len(ends) else ends
    piece_of = np.searchsorted(piece_ends, ends - 1, side="right")
    piece_starts = piece_ends - np.array([len(payload) for payload in payloads], dtype=np.int64)
    listed = [piece for run in runs for piece in run.pieces]
    base = np.array([piece.chunk.offset_start for piece in listed], dtype=np.int64) - piece_starts
    observed = np.array([piece.chunk.observed_time_unix_nano for piece in listed], dtype=np.int64)
    flags = np.array([piece.row_flags for piece in listed], dtype=np.int64)
    run_of_piece = np.repeat(np.arange(len(runs)), [len(run.pieces) for run in runs])
    run = run_of_piece[piece_of]
    newline = octets[ends - 1] == 10
    lines = _Lines(
        buffer=buffer, starts=starts, ends=ends, run=run, offset=base[piece_of] + starts, observed=observed[piece_of],
        flags=flags[piece_of], newline=newline, follows_cut=np.zeros(len(ends), np.bool_),
    )  # fmt: skip
    bounds = np.searchsorted(run, np.arange(len(runs) + 1))
    for index, (one, (first, end)) in enumerate(zip(runs, pairwise(bounds.tolist()), strict=True)):
        one.first_row, one.end_row = first, end
        if end > first:
            lines.follows_cut[first] = not runs[index].state.at_line
            lines.follows_cut[first + 1 : end] = ~newline[first : end - 1]
    unterminated = np.array([bool(piece.chunk.flags & ChunkFlags.UNTERMINATED) for piece in listed], np.bool_)
    lines.flags[unterminated[piece_of] & ~newline] |= int(RowFlags.UNTERMINATED)
    return lines


# -- one group -----------------------------------------------------------------------------------------------


def _build_group(runs: list[_Run]) -> tuple[pa.Table, dict[str, LineState], int]:
    lines = _lines(runs)
    count = len(lines.ends)
    columns = _Columns(
        count=count, time=np.zeros(count, np.int64), timed=np.zeros(count, np.bool_),
        uncertainty=np.zeros(count, np.int64), stream=[None] * count, part=[None] * count, parser=[None] * count,
        body_start=lines.starts.copy(), body_end=lines.ends - lines.newline,
    )  # fmt: skip
    if runs[0].source.kind is Kind.CONTAINER:
        _parse_containers(runs, lines, columns)
    else:
        _parse_lines(_PARSERS[runs[0].source.kind], lines, columns)
    states = {}
    for index, run in enumerate(runs):
        state = _join(index, run, lines, columns)
        if not run.early:
            states[run.facts.file_id] = state
    return _table(runs, lines, columns), states, len(columns.quarantined)


def _parse_containers(runs: list[_Run], lines: _Lines, columns: _Columns) -> None:
    del runs
    headers = cri.parse(lines.buffer, lines.starts, lines.ends)
    taken = headers.taken & ~lines.follows_cut
    rows = np.flatnonzero(taken)
    columns.time[rows] = headers.time_unix_nano[rows]
    columns.timed[rows] = headers.has_time[rows]
    columns.uncertainty[rows] = 1
    columns.body_start[rows] = headers.content_start[rows]
    names = [f"{CRI_PARSER};{zone};{form}" for zone in headers.zone_names for form in ("9", "trim")]
    profile = np.where(headers.canonical, headers.zones * 2 + headers.trimmed, -1)
    for row, stderr, partial, code in zip(
        rows.tolist(),
        headers.stderr[rows].tolist(),
        headers.partial[rows].tolist(),
        profile[rows].tolist(),
        strict=True,
    ):
        columns.stream[row] = "stderr" if stderr else "stdout"
        columns.part[row] = "P" if partial else "F"
        columns.parser[row] = names[code] if code >= 0 else CRI_PARSER
    for row in np.flatnonzero(~taken).tolist():
        if lines.follows_cut[row]:
            _piece_of_long_line(row, columns)
        elif (fields := docker_json.parse(lines.line(row))) is not None:
            _say(row, fields, columns)
        else:
            _quarantine(row, columns)
    _container_severity(rows, lines, columns)


def _container_severity(rows: npt.NDArray[np.intp], lines: _Lines, columns: _Columns) -> None:
    """Read level and trace id of JSON bodies, and the klog letter, of CRI rows."""
    first = np.frombuffer(lines.buffer, np.uint8)[columns.body_start[rows]]
    severities, traces = columns.severity, columns.said.setdefault("trace_id", {})
    for row in rows[first == ord("{")].tolist():
        body = lines.buffer[int(columns.body_start[row]) : int(columns.body_end[row])]
        severity, trace_id, _ = text.json_facts(body)
        if severity is not None:
            severities[row] = severity
        if trace_id is not None:
            traces[row] = trace_id
    for row in rows[np.isin(first, np.frombuffer(b"IWEF", np.uint8))].tolist():
        begin = int(columns.body_start[row])
        severity = text.klog_severity(lines.buffer[begin : min(begin + 24, int(columns.body_end[row]))])
        if severity is not None:
            severities[row] = severity


def _parse_lines(parse: Any, lines: _Lines, columns: _Columns) -> None:
    for row in range(columns.count):
        if lines.follows_cut[row]:
            _piece_of_long_line(row, columns)
            continue
        fields = parse(lines.buffer[int(lines.starts[row]) : int(columns.body_end[row])])
        if fields is None:
            _quarantine(row, columns)
        else:
            _say(row, fields, columns)


def _piece_of_long_line(row: int, columns: _Columns) -> None:
    columns.part[row] = "C"
    columns.parser[row] = text.PARSER


def _quarantine(row: int, columns: _Columns) -> None:
    columns.parser[row] = text.PARSER
    columns.quarantined.append(row)
    columns.flags[row] = int(RowFlags.QUARANTINED)


def _say(row: int, fields: Fields, columns: _Columns) -> None:
    columns.parser[row] = fields.parser
    columns.stream[row] = fields.log_iostream
    columns.part[row] = fields.part
    if fields.time_unix_nano is not None:
        columns.time[row], columns.timed[row] = fields.time_unix_nano, True
        columns.uncertainty[row] = fields.time_uncertainty_ns or 0
    if fields.severity_number is not None:
        columns.severity[row] = fields.severity_number
    if fields.body is not None:
        columns.body[row] = fields.body.encode()
    if fields.flags:
        columns.flags[row] = columns.flags.get(row, 0) | fields.flags
    for name in _FIELD_COLUMNS:
        value = getattr(fields, name)
        if value is not None and name not in {"time_unix_nano", "time_uncertainty_ns", "severity_number"}:
            columns.said.setdefault(name, {})[row] = value


# -- joins ---------------------------------------------------------------------------------------------------


def _join(index: int, run: _Run, lines: _Lines, columns: _Columns) -> LineState:
    """Join the partial lines of one run and return how its lines stand behind it."""
    state = run.state
    open_parts = {part.iostream: part for part in state.open_parts}
    partial = [row for row in range(run.first_row, run.end_row) if columns.part[row] == "P"] if run.end_row else []
    if open_parts or partial:
        begin = run.first_row if open_parts else partial[0]
        for row in range(begin, run.end_row):
            _join_row(row, open_parts, lines, columns)
    last = run.end_row - 1
    if last >= run.first_row:
        head = _head_of_cut(run, lines, last)
        if lines.newline[last]:
            state = LineState()
        elif not lines.follows_cut[head]:
            state = LineState(
                at_line=False,
                cut_iostream=columns.stream[head] or "",
                cut_time_unix_nano=int(columns.time[head]) if columns.timed[head] else None,
            )
    _inherit(run, lines, columns)
    state = replace(state, open_parts=tuple(open_parts.values()))
    if any(piece.chunk.flags & ChunkFlags.FILE_CLOSED for piece in run.pieces) and not run.early:
        columns.closers += [(index, part) for part in state.open_parts]
        state = LineState()
    return state


def _head_of_cut(run: _Run, lines: _Lines, row: int) -> int:
    while row > run.first_row and lines.follows_cut[row]:
        row -= 1
    return row


def _inherit(run: _Run, lines: _Lines, columns: _Columns) -> None:
    """Give the pieces of a long line the stream and time of its beginning."""
    stream: str | None = run.state.cut_iostream or None
    time = run.state.cut_time_unix_nano
    for row in np.flatnonzero(lines.follows_cut[run.first_row : run.end_row]).tolist():
        at = run.first_row + row
        if at > run.first_row and not lines.follows_cut[at - 1]:
            stream = columns.stream[at - 1]
            time = int(columns.time[at - 1]) if columns.timed[at - 1] else None
        columns.stream[at] = stream
        if time is not None:
            columns.time[at], columns.timed[at], columns.uncertainty[at] = time, True, 1


def _join_row(row: int, open_parts: dict[str, OpenPart], lines: _Lines, columns: _Columns) -> None:
    stream, part = columns.stream[row], columns.part[row]
    if not stream or part not in ("P", "F"):
        return
    if part == "P" and not lines.newline[row]:
        # A partial line that is itself cut cannot be put together from whole parts: it stands for itself.
        return
    before = open_parts.get(stream)
    if part == "F":
        if before is not None:
            columns.body[row] = b"".join((*before.bodies, _own(row, lines, columns)))
            columns.join_offset[row] = before.first_offset
            del open_parts[stream]
        return
    joined = _with_part(before, stream, int(lines.offset[row]), _own(row, lines, columns))
    if joined.body_bytes > JOIN_BODY_BYTES_MAX:
        columns.body[row] = b"".join(joined.bodies)
        columns.join_offset[row] = joined.first_offset
        open_parts.pop(stream, None)
        return
    columns.body[row] = b""
    open_parts[stream] = joined


def _own(row: int, lines: _Lines, columns: _Columns) -> bytes:
    if row in columns.body:
        return columns.body[row]
    return lines.buffer[int(columns.body_start[row]) : int(columns.body_end[row])]


def _with_part(before: OpenPart | None, stream: str, offset: int, content: bytes) -> OpenPart:
    if before is None:
        return OpenPart(iostream=stream, first_offset=offset, bodies=(content,), part_offsets=(offset,))
    return replace(before, bodies=(*before.bodies, content), part_offsets=(*before.part_offsets, offset))


def _content(line: bytes, parser: str) -> bytes:
    if parser.startswith(CRI_PARSER):
        return re.sub(rb"^\S+ \S+ \S+ ?", b"", line, count=1).removesuffix(b"\n")
    fields = docker_json.parse(line)
    return (fields.body or "").encode() if fields is not None else line.removesuffix(b"\n")


# -- the table -----------------------------------------------------------------------------------------------


def _table(runs: list[_Run], lines: _Lines, columns: _Columns) -> pa.Table:
    body, damaged = _bodies(lines, columns)
    run = pa.array(lines.run)
    sources = [one.source for one in runs]

    def constant(values: list[str | None]) -> pa.Array:
        return pa.array(values, pa.string()).take(run)

    flags = lines.flags.copy()
    for row, value in columns.flags.items():
        flags[row] |= value
    given: dict[str, pa.Array] = {
        "file_id": constant([one.facts.file_id for one in runs]),
        "source": constant([one.facts.source for one in runs]),
        "source_kind": constant([str(source.kind) for source in sources]),
        "k8s_cluster_name": constant([source.cluster or None for source in sources]),
        "k8s_node_name": constant([source.node or None for source in sources]),
        "k8s_namespace_name": _told("k8s_namespace_name", constant([s.namespace or None for s in sources]), columns),
        "k8s_pod_name": _told("k8s_pod_name", constant([s.pod or None for s in sources]), columns),
        "k8s_pod_uid": _told("k8s_pod_uid", constant([s.pod_uid or None for s in sources]), columns),
        "k8s_container_name": _told("k8s_container_name", constant([s.container or None for s in sources]), columns),
        "k8s_container_restart_count": pa.array(
            [one.facts.restart_count if one.facts.restart_count >= 0 else None for one in runs], pa.int32()
        ).take(run),
        "offset_start": pa.array(lines.offset),
        "length": pa.array((lines.ends - lines.starts).astype(np.int32)),
        "join_offset": _sparse(columns.join_offset, columns.count, pa.int64()),
        "time_unix_nano": pa.array(columns.time, mask=~columns.timed),
        "time_uncertainty_ns": pa.array(columns.uncertainty, mask=~columns.timed),
        "observed_time_unix_nano": pa.array(lines.observed),
        "log_iostream": pa.array(columns.stream, pa.string()),
        "part": pa.array(columns.part, pa.string()),
        "parser": pa.array(columns.parser, pa.string()),
        "severity_number": _sparse(columns.severity, columns.count, pa.int32()),
        "body": body,
        "flags": pa.array(flags.astype(np.int32)),
        "raw": pa.nulls(columns.count, pa.binary()),
    }
    for column in COLUMNS:
        if column.name not in given:
            kind = pa.int32() if column.type == "int32" else pa.string()
            given[column.name] = _sparse(columns.said.get(column.name, {}), columns.count, kind)
    table = pa.table([given[name] for name in SCHEMA.names], schema=SCHEMA)
    if columns.closers:
        table = pa.concat_tables([table, _closing_rows(runs, lines, columns)])
    return _exact(table, lines, damaged)


def _told(name: str, column: pa.Array, columns: _Columns) -> pa.Array:
    said = columns.said.get(name)
    return column if not said else pc.coalesce(_sparse(said, columns.count, pa.string()), column)


def _sparse(values: Mapping[int, Any], count: int, kind: pa.DataType) -> pa.Array:
    if not values:
        return pa.nulls(count, kind)
    filled: list[Any] = [None] * count
    for row, value in values.items():
        filled[row] = value
    return pa.array(filled, kind)


def _bodies(lines: _Lines, columns: _Columns) -> tuple[pa.Array, set[int]]:
    """Return the body column, and the rows whose own bytes are not UTF-8 (their body has U+FFFD in place)."""
    count = columns.count
    offsets = np.empty(3 * count + 1, np.int32)
    offsets[0:-1:3], offsets[1::3], offsets[2::3] = lines.starts, columns.body_start, columns.body_end
    offsets[-1] = lines.ends[-1] if count else 0
    spans = pa.Array.from_buffers(pa.binary(), 3 * count, [None, pa.py_buffer(offsets), pa.py_buffer(lines.buffer)])
    body = spans.take(pa.array(np.arange(count) * 3 + 1))
    overrides = dict(columns.body)
    damaged: set[int] = set()
    if not lines.buffer.isascii():
        high = np.flatnonzero(np.frombuffer(lines.buffer, np.uint8)[: len(lines.buffer) - len(cri.PAD)] >= 128)
        for row in np.unique(np.searchsorted(lines.ends, high, side="right")).tolist():
            if row not in overrides:
                text_bytes = lines.buffer[int(columns.body_start[row]) : int(columns.body_end[row])]
                if (mended := _mended(text_bytes)) is not None:
                    overrides[row] = mended
                    damaged.add(row)
        for row, value in columns.body.items():
            if (mended := _mended(value)) is not None:
                overrides[row] = mended
                damaged.add(row)
    if overrides:
        mask = np.zeros(count, np.bool_)
        mask[list(overrides)] = True
        body = pc.replace_with_mask(
            body, pa.array(mask), pa.array([overrides[r] for r in sorted(overrides)], pa.binary())
        )
    return body.cast(pa.string()), damaged


def _mended(content: bytes) -> bytes | None:
    try:
        content.decode()
    except UnicodeDecodeError:
        return content.decode("utf-8", "replace").encode()
    return None


def _closing_rows(runs: list[_Run], lines: _Lines, columns: _Columns) -> pa.Table:
    """Return the empty rows that close joins which their file's end left open."""
    rows: list[dict[str, Any]] = []
    for index, part in columns.closers:
        run = runs[index]
        last = run.pieces[-1].chunk
        body = b"".join(part.bodies)
        row: dict[str, Any] = dict.fromkeys(SCHEMA.names)
        row.update(
            file_id=run.facts.file_id, source=run.facts.source, source_kind=str(run.source.kind),
            k8s_cluster_name=run.source.cluster, k8s_node_name=run.source.node,
            k8s_namespace_name=run.source.namespace, k8s_pod_name=run.source.pod, k8s_pod_uid=run.source.pod_uid,
            k8s_container_name=run.source.container, offset_start=last.offset_end, length=0,
            k8s_container_restart_count=run.facts.restart_count if run.facts.restart_count >= 0 else None,
            join_offset=part.first_offset, observed_time_unix_nano=last.observed_time_unix_nano,
            log_iostream=part.iostream, part="F", parser=text.PARSER, body=body.decode("utf-8", "replace"),
            flags=int(run.pieces[-1].row_flags),
        )  # fmt: skip
        rows.append(row)
    del lines
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _exact(table: pa.Table, lines: _Lines, damaged: set[int]) -> pa.Table:
    """Keep the bytes of every row that its columns do not give back."""
    count = len(lines.ends)
    offsets = np.concatenate((lines.starts[:1], lines.ends)).astype(np.int32) if count else np.zeros(1, np.int32)
    written = pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(lines.buffer)])
    rendered = render_rows(table).slice(0, count)
    differs = pc.not_equal(rendered, written)
    if damaged:
        mask = np.zeros(count, np.bool_)
        mask[list(damaged)] = True
        differs = pc.or_(differs, pa.array(mask))
    if not pc.any(differs).as_py():
        return table
    raw = pc.if_else(differs, written, pa.scalar(None, pa.binary()))
    extra = table.num_rows - count
    whole = pa.concat_arrays([raw, pa.nulls(extra, pa.binary())]) if extra else raw
    return table.set_column(SCHEMA.get_field_index("raw"), SCHEMA.field("raw"), whole)

"""From admitted pieces to rows: one row per physical line (CONTRACTS section 4).

``build_rows`` is a pure function, and its rows do not depend on where the bytes of a file were cut on their way: the
tail, the packs and the hot index are built from different pieces and hold the same rows. Every row's columns are
rendered and held against the bytes; where they differ, the bytes stay in ``raw``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute

from ashiato.core.ids import Kind
from ashiato.core.record import COLUMNS, RowFlags
from ashiato.core.render import CRI_PARSER, render_rows
from ashiato.core.table import SCHEMA, binary_array, empty
from ingest.columns import NONE, PARTS, STREAMS, Codes, Columns, parse_lines, read_bodies
from ingest.contracts import LineState, OpenPart, Piece, Refused
from ingest.joins import join, with_part
from ingest.lines import Ints, Lines, Run, groups_of, lines_of, runs_of
from ingest.parse import bodies, cri, docker_json
from ingest.parse.fields import TEXT_PARSER

pc: Final[Any] = pyarrow.compute


def build_rows(
    pieces: Sequence[Piece], states: Mapping[str, LineState]
) -> tuple[pa.Table, dict[str, LineState], Refused]:
    """Return the rows of ``pieces``, how the lines of each file stand behind them, and what was quarantined and why.

    ``pieces`` are, per file, contiguous and in order; those flagged EARLY stand alone and change no state.
    """
    tables: list[pa.Table] = []
    after: dict[str, LineState] = {}
    refused: Refused = Counter()
    for group in groups_of(runs_of(pieces, states)):
        for run in group:
            if not run.early:
                run.state = after.get(run.facts.file_id, run.state)
        lines = lines_of(group)
        kind = group[0].source.kind
        columns = parse_lines(kind, lines)
        for run, state in zip(group, join(group, lines, columns), strict=True):
            if not run.early:
                after[run.facts.file_id] = state
        read_bodies(kind, lines, columns)
        tables.append(_table(group, lines, columns))
        refused.update({(str(kind), reason): count for reason, count in columns.refused.items()})
    return (pa.concat_tables(tables) if tables else empty()), after, refused


def rows_of_lines(kind: Kind, runs: Sequence[Run], lines: Lines) -> tuple[pa.Table, Counter[str]]:
    """Return the rows of lines that each stand alone, and what of them was refused by reason."""
    columns = parse_lines(kind, lines)
    read_bodies(kind, lines, columns)
    return _table(runs, lines, columns), columns.refused


def reopen(file_id: str, rows: pa.Table) -> LineState:
    """Return how the joins of a file stand, from its archived rows since the first part that may be open."""
    open_parts: dict[str, OpenPart] = {}
    # Early rows stand alone: they neither open a join that waits behind a hole, nor close it.
    is_early = pc.not_equal(pc.bit_wise_and(rows["flags"], int(RowFlags.EARLY)), 0)
    own = pc.and_not(pc.equal(rows["file_id"], file_id), is_early)
    ordered = rows.filter(own).sort_by("offset_start")
    names = ("log_iostream", "part", "join_offset", "offset_start", "body", "parser")
    for line, stream, part, joined, offset, body, parser in zip(
        render_rows(ordered).to_pylist(), *(ordered[name].to_pylist() for name in names), strict=True
    ):
        if joined is not None:
            open_parts.pop(stream, None)
        elif part == "P" and stream and not body and (line or b"").endswith(b"\n"):
            # (a part that is itself cut stands for itself, even where it says nothing)
            content = _content(line or b"", parser or "")
            open_parts[stream] = with_part(open_parts.get(stream), stream, offset, content)
    return LineState(open_parts=tuple(open_parts.values()))


def _content(line: bytes, parser: str) -> bytes:
    """Return the message of a part, from its bytes."""
    if parser.startswith(CRI_PARSER):
        return re.sub(rb"^\S+ \S+ \S+ ?", b"", line, count=1).removesuffix(b"\n")
    fields = docker_json.parse(line)
    return (fields.body or "").encode() if fields is not None else line.removesuffix(b"\n")


def _table(runs: Sequence[Run], lines: Lines, columns: Columns) -> pa.Table:
    body, damaged = _bodies(lines, columns)
    given = {
        **_facts_of_runs(runs, pa.array(lines.run)),
        "offset_start": pa.array(lines.offset),
        "length": pa.array((lines.ends - lines.starts).astype(np.int32)),
        "join_offset": _sparse(columns.join_offset, len(lines), pa.int64()),
        "time_unix_nano": pa.array(columns.time, mask=~columns.timed),
        "time_uncertainty_ns": pa.array(columns.uncertainty, mask=~columns.timed),
        "observed_time_unix_nano": pa.array(lines.observed),
        "log_iostream": _named(columns.stream, STREAMS),
        "part": _named(columns.part, PARTS),
        "parser": _named(columns.parser, columns.parser_names),
        "severity_number": pa.array(columns.severity, mask=columns.severity == 0),
        **_of_access_lines(lines, columns),
        "body": body,
        "flags": pa.array(_flags(lines, columns)),
        "raw": pa.nulls(len(lines), pa.binary()),
    }
    for column in COLUMNS:
        said = columns.said.get(column.name)
        if column.name not in given:
            kind = pa.int32() if column.type == "int32" else pa.string()
            given[column.name] = _sparse(said or {}, len(lines), kind)
        elif said:
            # A statement about a pod (a gap) is found by that pod's facts.
            given[column.name] = pc.coalesce(_sparse(said, len(lines), pa.string()), given[column.name])
    table = pa.table([given[name] for name in SCHEMA.names], schema=SCHEMA)
    if columns.closers:
        closing = [_closing_row(runs[index], part) for index, part in columns.closers]
        table = pa.concat_tables([table, pa.Table.from_pylist(closing, schema=SCHEMA)])
    return _exact(table, lines, damaged)


def _of_access_lines(lines: Lines, columns: Columns) -> dict[str, Any]:
    """Return the columns that access lines fill, and nothing where there are none: others may have said them."""
    if not columns.access.any():
        return {}
    count = len(lines)
    addressed = columns.address_end > columns.body_start
    name: Any = pa.array(np.zeros(count, np.int32), mask=~columns.access)
    ends = np.where(addressed, columns.address_end, columns.body_start)
    address = pc.if_else(pa.array(addressed), _between(columns.body_start, ends, lines), None).cast(pa.string())
    said = columns.said.pop("source_address", {})
    return {
        "event_name": pa.array([bodies.ACCESS_EVENT]).take(name),
        "http_status_code": pa.array(columns.status, mask=~columns.access),
        "source_address": pc.coalesce(_sparse(said, count, pa.string()), address) if said else address,
    }


def _facts_of_run(run: Run) -> dict[str, Any]:
    source = run.source
    return {
        "file_id": run.facts.file_id,
        "source": run.facts.source,
        "source_kind": str(source.kind),
        "k8s_cluster_name": source.cluster or None,
        "k8s_node_name": source.node or None,
        "k8s_namespace_name": source.namespace or None,
        "k8s_pod_name": source.pod or None,
        "k8s_pod_uid": source.pod_uid or None,
        "k8s_container_name": source.container or None,
        "k8s_container_restart_count": run.facts.restart_count if run.facts.restart_count >= 0 else None,
    }


def _facts_of_runs(runs: Sequence[Run], run: Any) -> dict[str, Any]:
    facts = [_facts_of_run(one) for one in runs]
    return {name: pa.array([told[name] for told in facts], SCHEMA.field(name).type).take(run) for name in facts[0]}


def _closing_row(run: Run, part: OpenPart) -> dict[str, Any]:
    """Return the empty row that closes a join which its file's end, or early rows, left open."""
    last = run.pieces[-1].chunk
    body = b"".join(part.bodies)
    severity, trace_id = bodies.severity_and_trace(body)
    return {
        **_facts_of_run(run),
        "offset_start": last.offset_end,
        "length": 0,
        "join_offset": part.first_offset,
        "observed_time_unix_nano": last.observed_time_unix_nano,
        "log_iostream": part.iostream,
        "part": "F",
        "parser": TEXT_PARSER,
        "severity_number": severity,
        "trace_id": trace_id,
        "body": body.decode("utf-8", "replace"),
        "flags": run.pieces[-1].row_flags,
    }


def _flags(lines: Lines, columns: Columns) -> Codes:
    flags = lines.flags.astype(np.int32)
    for row, value in columns.flags.items():
        flags[row] |= value
    return flags


def _named(codes: Codes, names: Sequence[str]) -> Any:
    places: Any = pa.array(codes, mask=codes == NONE)
    return pa.array(names, pa.string()).take(places)


def _sparse(values: Mapping[int, Any], count: int, kind: Any) -> Any:
    if not values:
        return pa.nulls(count, kind)
    places = np.full(count, NONE, np.int32)
    places[list(values)] = np.arange(len(values), dtype=np.int32)
    indices: Any = pa.array(places, mask=places == NONE)
    return pa.array(list(values.values()), kind).take(indices)


def _bodies(lines: Lines, columns: Columns) -> tuple[Any, set[int]]:
    """Return the body column, and the rows whose own bytes are not UTF-8 (their body has U+FFFD in place)."""
    count = len(lines)
    body = _between(columns.body_start, columns.body_end, lines)
    replaced = dict(columns.body)
    damaged: set[int] = set()
    for row in _rows_with_high_octets(lines, columns):
        content = columns.own(row, lines)
        if (mended := _mended(content)) is not None:
            replaced[row] = mended
            damaged.add(row)
    if replaced:
        mask = np.zeros(count, np.bool_)
        mask[list(replaced)] = True
        values = pa.array([replaced[row] for row in sorted(replaced)], pa.binary())
        body = pc.replace_with_mask(body, pa.array(mask), values)
    return body.cast(pa.string()), damaged


def _between(starts: Ints, ends: Ints, lines: Lines) -> Any:
    """Return the bytes ``[starts[i], ends[i])`` of each line."""
    borders = np.empty((len(starts), 2), np.int32)
    borders[:, 0], borders[:, 1] = starts, ends
    # Every second of these spans is wanted; the others lie between them.
    offsets = np.concatenate((borders.ravel(), np.array([borders[-1, 1]] if len(starts) else [0], np.int32)))
    return binary_array(offsets, lines.buffer).take(np.arange(0, 2 * len(starts), 2))


def _rows_with_high_octets(lines: Lines, columns: Columns) -> list[int]:
    joined = [row for row, content in columns.body.items() if not content.isascii()]
    if lines.buffer.isascii():
        return joined
    octets = np.frombuffer(lines.buffer, np.uint8)[: len(lines.buffer) - len(cri.PAD)]
    of_octets = np.searchsorted(lines.ends, np.flatnonzero(octets >= 0x80), side="right")
    return sorted({*joined, *np.unique(of_octets).tolist()})


def _mended(content: bytes) -> bytes | None:
    try:
        content.decode()
    except UnicodeDecodeError:
        return content.decode("utf-8", "replace").encode()
    return None


def _exact(table: pa.Table, lines: Lines, damaged: set[int]) -> pa.Table:
    """Keep the bytes of every row that its columns do not give back."""
    count = len(lines)
    offsets = np.concatenate((np.zeros(1, np.int32), lines.ends)).astype(np.int32)
    written = binary_array(offsets, lines.buffer)
    differs = pc.not_equal(render_rows(table).slice(0, count), written)
    if damaged:
        mask = np.zeros(count, np.bool_)
        mask[list(damaged)] = True
        differs = pc.or_(differs, pa.array(mask))
    if not pc.any(differs).as_py():
        return table
    raw = pc.if_else(differs, written, pa.scalar(None, pa.binary()))
    closing = pa.nulls(table.num_rows - count, pa.binary())
    return table.set_column(SCHEMA.get_field_index("raw"), SCHEMA.field("raw"), pa.concat_arrays([raw, closing]))

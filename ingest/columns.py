"""What the parsers find in lines, as columns that are still cheap to change: codes, arrays and sparse values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ashiato.core.ids import Kind
from ashiato.core.record import RowFlags
from ashiato.core.render import CRI_PARSER
from ingest.contracts import OpenPart
from ingest.lines import Bools, Ints, Lines
from ingest.parse import auditd, bodies, cri, docker_json, falco, kube_audit, ledger_rows, watch
from ingest.parse.fields import TEXT_PARSER, Fields
from ingest.parse.lenient import Refusal, reason_of

STREAMS: Final = ("stdout", "stderr")
PARTS: Final = ("F", "P", "C")
WHOLE, PARTIAL, PIECE = range(3)
"""Codes of :data:`PARTS`."""
NONE: Final = -1
"""Code of a null."""

Codes = npt.NDArray[np.int32]

PARSERS: Final[dict[Kind, Callable[[bytes], Fields | None]]] = {
    Kind.AUDIT: kube_audit.parse,
    Kind.FALCO: falco.parse,
    Kind.WATCH: watch.parse,
    Kind.AUDITD: auditd.parse,
    Kind.LEDGER: ledger_rows.parse,
}
"""Parsers of single lines. Containers have CRI headers, which are parsed as arrays; files and accesses are text."""
_SAID: Final = tuple(
    name
    for name in Fields.__struct_fields__
    if name
    not in (
        "parser",
        "log_iostream",
        "part",
        "time_unix_nano",
        "time_uncertainty_ns",
        "severity_number",
        "body",
        "flags",
    )
)
"""What has no array here."""


@dataclass(slots=True, kw_only=True)
class Columns:
    """What the parsers found, per row; :data:`NONE` and absent entries are nulls."""

    time: Ints
    timed: Bools
    uncertainty: Ints
    stream: Codes
    part: Codes
    parser: Codes
    parser_names: list[str]
    body_start: Ints
    body_end: Ints
    severity: Codes
    """Zero where there is none."""
    status: Codes
    """Of HTTP answers in access lines; zero where there is none."""
    address_end: Ints
    """Behind the address at the beginning of an access line; at the body's beginning where there is none."""
    access: Bools
    body: dict[int, bytes] = field(default_factory=dict)
    """Bodies that are not the line's own bytes ``[body_start, body_end)``."""
    flags: dict[int, int] = field(default_factory=dict)
    join_offset: dict[int, int] = field(default_factory=dict)
    said: dict[str, dict[int, Any]] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    """How many lines were quarantined, by reason."""
    closers: list[tuple[int, OpenPart]] = field(default_factory=list)
    """(run, join) that ends with an empty row behind the run."""

    def own(self, row: int, lines: Lines) -> bytes:
        """Return the message of a row alone."""
        body = self.body.get(row)
        return body if body is not None else lines.buffer[int(self.body_start[row]) : int(self.body_end[row])]

    def parser_code(self, name: str) -> int:
        """Return the code of a parser's name."""
        try:
            return self.parser_names.index(name)
        except ValueError:
            self.parser_names.append(name)
            return len(self.parser_names) - 1

    def say(self, row: int, fields: Fields) -> None:
        """Take over what a line's parser found."""
        self.parser[row] = self.parser_code(fields.parser)
        self.stream[row] = STREAMS.index(fields.log_iostream) if fields.log_iostream else NONE
        self.part[row] = PARTS.index(fields.part) if fields.part else NONE
        if fields.time_unix_nano is not None:
            self.time[row], self.timed[row] = fields.time_unix_nano, True
            self.uncertainty[row] = fields.time_uncertainty_ns or 0
        self.severity[row] = fields.severity_number or 0
        if fields.body is not None:
            self.body[row] = fields.body.encode()
        if fields.flags:
            self.flags[row] = fields.flags
        for name in _SAID:
            value = getattr(fields, name)
            if value is not None:
                self.said.setdefault(name, {})[row] = value

    def quarantine(self, row: int, reason: Refusal) -> None:
        """Keep a line that the parser of its kind refused, as text."""
        self.parser[row] = self.parser_code(TEXT_PARSER)
        self.flags[row] = int(RowFlags.QUARANTINED)
        self.refused[reason] += 1

    def piece_of_long_line(self, row: int) -> None:
        """Keep a line whose beginning stands in a row before."""
        self.parser[row] = self.parser_code(TEXT_PARSER)
        self.part[row] = PIECE


def parse_lines(kind: Kind, lines: Lines) -> Columns:
    """Parse the frame of all lines, which are of one kind; :func:`read_bodies` reads what is in it."""
    count = len(lines)
    columns = Columns(
        time=np.zeros(count, np.int64),
        timed=np.zeros(count, np.bool_),
        uncertainty=np.zeros(count, np.int64),
        stream=np.full(count, NONE, np.int32),
        part=np.full(count, NONE, np.int32),
        parser=np.full(count, NONE, np.int32),
        parser_names=[],
        body_start=lines.starts.copy(),
        body_end=lines.ends - lines.newline,
        severity=np.zeros(count, np.int32),
        status=np.zeros(count, np.int32),
        address_end=lines.starts,
        access=np.zeros(count, np.bool_),
    )
    if kind is Kind.CONTAINER:
        _parse_containers(lines, columns)
    elif kind in PARSERS:
        _parse_each(kind, lines, columns)
    else:
        columns.parser[:] = columns.parser_code(TEXT_PARSER)
        columns.part[lines.follows_cut] = PIECE
    return columns


def read_bodies(kind: Kind, lines: Lines, columns: Columns) -> None:
    """Read what bodies say of themselves, once they are joined. A container line's time stays the runtime's."""
    if kind in PARSERS:
        return
    timed = kind is not Kind.CONTAINER
    told_of = (columns.part != PIECE) & (columns.parser != NONE)
    told_of[[row for row, flags in columns.flags.items() if flags & RowFlags.QUARANTINED]] = False
    replaced = [row for row, body in columns.body.items() if body and told_of[row]]
    told_of[list(columns.body)] = False
    rows = np.flatnonzero(told_of)
    told = bodies.read(lines.buffer, columns.body_start, columns.body_end, rows, timed=timed)
    columns.severity, columns.status, columns.access = told.severity, told.status, told.access
    columns.address_end = told.address_end
    _take(columns, told, range(len(lines)))
    if replaced:
        _read_replaced(replaced, columns, timed=timed)


def _read_replaced(rows: list[int], columns: Columns, *, timed: bool) -> None:
    """Read bodies that do not stand in the buffer: joined ones, and what docker's lines hold."""
    contents = [columns.body[row] for row in rows]
    ends = np.cumsum([len(content) for content in contents], dtype=np.int64)
    starts = np.concatenate((np.zeros(1, np.int64), ends))[:-1]
    buffer = b"".join((*contents, cri.PAD))
    told = bodies.read(buffer, starts, ends, np.arange(len(rows)), timed=timed)
    columns.severity[rows], columns.status[rows], columns.access[rows] = told.severity, told.status, told.access
    addresses = columns.said.setdefault("source_address", {})
    for at in np.flatnonzero(told.address_end > starts).tolist():
        addresses[rows[at]] = buffer[int(starts[at]) : int(told.address_end[at])].decode()
    _take(columns, told, rows)


def _take(columns: Columns, told: bodies.Told, rows: Sequence[int]) -> None:
    for name, values in (("trace_id", told.trace_id), ("user_name", told.user)):
        columns.said.setdefault(name, {}).update((rows[at], value) for at, value in values.items())
    for at, (time, resolution) in told.time.items():
        row = rows[at]
        columns.time[row], columns.timed[row], columns.uncertainty[row] = time, True, resolution


def _parse_each(kind: Kind, lines: Lines, columns: Columns) -> None:
    parse = PARSERS[kind]
    bounds = zip(columns.body_start.tolist(), columns.body_end.tolist(), lines.follows_cut.tolist(), strict=True)
    for row, (start, end, follows_cut) in enumerate(bounds):
        if follows_cut:
            columns.piece_of_long_line(row)
        elif (found := parse(lines.buffer[start:end])) is not None:
            columns.say(row, found)
        else:
            columns.quarantine(row, reason_of(kind, lines.buffer[start:end]))


def _parse_containers(lines: Lines, columns: Columns) -> None:
    headers = cri.parse(lines.buffer, lines.starts, lines.ends)
    taken = headers.taken & ~lines.follows_cut
    timed = taken & headers.has_time
    columns.timed = timed
    columns.time = np.where(timed, headers.time_unix_nano, 0)
    columns.uncertainty = timed.astype(np.int64)
    columns.body_start = np.where(taken, headers.content_start, columns.body_start)
    columns.stream = np.where(taken, headers.stderr.astype(np.int32), NONE).astype(np.int32)
    columns.part = np.where(taken, np.where(headers.partial, PARTIAL, WHOLE), NONE).astype(np.int32)
    profiles = [f"{CRI_PARSER};{zone};{form}" for zone in headers.zone_names for form in ("9", "trim")]
    columns.parser_names = [*profiles, CRI_PARSER]
    profile = np.where(headers.canonical, headers.zones * 2 + headers.trimmed, len(profiles))
    columns.parser = np.where(taken, profile, NONE).astype(np.int32)
    for row in np.flatnonzero(~taken).tolist():
        if lines.follows_cut[row]:
            columns.piece_of_long_line(row)
        elif (found := docker_json.parse(lines.line(row))) is not None:
            columns.say(row, found)
        else:
            columns.quarantine(row, reason_of(Kind.CONTAINER, lines.line(row)))

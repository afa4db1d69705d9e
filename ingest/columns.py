"""What the parsers find in lines, as columns that are still cheap to change: codes, arrays and sparse values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from ashiato.core.ids import Kind
from ashiato.core.record import RowFlags
from ashiato.core.render import CRI_PARSER
from ingest.contracts import OpenPart
from ingest.lines import Bools, Ints, Lines
from ingest.parse import auditd, cri, docker_json, falco, kube_audit, ledger_rows, text, watch
from ingest.parse.fields import Fields

STREAMS: Final = ("stdout", "stderr")
PARTS: Final = ("F", "P", "C")
WHOLE, PARTIAL, PIECE = range(3)
"""Codes of :data:`PARTS`."""
NONE: Final = -1
"""Code of a null."""

Codes = npt.NDArray[np.int32]

_PARSERS: Final[dict[Kind, Callable[[bytes], Fields | None]]] = {
    Kind.AUDIT: kube_audit.parse,
    Kind.FALCO: falco.parse,
    Kind.WATCH: watch.parse,
    Kind.AUDITD: auditd.parse,
    Kind.LEDGER: ledger_rows.parse,
    Kind.FILE: text.parse,
    Kind.ACCESS: text.parse,
}
_HAVE_A_COLUMN_HERE: Final = frozenset(
    ("parser", "log_iostream", "part", "time_unix_nano", "time_uncertainty_ns", "severity_number", "body", "flags")
)
_KLOG_LETTERS: Final = np.frombuffer(b"IWEF", np.uint8)


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
    body: dict[int, bytes] = field(default_factory=dict)
    """Bodies that are not the line's own bytes ``[body_start, body_end)``."""
    flags: dict[int, int] = field(default_factory=dict)
    severity: dict[int, int] = field(default_factory=dict)
    join_offset: dict[int, int] = field(default_factory=dict)
    said: dict[str, dict[int, Any]] = field(default_factory=dict)
    quarantined: int = 0
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
        if fields.severity_number is not None:
            self.severity[row] = fields.severity_number
        if fields.body is not None:
            self.body[row] = fields.body.encode()
        if fields.flags:
            self.flags[row] = fields.flags
        for name, value in msgspec.to_builtins(fields).items():
            if name not in _HAVE_A_COLUMN_HERE:
                self.said.setdefault(name, {})[row] = value

    def quarantine(self, row: int) -> None:
        """Keep a line that the parser of its kind refused, as text."""
        self.parser[row] = self.parser_code(text.PARSER)
        self.flags[row] = int(RowFlags.QUARANTINED)
        self.quarantined += 1

    def piece_of_long_line(self, row: int) -> None:
        """Keep a line whose beginning stands in a row before."""
        self.parser[row] = self.parser_code(text.PARSER)
        self.part[row] = PIECE


def parse_lines(kind: Kind, lines: Lines) -> Columns:
    """Parse all lines, which are of one kind."""
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
    )
    if kind is Kind.CONTAINER:
        _parse_containers(lines, columns)
    else:
        parse = _PARSERS[kind]
        for row in range(count):
            if lines.follows_cut[row]:
                columns.piece_of_long_line(row)
            elif (fields := parse(columns.own(row, lines))) is not None:
                columns.say(row, fields)
            else:
                columns.quarantine(row)
    return columns


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
        elif (fields := docker_json.parse(lines.line(row))) is not None:
            columns.say(row, fields)
        else:
            columns.quarantine(row)
    _container_severity(np.flatnonzero(taken), lines, columns)


def _container_severity(rows: npt.NDArray[np.intp], lines: Lines, columns: Columns) -> None:
    """Read level and trace id of JSON bodies, and the klog letter, of CRI rows."""
    first = np.frombuffer(lines.buffer, np.uint8)[columns.body_start[rows]]
    severities, traces = columns.severity, columns.said.setdefault("trace_id", {})
    for row in rows[first == ord("{")].tolist():
        severity, trace_id, _ = text.json_facts(columns.own(row, lines))
        if severity is not None:
            severities[row] = severity
        if trace_id is not None:
            traces[row] = trace_id
    for row in rows[np.isin(first, _KLOG_LETTERS)].tolist():
        begin = int(columns.body_start[row])
        severity = text.klog_severity(lines.buffer[begin : min(begin + 24, int(columns.body_end[row]))])
        if severity is not None:
            severities[row] = severity

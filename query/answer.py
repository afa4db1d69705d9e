"""Answers, and their JSON lines (CONTRACTS section 10): records first, the coverage last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import pyarrow as pa

from ashiato.core.coverage import Coverage
from ashiato.core.record import to_document
from ashiato.core.timeline import KIND_FIELD, TOLD_BY_FIELD, TimelineKind
from query.coverage import bounded

_ROWS_AT_ONCE: Final = 500
_LISTED_IN_HEADER_MAX: Final = 10
_FINDING_CHARS_MAX: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Rows in the order that was asked for, and what they cover."""

    rows: pa.Table
    coverage: Coverage
    kinds: tuple[TimelineKind, ...] = ()
    """Of a timeline: what each row is."""
    told_by: tuple[str | None, ...] = ()
    """Of a timeline: the row that tells the same audit event, None where it is the row itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsAnswer:
    """Bytes as ``kubectl logs`` would have printed them, and what they cover."""

    content: bytes
    coverage: Coverage


def to_ndjson(answer: Answer) -> Iterator[bytes]:
    """Yield whole lines, newline included, some at a time; the last one is ``{"coverage": ...}``."""
    for start in range(0, answer.rows.num_rows, _ROWS_AT_ONCE):
        lines = []
        for number, row in enumerate(answer.rows.slice(start, _ROWS_AT_ONCE).to_pylist(), start):
            document = to_document(row)
            if answer.kinds:
                document[KIND_FIELD] = str(answer.kinds[number])
                if (teller := answer.told_by[number]) is not None:
                    document[TOLD_BY_FIELD] = teller
            lines.append(msgspec.json.encode(document))
        yield b"\n".join(lines) + b"\n"
    yield msgspec.json.encode({"coverage": answer.coverage.to_document()}) + b"\n"


def coverage_line(coverage: Coverage) -> str:
    """Return coverage as one line of ASCII, short enough for a header."""
    findings = [finding[:_FINDING_CHARS_MAX] for finding in coverage.findings[:_LISTED_IN_HEADER_MAX]]
    if left := len(coverage.findings) - len(findings):
        findings.append(f"and {left} more")
    short = replace(
        coverage, intervals=bounded(coverage.intervals, listed_max=_LISTED_IN_HEADER_MAX), findings=tuple(findings)
    )
    text = msgspec.json.encode(short.to_document()).decode()
    return "".join(letter if " " <= letter <= "~" else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    units = letter.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))

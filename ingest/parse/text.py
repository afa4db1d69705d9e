"""Everything else: JSON objects with the usual fields, klog prefixes, plain text. Nothing is ever refused here."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from ingest.parse.fields import Fields, severity_of
from ingest.parse.times import rfc3339

PARSER: Final = "text/1"
_TRACE: Final = re.compile(r"^[0-9a-fA-F]{32}$")
_KLOG: Final = {ord("I"): 9, ord("W"): 13, ord("E"): 17, ord("F"): 21}


class _Json(msgspec.Struct):
    """The fields that applications put into JSON lines; whatever type they chose."""

    level: Any = None
    severity: Any = None
    lvl: Any = None
    time: Any = None
    ts: Any = None
    timestamp: Any = None
    trace_id: Any = None
    traceId: Any = None  # noqa: N815 - the name on the wire


_DECODER: Final = msgspec.json.Decoder(_Json)


def json_facts(body: bytes) -> tuple[int | None, str | None, object]:
    """Return (severity number, trace id, written time) of a JSON body; Nones where it is not JSON."""
    try:
        line = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, None, None
    severity = severity_of(line.level) or severity_of(line.severity) or severity_of(line.lvl)
    trace = line.trace_id or line.traceId
    trace_id = trace.lower() if isinstance(trace, str) and _TRACE.match(trace) else None
    return severity, trace_id, line.time or line.timestamp or line.ts


def klog_severity(body: bytes) -> int | None:
    """Return the severity of a klog line (``I1121 21:08:56.089641 ...``), None for anything else."""
    if len(body) > 20 and body[1:5].isdigit() and body[5:6] == b" " and body[8:9] == b":":
        return _KLOG.get(body[0])
    return None


def parse(line: bytes) -> Fields:
    """Return what a line of a plain file says."""
    fields = Fields(parser=PARSER)
    if line[:1] == b"{":
        fields.severity_number, fields.trace_id, written = json_facts(line)
        time = rfc3339(written)
        if time is not None:
            fields.time_unix_nano, fields.time_uncertainty_ns = time
    else:
        fields.severity_number = klog_severity(line)
    return fields

"""JSON lines of applications: level, trace id and time, under the names that loggers give them.

Every logger has its own words. Names are tried in a fixed order and the first that says something counts; of a key
that stands twice the last counts, for columns and attributes alike.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

import msgspec

from ingest.parse import lenient
from ingest.parse.severity import FORMS, PYTHON, numbered, of_otel, of_syslog, severity_of
from ingest.parse.times import Time, of_json

_TRACE: Final = re.compile(r"[0-9a-fA-F]{32}\Z")
_LOWER_TRACE: Final = re.compile(r"[0-9a-f]{32}\Z").match
_FORM: Final = FORMS.get
_PARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_GOOGLE: Final = re.compile(r"projects/[^/]+/traces/([0-9a-f]{32})\Z")


class _Line(msgspec.Struct):
    """The fields that loggers write, whatever type they chose."""

    level: Any = None
    severity: Any = None
    lvl: Any = None
    levelname: Any = None
    loglevel: Any = None
    serilog_level: Any = msgspec.field(default=None, name="@l")
    ecs_level: Any = msgspec.field(default=None, name="log.level")
    dotnet_level: Any = msgspec.field(default=None, name="LogLevel")
    go_level: Any = msgspec.field(default=None, name="Level")
    mongo_level: Any = msgspec.field(default=None, name="s")
    otel_text: Any = msgspec.field(default=None, name="SeverityText")
    otel_number: Any = msgspec.field(default=None, name="SeverityNumber")
    otel_number_lower: Any = msgspec.field(default=None, name="severity_number")
    python_number: Any = msgspec.field(default=None, name="levelno")
    journald: Any = msgspec.field(default=None, name="PRIORITY")
    gelf: Any = msgspec.field(default=None, name="short_message")
    ecs_log: Any = msgspec.field(default=None, name="log")
    time: Any = None
    ts: Any = None
    timestamp: Any = None
    at_timestamp: Any = msgspec.field(default=None, name="@timestamp")
    serilog_time: Any = msgspec.field(default=None, name="@t")
    mongo_time: Any = msgspec.field(default=None, name="t")
    log4j_time: Any = msgspec.field(default=None, name="timeMillis")
    dotnet_time: Any = msgspec.field(default=None, name="Timestamp")
    datetime: Any = None
    trace_id: Any = None
    trace_id_camel: Any = msgspec.field(default=None, name="traceId")
    trace_id_upper: Any = msgspec.field(default=None, name="traceID")
    trace_id_dotted: Any = msgspec.field(default=None, name="trace.id")
    trace_id_dotnet: Any = msgspec.field(default=None, name="TraceId")
    trace_id_serilog: Any = msgspec.field(default=None, name="@tr")
    trace_id_otel: Any = msgspec.field(default=None, name="otelTraceID")
    trace_parent: Any = msgspec.field(default=None, name="traceparent")
    trace_google: Any = msgspec.field(default=None, name="logging.googleapis.com/trace")


class _Short(msgspec.Struct, gc=False):
    """What most loggers write."""

    level: Any = None
    trace_id: Any = None


_SHORT: Final = msgspec.json.Decoder(_Short).decode
#: A fraction keeps its digits; a JSON number of application logs is no float before it has to be.
_DECODER: Final = msgspec.json.Decoder(_Line, float_hook=Decimal)


def severity_and_trace(body: bytes) -> tuple[int | None, str | None]:
    """Return (severity number, trace id) of a JSON body; Nones where it is none."""
    # What most lines say is found by a decoder that knows two names, in half the time. Classes are compared because
    # that is what costs least.
    try:
        short = _SHORT(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _told(decode(body))
    level, named = short.level, short.trace_id
    severity = _FORM(level) if level.__class__ is str else None
    if severity is not None:
        if named.__class__ is str and _LOWER_TRACE(named):
            return severity, named
        if b"race" not in body and b"@tr" not in body:
            return severity, None
    return _told(decode(body))


def decode(body: bytes) -> _Line | None:
    """Return a JSON line, None where it is none."""
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ArithmeticError):
        return lenient.convert(body, _Line)


def _told(line: _Line | None) -> tuple[int | None, str | None]:
    return (_severity(line), _trace(line)) if line is not None else (None, None)


def time_of(body: bytes) -> Time | None:
    """Return the time that a JSON body says it was written at."""
    line = decode(body)
    if line is None:
        return None
    mongo = line.mongo_time.get("$date") if isinstance(line.mongo_time, dict) else line.mongo_time
    written = (
        line.time, line.ts, line.timestamp, line.at_timestamp, line.serilog_time, line.dotnet_time, line.datetime,
        line.log4j_time, mongo,
    )  # fmt: skip
    return next((time for value in written if value is not None and (time := of_json(value)) is not None), None)


def _severity(line: _Line) -> int | None:
    words = (
        line.level, line.severity, line.lvl, line.levelname, line.loglevel, line.serilog_level, line.ecs_level,
        line.dotnet_level, line.go_level, line.otel_text,
    )  # fmt: skip
    for word in words:
        if word is not None and (severity := severity_of(word)) is not None:
            return severity
    if line.gelf is not None and (severity := of_syslog(line.level)) is not None:
        return severity
    if isinstance(line.mongo_level, str) and len(line.mongo_level) <= 2:
        # MongoDB writes D1 to D5 for its debug levels.
        return severity_of(line.mongo_level[:1])
    if isinstance(line.ecs_log, dict) and (severity := severity_of(line.ecs_log.get("level"))) is not None:
        return severity
    number = of_otel(line.otel_number) or of_otel(line.otel_number_lower) or numbered(line.python_number, PYTHON)
    return number or (of_syslog(int(line.journald)) if line.journald in _DIGITS else of_syslog(line.journald))


def _trace(line: _Line) -> str | None:
    named = (
        line.trace_id or line.trace_id_camel or line.trace_id_upper or line.trace_id_dotted or line.trace_id_dotnet
        or line.trace_id_serilog or line.trace_id_otel
    )  # fmt: skip
    if isinstance(named, str) and _TRACE.match(named):
        return named.lower()
    for value, pattern in ((line.trace_parent, _PARENT), (line.trace_google, _GOOGLE)):
        if isinstance(value, str) and (match := pattern.match(value)):
            return match[1]
    return None


_DIGITS: Final = ("0", "1", "2", "3", "4", "5", "6", "7")

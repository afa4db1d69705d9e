"""Falco alerts as its file output writes them in JSON, one a line, among start-up text."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ingest.parse import lenient
from ingest.parse.fields import Fields, text_or_none
from ingest.parse.severity import severity_of
from ingest.parse.times import Time, rfc3339

PARSER: Final = "falco/2"


class _Alert(msgspec.Struct):
    rule: str
    priority: str
    time: Any = None
    output_fields: dict[str, Any] | None = None


_DECODER: Final = msgspec.json.Decoder(_Alert)


def parse(line: bytes) -> Fields | None:
    """Return what an alert says, None where the line is none. Times are ns and stay integers."""
    try:
        alert = _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = lenient.convert(line, _Alert)
        if found is None:
            return None
        alert = found
    said = alert.output_fields or {}
    time = _time(said.get("evt.time")) or _time(said.get("evt.time.iso8601")) or rfc3339(alert.time)
    pod = _known(said.get("k8s.pod.name"))
    return Fields(
        parser=PARSER,
        event_name="falco.alert",
        time_unix_nano=time[0] if time else None,
        time_uncertainty_ns=time[1] if time else None,
        severity_number=severity_of(alert.priority),
        rule_name=text_or_none(alert.rule),
        user_name=_known(said.get("user.name")) or _known(said.get("ka.user.name")),
        event_action=_known(said.get("evt.type")) or _known(said.get("ka.verb")),
        object_resource="pods" if pod else None,
        object_namespace=_known(said.get("k8s.ns.name")),
        object_name=pod,
        source_address=_known(said.get("fd.cip")) or _known(said.get("ka.sourceips")),
    )


def _time(value: object) -> Time | None:
    """Return a time that is an integer of ns, later than 1973: what is smaller was written in another unit."""
    if isinstance(value, int) and not isinstance(value, bool) and 10**17 <= value < 2**63:
        return value, 1
    return None


def _known(value: object) -> str | None:
    """Return a field's text; Falco writes ``<NA>`` for what it does not know."""
    return None if value == "<NA>" else text_or_none(value)

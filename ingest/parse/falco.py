"""Falco alerts as its file output writes them in JSON, one a line, among start-up text."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ingest.parse.fields import Fields, severity_of, text_or_none
from ingest.parse.times import rfc3339

PARSER: Final = "falco/1"


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
        return None
    said = alert.output_fields or {}
    time = rfc3339(alert.time)
    pod = text_or_none(said.get("k8s.pod.name"))
    return Fields(
        parser=PARSER,
        event_name="falco.alert",
        time_unix_nano=time[0] if time else None,
        time_uncertainty_ns=time[1] if time else None,
        severity_number=severity_of(alert.priority),
        rule_name=text_or_none(alert.rule),
        user_name=text_or_none(said.get("user.name")),
        event_action=text_or_none(said.get("evt.type")),
        object_resource="pods" if pod else None,
        object_namespace=text_or_none(said.get("k8s.ns.name")),
        object_name=pod,
    )

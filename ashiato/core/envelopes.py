"""Envelopes of audit events: what clouds and webhooks put around the events of a kube-apiserver. Pure.

``EventList`` (webhook), ``logEvents`` of a CloudWatch subscription and a single event of CloudWatch (EKS),
``properties.log`` of Azure Monitor alone or in ``records`` (AKS). The events inside are objects, or text of objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

API_GROUP: Final = "audit.k8s.io/"
EVENTS_MAX: Final = 1024
"""Events of one line that are looked at: a subscription's record is below 1 MiB."""
_DECODER: Final = msgspec.json.Decoder(dict[str, Any])


def events_in(outer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the audit events inside an envelope, in their order; of what is none, nothing."""
    for count, event in enumerate(_events(outer)):
        if count == EVENTS_MAX:
            return
        yield event


def is_audit(event: dict[str, Any]) -> bool:
    """Tell whether an object is an audit event, or holds one."""
    version = event.get("apiVersion")
    if ("auditID" in event and "stage" in event) or (isinstance(version, str) and version.startswith(API_GROUP)):
        return True
    payload = event.get("protoPayload")
    if isinstance(payload, dict) and payload.get("serviceName") == "k8s.io":
        return True
    return any("auditID" in inner or "verb" in inner for inner in events_in(event))


def _events(outer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if outer.get("kind") == "EventList" and isinstance(outer.get("items"), list):
        yield from (item for item in outer["items"] if isinstance(item, dict) and ("auditID" in item or "verb" in item))
    elif isinstance(outer.get("logEvents"), list):
        yield from _inner(event.get("message") for event in outer["logEvents"] if isinstance(event, dict))
    elif isinstance(outer.get("records"), list):
        yield from _inner(_azure(record) for record in outer["records"] if isinstance(record, dict))
    elif (log := _azure(outer)) is not None:
        yield from _inner((log,))
    elif isinstance(outer.get("message"), str) and '"auditID"' in outer["message"]:
        yield from _inner((outer["message"],))


def _azure(record: dict[str, Any]) -> object:
    properties = record.get("properties")
    return properties.get("log") if isinstance(properties, dict) else None


def _inner(values: Iterator[object] | tuple[object, ...]) -> Iterator[dict[str, Any]]:
    for value in values:
        if isinstance(value, dict):
            yield value
        elif isinstance(value, str) and value.lstrip().startswith("{"):
            try:
                yield _DECODER.decode(value)
            except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
                continue

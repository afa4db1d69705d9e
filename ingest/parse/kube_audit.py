"""kube-apiserver audit events (audit.k8s.io/v1 and v1beta1), one JSON object a line, alone or in an envelope.

Envelopes are what clouds and webhooks put around events: ``EventList``, CloudWatch (EKS), Cloud Logging (GKE) and
Azure Monitor (AKS). A line stays one row, however many events are in it: the columns say what all of them agree on,
and the attributes of the body (``core.attributes``) hold every one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from ashiato.core.envelopes import API_GROUP, events_in
from ingest.parse import gke_audit, lenient
from ingest.parse.fields import Fields, int32_or_none, text_or_none
from ingest.parse.times import in_utc

PARSER: Final = "audit/2"


class _User(msgspec.Struct):
    username: Any = None


class _ObjectRef(msgspec.Struct):
    resource: Any = None
    subresource: Any = None
    namespace: Any = None
    name: Any = None


class _Status(msgspec.Struct):
    code: Any = None


class _Metadata(msgspec.Struct):
    creationTimestamp: Any = None  # noqa: N815 - the name on the wire


class _Event(msgspec.Struct):
    kind: Any = None
    apiVersion: Any = None  # noqa: N815 - the name on the wire
    stage: Any = None
    auditID: Any = None  # noqa: N815 - the name on the wire
    verb: Any = None
    user: _User | None = None
    sourceIPs: Any = None  # noqa: N815 - the name on the wire
    objectRef: _ObjectRef | None = None  # noqa: N815 - the name on the wire
    responseStatus: _Status | None = None  # noqa: N815 - the name on the wire
    requestReceivedTimestamp: Any = None  # noqa: N815 - the name on the wire
    stageTimestamp: Any = None  # noqa: N815 - the name on the wire
    timestamp: Any = None
    metadata: _Metadata | None = None


_DECODER: Final = msgspec.json.Decoder(_Event)
_ANY: Final = msgspec.json.Decoder(dict[str, Any])


def parse(line: bytes) -> Fields | None:
    """Return what an audit event says, None where the line is none.

    The time is that of the stage (``stageTimestamp``), so that the moment an exec begins (ResponseStarted) and the
    moment it ends stand apart; where there is none, that of the request.
    """
    try:
        event = _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _of_other(line)
    return _of_event(event) or _of_other(line)


def _of_other(line: bytes) -> Fields | None:
    """Return the fields of an envelope, or of an event that only the slow way can read."""
    try:
        decoded: dict[str, Any] | None = _ANY.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decoded = lenient.convert(line, dict[str, Any])
    if decoded is None:
        return None
    if (itself := _of_object(decoded)) is not None:
        return itself
    if (found := gke_audit.parse(decoded)) is not None:
        return found
    inner = [_of_object(event) for event in events_in(decoded)]
    told = [fields for fields in inner if fields is not None]
    return _agreed(told) if told and len(told) == len(inner) else None


def _of_object(event: dict[str, Any]) -> Fields | None:
    try:
        return _of_event(msgspec.convert(event, _Event))
    except (msgspec.ValidationError, RecursionError):
        return None


def _of_event(event: _Event) -> Fields | None:
    if not _is_event(event):
        return None
    created = event.metadata.creationTimestamp if event.metadata else None
    written = (event.stageTimestamp, event.requestReceivedTimestamp, event.timestamp, created)
    time = next((time for value in written if value is not None and (time := in_utc(value)) is not None), None)
    ref = event.objectRef or _ObjectRef()
    resource, subresource = text_or_none(ref.resource), text_or_none(ref.subresource)
    addresses = event.sourceIPs if isinstance(event.sourceIPs, list) else []
    return Fields(
        parser=PARSER,
        event_name="k8s.audit",
        time_unix_nano=time[0] if time else None,
        time_uncertainty_ns=time[1] if time else None,
        audit_id=text_or_none(event.auditID),
        audit_stage=text_or_none(event.stage),
        user_name=text_or_none(event.user.username) if event.user else None,
        event_action=text_or_none(event.verb),
        object_resource=f"{resource}/{subresource}" if resource and subresource else resource,
        object_namespace=text_or_none(ref.namespace),
        object_name=text_or_none(ref.name),
        http_status_code=int32_or_none(event.responseStatus.code) if event.responseStatus else None,
        source_address=text_or_none(addresses[0]) if addresses else None,
    )


def _is_event(event: _Event) -> bool:
    """Tell whether it names itself one; old ones and items of a list name no version."""
    if event.kind == "Event" and isinstance(event.apiVersion, str) and event.apiVersion.startswith(API_GROUP):
        return True
    return bool(event.auditID and event.stage and isinstance(event.auditID, str) and isinstance(event.stage, str))


def _agreed(told: Sequence[Fields]) -> Fields:
    """Return what all events of a line say alike; its time is that of the first."""
    first = told[0]
    if len(told) == 1:
        return first
    times = [fields.time_unix_nano for fields in told if fields.time_unix_nano is not None]
    agreed = {
        name: value
        for name in Fields.__struct_fields__
        if all(getattr(fields, name) == (value := getattr(first, name)) for fields in told)
    }
    found = Fields(**{**agreed, "parser": PARSER})
    if times:
        resolution = max(fields.time_uncertainty_ns or 0 for fields in told)
        found.time_unix_nano = min(times)
        found.time_uncertainty_ns = min(max(max(times) - min(times), resolution), 2**63 - 1)
    return found

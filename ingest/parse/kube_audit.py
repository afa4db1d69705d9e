"""kube-apiserver audit events (audit.k8s.io/v1 and v1beta1), one JSON object a line."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ingest.parse.fields import Fields, int32_or_none, text_or_none
from ingest.parse.times import rfc3339

PARSER: Final = "audit/1"


class _User(msgspec.Struct):
    username: Any = None


class _ObjectRef(msgspec.Struct):
    resource: Any = None
    subresource: Any = None
    namespace: Any = None
    name: Any = None


class _Status(msgspec.Struct):
    code: Any = None


class _Event(msgspec.Struct):
    stage: str
    auditID: str  # noqa: N815 - the name on the wire
    verb: Any = None
    user: _User | None = None
    sourceIPs: Any = None  # noqa: N815 - the name on the wire
    objectRef: _ObjectRef | None = None  # noqa: N815 - the name on the wire
    responseStatus: _Status | None = None  # noqa: N815 - the name on the wire
    requestReceivedTimestamp: Any = None  # noqa: N815 - the name on the wire
    stageTimestamp: Any = None  # noqa: N815 - the name on the wire


_DECODER: Final = msgspec.json.Decoder(_Event)


def parse(line: bytes) -> Fields | None:
    """Return what an audit event says, None where the line is none.

    The time is that of the stage (``stageTimestamp``), so that the moment an exec begins (ResponseStarted) and the
    moment it ends stand apart; where there is none, that of the request.
    """
    try:
        event = _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not event.auditID or not event.stage:
        return None
    time = rfc3339(event.stageTimestamp) or rfc3339(event.requestReceivedTimestamp)
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

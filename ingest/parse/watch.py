"""Kubernetes watch streams of pods and events, one watch event a line (Kubernetes API concepts, watches)."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ingest.parse.fields import Fields, text_or_none
from ingest.parse.times import rfc3339

PARSER: Final = "watch/1"


class _Watch(msgspec.Struct):
    type: str
    object: dict[str, Any]


_DECODER: Final = msgspec.json.Decoder(_Watch)
_TYPES: Final = frozenset(("ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"))


def parse(line: bytes) -> Fields | None:
    """Return what a watch event says, None where the line is none."""
    try:
        event = _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if event.type not in _TYPES:
        return None
    kind = event.object.get("kind")
    if kind == "Event" and event.type != "BOOKMARK":
        return _event(event)
    if kind == "Pod" and event.type != "BOOKMARK":
        return _pod(event)
    name = f"k8s.{kind.lower()}" if isinstance(kind, str) and kind else "k8s.watch"
    metadata = _dict(event.object.get("metadata"))
    return Fields(
        parser=PARSER,
        event_name=f"{name}.{event.type.lower()}",
        event_action=event.type,
        object_namespace=text_or_none(metadata.get("namespace")),
        object_name=text_or_none(metadata.get("name")),
    )


def _pod(event: _Watch) -> Fields:
    metadata = _dict(event.object.get("metadata"))
    time = _pod_time(event.type, event.object, metadata)
    return Fields(
        parser=PARSER,
        event_name=f"k8s.pod.{event.type.lower()}",
        event_action=event.type,
        time_unix_nano=time[0] if time else None,
        time_uncertainty_ns=time[1] if time else None,
        object_resource="pods",
        object_namespace=text_or_none(metadata.get("namespace")),
        object_name=text_or_none(metadata.get("name")),
    )


def _pod_time(type_: str, pod: dict[str, Any], metadata: dict[str, Any]) -> tuple[int, int] | None:
    """Return the most telling time: deletion, creation, else the newest that the status knows."""
    deleted = rfc3339(metadata.get("deletionTimestamp"))
    if deleted is not None:
        # The API server stamps the end of the grace period. The request came that much earlier; the pod was gone
        # somewhere in between, and the uncertainty says so.
        grace = metadata.get("deletionGracePeriodSeconds")
        grace_ns = grace * 1_000_000_000 if isinstance(grace, int) and 0 <= grace < 86_400 else 0
        return max(deleted[0] - grace_ns, -(2**63)), max(deleted[1], grace_ns)
    created = rfc3339(metadata.get("creationTimestamp"))
    if type_ == "ADDED":
        return created
    status = _dict(pod.get("status"))
    times = [created] + [
        rfc3339(condition.get("lastTransitionTime"))
        for condition in _list(status.get("conditions"))
        if isinstance(condition, dict)
    ]
    for container in _list(status.get("containerStatuses")):
        for state in (_dict(container).get("state"), _dict(container).get("lastState")):
            for phase in _dict(state).values():
                times += [rfc3339(_dict(phase).get("startedAt")), rfc3339(_dict(phase).get("finishedAt"))]
    return max((time for time in times if time is not None), default=None)


def _event(event: _Watch) -> Fields:
    involved = _dict(event.object.get("involvedObject") or event.object.get("regarding"))
    time = next(
        (
            found
            for name in ("lastTimestamp", "eventTime", "firstTimestamp", "deprecatedLastTimestamp")
            if (found := rfc3339(event.object.get(name))) is not None
        ),
        None,
    )
    kind = text_or_none(involved.get("kind"))
    return Fields(
        parser=PARSER,
        event_name=f"k8s.event.{text_or_none(event.object.get('reason')) or 'unknown'}",
        event_action=event.type,
        time_unix_nano=time[0] if time else None,
        time_uncertainty_ns=time[1] if time else None,
        severity_number=13 if event.object.get("type") == "Warning" else 9,
        object_resource=f"{kind.lower()}s" if kind else None,
        object_namespace=text_or_none(involved.get("namespace")),
        object_name=text_or_none(involved.get("name")),
    )


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []

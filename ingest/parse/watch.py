"""Kubernetes watch streams, one watch event a line: as others saved them, and as ``collector watch`` writes them.

What the collector adds (``docs/formats/watch.md``) is optional: when the line was observed, of which resource it is,
how it became known, and statements of its own: SYNC, GAP, REFUSED and FILE. A GAP becomes a gap row.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ashiato.core.record import RowFlags
from ingest.parse.fields import Fields, dict_or_empty, text_or_none, unix_nano
from ingest.parse.times import rfc3339

PARSER: Final = "watch/2"


class _Watch(msgspec.Struct):
    type: str
    object: dict[str, Any]
    resource: Any = None
    source: Any = None
    observed_time_unix_nano: Any = None
    end_unknown: Any = None


_DECODER: Final = msgspec.json.Decoder(_Watch)
_TYPES: Final = frozenset(("ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"))
_STATEMENTS: Final = {"SYNC": "Sync", "GAP": "Gap", "REFUSED": "Refused", "FILE": "File"}
_LATE_NS: Final = 60_000_000_000
"""A change that was observed this long after the newest time that its object tells is one that tells none."""
_OBSERVED_NS: Final = 1_000_000_000
"""How long a change may be on its way to the watcher."""
_WARN: Final = 13
_ERROR: Final = 17


def parse(line: bytes) -> Fields | None:
    """Return what a watch event says, None where the line is none."""
    try:
        event = _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    kind = event.object.get("kind")
    if event.type in _STATEMENTS:
        return _statement(event) if kind == _STATEMENTS[event.type] else None
    if event.type not in _TYPES:
        return None
    fields = _object(event, kind)
    if event.type != "BOOKMARK" and (unseen := _unseen(event.end_unknown)) is not None:
        fields.time_unix_nano, fields.time_uncertainty_ns = unseen
    return fields


def _object(event: _Watch, kind: object) -> Fields:
    if kind == "Event" and event.type != "BOOKMARK":
        return _event(event)
    name = f"k8s.{kind.lower()}" if isinstance(kind, str) and kind else "k8s.watch"
    metadata = dict_or_empty(event.object.get("metadata"))
    is_pod = kind == "Pod" and event.type != "BOOKMARK"
    time = _pod_time(event.type, event.object, metadata) if is_pod else _time(event, metadata)
    if event.source == "watch" and event.type == "MODIFIED":
        time = _observed(event, time)
    return Fields(
        parser=PARSER,
        event_name=f"{name}.{event.type.lower()}",
        event_action=event.type,
        time_unix_nano=time[0] if time else None,
        time_uncertainty_ns=time[1] if time else None,
        object_resource="pods" if is_pod else text_or_none(event.resource),
        object_namespace=text_or_none(metadata.get("namespace")),
        object_name=text_or_none(metadata.get("name")),
    )


def _statement(event: _Watch) -> Fields:
    """Return what the collector says of its watch."""
    is_gap = event.type == "GAP"
    observed = unix_nano(event.observed_time_unix_nano)
    time = (observed, 1) if observed is not None else None
    if is_gap:
        time = _unseen(event.object)
    return Fields(
        parser=PARSER,
        event_name="ashiato.gap" if is_gap else f"k8s.watch.{event.type.lower()}",
        event_action=event.type,
        time_unix_nano=time[0] if time else None,
        time_uncertainty_ns=time[1] if time else None,
        severity_number={"GAP": _WARN, "REFUSED": _ERROR}.get(event.type),
        object_resource=text_or_none(event.resource),
        flags=int(RowFlags.GAP) if is_gap else 0,
    )


def _time(event: _Watch, metadata: dict[str, Any]) -> tuple[int, int] | None:
    """Return when an object that is no pod was made or went; of lines of the collector alone, for others do not say."""
    if event.resource is None:
        return None
    name = {"ADDED": "creationTimestamp", "DELETED": "deletionTimestamp"}.get(event.type, "")
    return rfc3339(metadata.get(name)) or _observed(event, None)


def _observed(event: _Watch, told: tuple[int, int] | None) -> tuple[int, int] | None:
    """Return when a change was observed, where the object does not tell of a moment just before."""
    observed = unix_nano(event.observed_time_unix_nano)
    if observed is None or (told is not None and told[0] >= observed - _LATE_NS):
        return told
    return max(observed - _OBSERVED_NS, 0), _OBSERVED_NS


def _unseen(told: object) -> tuple[int, int] | None:
    """Return a range of time as its beginning and its length."""
    start, end = (unix_nano(dict_or_empty(told).get(name)) for name in ("from_unix_nano", "to_unix_nano"))
    return (start, end - start) if start is not None and end is not None and start <= end else None


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
    status = dict_or_empty(pod.get("status"))
    times = [created] + [
        rfc3339(condition.get("lastTransitionTime"))
        for condition in _list(status.get("conditions"))
        if isinstance(condition, dict)
    ]
    for container in _list(status.get("containerStatuses")):
        for state in (dict_or_empty(container).get("state"), dict_or_empty(container).get("lastState")):
            for phase in dict_or_empty(state).values():
                times += [
                    rfc3339(dict_or_empty(phase).get("startedAt")),
                    rfc3339(dict_or_empty(phase).get("finishedAt")),
                ]
    return max((time for time in times if time is not None), default=None)


def _event(event: _Watch) -> Fields:
    involved = dict_or_empty(event.object.get("involvedObject") or event.object.get("regarding"))
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


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []

"""The timeline: what each row is in the story of a pod, a person or a node, and which row tells an audit event.

Pure: rows come in the total order and stay in it; nothing is dropped here. An audit event is several rows, one a
stage; for people one of them tells it, and the others point at that one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final

import pyarrow as pa

from ashiato.core.ids import Kind
from ashiato.core.record import RowFlags
from ashiato.core.table import uids

KIND_FIELD: Final = "ashiato.timeline.kind"
TOLD_BY_FIELD: Final = "ashiato.timeline.told_by"
"""Uid of the row that tells the same audit event; absent on that row itself."""

EXEC_RESOURCES: Final = ("pods/exec", "pods/attach", "pods/portforward", "pods/ephemeralcontainers")
"""Ways into a running pod."""


class TimelineKind(StrEnum):
    """What an entry is."""

    OUTPUT = "output"
    EXEC = "exec"
    AUDIT = "audit"
    ALERT = "alert"
    LIFECYCLE = "lifecycle"
    EVENT = "event"
    GAP = "gap"


_OF_SOURCE: Final[Mapping[str, TimelineKind]] = {
    Kind.CONTAINER: TimelineKind.OUTPUT,
    Kind.FILE: TimelineKind.OUTPUT,
    Kind.FALCO: TimelineKind.ALERT,
    Kind.AUDITD: TimelineKind.AUDIT,
    Kind.ACCESS: TimelineKind.AUDIT,
    Kind.LEDGER: TimelineKind.LIFECYCLE,
    Kind.WATCH: TimelineKind.LIFECYCLE,
    Kind.AUDIT: TimelineKind.AUDIT,
}

_STAGES: Final = ("RequestReceived", "ResponseStarted", "Panic", "ResponseComplete")
"""From the least to the most telling. What goes on for long, as an exec does, is told by the moment it begins."""
_STAGES_OF_EXEC: Final = ("RequestReceived", "Panic", "ResponseComplete", "ResponseStarted")


def kinds(rows: pa.Table) -> list[TimelineKind]:
    """Return what each row is."""
    columns = (rows[name].to_pylist() for name in ("source_kind", "object_resource", "event_name", "flags"))
    return [_kind(*values) for values in zip(*columns, strict=True)]


def told_by(rows: pa.Table) -> list[str | None]:
    """Return for each row the uid of the row that tells the same audit event, None where it is the row itself."""
    ids = rows["audit_id"].to_pylist()
    columns = (rows[name].to_pylist() for name in ("source_kind", "object_resource", "audit_stage"))
    names = uids(rows)
    best: dict[str, tuple[int, str]] = {}
    of_row: list[str | None] = []
    for audit_id, name, source_kind, resource, stage in zip(ids, names, *columns, strict=True):
        event = audit_id if audit_id and source_kind == Kind.AUDIT else None
        of_row.append(event)
        if event is not None:
            rank = _rank(_STAGES_OF_EXEC if resource in EXEC_RESOURCES else _STAGES, stage)
            if event not in best or rank > best[event][0]:
                best[event] = (rank, name)
    return [
        teller if event is not None and (teller := best[event][1]) != name else None
        for event, name in zip(of_row, names, strict=True)
    ]


def _kind(source_kind: str | None, resource: str | None, event_name: str | None, flags: int | None) -> TimelineKind:
    if (flags or 0) & RowFlags.GAP:
        return TimelineKind.GAP
    if source_kind == Kind.AUDIT and resource in EXEC_RESOURCES:
        return TimelineKind.EXEC
    if source_kind == Kind.WATCH and (event_name or "").startswith("k8s.event."):
        return TimelineKind.EVENT
    return _OF_SOURCE.get(source_kind or "", TimelineKind.OUTPUT)


def _rank(stages: Sequence[str], stage: str | None) -> int:
    return stages.index(stage) if stage in stages else -1

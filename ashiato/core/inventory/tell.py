"""From rows to what they say of objects: watch lines, docker's own facts, audit events, and the paths of logs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import msgspec
import pyarrow as pa

from ashiato.core.ids import Kind, Source
from ashiato.core.inventory import from_audit, from_watch
from ashiato.core.inventory.records import APART, Field, Line, Sighting, Told, WatchGap
from ashiato.core.query import And, Not, Or, Term, Wildcard
from ashiato.core.query import Node as Predicate
from ashiato.core.table import uids

COLUMNS: Final = (
    "file_id", "offset_start", "length", "join_offset", "source", "source_kind", "observed_time_unix_nano",
    "time_unix_nano", "time_uncertainty_ns", "k8s_cluster_name", "event_action", "body",
)  # fmt: skip
"""What of a row is read."""


@dataclass(slots=True)
class Heard:
    """What rows say."""

    sightings: list[Sighting] = field(default_factory=list)
    gaps: list[WatchGap] = field(default_factory=list)
    unread: int = 0
    """Rows of these kinds that are not what they should be: a line that was cut, or damaged."""


def wanted() -> Predicate:
    """Return the predicate of the rows that may say something: all others need not be read."""
    acts = Or(nodes=tuple(Term(field="event_action", value=verb) for verb in from_audit.VERBS))
    objects = Or(
        nodes=(
            *(Term(field="object_resource", value=name) for name in from_audit.RESOURCES),
            *(Wildcard(field="object_resource", pattern=pattern) for pattern in ("pods/*", "serviceaccounts/token")),
            # An envelope of several events names no resource.
            Not(node=Wildcard(field="object_resource", pattern="*")),
        )
    )
    spoke = Wildcard(field="user_name", pattern="system:serviceaccount:*")
    audit = And(nodes=(Term(field="source_kind", value=Kind.AUDIT), Or(nodes=(And(nodes=(acts, objects)), spoke))))
    return Or(nodes=(Term(field="source_kind", value=Kind.WATCH), audit))


def hear(rows: pa.Table) -> Heard:
    """Return what rows say; a row that says nothing of objects is passed over."""
    heard = Heard()
    names = ("source_kind", "source", "k8s_cluster_name", "observed_time_unix_nano", "time_unix_nano")
    columns = (rows[name].to_pylist() for name in (*names, "time_uncertainty_ns", "event_action", "body"))
    for uid, (kind, source, cluster, observed, time, uncertainty, action, body) in zip(
        uids(rows), zip(*columns, strict=True), strict=True
    ):
        line = Line(uid, source or "", cluster or "", observed, time, uncertainty or 0, action or "", body or "")
        try:
            if kind == Kind.WATCH:
                _take(from_watch.read(line), heard)
            elif kind == Kind.AUDIT:
                heard.sightings += from_audit.read(line)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            heard.unread += 1
    return heard


def of_log(
    source: Source, restart: int, *, row: str, observed: int, first: int, last: int
) -> Sighting:  # fmt: skip
    """Return what a container's log says by being there: its path, and from when to when it was written."""
    name = f"{source.namespace}/{source.pod}"
    run = f"{source.container}{APART}{max(restart, 0)}"
    says: list[tuple[Field, str, int]] = [
        (Field.NAME, name, first), (Field.CLUSTER, source.cluster, first), (Field.NODE, source.node, first),
        (Field.NODE, source.node, last), (Field.LOGGED, run, first), (Field.LOGGED, run, last),
        (Field.SEEN, "", first), (Field.SEEN, "", last),
    ]  # fmt: skip
    return Sighting(f"pod:{source.pod_uid}", row, observed, Told.PATH, tuple(says))


def _take(told: Iterable[Sighting | WatchGap], heard: Heard) -> None:
    for one in told:
        if isinstance(one, WatchGap):
            heard.gaps.append(one)
        else:
            heard.sightings.append(one)

"""The row: one physical line of a log file (CONTRACTS section 4), and its names at the rim.

Columns carry underscores in the table and OpenTelemetry's dotted names at the rim. The names come from the
semantic conventions release pinned below; names under ``ashiato.`` are ours.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntFlag
from typing import Final, Literal

from ashiato.core.ids import join_uid, record_uid

SEMCONV_RELEASE: Final = "1.38.0"
"""https://github.com/open-telemetry/semantic-conventions: the release whose names are used."""

ROW_VERSION: Final = 1

ColumnType = Literal["string", "int32", "int64", "binary"]


class RowFlags(IntFlag):
    """What is unusual about a row."""

    SHADOW = 1
    EARLY = 2
    """Archived before the bytes in front of it were held."""
    UNTERMINATED = 4
    """The line has no newline."""
    QUARANTINED = 8
    """The parser of its recognised kind refused it; the bytes are kept and searchable as text."""
    MISDATED = 16
    IMPORTED = 32
    GAP = 64
    """The row states bytes or time known missing."""
    RESENT = 128
    FORKED = 256
    """Its bytes contradict what is held of the same file at the same offset (J4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the table."""

    name: str
    type: ColumnType
    rim: str
    """Its name in JSON, queries and documents."""
    what: str


def _column(name: str, type_: ColumnType, rim: str, what: str) -> Column:
    return Column(name=name, type=type_, rim=rim, what=what)


COLUMNS: Final = (
    _column("file_id", "string", "ashiato.file.id", "the file's ULID"),
    _column("source", "string", "ashiato.source", "the source the file belongs to"),
    _column("source_kind", "string", "ashiato.source.kind", "what the source is: container, audit, falco ..."),
    _column("offset_start", "int64", "ashiato.offset", "byte offset of the line's first byte"),
    _column("length", "int32", "ashiato.length", "bytes of the line, newline included"),
    _column("join_offset", "int64", "ashiato.join_offset", "offset of the first part, where the row closes a join"),
    _column("time_unix_nano", "int64", "time_unix_nano", "event time, ns since 1970 UTC; null where none"),
    _column("time_uncertainty_ns", "int64", "ashiato.time_uncertainty_ns", "resolution of the event time"),
    _column("observed_time_unix_nano", "int64", "observed_time_unix_nano", "when the node read the line"),
    _column("k8s_cluster_name", "string", "k8s.cluster.name", "cluster"),
    _column("k8s_node_name", "string", "k8s.node.name", "node"),
    _column("k8s_namespace_name", "string", "k8s.namespace.name", "namespace of the container, or of the gap's"),
    _column("k8s_pod_name", "string", "k8s.pod.name", "pod"),
    _column("k8s_pod_uid", "string", "k8s.pod.uid", "pod uid"),
    _column("k8s_container_name", "string", "k8s.container.name", "container"),
    _column("k8s_container_restart_count", "int32", "k8s.container.restart_count", "restart number of the file"),
    _column("log_iostream", "string", "log.iostream", "stdout or stderr"),
    _column("part", "string", "ashiato.part", "F whole or closing, P partial, C a piece of a long line"),
    _column("severity_number", "int32", "severity_number", "OTel severity 1-24; null where unknown"),
    _column("event_name", "string", "event_name", "kind of event: k8s.audit, falco.alert, ashiato.gap ..."),
    _column("parser", "string", "ashiato.parser", "parser name/version;rendering profile"),
    _column("audit_id", "string", "ashiato.audit.id", "auditID; auditd serial"),
    _column("audit_stage", "string", "ashiato.audit.stage", "stage of an audit event"),
    _column("user_name", "string", "user.name", "who acted"),
    _column("event_action", "string", "event.action", "verb of an audit event; type of a watch event"),
    _column("object_resource", "string", "ashiato.object.resource", "resource, with subresource as pods/exec"),
    _column("object_namespace", "string", "ashiato.object.namespace", "namespace of the object acted on"),
    _column("object_name", "string", "ashiato.object.name", "name of the object acted on"),
    _column("http_status_code", "int32", "http.response.status_code", "status of the answer"),
    _column("source_address", "string", "source.address", "address that the actor came from"),
    _column("rule_name", "string", "security_rule.name", "rule that fired"),
    _column("trace_id", "string", "trace_id", "trace id, lower-case hex"),
    _column("body", "string", "body", "text of the line, or of the joined record"),
    _column("raw", "binary", "log.record.original", "the bytes, where the columns do not render them exactly"),
    _column("flags", "int32", "ashiato.flags", "RowFlags"),
)  # fmt: skip

BY_NAME: Final = {column.name: column for column in COLUMNS}
BY_RIM: Final = {column.rim: column for column in COLUMNS}

UID_FIELD: Final = "log.record.uid"

#: Other people's names for the same things, read in queries only: ECS, kubectl's and everyday words.
ALIASES: Final[Mapping[str, str]] = {
    "@timestamp": "time_unix_nano",
    "time": "time_unix_nano",
    "timestamp": "time_unix_nano",
    "message": "body",
    "msg": "body",
    "log": "body",
    "stream": "log_iostream",
    "severity": "severity_number",
    "cluster": "k8s_cluster_name",
    "node": "k8s_node_name",
    "ns": "k8s_namespace_name",
    "namespace": "k8s_namespace_name",
    "pod": "k8s_pod_name",
    "uid": "k8s_pod_uid",
    "container": "k8s_container_name",
    "container.name": "k8s_container_name",
    "kubernetes.namespace": "k8s_namespace_name",
    "kubernetes.pod.name": "k8s_pod_name",
    "kubernetes.pod.uid": "k8s_pod_uid",
    "kubernetes.node.name": "k8s_node_name",
    "orchestrator.cluster.name": "k8s_cluster_name",
    "kind": "source_kind",
    "user": "user_name",
    "verb": "event_action",
    "resource": "object_resource",
    "object": "object_name",
    "code": "http_status_code",
    "source.ip": "source_address",
    "client.ip": "source_address",
    "rule": "rule_name",
    "rule.name": "rule_name",
    "trace.id": "trace_id",
    "auditID": "audit_id",
    "file": "file_id",
}


def column_of(field: str) -> Column | None:
    """Return the column that a field name means, whatever dialect it is in; None for a derived attribute."""
    return BY_RIM.get(field) or BY_NAME.get(field) or BY_NAME.get(ALIASES.get(field, ""))


def uid_of(row: Mapping[str, object]) -> str:
    """Return ``log.record.uid`` of a row given by column names.

    An empty row that closes a join at its file's end is named after the join's first part.
    """
    file_id, offset, joined = str(row["file_id"]), row["offset_start"], row.get("join_offset")
    if row["length"] == 0 and isinstance(joined, int):
        return join_uid(file_id, joined)
    assert isinstance(offset, int)
    return record_uid(file_id, offset)


def order_time(row: Mapping[str, object]) -> int:
    """Return the time that orders a row: its event time, else its reading time."""
    time = row["time_unix_nano"]
    value = time if time is not None else row["observed_time_unix_nano"]
    assert isinstance(value, int)
    return value


def order_key(row: Mapping[str, object]) -> tuple[int, str, str, int]:
    """Return the total order of answers: (time, node, file, offset)."""
    offset = row["offset_start"]
    assert isinstance(offset, int)
    return order_time(row), str(row["k8s_node_name"] or ""), str(row["file_id"]), offset


def to_document(row: Mapping[str, object]) -> dict[str, object]:
    """Return a row at the rim (CONTRACTS section 10).

    Flat, dotted names, nulls and empty strings left out, 64-bit integers as strings, flags by name, raw bytes
    as ``{"base64": ...}``, and ``log.record.uid``.
    """
    document: dict[str, object] = {UID_FIELD: uid_of(row)}
    for column in COLUMNS:
        value = row.get(column.name)
        if value is None or value == "":
            continue
        if column.name == "flags":
            assert isinstance(value, int)
            names = [flag.name.lower() for flag in RowFlags if value & flag and flag.name]
            if names:
                document[column.rim] = names
        elif column.type == "int64":
            document[column.rim] = str(value)
        elif isinstance(value, bytes):
            document[column.rim] = {"base64": base64.b64encode(value).decode()}
        else:
            document[column.rim] = value
    return document


def from_document(document: Mapping[str, object]) -> dict[str, object]:
    """Return the row (by column names, absent ones None) that :func:`to_document` gave ``document`` for."""
    row: dict[str, object] = {}
    for column in COLUMNS:
        value = document.get(column.rim)
        if column.name == "flags":
            names = value if isinstance(value, list) else []
            row[column.name] = int(sum(RowFlags[str(name).upper()] for name in names))
        elif value is None:
            row[column.name] = None
        elif column.type == "int64":
            row[column.name] = int(str(value))
        elif column.type == "binary":
            assert isinstance(value, Mapping)
            row[column.name] = base64.b64decode(str(value["base64"]))
        else:
            row[column.name] = value
    return row

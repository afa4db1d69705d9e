"""What each row is in a timeline, and which row tells an audit event."""

from __future__ import annotations

import pyarrow as pa
import pytest

from ashiato.core.record import RowFlags
from ashiato.core.table import SCHEMA, uids
from ashiato.core.timeline import TimelineKind, kinds, told_by


def rows(*given: dict[str, object]) -> pa.Table:
    filled = [
        {"file_id": "F", "offset_start": number, "length": 1, "flags": 0, "observed_time_unix_nano": 0, **row}
        for number, row in enumerate(given)
    ]
    return pa.Table.from_pylist(filled, schema=SCHEMA)


def stage(audit_id: str, name: str, resource: str = "pods") -> dict[str, object]:
    return {"source_kind": "audit", "audit_id": audit_id, "audit_stage": name, "object_resource": resource}


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"source_kind": "container"}, TimelineKind.OUTPUT),
        ({"source_kind": "falco"}, TimelineKind.ALERT),
        ({"source_kind": "audit", "object_resource": "pods"}, TimelineKind.AUDIT),
        ({"source_kind": "audit", "object_resource": "pods/exec"}, TimelineKind.EXEC),
        ({"source_kind": "audit", "object_resource": "pods/attach"}, TimelineKind.EXEC),
        ({"source_kind": "watch", "event_name": "k8s.pod.deleted"}, TimelineKind.LIFECYCLE),
        ({"source_kind": "watch", "event_name": "k8s.event.Killing"}, TimelineKind.EVENT),
        ({"source_kind": "ledger", "flags": int(RowFlags.GAP)}, TimelineKind.GAP),
        ({"source_kind": None}, TimelineKind.OUTPUT),
    ],
)
def test_a_row_is_what_its_source_and_its_fields_say(row: dict[str, object], kind: TimelineKind) -> None:
    assert kinds(rows(row)) == [kind]


def test_the_last_stage_tells_an_audit_event() -> None:
    table = rows(stage("a", "RequestReceived"), stage("b", "ResponseComplete"), stage("a", "ResponseComplete"))
    assert told_by(table) == [uids(table)[2], None, None]


def test_an_exec_is_told_by_the_moment_it_began() -> None:
    table = rows(stage("a", "ResponseStarted", "pods/exec"), stage("a", "ResponseComplete", "pods/exec"))
    assert told_by(table) == [None, uids(table)[0]]


def test_an_event_of_which_one_stage_is_known_is_told_by_it() -> None:
    assert told_by(rows(stage("a", "RequestReceived"), stage("b", "SomethingNew"))) == [None, None]


def test_rows_that_are_no_audit_events_tell_themselves() -> None:
    auditd: dict[str, object] = {"source_kind": "auditd", "audit_id": "7"}
    assert told_by(rows(auditd, auditd, {"source_kind": "container"})) == [None, None, None]


def test_a_timeline_of_nothing_is_nothing() -> None:
    assert kinds(rows()) == []
    assert told_by(rows()) == []

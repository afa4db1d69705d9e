"""What lines of ``collector watch`` become as rows; lines that others saved stay what they were."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ashiato.core.record import RowFlags
from ingest.parse import watch
from ingest.parse.fields import Fields

DAY = 1_795_564_800_000_000_000
"""2026-11-25T00:00:00Z"""
SECOND = 1_000_000_000


def parsed(type_: str, told: dict[str, Any], **beside: Any) -> Fields:
    fields = watch.parse(msgspec.json.encode({"type": type_, "object": told, **beside}))
    assert fields is not None
    return fields


def test_a_gap_of_the_watch_is_a_gap_row_over_its_time() -> None:
    told = {
        "kind": "Gap",
        "resource": "pods",
        "reason": "expired",
        "from_unix_nano": str(DAY),
        "to_unix_nano": str(DAY + 7),
    }
    fields = parsed("GAP", told, resource="pods", observed_time_unix_nano=str(DAY + 7))

    assert (fields.event_name, fields.flags, fields.object_resource) == ("ashiato.gap", int(RowFlags.GAP), "pods")
    assert (fields.time_unix_nano, fields.time_uncertainty_ns) == (DAY, 7)


def test_an_object_that_went_unseen_went_somewhere_in_between() -> None:
    metadata = {"name": "web-1", "namespace": "shop", "uid": "u1"}
    unseen = {"from_unix_nano": str(DAY), "to_unix_nano": str(DAY + 5 * SECOND)}
    fields = parsed(
        "DELETED", {"kind": "Pod", "metadata": metadata}, resource="pods", source="absence", end_unknown=unseen
    )

    assert (fields.event_name, fields.object_name) == ("k8s.pod.deleted", "web-1")
    assert (fields.time_unix_nano, fields.time_uncertainty_ns) == (DAY, 5 * SECOND)


@pytest.mark.parametrize(("told_s", "expected"), [(-10, (DAY - 10 * SECOND, SECOND)), (-3600, (DAY - SECOND, SECOND))])
def test_a_change_has_the_time_that_its_object_tells_of_it_else_when_it_was_observed(
    told_s: int, expected: tuple[int, int]
) -> None:
    time = {-10: "2026-11-24T23:59:50Z", -3600: "2026-11-24T23:00:00Z"}[told_s]
    pod = {"kind": "Pod", "metadata": {"name": "web-1"}, "status": {"conditions": [{"lastTransitionTime": time}]}}
    fields = parsed("MODIFIED", pod, resource="pods", source="watch", observed_time_unix_nano=str(DAY))

    assert (fields.time_unix_nano, fields.time_uncertainty_ns) == expected


def test_other_objects_are_rows_of_their_resource() -> None:
    node = {"kind": "Node", "metadata": {"name": "n1", "creationTimestamp": "2026-11-25T00:00:00Z"}}
    fields = parsed("ADDED", node, resource="nodes", source="list", observed_time_unix_nano=str(DAY + SECOND))

    assert (fields.event_name, fields.object_resource, fields.object_name) == ("k8s.node.added", "nodes", "n1")
    assert fields.time_unix_nano == DAY


@pytest.mark.parametrize(("type_", "kind"), [("SYNC", "Sync"), ("REFUSED", "Refused"), ("FILE", "File")])
def test_what_the_watch_says_of_itself_is_a_row(type_: str, kind: str) -> None:
    fields = parsed(type_, {"kind": kind}, resource="pods", observed_time_unix_nano=str(DAY))

    assert (fields.event_name, fields.time_unix_nano) == (f"k8s.watch.{type_.lower()}", DAY)
    assert fields.flags == 0


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"GAP","object":{"kind":"Pod"}}',
        b'{"type":"SYNC","object":{}}',
        b'{"type":"SYNCED","object":{"kind":"Sync"}}',
        b'{"type":"GAP","object":[]}',
    ],
)
def test_what_only_looks_like_a_statement_is_refused(line: bytes) -> None:
    assert watch.parse(line) is None


@pytest.mark.parametrize("odd", [None, 5, "x" * 5000, "9" * 5000, "-1", {}, ["1"], str(2**63)])
def test_odd_values_beside_the_object_stop_nothing(odd: Any) -> None:
    gap = {"kind": "Gap", "from_unix_nano": odd, "to_unix_nano": odd}
    pod = {"kind": "Pod", "metadata": {"name": "web-1"}}

    assert parsed("GAP", gap, resource=odd, observed_time_unix_nano=odd).time_unix_nano is None
    told = parsed("MODIFIED", pod, resource=odd, source="watch", observed_time_unix_nano=odd, end_unknown=odd)
    assert told.time_unix_nano is None


def test_a_line_that_others_saved_has_no_time_of_ours() -> None:
    fields = parsed("MODIFIED", {"kind": "Node", "metadata": {"name": "n1"}})

    assert (fields.time_unix_nano, fields.object_resource) == (None, None)

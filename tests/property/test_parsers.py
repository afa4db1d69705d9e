"""No line stops a parser: whatever a JSON value is in place of what is expected, the line is taken or refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from ashiato.core.ids import Kind, Source
from ashiato.core.layout import kind_of_content
from ashiato.core.ledger import Gap, Head, append
from ingest.parse import auditd, docker_json, falco, kube_audit, ledger_rows, watch
from ingest.parse.fields import Fields
from ingest.rows import build_rows
from tests.unit.ingest.files import WEB, admitted, chunk

_GAP: Final = append(
    Head(), Gap(source="container/c/n/ns/p/u/c", reason="unknown"), node="n", time_unix_nano=1, boot_nano=1
)[0]
_LINES: Final[dict[Kind, tuple[Any, ...]]] = {
    Kind.WATCH: (
        {"type": "MODIFIED", "object": {"kind": "Pod", "metadata": {"name": "a", "namespace": "b", "creationTimestamp":
         "2026-11-25T12:00:00Z"}, "status": {"conditions": [{"lastTransitionTime": "2026-11-25T12:00:00Z"}],
         "containerStatuses": [{"state": {"running": {"startedAt": "2026-11-25T12:00:00Z"}}, "lastState": {}}]}}},
        {"type": "DELETED", "object": {"kind": "Pod", "metadata": {"deletionTimestamp": "1677-09-21T00:12:45Z",
         "deletionGracePeriodSeconds": 80_000}}},
        {"type": "ADDED", "object": {"kind": "Event", "involvedObject": {"kind": "Pod"}, "reason": "x", "type": "y"}},
    ),
    Kind.FALCO: (
        {"rule": "r", "priority": "Error", "time": "2026-11-25T12:00:00.5Z", "output_fields": {"k8s.pod.name": "a"}},
    ),
    Kind.AUDIT: (
        {"auditID": "a", "stage": "ResponseComplete", "verb": "get", "user": {"username": "u"}, "sourceIPs": ["::1"],
         "objectRef": {"resource": "pods", "subresource": "exec", "name": "n"}, "responseStatus": {"code": 200},
         "stageTimestamp": "2026-11-25T12:00:00.5Z"},
    ),
    Kind.LEDGER: (json.loads(_GAP),),
    Kind.FILE: ({"level": "info", "ts": "2026-11-25T12:00:00.5Z", "trace_id": "a" * 32},),
    Kind.CONTAINER: ({"log": "a\n", "stream": "stdout", "time": "2026-11-25T12:00:00.5Z"},),
}  # fmt: skip
_PARSERS: Final[dict[Kind, Callable[[bytes], Fields | None]]] = {
    Kind.WATCH: watch.parse, Kind.FALCO: falco.parse, Kind.AUDIT: kube_audit.parse, Kind.LEDGER: ledger_rows.parse,
    Kind.CONTAINER: docker_json.parse,
}  # fmt: skip
_ODD: Final[tuple[Any, ...]] = (
    5, -1, 0, True, None, 1.5, 10**30, -(2**63), 2**63, "", "\u00b2", "9" * 5000, "-5", "\u0660", [], [5], {}, {"a": 5},
    "\ud800", "1677-09-21T00:12:44.000000001Z", "2262-04-11T23:47:16Z", "9999-12-31T23:59:60Z",
)  # fmt: skip


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            found += _places(inner, (*path, key))
    return found


def _odd_lines(kind: Kind) -> Iterator[bytes]:
    """Yield each line as it is, and with each odd value in each of its places."""
    for line in _LINES[kind]:
        yield json.dumps(line).encode()
        for *path, last in _places(line):
            for odd in _ODD:
                changed = json.loads(json.dumps(line))
                inner = changed
                for key in path:
                    inner = inner[key]
                inner[last] = odd
                yield json.dumps(changed).encode()


@pytest.mark.parametrize("kind", sorted(_LINES))
def test_an_odd_value_in_a_line_is_taken_or_refused_and_stops_nothing(kind: Kind) -> None:
    lines = list(_odd_lines(kind))
    for line in lines:
        kind_of_content(line)
        fields = _PARSERS[kind](line) if kind in _PARSERS else None
        assert fields is None or _fits(fields.time_unix_nano), line
    # and each becomes a row, whatever it said
    source = WEB if kind is Kind.CONTAINER else Source(kind=kind, cluster="c1", node="n", path="x")
    content = b"".join(line + b"\n" for line in lines)
    assert build_rows(admitted([chunk(content, source=source)]), {})[0].num_rows == len(lines)


def _fits(time: int | None) -> bool:
    return time is None or -(2**63) <= time < 2**63


@pytest.mark.parametrize("parse", [*_PARSERS.values(), auditd.parse])
@pytest.mark.parametrize("line", [b"[" * 100_000, b'{"a":' * 100_000, b'{"object":' * 100_000, b"\xff{", b""])
def test_a_line_that_is_nested_without_end_stops_nothing(parse: Callable[[bytes], Fields | None], line: bytes) -> None:
    parse(line)

"""What bodies tell does not depend on what stands around them, and hostile lines cost little and stop nothing."""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ashiato.core.attributes import attribute_of, leaves
from ashiato.core.ids import Kind, Source
from ashiato.core.render import render_file
from ingest.parse import bodies
from ingest.parse.cri import PAD
from ingest.rows import build_rows
from tests.unit.ingest.files import WEB, admitted, chunk, cri

_WORDS: Final = st.sampled_from(
    [b"INFO", b"error", b"[warn]", b"level=error", b'level="info"', b"{", b'{"level":"info"}', b" ", b"-", b'"', b"\r",
     b'"GET / HTTP/1.1" 200', b'"GET / HTTP/2" 20', b"10.0.0.1", b"::1 - eve [", b"2026-11-25T12:00:00.5Z",
     b"I1125 12:00:00.000000       1 a.go:1]", b"[25/Nov/2026:21:00:00 +0900]", b"\0", b"\xff", b"ts=1795608000",
     b"trace_id=0123456789abcdef0123456789abcdef", b"WARNING:", b"E", b"=", b"FATAL"]
)  # fmt: skip
_BODY: Final = st.lists(st.one_of(_WORDS, st.binary(max_size=6)), max_size=8).map(b" ".join)


def _told(buffer: bytes, borders: list[tuple[int, int]], *, timed: bool) -> list[tuple[Any, ...]]:
    starts = np.array([start for start, _ in borders], np.int64)
    ends = np.array([end for _, end in borders], np.int64)
    told = bodies.read(buffer + PAD, starts, ends, np.arange(len(borders)), timed=timed)
    return [
        (
            int(told.severity[at]), int(told.status[at]), int(told.address_end[at] - starts[at]), bool(told.access[at]),
            told.trace_id.get(at), told.user.get(at), told.time.get(at),
        )
        for at in range(len(borders))
    ]  # fmt: skip


@given(contents=st.lists(_BODY, max_size=12), between=_BODY, timed=st.booleans())
@settings(deadline=None, max_examples=500)
def test_a_body_tells_the_same_alone_and_among_others(contents: list[bytes], between: bytes, *, timed: bool) -> None:
    buffer, borders = b"", []
    for content in contents:
        buffer += between
        borders.append((len(buffer), len(buffer) + len(content)))
        buffer += content
    alone = [_told(content, [(0, len(content))], timed=timed)[0] for content in contents]
    assert _told(buffer, borders, timed=timed) == alone


# -- hostile lines -------------------------------------------------------------------------------------------

_EVENT: Final = {
    "kind": "Event", "apiVersion": "audit.k8s.io/v1", "auditID": "a-1", "stage": "ResponseComplete", "verb": "get",
    "user": {"username": "eve"}, "objectRef": {"resource": "pods", "name": "web-1"},
    "stageTimestamp": "2026-11-25T12:00:00.123456Z",
}  # fmt: skip


def _event(**more: Any) -> bytes:
    return json.dumps({**_EVENT, **more}).encode()


HOSTILE: Final = {
    "340 fields": _event(requestObject={f"f{n}": n for n in range(340)}),
    "10,000 fields": _event(requestObject={f"f{n}": {"x": str(n)} for n in range(10_000)}),
    "1 MB": _event(requestObject={"data": "x" * 1_000_000}),
    "lone surrogate": _event(requestURI="\ud800"),
    "not UTF-8": _event(requestURI="@@").replace(b"@@", b"\xff\xfe"),
    "NUL": _event(requestURI="@@").replace(b"@@", b"\\u0000"),
    "doubles": _event(requestURI="a")[:-1] + b',"verb":"delete","verb":"get"}',
    "big number": _event(annotations={"n": 2**80}),
    "huge number": _event(annotations={"n": 1})[:-2] + b"9" * 100_000 + b"}}",
    "huge exponent": _event(annotations={"n": 1})[:-2] + b"1e999999999}}",
    "deep, within reason": _event(requestObject=json.loads("[" * 200 + "]" * 200)),
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_an_audit_event_with_hostile_parts_is_parsed(name: str) -> None:
    line = HOSTILE[name] + b"\n"
    source = Source(kind=Kind.AUDIT, cluster="c1", node="n", path="x")
    pieces = admitted([chunk(line, source=source)])
    rows, _, refused = build_rows(pieces, {})
    (row,) = rows.to_pylist()
    assert not refused
    assert (row["event_action"], row["user_name"], row["object_name"]) == ("get", "eve", "web-1")
    assert row["time_unix_nano"] == 1_795_608_000_123_456_000
    assert render_file(rows) == line
    # columns and attributes agree on what stands twice
    assert attribute_of(row["body"], "verb")[-1:] == ["get"]


REFUSED: Final = {
    "empty": b"", "not_json": b"Falco initialized with configuration files:", "not_an_object": b"[1]",
    "nested_too_deep": b'{"a":' * 100_000, "not_of_its_kind": b'{"kind": 0}',
}  # fmt: skip


@pytest.mark.parametrize("reason", sorted(REFUSED))
@pytest.mark.parametrize("kind", [Kind.AUDIT, Kind.FALCO])
def test_what_is_no_event_is_quarantined_with_its_reason(kind: Kind, reason: str) -> None:
    line = REFUSED[reason] + b"\n"
    source = Source(kind=kind, cluster="c1", node="n", path="x")
    rows, _, refused = build_rows(admitted([chunk(line, source=source)]), {})
    assert refused == {(str(kind), reason): 1}
    assert render_file(rows) == line


@pytest.mark.parametrize(
    "body",
    [
        b"{" + b'"a":{' * 50_000, b'{"level":' + b"9" * 200_000 + b"}", b'{"level":"' + b"\\ud800" * 1000 + b'"}',
        b'{"ts":1e999999999}', b'{"t":{"$date":{"$date":1}}}', b'"' * 100_000, b"level=" * 50_000, b"a=" * 100_000,
        b'a="' * 100_000, b"trace_id=" * 50_000, b"[" * 100_000, b"\\" * 100_000, b'k="' + b"\\" * 200_001,
    ],
    ids=range(13),
)  # fmt: skip
def test_a_hostile_body_of_a_container_is_kept_and_searched_in_bounded_work(body: bytes) -> None:
    line = cri("@@", at=1).replace(b"@@", body)
    work = 0

    def count(frame: Any, event: str, argument: Any) -> Any:  # noqa: ARG001 - the signature of a profiler
        nonlocal work
        work += 1
        assert work < 200_000

    sys.setprofile(count)
    try:
        rows, _, _ = build_rows(admitted([chunk(line, source=WEB)]), {})
        found = sum(1 for _ in leaves(rows["body"][0].as_py()))
    finally:
        sys.setprofile(None)
    assert render_file(rows) == line
    assert found <= len(body)

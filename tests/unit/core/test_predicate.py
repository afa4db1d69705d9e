"""What each node of a query means."""

from __future__ import annotations

import pyarrow as pa
import pytest

from ashiato.core.errors import RejectedError
from ashiato.core.predicate import NODES_DEEP_MAX, compile_node, mask, select
from ashiato.core.query import All, And, Exists, Node, Not, Or, Phrase, Query, Range, Regex, Term, Wildcard
from ashiato.core.record import COLUMNS, RowFlags
from ashiato.core.table import SCHEMA, empty, uids
from ashiato.core.tokens import TOKEN_CHARS_MAX

T0 = 1_795_490_055_000_000_000


def table(*rows: dict[str, object]) -> pa.Table:
    """Rows of the columns given; what every row needs is filled in."""
    whole = []
    for number, row in enumerate(rows):
        full: dict[str, object] = {column.name: None for column in COLUMNS}
        full |= {"file_id": "F", "offset_start": number * 100, "length": 100, "flags": 0, "time_uncertainty_ns": 0}
        full |= {"observed_time_unix_nano": T0 + number, "source": "s", "source_kind": "container", **row}
        whole.append(full)
    return pa.Table.from_pylist(whole, schema=SCHEMA)


def found(node: Node, *bodies: str | None) -> list[bool]:
    rows: list[dict[str, object]] = [{"body": body} for body in bodies]
    marks = mask(node, table(*rows)).to_pylist()
    return [bool(mark) for mark in marks]


LONG = "x" * TOKEN_CHARS_MAX


@pytest.mark.parametrize(
    ("value", "body", "expected"),
    [
        ("timeout", "connect Timeout after 5s", True),
        ("timeout", "connect_timeout after 5s", False),
        ("time", "connect timeout", False),
        ("Connect TIMEOUT", "a connect - timeout", True),
        ("connect after", "connect timeout after", False),
        ("認証", "利用者認証に失敗", True),
        ("認証 失敗", "利用者認証に失敗", False),
        ("認証に失敗", "利用者認証に失敗しました", True),
        ("証", "利用者認証に失敗", False),
        ("error認証", "[ERROR認証に失敗]", True),
        ("strasse", "Hauptstraße", False),
        ("strasse", "die Straße", True),
        ("straße", "DIE STRASSE", True),
        ("K", "5 \u212a", True),
        ("abc", LONG + "abc", True),
        ("abc", LONG + "abcd", False),
        (LONG + "abc", "- " + LONG + "ABC -", True),
        ("10.2.3.4", "peer=10.2.3.4:443", True),
        ("10.2.3.4", "peer=10.2.3.40", False),
        ("a", None, False),
        ("a", "", False),
    ],
)
def test_a_term_in_text_is_its_words_next_to_each_other(value: str, body: str | None, expected: bool) -> None:  # noqa: FBT001 - a case of a table
    for node in (Term(field="", value=value), Term(field="message", value=value), Phrase(field="body", value=value)):
        assert found(node, body) == [expected]


@pytest.mark.parametrize(
    ("pattern", "body", "expected"),
    [
        ("time*", "connect TIMEOUT", True),
        ("*out", "connect timeout", True),
        ("t*t", "connect timeout", True),
        ("t?meout", "timeout", True),
        ("t?out", "timeout", False),
        ("conn*timeout", "connect timeout", False),
        ("*", "...", False),
        ("*", "a", True),
        ("stra?se", "straße", True),
        ("認*", "利用者認証に失敗", True),
        ("*猫*", "黒猫が", True),
        ("*bc", LONG + "abc", True),
        ("x*bc", LONG + "abc", False),
    ],
)
def test_a_wildcard_in_text_is_held_against_any_one_word(pattern: str, body: str, expected: bool) -> None:  # noqa: FBT001 - a case of a table
    assert found(Wildcard(field="", pattern=pattern), body) == [expected]


def test_a_regex_in_text_is_found_anywhere() -> None:
    assert found(Regex(field="", pattern=r"account \d*777\b"), "Account 12777", "account 12777 x", "account 7778") == [
        False, True, False,
    ]  # fmt: skip


ATTRIBUTES = (
    '{"person": {"name": "Ann", "groups": ["a", "b"]}, "code": 404, "took": 1.50, "ok": true, "none": null}',
    '{"person.name": "\\u0041nn", "code": "404"}',
    '{"person": {"name": "ann"}, "code": 1E2, "ok": "true"}',
    "person.name Ann code 404",
)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (Term(field="person.name", value="Ann"), [True, True, False, False]),
        (Phrase(field="person.groups", value="b"), [True, False, False, False]),
        (Term(field="code", value="404"), [False, False, False, False]),
        (Term(field="body.code", value="404"), [True, True, False, False]),
        (Term(field="result.code", value="404"), [False, False, False, False]),
        (Term(field="took", value="1.5"), [True, False, False, False]),
        (Term(field="ok", value="true"), [True, False, True, False]),
        (Wildcard(field="person.name", pattern="A*n"), [True, True, False, False]),
        (Regex(field="person.name", pattern="(?i)^a"), [True, True, True, False]),
        (Exists(field="person"), [True, True, True, False]),
        (Exists(field="none"), [False, False, False, False]),
        (Range(field="took", low="1", high="2"), [True, False, False, False]),
        (Range(field="person.name", low="A", high="B"), [True, True, False, False]),
        (Not(node=Term(field="person.name", value="Ann")), [False, False, True, True]),
    ],
)
def test_what_is_no_column_is_an_attribute_of_a_json_body(node: Node, expected: list[bool]) -> None:
    assert found(node, *ATTRIBUTES) == expected


def test_numbers_of_attributes_compare_as_numbers_and_strings_by_code_point() -> None:
    bodies = ('{"n": 9}', '{"n": 10.5}', '{"n": "9"}', '{"n": "10.5"}', '{"n": 123456789012345678901234567890}')
    assert found(Range(field="n", low="9", high="10", high_inclusive=False), *bodies) == [
        True, False, False, False, False,
    ]  # fmt: skip
    assert found(Range(field="n", low="123456789012345678901234567890"), *bodies) == [
        False, False, True, False, True,
    ]  # fmt: skip
    assert found(Range(field="n", low="ten"), *bodies) == [False] * 5


COLUMN_ROWS = (
    {"k8s_pod_name": "web-1", "http_status_code": 404, "time_unix_nano": T0, "raw": b"x"},
    {"k8s_pod_name": "Web-1", "http_status_code": 500, "flags": int(RowFlags.GAP | RowFlags.EARLY)},
    {"k8s_pod_name": "", "length": 0, "join_offset": 16},
)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (All(), [True, True, True]),
        (And(nodes=()), [True, True, True]),
        (Or(nodes=()), [False, False, False]),
        (Term(field="k8s.pod.name", value="web-1"), [True, False, False]),
        (Phrase(field="pod", value="Web-1"), [False, True, False]),
        (Term(field="k8s_pod_name", value=""), [False, False, False]),
        (Not(node=Term(field="pod", value="web-1")), [False, True, True]),
        (Exists(field="pod"), [True, True, False]),
        (Wildcard(field="pod", pattern="?eb-*"), [True, True, False]),
        (Wildcard(field="pod", pattern="*"), [True, True, False]),
        (Regex(field="pod", pattern="eb"), [True, True, False]),
        (Regex(field="pod", pattern="^$"), [False, False, False]),
        (Range(field="pod", low="W", high="X"), [False, True, False]),
        (Range(field="pod"), [True, True, False]),
        (Term(field="code", value="404"), [True, False, False]),
        (Range(field="code", low="404", low_inclusive=False), [False, True, False]),
        (Range(field="code", low="-" + "9" * 30, high="9" * 30), [True, True, False]),
        (Range(field="code", low="9" * 30), [False, False, False]),
        (Exists(field="code"), [True, True, False]),
        (Exists(field="log.record.original"), [True, False, False]),
        (Term(field="time", value="2026-11-24T03:14:15Z"), [True, False, False]),
        (Range(field="time", low="2026-11-24T03:14:15Z"), [True, False, False]),
        (Range(field="observed_time_unix_nano", low=str(T0), low_inclusive=False), [False, True, True]),
        (Term(field="flags", value="gap"), [False, True, False]),
        (Exists(field="flags"), [False, True, False]),
        (Term(field="log.record.uid", value="F-0000000000000064"), [False, True, False]),
        (Term(field="log.record.uid", value="F-00000000000000c8"), [False, False, False]),
        (Term(field="log.record.uid", value="F-0000000000000010-j"), [False, False, True]),
        (Term(field="log.record.uid", value="nonsense"), [False, False, False]),
        (Term(field="log.record.uid", value="F-" + "f" * 16), [False, False, False]),
        (Wildcard(field="log.record.uid", pattern="F-*4"), [False, True, False]),
        (And(nodes=(Term(field="pod", value="web-1"), Term(field="code", value="500"))), [False, False, False]),
        (Or(nodes=(Term(field="pod", value="web-1"), Term(field="code", value="500"))), [True, True, False]),
    ],
)
def test_columns_are_held_to_the_letter(node: Node, expected: list[bool]) -> None:
    assert mask(node, table(*COLUMN_ROWS)).to_pylist() == expected


def test_every_row_is_found_by_its_own_uid() -> None:
    rows = table(*COLUMN_ROWS)
    for number, uid in enumerate(uids(rows)):
        marks = mask(Term(field="log.record.uid", value=uid), rows).to_pylist()
        assert marks == [at == number for at in range(rows.num_rows)]


def _nested(levels: int) -> Node:
    node: Node = All()
    for _ in range(levels):
        node = Not(node=node)
    return node


@pytest.mark.parametrize(
    "node",
    [
        Term(field="", value="--"),
        Wildcard(field="", pattern="a-b*"),
        Wildcard(field="", pattern=""),
        Wildcard(field="", pattern="利用者*"),
        Regex(field="", pattern="("),
        Regex(field="pod", pattern="(?=x)"),
        Regex(field="a.b", pattern="["),
        Range(field="", low="a"),
        Exists(field=""),
        Term(field="code", value="abc"),
        Range(field="code", low="1.5"),
        Wildcard(field="code", pattern="4*"),
        Term(field="time", value="yesterday"),
        Term(field="time", value="2026-02-30"),
        Term(field="flags", value="broken"),
        Regex(field="flags", pattern="gap"),
        Term(field="log.record.original", value="x"),
        Term(field="x" * 1000, value="y"),
        _nested(NODES_DEEP_MAX + 1),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_any_row_is_seen(node: Node) -> None:
    with pytest.raises(RejectedError):
        select(Query(where=And(nodes=(Or(nodes=()), node))), empty())


def test_a_test_names_the_columns_that_it_reads() -> None:
    node = And(nodes=(Term(field="pod", value="a"), Not(node=Term(field="x.y", value="b")), Exists(field="flags")))
    assert compile_node(node).columns == {"k8s_pod_name", "body", "flags"}


def test_select_orders_by_event_time_else_reading_time_and_cuts() -> None:
    rows = table({"time_unix_nano": T0 + 50}, {}, {}, {"time_unix_nano": T0 - 50})
    # when rows of [T0 - 50, T0 + 2) are asked for, newest first
    query = Query(time_start_unix_nano=T0 - 50, time_end_unix_nano=T0 + 2)
    # then the end is not in, and the event time counts before the reading time
    assert select(query, rows)["offset_start"].to_pylist() == [100, 300]
    oldest = Query(limit=2, order="oldest_first")
    assert select(oldest, rows)["offset_start"].to_pylist() == [300, 100]


def test_a_limit_below_zero_is_refused() -> None:
    with pytest.raises(RejectedError):
        select(Query(limit=-1), empty())

"""Q3: whatever rows and whatever is asked, a row that matches has the tokens that the query needs."""

from __future__ import annotations

import json
from typing import Final

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ashiato.core.attributes import leaves, text_of
from ashiato.core.errors import RejectedError
from ashiato.core.needs import NOTHING, met, needed
from ashiato.core.predicate import mask
from ashiato.core.query import All, And, Exists, Node, Not, Or, Phrase, Range, Regex, Term, Wildcard
from ashiato.core.table import SCHEMA
from ashiato.core.token_hashes import hashes_of_text
from ashiato.core.token_rows import hashes_of_rows
from ashiato.core.tokens import TOKEN_CHARS_MAX, tokens
from ashiato.core.words import words_of_texts

PIECES: Final = (
    *("10", "2", "3", "4", "255", "256", "010", "7", "fe80", "db8", "a", "F", "c0de", "4b7d", "dead", "ERROR", "İ"),
    *(".", ":", "::", "-", "/", " ", "_", "\n", "\t", "\0", '"', "\\", "\\n", "\\u0041", "\\u00e9", "\\u002e", "\\\\n"),
    *("Straße", "\u017f", "K", "認", "証", "カ", "ﾞ", "é", "𠀋", "٣", "\ufffd", "{", "}", "true", "1.50", "2e3", "-0"),
    *(
        "3f2a9c1e-4b7d-8c9d-a1b2-0123456789ab",
        "sha256:" + "ab" * 32,
        "x" * (TOKEN_CHARS_MAX + 2),
        "f" * TOKEN_CHARS_MAX,
    ),
    *("10.2.3.4-10.2.3.9", "2001:db8:0:1::1", "/var/lib/x", "api.shop.svc", "é" * (TOKEN_CHARS_MAX + 1)),
)
TEXTS: Final = st.lists(st.sampled_from(PIECES), max_size=9).map("".join)
WILD: Final = st.lists(st.sampled_from((*PIECES[:17], *PIECES[33:43], "*", "?", "-", ".")), max_size=6).map("".join)
KEYS: Final = st.sampled_from(("a", "b.c", "10", "é", 'q"'))
JSON: Final[st.SearchStrategy[object]] = st.recursive(
    TEXTS | st.integers(-5, 300) | st.just(1 << 70) | st.floats(allow_nan=False) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS | TEXTS, inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
BODIES: Final = st.one_of(
    TEXTS,
    st.builds(
        lambda value, ascii_, space: space + json.dumps({"a": value}, ensure_ascii=ascii_),
        JSON, st.booleans(), st.sampled_from(["", " ", "\t"]),
    ),
)  # fmt: skip
FIELDS: Final = (
    "",
    "body",
    "user_name",
    "source.address",
    "k8s.pod.name",
    "trace_id",
    "a",
    "a.b.c",
    "a.10",
    "body.a",
    "a.é",
)
COLUMNS: Final = ("user_name", "source_address", "k8s_pod_name", "trace_id")


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    count = draw(st.integers(1, 4))
    rows: list[dict[str, object]] = []
    for _ in range(count):
        row: dict[str, object] = dict.fromkeys(SCHEMA.names)
        row["body"] = draw(st.none() | BODIES)
        row |= {name: draw(st.none() | TEXTS) for name in draw(st.sets(st.sampled_from(COLUMNS), max_size=2))}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=SCHEMA)


@st.composite
def askings(draw: st.DrawFn, table: pa.Table) -> Node:
    """Ask for what stands there, or nearly: a part of a value, a leaf of a body, a wildcard made of it."""
    field = draw(st.sampled_from(FIELDS))
    values = [str(v) for name in ("body", *COLUMNS) for v in table[name].to_pylist() if v]
    whole = draw(st.sampled_from(values) if values else TEXTS)
    start, end = sorted((draw(st.integers(0, len(whole))), draw(st.integers(0, len(whole)))))
    found = [whole, whole[start:end], draw(TEXTS), *tokens(whole), *(text_of(leaf) for _, leaf in leaves(whole))]
    value = draw(st.sampled_from(found))
    pattern = value[: draw(st.integers(0, 40))] + draw(st.sampled_from(["", "*", "?", "*x", "?.*"]))
    shapes: list[Node] = [
        Term(field=field, value=value), Phrase(field=field, value=value), Wildcard(field=field, pattern=pattern),
        Wildcard(field=field, pattern=draw(WILD)), Wildcard(field=field, pattern="*" + value[:30]),
        Regex(field=field, pattern="[0-9]"), Exists(field=field or "a"), Range(field=field or "a", low="1"),
    ]  # fmt: skip
    return draw(st.sampled_from(shapes))


@st.composite
def cases(draw: st.DrawFn) -> tuple[pa.Table, Node]:
    table = draw(tables())
    nodes: st.SearchStrategy[Node] = st.recursive(
        askings(table) | st.just(All()),
        lambda inner: st.one_of(
            st.builds(Not, node=inner),
            st.builds(And, nodes=st.lists(inner, max_size=3).map(tuple)),
            st.builds(Or, nodes=st.lists(inner, max_size=3).map(tuple)),
        ),
        max_leaves=3,
    )
    return table, draw(nodes)


def holds(table: pa.Table, node: Node) -> tuple[bool, bool]:
    """Return whether a row matches, and whether the table has what the node needs."""
    hashes = set(hashes_of_rows(table).tolist())
    return any(mask(node, table).to_pylist()), met(needed(node), hashes.__contains__)


@settings(max_examples=3000, deadline=None)
@given(case=cases())
def test_a_row_that_matches_has_the_tokens_that_its_query_needs(case: tuple[pa.Table, Node]) -> None:
    table, node = case
    try:
        matches, there = holds(table, node)
    except RejectedError:
        return
    assert there or not matches


@settings(max_examples=500, deadline=None)
@given(texts=st.lists(TEXTS | st.text(max_size=12), max_size=6))
@example(texts=["a" * TOKEN_CHARS_MAX * 2 + "b", "", "c"])
def test_the_words_of_a_column_are_the_tokens_of_each_text(texts: list[str]) -> None:
    # when a column is cut at once
    found: list[list[str]] = [[] for _ in texts]
    for words in words_of_texts(texts):
        content, rows = words.text.tobytes(), words.row_at(words.starts)
        for start, length, row in zip(words.starts.tolist(), words.lengths.tolist(), rows.tolist(), strict=True):
            found[int(words.rows[row])].append(content[start : start + length].decode())
    # then it is cut as each text alone is, in the same order
    assert found == [list(tokens(text)) for text in texts]


@given(texts=st.lists(TEXTS, min_size=1, max_size=6))
def test_a_column_has_the_hashes_of_each_of_its_texts(texts: list[str]) -> None:
    together = set(hashes_of_text(texts).tolist())
    assert together == set().union(*(hashes_of_text([text]).tolist() for text in texts))


def body(text: str) -> pa.Table:
    return pa.Table.from_pylist([{**dict.fromkeys(SCHEMA.names), "body": text}], schema=SCHEMA)


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("blocked 10.2.3.4-10.2.3.9", Term(field="", value="10.2.3.9")),
        ("10/2/3/4", Term(field="", value="10.2.3.4")),
        ("from 2001:db8::a:b:1", Term(field="", value="2001:db8::a:b:1")),
        ("利用者認証に失敗", Term(field="", value="認証")),
        ('{"a": "x\\ny 10\\u002e2.3.4"}', Term(field="a", value="x\ny 10.2.3.4")),
        ('{"a": "\\u8a8d\\u8a3c"}', Term(field="a", value="認証")),
        ('{"\\u0061": {"b": 2E2}}', Term(field="a.b", value="200.0")),
        ('{"a": [1, "two"]}', Term(field="a", value="1")),
        ("Straße \u017f", Phrase(field="", value="STRASSE S")),
    ],
)
def test_what_is_written_otherwise_is_found_all_the_same(text: str, node: Node) -> None:
    matches, there = holds(body(text), node)
    assert matches
    assert there


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("from 10.2.3.5 and 3.4.10.2", Term(field="", value="10.2.3.4")),
        ("timeout", Term(field="", value="time")),
        ("time out", And(nodes=(All(), Term(field="", value="timeout")))),
        ('{"user": "b"}', Term(field="user", value="alice")),
        ('{"user": "b"}', Exists(field="group")),
        ("a", Or(nodes=())),
        ("db-1", Wildcard(field="pod", pattern="web-*")),
        ("認", Term(field="", value="認証")),
    ],
)
def test_what_is_not_there_is_not_looked_for(text: str, node: Node) -> None:
    matches, there = holds(body(text), node)
    assert not matches
    assert not there


@pytest.mark.parametrize(
    "node",
    [
        Wildcard(field="", pattern="time*"), Regex(field="", pattern="timeout"), Range(field="user_name", low="a"),
        Not(node=Term(field="", value="timeout")), Exists(field="trace_id"),
        Or(nodes=(Term(field="", value="x"), All())),
    ],
)  # fmt: skip
def test_what_whole_tokens_do_not_tell_needs_nothing(node: Node) -> None:
    assert needed(node) == NOTHING

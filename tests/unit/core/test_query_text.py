"""The query as people type it."""

from __future__ import annotations

import pytest

from ashiato.core.errors import RejectedError
from ashiato.core.query import All, And, Exists, Node, Not, Or, Phrase, Range, Regex, Term, Wildcard
from ashiato.core.query_text import CLAUSES_MAX, LEVELS_MAX, TEXT_CHARS_MAX, parse, render

A, B, C = (Term(field="", value=letter) for letter in "abc")


@pytest.mark.parametrize(
    ("text", "node"),
    [
        ("", All()),
        ("  * ", All()),
        ("a", A),
        ("a b", And(nodes=(A, B))),
        ("a AND b && c", And(nodes=(A, B, C))),
        ("a OR b c", Or(nodes=(A, And(nodes=(B, C))))),
        ("a || b", Or(nodes=(A, B))),
        ("(a OR b) c", And(nodes=(Or(nodes=(A, B)), C))),
        ("NOT a", Not(node=A)),
        ("-a +b !c", And(nodes=(Not(node=A), B, Not(node=C)))),
        ("NOT NOT a", A),
        ("NOT (NOT a)", Not(node=Not(node=A))),
        ("or", Term(field="", value="or")),
        ('"a \\"b\\" OR"', Phrase(field="", value='a "b" OR')),
        ("pod:web-1", Term(field="pod", value="web-1")),
        ("pod:web\\-*", Wildcard(field="pod", pattern="web-*")),
        ("pod:we\\*b?", Wildcard(field="pod", pattern="we\\*b?")),
        ("pod:we\\*b", Term(field="pod", value="we*b")),
        ("pod:*", Exists(field="pod")),
        ("_exists_:pod", Exists(field="pod")),
        ('pod:"a b"', Phrase(field="pod", value="a b")),
        ('pod:(a OR NOT "b")', Or(nodes=(Term(field="pod", value="a"), Not(node=Phrase(field="pod", value="b"))))),
        ("code:[400 TO 500}", Range(field="code", low="400", high="500", high_inclusive=False)),
        ("code:{ * TO 500 ]", Range(field="code", high="500", low_inclusive=False)),
        ("time:[2026-11-24T03:14:15Z TO *]", Range(field="time", low="2026-11-24T03:14:15Z")),
        ('x:["a b" TO "*"]', Range(field="x", low="a b", high="*")),
        ("code:>=500", Range(field="code", low="500")),
        ("code:>500", Range(field="code", low="500", low_inclusive=False)),
        ("code:<500", Range(field="code", high="500", high_inclusive=False)),
        ('t:<="a b"', Range(field="t", high="a b")),
        ("/a b\\/c\\d/", Regex(field="", pattern="a b/c\\d")),
        ("path:/^\\/api/ a", And(nodes=(Regex(field="path", pattern="^/api"), A))),
        ("10:30:00", Term(field="", value="10:30:00")),
        ("https://a/b", Term(field="", value="https://a/b")),
        ("fe80::1", Term(field="", value="fe80::1")),
        ("image:repo/app:v1", Term(field="image", value="repo/app:v1")),
        ("a\\:b", Term(field="", value="a:b")),
        ("labels.app.kubernetes.io/name:web", Term(field="labels.app.kubernetes.io/name", value="web")),
        ("k8s\\.ours:x", Term(field="k8s.ours", value="x")),
        ("認証 ユーザー:田中", And(nodes=(Term(field="", value="認証"), Term(field="ユーザー", value="田中")))),
    ],
)
def test_a_text_says_one_thing(text: str, node: Node) -> None:
    assert parse(text) == node


@pytest.mark.parametrize(
    ("text", "character", "word"),
    [
        ("a AND", 6, "ends"),
        ("a AND OR b", 7, "OR"),
        ("OR a", 1, "OR"),
        ("(a", 1, "never closed"),
        ("a)", 2, "closes nothing"),
        ("a ()", 3, "nothing"),
        ("pod:", 5, "value"),
        ("pod: a", 5, "value"),
        ('a "b', 3, "quote"),
        ("a\\", 2, "backslash"),
        ("[a TO b]", 1, "field"),
        ("code:[a b]", 8, "TO"),
        ("code:[a TO b", 6, "never closed"),
        ("code:>", 7, "value"),
        ("_exists_: a", 10, "name of a field"),
        ("/api/v1", 1, "regular expression"),
        ("foo~2", 4, "fuzziness"),
        ('"foo bar"~2', 10, "fuzziness"),
        ("a | stats", 3, "pipe"),
        ("pod:(a b:c)", 8, "inside"),
        ("a k8s.pod.nam:x", 3, "'k8s.pod.name'"),
        ("_exists_:k8s.namespace", 1, "'k8s.namespace.name'"),
        ("(" * (LEVELS_MAX + 1) + "a", LEVELS_MAX + 1, "too many"),
    ],
)
def test_an_error_names_the_character_and_says_what_to_do(text: str, character: int, word: str) -> None:
    with pytest.raises(RejectedError, match=word) as error:
        parse(text)
    assert error.value.facts["character"] == character


def test_a_query_holds_as_many_clauses_as_lucenes_and_no_more() -> None:
    parse(" OR ".join("a" for _ in range(CLAUSES_MAX)))
    with pytest.raises(RejectedError, match=str(CLAUSES_MAX)):
        parse(" OR ".join("a" for _ in range(CLAUSES_MAX + 1)))


def test_a_pasted_log_is_no_query() -> None:
    with pytest.raises(RejectedError, match="too long"):
        parse("a" * (TEXT_CHARS_MAX + 1))


def test_what_has_no_text_of_its_own_is_printed_as_what_it_means() -> None:
    nodes = (And(nodes=()), Or(nodes=()), And(nodes=(A,)), Wildcard(field="", pattern="*"))
    assert [render(node) for node in nodes] == ["*", "NOT *", "a", "**"]

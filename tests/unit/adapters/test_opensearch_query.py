"""What OpenSearch is asked takes in every row that matches; the contract's live tests hold it to real answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings

from ashiato.adapters.opensearch_query import ANY_RUNS_MAX, DEEP_MAX, LEAVES_MAX, narrow
from ashiato.core.errors import RejectedError
from ashiato.core.predicate import compile_node
from ashiato.core.query import All, And, Exists, Node, Not, Or, Phrase, Query, Range, Regex, Term, Wildcard
from tests.contract import index_rows as rows

EVERYTHING: dict[str, Any] = {"match_all": {}}
NOTHING: dict[str, Any] = {"match_none": {}}


def unindexed(name: str, query: dict[str, Any]) -> dict[str, Any]:
    return {"bool": {"should": [query, {"terms": {"unindexed": [name, "*"]}}], "minimum_should_match": 1}}


def token(word: str) -> dict[str, Any]:
    asked = [{"term": {"body": word}}, {"term": {"body_tokens": word}}]
    return {"bool": {"should": asked, "minimum_should_match": 1}}


def test_a_word_is_asked_for_as_its_token_or_where_tokens_are_missing() -> None:
    assert narrow(Term(field="", value="Straße")) == unindexed("body", token("strasse"))


def test_a_word_that_no_ascii_holds_is_asked_for_where_the_other_bodies_are() -> None:
    assert narrow(Term(field="", value="認証")) == unindexed("body", {"term": {"body_tokens": "認証"}})


def test_of_a_phrase_every_word_is_asked_for_and_no_row_is_left_out_by_its_negation() -> None:
    phrase = Phrase(field="", value="connect timeout")
    assert narrow(phrase) == unindexed("body", {"bool": {"filter": [token("connect"), token("timeout")]}})
    assert narrow(Not(node=phrase)) == EVERYTHING


def test_a_negation_takes_out_only_what_surely_matches() -> None:
    term = {"term": {"k8s_pod_name": "a"}}
    assert narrow(Not(node=Term(field="pod", value="a"))) == {"bool": {"must_not": [term]}}
    assert narrow(Not(node=Not(node=Term(field="pod", value="a")))) == unindexed("k8s_pod_name", term)
    assert narrow(Not(node=Regex(field="pod", pattern="a"))) == EVERYTHING
    assert narrow(Not(node=Term(field="level", value="x"))) == EVERYTHING
    assert narrow(Not(node=All())) == NOTHING


def test_a_value_too_long_for_a_term_is_looked_for_where_it_is_not_indexed() -> None:
    assert narrow(Term(field="pod", value="p" * 2000)) == {"terms": {"unindexed": ["k8s_pod_name", "*"]}}


def test_a_number_beyond_its_type_is_nowhere_and_a_range_is_cut_to_it() -> None:
    projected = {"terms": {"unindexed": ["http_status_code", "*"]}}
    assert narrow(Term(field="code", value="99999999999")) == projected
    query = narrow(Range(field="code", low="400", high="99999999999", low_inclusive=False))
    assert query == unindexed("http_status_code", {"range": {"http_status_code": {"gte": 401, "lte": (1 << 31) - 1}}})


def test_wildcards_keep_literal_stars_literal() -> None:
    query = narrow(Wildcard(field="pod", pattern=r"a\*b*?"))
    assert query == unindexed("k8s_pod_name", {"wildcard": {"k8s_pod_name": {"value": r"a\*b*?"}}})


def test_an_attribute_is_asked_for_by_path() -> None:
    assert narrow(Term(field="request.user", value="x")) == unindexed(
        "attributes", {"term": {"attributes": "request.user=x"}}
    )


@pytest.mark.parametrize(
    "node",
    [
        Regex(field="body", pattern="x"),
        Exists(field="raw"),
        Wildcard(field="pod", pattern="a*" * (ANY_RUNS_MAX + 1)),
        Or(nodes=tuple(Term(field="", value=f"w{n}") for n in range(LEAVES_MAX + 1))),
        And(nodes=()),
    ],
)
def test_what_cannot_be_narrowed_asks_for_everything(node: Node) -> None:
    assert narrow(node) == EVERYTHING


def test_a_deep_predicate_is_narrowed_near_its_top_only() -> None:
    node: Node = Term(field="pod", value="a")
    for _ in range(3 * DEEP_MAX):
        node = And(nodes=(Or(nodes=(node, Term(field="ns", value="x"))), Term(field="pod", value="b")))
    query = json.dumps(narrow(node))
    assert query.count("k8s_pod_name") < 3 * DEEP_MAX
    assert '"b"' in query


@settings(max_examples=300, deadline=None)
@given(query=rows.queries)
def test_whatever_can_be_evaluated_can_be_asked(query: Query) -> None:
    try:
        compile_node(query.where)
    except RejectedError:
        return
    asked = json.dumps(narrow(query.where))
    assert asked.count("{") < 1024

"""Q3: no pruning step drops a match, in any order, under any limit, whatever is asked."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ashiato.adapters.index_packs import PackIndex, Snapshot
from ashiato.core.predicate import mask, select
from ashiato.core.query import All, And, Exists, Node, Not, Or, Phrase, Query, Range, Regex, Term, Wildcard
from ashiato.core.table import order_times, uids
from tests.unit.adapters.pack_corpus import Corpus, build

NAMES: Final = {
    "pod": ("web-1", "web-2", "db-1", "web-0", "", "unheard"),
    "k8s.namespace.name": ("shop", "data", "payments"),
    "node": ("node-1", "node-2", "control-plane"),
    "cluster": ("c", "d"),
    "kind": ("container", "audit", "ledger", "falco"),
    "uid": ("uid-web-1", "d875adb5-5797-4992-a017-cb7cf682544e"),
    "ashiato.source": ("container/c/node-1/shop/web-1/uid-web-1/web",),
    "file": ("01J0000000000000000000P000", "01J0000000000000000000I001"),
    "verb": ("create", "list", "get"),
    "level": ("error",),
    "": ("timeout", "認証", "cart", "GET"),
}


@st.composite
def leaves(draw: st.DrawFn) -> Node:
    field = draw(st.sampled_from(sorted(NAMES)))
    value = draw(st.sampled_from(NAMES[field]).filter(bool))
    shapes: list[Node] = [
        Term(field=field, value=value),
        Phrase(field=field, value=value),
        Wildcard(field=field, pattern=f"{value[:2]}*" if field else "time*"),
        Regex(field=field, pattern=value[:3]),
    ]
    if field:
        shapes += [Exists(field=field), Range(field=field, low=value), Range(field=field, high=value)]
    return draw(st.sampled_from(shapes))


OTHERS: Final[st.SearchStrategy[Node]] = st.sampled_from(
    [All(), Term(field="flags", value="gap"), Range(field="code", low="400"), Exists(field="time")]
)
NODES: Final[st.SearchStrategy[Node]] = st.recursive(
    leaves() | OTHERS,
    lambda inner: st.one_of(
        st.builds(Not, node=inner),
        st.builds(And, nodes=st.lists(inner, max_size=3).map(tuple)),
        st.builds(Or, nodes=st.lists(inner, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return build(tmp_path_factory.mktemp("packs"))


@pytest.fixture(scope="module")
def index(corpus: Corpus) -> PackIndex:
    return PackIndex(corpus.archive, tail=corpus.tail)


@pytest.fixture(scope="module")
def snapshot(index: PackIndex) -> Snapshot:
    return asyncio.run(index.snapshot())


@settings(max_examples=100, deadline=None)
@given(data=st.data(), where=NODES, limit=st.integers(0, 50) | st.just(10_000))
def test_a_pruned_search_is_the_predicate_over_every_row(
    corpus: Corpus, index: PackIndex, snapshot: Snapshot, data: st.DataObject, where: Node, limit: int
) -> None:
    # given a time range whose ends are the times of rows, or near them
    moments = sorted({int(str(moment)) for moment in order_times(corpus.rows).to_pylist()})
    ends = st.none() | st.builds(lambda moment, by: moment + by, st.sampled_from(moments), st.integers(-1, 1))
    whole = Query(
        where=where, limit=corpus.rows.num_rows, time_start_unix_nano=data.draw(ends),
        time_end_unix_nano=data.draw(ends), order=data.draw(st.sampled_from(["newest_first", "oldest_first"])),
    )  # fmt: skip
    # when it is searched
    leg = asyncio.run(index.search_in(snapshot, replace(whole, limit=limit)))
    # then it is what the predicate says of every row, in order, and it says whether there is more
    expected = select(whole, corpus.rows)
    assert uids(leg.rows) == uids(expected.slice(0, limit))
    assert leg.rows.equals(expected.slice(0, limit))
    assert leg.cut == (expected.num_rows > limit)
    assert not leg.findings


@given(where=NODES)
def test_a_negation_matches_what_its_node_does_not(corpus: Corpus, where: Node) -> None:
    marks, others = mask(where, corpus.rows).to_pylist(), mask(Not(node=where), corpus.rows).to_pylist()
    assert [not mark for mark in marks] == others

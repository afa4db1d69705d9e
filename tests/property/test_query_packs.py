"""Q3: no pruning step drops a match, in any order, under any limit, whatever is asked."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ashiato.adapters.index_packs import PackIndex, Snapshot
from ashiato.core.predicate import mask, select
from ashiato.core.query import All, And, Exists, Node, Not, Or, Phrase, Query, Range, Regex, Term, Wildcard
from ashiato.core.table import SCHEMA, order_times, uids
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


@settings(max_examples=60, deadline=None)
@given(where=NODES, order=st.sampled_from(["newest_first", "oldest_first"]), bytes_max=st.integers(0, 200_000))
def test_a_search_over_its_bytes_is_the_longest_beginning_that_fits(
    corpus: Corpus, index: PackIndex, snapshot: Snapshot, where: Node, order: Literal["newest_first", "oldest_first"],
    bytes_max: int,
) -> None:  # fmt: skip
    # given a query that fewer rows are read for than match
    query = Query(where=where, order=order, limit=corpus.rows.num_rows, bytes_max=bytes_max)
    expected = select(query, corpus.rows)
    # when it is searched
    leg = asyncio.run(index.search_in(snapshot, query))
    # then what is answered fits, one row more would not, and no row is left out before that one
    sizes = [weight(row) for row in expected.to_pylist()]
    count = leg.rows.num_rows
    assert leg.rows.equals(expected.slice(0, count))
    assert count <= 1 or sum(sizes[:count]) <= bytes_max
    assert leg.cut == (count < expected.num_rows)
    assert not leg.cut or sum(sizes[: count + 1]) > bytes_max
    assert leg.rows.num_rows or not expected.num_rows


def weight(row: dict[str, object]) -> int:
    """Sum up a row in a way of its own."""
    size = 0
    for field in SCHEMA:
        value = row[field.name]
        if str(field.type) in ("int32", "int64"):
            size += 4 if str(field.type) == "int32" else 8
        elif isinstance(value, str):
            size += len(value.encode())
        elif isinstance(value, bytes):
            size += len(value)
    return size


@given(where=NODES)
def test_a_negation_matches_what_its_node_does_not(corpus: Corpus, where: Node) -> None:
    marks, others = mask(where, corpus.rows).to_pylist(), mask(Not(node=where), corpus.rows).to_pylist()
    assert [not mark for mark in marks] == others

"""Which sources a predicate could match: only what a name alone makes false is left out."""

from __future__ import annotations

import pytest

from ashiato.core.ids import Kind
from ashiato.core.query_text import parse
from query.scope import facts_of, facts_of_folders, facts_of_kinds, possible

CONTAINER = "container/c1/node-1/shop/web-1/u-1/web"
OTHER = "container/c1/node-2/shop/web-2/u-2/web"
AUDIT = "audit/c1/cp/var/log/audit.log"
LEDGER = "ledger/c1/node-1/ledger.jsonl"
ALL = [CONTAINER, OTHER, AUDIT, LEDGER]


def in_scope(text: str) -> list[str]:
    may = possible(parse(text), facts_of(tuple(ALL)))
    return [source for source, could in zip(ALL, may, strict=True) if could]


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("*", ALL),
        ("some words", ALL),
        ("user:alice", ALL),
        ("kind:audit", [AUDIT]),
        ("NOT kind:audit", [CONTAINER, OTHER, LEDGER]),
        ("pod:web-1", [CONTAINER, LEDGER]),
        ("NOT pod:web-1", [OTHER, AUDIT, LEDGER]),
        ("pod:web-*", [CONTAINER, OTHER, LEDGER]),
        ("pod:web-1 AND kind:container", [CONTAINER]),
        ("pod:web-1 OR kind:audit", [CONTAINER, AUDIT, LEDGER]),
        ("pod:web-1 OR error", ALL),
        ("NOT (pod:web-1 AND error)", ALL),
        ("NOT (pod:web-1 OR error)", [OTHER, AUDIT, LEDGER]),
        ("node:node-2", [OTHER]),
        ("_exists_:k8s.pod.name", [CONTAINER, OTHER, LEDGER]),
        ("NOT _exists_:k8s.pod.name", [AUDIT, LEDGER]),
        ("uid:/^u-2$/", [OTHER, LEDGER]),
        ("file:01ARZ3NDEKTSV4RRFFQ69G5FAV", ALL),
    ],
)
def test_a_source_is_left_out_only_where_its_name_makes_the_predicate_false(text: str, sources: list[str]) -> None:
    assert in_scope(text) == sources


def test_a_source_that_cannot_be_read_stays_in() -> None:
    assert possible(parse("pod:web-1"), facts_of(("nonsense",))).tolist() == [True]


def test_a_pods_folder_is_out_of_scope_for_another_pod() -> None:
    folders = [
        "file/c1/node-1/var/log/pods/shop_web-1_u-1",
        "file/c1/node-1/var/log/pods",
        "file/c1/node-2/var/log/pods",
    ]
    facts = facts_of_folders(folders)
    assert possible(parse("uid:u-1"), facts).tolist() == [True, True, True]
    assert possible(parse("uid:u-2"), facts).tolist() == [False, True, True]
    assert possible(parse("node:node-2"), facts).tolist() == [False, False, True]


def test_what_a_kind_of_source_could_tell_is_known_of_the_kind() -> None:
    facts = facts_of_kinds([Kind.CONTAINER, Kind.AUDIT])
    assert possible(parse("pod:web-1"), facts).tolist() == [True, False]
    assert possible(parse("kind:audit user:alice"), facts).tolist() == [False, True]

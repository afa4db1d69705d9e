"""Which sources a predicate could match: it is evaluated three-valued over what a source's name tells (Q4).

A source is excluded only where its name alone makes the predicate false; what the name does not tell is unknown, and
unknown keeps the source in. Leaves are decided by the one predicate itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, assert_never

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ashiato.core.errors import RejectedError
from ashiato.core.ids import Kind, Source
from ashiato.core.layout import recognise
from ashiato.core.predicate import mask
from ashiato.core.query import All, And, Exists, Node, Not, Or, Phrase, Range, Regex, Term, Wildcard
from ashiato.core.record import column_of

Bools = npt.NDArray[np.bool_]

_POD_COLUMNS: Final = ("k8s_namespace_name", "k8s_pod_name", "k8s_pod_uid", "k8s_container_name")
_COLUMNS: Final = ("source", "source_kind", "k8s_cluster_name", "k8s_node_name", *_POD_COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts:
    """What the names of n sources tell."""

    table: pa.Table
    """A row a source, the columns that a name tells of."""
    known: Mapping[str, Bools]
    """Per column, where its value is known; a known null is no value."""


@lru_cache(maxsize=8)
def facts_of(sources: tuple[str, ...]) -> SourceFacts:
    """Return what each source's name tells; remembered, for sources come and go slowly.

    Rows of a ledger speak of other sources: their pods are unknown.
    """
    parsed = [_parsed(text) for text in sources]
    told: dict[str, list[str | None]] = {
        "source": list(sources),
        "source_kind": [source.kind if source else None for source in parsed],
        "k8s_cluster_name": [source.cluster or None if source else None for source in parsed],
        "k8s_node_name": [source.node or None if source else None for source in parsed],
        "k8s_namespace_name": [source.namespace or None if source else None for source in parsed],
        "k8s_pod_name": [source.pod or None if source else None for source in parsed],
        "k8s_pod_uid": [source.pod_uid or None if source else None for source in parsed],
        "k8s_container_name": [source.container or None if source else None for source in parsed],
    }
    named = np.array([source is not None for source in parsed], np.bool_)
    of_itself = np.array([source is not None and source.kind is not Kind.LEDGER for source in parsed], np.bool_)
    known = {name: of_itself if name in _POD_COLUMNS else named for name in _COLUMNS}
    known["source"] = np.ones(len(sources), np.bool_)
    return SourceFacts(table=_table(told), known=known)


def facts_of_folders(folders: Sequence[str]) -> SourceFacts:
    """Return what is known of the sources whose files would lie in folders, given as sources of kind ``file``."""
    told: dict[str, list[str | None]] = {name: [] for name in _COLUMNS}
    known: dict[str, list[bool]] = {name: [] for name in _COLUMNS}
    for text in folders:
        folder = _parsed(text)
        inside = (
            recognise(f"{folder.path}/container/0.log", cluster=folder.cluster, node=folder.node).source
            if folder is not None
            else None
        )
        is_pod = inside is not None and inside.kind is Kind.CONTAINER
        values = {
            "k8s_cluster_name": folder.cluster if folder else None,
            "k8s_node_name": folder.node if folder else None,
            "source_kind": Kind.CONTAINER if is_pod else None,
            "k8s_namespace_name": inside.namespace if is_pod and inside else None,
            "k8s_pod_name": inside.pod if is_pod and inside else None,
            "k8s_pod_uid": inside.pod_uid if is_pod and inside else None,
        }
        for name in _COLUMNS:
            told[name].append(values.get(name))
            known[name].append(values.get(name) is not None)
    return SourceFacts(table=_table(told), known={name: np.array(values, np.bool_) for name, values in known.items()})


def facts_of_kinds(kinds: Sequence[Kind]) -> SourceFacts:
    """Return what is known of any source of each kind."""
    told: dict[str, list[str | None]] = {name: [None] * len(kinds) for name in _COLUMNS}
    told["source_kind"] = list(kinds)
    apart = np.array([kind not in (Kind.CONTAINER, Kind.LEDGER) for kind in kinds], np.bool_)
    known = {name: apart if name in _POD_COLUMNS else np.zeros(len(kinds), np.bool_) for name in _COLUMNS}
    known["source_kind"] = np.ones(len(kinds), np.bool_)
    return SourceFacts(table=_table(told), known=known)


def possible(node: Node, facts: SourceFacts) -> Bools:
    """Return for each source whether a row of it could match.

    Raises:
        RejectedError: the predicate cannot be evaluated.

    """
    return _judge(node, facts)[0]


def _judge(node: Node, facts: SourceFacts) -> tuple[Bools, Bools]:
    """Return (could be true, must be true)."""
    count = facts.table.num_rows
    match node:
        case All():
            return np.ones(count, np.bool_), np.ones(count, np.bool_)
        case Not(node=inner):
            may, must = _judge(inner, facts)
            return ~must, ~may
        case And(nodes=nodes):
            may, must = np.ones(count, np.bool_), np.ones(count, np.bool_)
            for inner in nodes:
                inner_may, inner_must = _judge(inner, facts)
                may, must = may & inner_may, must & inner_must
            return may, must
        case Or(nodes=nodes):
            may, must = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
            for inner in nodes:
                inner_may, inner_must = _judge(inner, facts)
                may, must = may | inner_may, must | inner_must
            return may, must
        case Term() | Phrase() | Wildcard() | Regex() | Range() | Exists():
            return _leaf(node, facts)
        case _:
            assert_never(node)


def _leaf(node: Term | Phrase | Wildcard | Regex | Range | Exists, facts: SourceFacts) -> tuple[Bools, Bools]:
    column = column_of(node.field) if node.field else None
    known = facts.known.get(column.name) if column is not None else None
    if known is None:
        count = facts.table.num_rows
        return np.ones(count, np.bool_), np.zeros(count, np.bool_)
    holds = np.asarray(mask(node, facts.table).to_numpy(zero_copy_only=False), np.bool_)
    return holds | ~known, holds & known


def _parsed(text: str) -> Source | None:
    try:
        return Source.parse(text)
    except RejectedError:
        return None


def _table(told: Mapping[str, Sequence[str | None]]) -> pa.Table:
    return pa.table({name: pa.array(told[name], pa.string()) for name in _COLUMNS})

"""Which row groups of a pack can hold a match (Q3): judged by the manifest alone, never narrower than the truth.

A row group is bounded by its ordering times, and by the files that it holds rows of. What a file's source tells of
every row in it is held against the predicate in three values: it must match, it cannot, or that is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, assert_never

import numpy as np
import pyarrow as pa

from ashiato.core.errors import RejectedError
from ashiato.core.ids import Kind, Source
from ashiato.core.manifest import FileHeld, Manifest
from ashiato.core.predicate import UID, compile_node
from ashiato.core.query import All, And, Exists, Node, Not, Or, Phrase, Query, Range, Regex, Term, Wildcard
from ashiato.core.record import UID_FIELD, column_of
from ashiato.core.string_match import Mask

_OF_FILE: Final = ("file_id", "source", "source_kind")
_OF_EVERY_SOURCE: Final = (*_OF_FILE, "k8s_cluster_name", "k8s_node_name")
_OF_CONTAINERS: Final = (
    *_OF_EVERY_SOURCE, "k8s_namespace_name", "k8s_pod_name", "k8s_pod_uid", "k8s_container_name",
)  # fmt: skip
"""A container's rows carry what its path tells. Rows of other sources may speak of any pod, as gaps do."""


def row_groups_of(query: Query, manifest: Manifest) -> list[int]:
    """Return the numbers of the row groups that can hold a match of ``query``, in order."""
    held = _of_files(query.where, manifest)
    return [
        number
        for number, group in enumerate(manifest.row_groups)
        if number in held and overlaps(query, group.time_min_unix_nano, group.time_max_unix_nano)
    ]


def overlaps(query: Query, time_min_unix_nano: int, time_max_unix_nano: int) -> bool:
    """Tell whether rows with ordering times in ``[min, max]``, both included, can lie in the query's time range."""
    start, end = query.time_start_unix_nano, query.time_end_unix_nano
    return (start is None or time_max_unix_nano >= start) and (end is None or time_min_unix_nano < end)


@dataclass(frozen=True, slots=True)
class _Known:
    """Of each file: whether a row can match, and whether every row must."""

    may: Mask
    must: Mask


def _of_files(where: Node, manifest: Manifest) -> set[int]:
    held: set[int] = set()
    containers = [file for file in manifest.files if _source(file) is not None and _is_container(file)]
    others = [file for file in manifest.files if _source(file) is not None and not _is_container(file)]
    unheard = [file for file in manifest.files if _source(file) is None]
    for files, columns in ((containers, _OF_CONTAINERS), (others, _OF_EVERY_SOURCE), (unheard, _OF_FILE[:2])):
        may = _judge(where, _facts(files, columns)).may
        held.update(number for file, can in zip(files, may.tolist(), strict=True) if can for number in file.row_groups)
    return held


def _facts(files: list[FileHeld], columns: tuple[str, ...]) -> pa.Table:
    rows = []
    for file in files:
        source = _source(file)
        facts = {"file_id": file.file_id, "source": file.source}
        if source is not None:
            facts |= {
                "source_kind": str(source.kind), "k8s_cluster_name": source.cluster, "k8s_node_name": source.node,
                "k8s_namespace_name": source.namespace, "k8s_pod_name": source.pod, "k8s_pod_uid": source.pod_uid,
                "k8s_container_name": source.container,
            }  # fmt: skip
        rows.append({name: facts[name] for name in columns})
    return pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in columns]))


def _judge(node: Node, facts: pa.Table) -> _Known:
    match node:
        case All():
            return _both(np.ones(facts.num_rows, np.bool_))
        case Not(node=inner):
            known = _judge(inner, facts)
            return _Known(may=~known.must, must=~known.may)
        case And(nodes=nodes):
            every = [_judge(inner, facts) for inner in nodes]
            start = np.ones(facts.num_rows, np.bool_)
            return _Known(
                may=np.logical_and.reduce([start, *(one.may for one in every)]),
                must=np.logical_and.reduce([start, *(one.must for one in every)]),
            )
        case Or(nodes=nodes):
            any_of = [_judge(inner, facts) for inner in nodes]
            start = np.zeros(facts.num_rows, np.bool_)
            return _Known(
                may=np.logical_or.reduce([start, *(one.may for one in any_of)]),
                must=np.logical_or.reduce([start, *(one.must for one in any_of)]),
            )
        case Term() | Phrase() | Wildcard() | Regex() | Range() | Exists():
            return _judge_leaf(node, facts)
        case _:
            assert_never(node)


def _judge_leaf(node: Term | Phrase | Wildcard | Regex | Range | Exists, facts: pa.Table) -> _Known:
    if node.field == UID_FIELD and isinstance(node, (Term, Phrase)) and (match := UID.fullmatch(node.value)):
        in_file = _judge_leaf(Term(field="file_id", value=match["file_id"]), facts)
        return _Known(may=in_file.may, must=np.zeros(facts.num_rows, np.bool_))
    column = column_of(node.field) if node.field != UID_FIELD else None
    if column is not None and column.name in facts.column_names:
        return _both(compile_node(node).evaluate(facts))
    return _Known(may=np.ones(facts.num_rows, np.bool_), must=np.zeros(facts.num_rows, np.bool_))


def _both(marks: Mask) -> _Known:
    return _Known(may=marks, must=marks)


def _source(file: FileHeld) -> Source | None:
    try:
        return Source.parse(file.source)
    except RejectedError:
        return None


def _is_container(file: FileHeld) -> bool:
    return file.source.startswith(f"{Kind.CONTAINER}/")

"""Documents of many rows at once, made from the columns: what ``opensearch_mapping.source_of`` makes of each.

Rows that follow each other say the same in most columns. What few values share is encoded once for each combination
of values, and only what differs from row to row is encoded for each row.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute

from ashiato.adapters import index_documents
from ashiato.adapters import opensearch_mapping as mapping
from ashiato.core.ports import Document
from ashiato.core.table import order_times, uids

pc: Final[Any] = pyarrow.compute

SHARED_VALUES_MAX: Final = 64
"""Different values of a column that are worth encoding once for each combination."""
_LONG_CHARS_MIN: Final = mapping.KEYWORD_UNITS_MAX // 2
"""Shorter values are never too long, whatever they are made of."""
_DAY_NS: Final = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one retention class, and what OpenSearch is to hold of each."""

    table: pa.Table
    retention_class: str
    uids: Sequence[str]
    indices: Sequence[str]
    sources: Sequence[bytes]

    def document(self, row: int) -> Document:
        """Return one of them at the rim, for what is to be sent in another form."""
        return index_documents.document_of(self.table.slice(row, 1).to_pylist()[0], self.retention_class)


def rows_of(table: pa.Table, retention_class: str) -> Rows:
    """Return the documents of all rows of ``table``."""
    return Rows(
        table=table,
        retention_class=retention_class,
        uids=uids(table),
        indices=_indices(table, retention_class),
        sources=_sources(table),
    )


def _indices(table: pa.Table, retention_class: str) -> list[str]:
    """Return the index of each row: of its day of reading and its class, or where all misdated rows go."""
    days = np.floor_divide(table["observed_time_unix_nano"].to_numpy(), _DAY_NS).tolist()
    names = {day: _index_of(day * _DAY_NS, retention_class) for day in set(days)}
    return [names[day] for day in days]


def _index_of(observed_unix_nano: int, retention_class: str) -> str:
    home = index_documents.home_of({
        index_documents.CLASS_KEY: retention_class, "observed_time_unix_nano": observed_unix_nano,
    })  # fmt: skip
    return mapping.index_of(home[1], home[0]) if home is not None else mapping.MISDATED


def _sources(table: pa.Table) -> list[bytes]:
    shared, own, long_names = _divided(table)
    parts, of_row = _shared_parts(shared, table.num_rows)
    names = list(own)
    bodies = table[mapping.BODY].to_pylist()
    sources: list[bytes] = []
    for part, body, row in zip(of_row, bodies, zip(*own.values(), strict=True), strict=True):
        beginning, told = parts[part]
        fields = {name: value for name, value in zip(names, row, strict=True) if value is not None}
        unindexed = [*told, *(name for name in long_names if name in fields and mapping.is_long(fields[name]))]
        if body is not None:
            fields |= mapping.searched(body, unindexed)
        if unindexed:
            fields[mapping.UNINDEXED] = unindexed
        sources.append(beginning + orjson.dumps(fields)[1:])
    return sources


def _divided(table: pa.Table) -> tuple[dict[str, Any], dict[str, list[Any]], list[str]]:
    """Return the columns of few values, the values of all others but the body, and which of these may be too long."""
    shared: dict[str, Any] = {}
    own: dict[str, list[Any]] = {mapping.ORDER_TIME: order_times(table).to_pylist()}
    raws = table["raw"].to_pylist()
    own["raw"] = [base64.b64encode(raw).decode() if raw is not None else None for raw in raws]
    long_names: list[str] = []
    for column in mapping.INDEXED:
        values: Any = table[column.name].combine_chunks()
        if column.name == "flags":
            values = pc.fill_null(values, 0)
        if values.null_count == len(values):
            continue
        encoded = values.dictionary_encode()
        if len(encoded.dictionary) <= SHARED_VALUES_MAX:
            shared[column.name] = encoded
            continue
        own[column.name] = values.to_pylist()
        if column.type == "string" and pc.max(pc.utf8_length(values)).as_py() > _LONG_CHARS_MIN:
            long_names.append(column.name)
    return shared, own, long_names


def _shared_parts(shared: dict[str, Any], count: int) -> tuple[list[tuple[bytes, list[str]]], list[int]]:
    """Return, for each combination of shared values, the beginning of its documents and what of it is too long.

    And for each row, which combination is its own.
    """
    of_row: npt.NDArray[np.int64] = np.zeros(count, np.int64)
    for encoded in shared.values():
        several = len(encoded.dictionary)
        if several == 1 and not encoded.null_count:
            continue
        codes = pc.fill_null(encoded.indices, several).to_numpy(zero_copy_only=False)
        _, of_row = np.unique(of_row * (several + 1) + codes, return_inverse=True)
    _, examples = np.unique(of_row, return_index=True)
    parts: list[tuple[bytes, list[str]]] = []
    for row in examples.tolist():
        said = {name: encoded[row].as_py() for name, encoded in shared.items()}
        fields = {name: value for name, value in said.items() if value is not None}
        told = [name for name, value in fields.items() if isinstance(value, str) and mapping.is_long(value)]
        parts.append((orjson.dumps(fields)[:-1] + (b"," if fields else b""), told))
    return parts, of_row.tolist()

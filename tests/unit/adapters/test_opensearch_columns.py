"""Documents made from columns are those that are made of each row alone."""

from __future__ import annotations

from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings

from ashiato.adapters import opensearch_columns
from ashiato.adapters import opensearch_mapping as mapping
from ashiato.adapters.index_documents import document_of
from ashiato.core.record import UID_FIELD
from tests.contract import index_rows as rows

_SETS = (mapping.BODY_TOKENS, mapping.ATTRIBUTES, mapping.UNINDEXED)
"""Fields whose values have no order."""


def one_by_one(table: pa.Table, retention_class: str) -> list[tuple[str, str, dict[str, Any]]]:
    documents = [document_of(row, retention_class) for row in table.to_pylist()]
    return [
        (
            str(document[UID_FIELD]),
            mapping.home_of(document),
            ordered(mapping.action(document, "i").splitlines()[1]),
        )
        for document in documents
    ]


def at_once(table: pa.Table, retention_class: str) -> list[tuple[str, str, dict[str, Any]]]:
    made = opensearch_columns.rows_of(table, retention_class)
    return list(zip(made.uids, made.indices, map(ordered, made.sources), strict=True))


def ordered(source: bytes) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(source)
    return {name: sorted(value) if name in _SETS else value for name, value in found.items()}


@settings(max_examples=100, deadline=None)
@given(table=rows.tables())
def test_documents_of_whatever_rows_are_those_of_each_row(table: pa.Table) -> None:
    assert at_once(table, "container") == one_by_one(table, "container")


@pytest.mark.parametrize("retention_class", ["audit", "no class Ä", ""])
def test_documents_of_real_rows_and_of_defects_are_those_of_each_row(retention_class: str) -> None:
    for table in (rows.incident(), rows.defects(), rows.incident().slice(0, 0)):
        assert at_once(table, retention_class) == one_by_one(table, retention_class)


def test_a_row_is_given_again_as_the_document_that_it_is() -> None:
    table = rows.defects()
    made = opensearch_columns.rows_of(table, "container")
    assert [made.document(row) for row in range(table.num_rows)] == rows.documents_of(table)

"""Rows at the rim: names, 64-bit integers as strings, bytes in base64, and back again."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ashiato.core.record import BY_RIM, COLUMNS, UID_FIELD, RowFlags, from_document, to_document
from ashiato.core.table import SCHEMA, uids
from ingest.rows import build_rows
from tests.property.content import contents
from tests.unit.ingest.files import admitted, chunk, chunks, cri, file_id


def test_columns_and_schema_are_the_same_and_names_are_unique() -> None:
    assert [column.name for column in COLUMNS] == SCHEMA.names
    assert len(BY_RIM) == len(COLUMNS)


def test_a_row_at_the_rim_is_flat_and_json() -> None:
    rows, _, _ = build_rows(admitted([chunk(b"\xff garbage\n"), chunk(cri("ok", at=5), 10)]), {})
    garbage, taken = map(to_document, rows.to_pylist())
    assert json.loads(json.dumps(taken)) == taken
    assert taken[UID_FIELD] == f"{file_id()}-{10:016x}"
    assert taken["time_unix_nano"] == "1795608005000000005"
    assert taken["ashiato.offset"] == "10"
    assert taken["k8s.pod.name"] == "web-1"
    assert taken["k8s.container.restart_count"] == 0
    assert "ashiato.flags" not in taken
    assert "log.record.original" not in taken
    assert garbage["ashiato.flags"] == ["quarantined"]
    assert garbage["log.record.original"] == {"base64": "/yBnYXJiYWdlCg=="}


@given(content=contents(), flags=st.sampled_from(list(RowFlags)))
def test_documents_give_the_row_back(content: bytes, flags: RowFlags) -> None:
    rows, _, _ = build_rows(admitted(chunks(content, closed=True)), {})
    names = uids(rows)
    for name, row in zip(names, rows.to_pylist(), strict=True):
        row["flags"] |= int(flags)
        document = json.loads(json.dumps(to_document(row)))
        assert document[UID_FIELD] == name
        assert _shown(from_document(document)) == _shown(row)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without its empty values, which the rim leaves out."""
    return {name: value for name, value in row.items() if value not in (None, "")}

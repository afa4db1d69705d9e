"""How rows stand in OpenSearch: what cannot be indexed in full is named, and every row comes back to the letter."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings

from ashiato.adapters import opensearch_mapping as mapping
from ashiato.adapters.index_documents import CLASS_KEY, document_of
from ashiato.core.errors import RejectedError
from ashiato.core.record import COLUMNS, UID_FIELD
from ashiato.core.table import SCHEMA
from tests.contract import index_rows as rows


def stored(row: dict[str, object], *, projected: bool = False) -> dict[str, Any]:
    """Return what OpenSearch gives back of a row."""
    _, source = mapping.action(document_of(row, "container"), "i", projected=projected).splitlines()
    found: dict[str, Any] = orjson.loads(source)
    return found


def sent(**changes: object) -> dict[str, Any]:
    row = {**rows.incident().slice(0, 1).to_pylist()[0], **changes}
    _, source = mapping.action(document_of(row, "container"), "i").splitlines()
    found: dict[str, Any] = orjson.loads(source)
    return found


@settings(max_examples=100, deadline=None)
@given(table=rows.tables())
def test_any_row_comes_back_as_it_was_whole_or_projected(table: pa.Table) -> None:
    given = table.to_pylist()
    for projected in (False, True):
        back = [mapping.row_of(stored(row, projected=projected)) for row in given]
        assert pa.Table.from_pylist(back, schema=SCHEMA).equals(table)


def test_every_column_has_a_field_or_a_reason() -> None:
    properties = mapping.mappings()["properties"]
    assert isinstance(properties, dict)
    assert {column.name for column in COLUMNS} - set(properties) == {"raw"}


def test_the_mapping_is_closed() -> None:
    assert mapping.mappings()["dynamic"] is False


@pytest.mark.parametrize(
    ("changes", "unindexed"),
    [
        ({"user_name": "u" * 1024}, []),
        ({"user_name": "u" * 1025}, ["user_name"]),
        ({"user_name": "\U0001f600" * 512}, []),
        ({"user_name": "\U0001f600" * 513}, ["user_name"]),
        ({"body": " ".join(f"w{n}" for n in range(mapping.TOKENS_MAX))}, []),
        ({"body": " ".join(f"w{n}" for n in range(mapping.TOKENS_MAX + 1))}, ["body"]),
        ({"body": json.dumps({f"f{n}": n for n in range(10_000)})}, []),
        ({"body": json.dumps({"f": [0] * mapping.ATTRIBUTES_MAX})}, []),
        ({"body": json.dumps({"f": [0] * (mapping.ATTRIBUTES_MAX + 1)})}, ["attributes"]),
        ({"body": json.dumps({"f": "x" * 5000, "g": 1})}, ["attributes"]),
        ({"body": '{"": 1}'}, []),
    ],
)
def test_what_is_not_indexed_in_full_is_named(changes: dict[str, object], unindexed: list[str]) -> None:
    assert sent(**changes).get(mapping.UNINDEXED, []) == unindexed


def test_attributes_are_texts_by_path() -> None:
    found, whole = mapping.attributes_of('{"a": {"b": [1, "x", null, true]}, "c": 1.50, "user": "\\ud800"}')
    assert (found, whole) == (["a.b=1", "a.b=x", "a.b=true", "c=1.5", "user=\ufffd"], True)
    assert mapping.attributes_of("plain text") == ([], True)


def test_times_stand_as_whole_nanoseconds() -> None:
    assert sent(time_unix_nano=9_007_199_254_740_993)["order_time"] == 9_007_199_254_740_993
    assert sent(time_unix_nano=None)["order_time"] == rows.NOON


def test_a_document_goes_to_the_day_of_its_reading_and_its_class() -> None:
    document = rows.documents_of(rows.incident().slice(0, 1))[0]
    assert mapping.home_of(document) == "ashiato-audit-2026.11.24"
    assert mapping.home_of({**document, CLASS_KEY: "gold"}) == "ashiato-gold-2026.11.24"
    late = {**document, "observed_time_unix_nano": str(rows.NOON + 12 * 3_600_000_000_000)}
    assert mapping.home_of(late) == "ashiato-audit-2026.11.25"
    for odd in ({CLASS_KEY: "Ä"}, {CLASS_KEY: ""}, {"observed_time_unix_nano": str(1 << 62)}):
        assert mapping.home_of({**document, **odd}).startswith("ashiato-")
    assert mapping.home_of({UID_FIELD: "x"}) == mapping.MISDATED


def test_names_are_read_back() -> None:
    name = mapping.index_of("audit", "2026-11-24")
    assert mapping.day_and_class(mapping.index_behind(name)) == ("2026-11-24", "audit")
    for other in (name, mapping.index_behind(mapping.MISDATED), mapping.index_behind(mapping.STATE), "ashiato-x.v1"):
        assert mapping.day_and_class(other) is None


@pytest.mark.parametrize(("name", "day"), [("A", "2026-11-24"), ("a", "2026-1-24"), ("a,b", "2026-11-24"), ("a", "")])
def test_what_cannot_stand_in_a_name_is_refused(name: str, day: str) -> None:
    with pytest.raises(RejectedError):
        mapping.index_of(name, day)

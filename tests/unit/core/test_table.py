"""The table: its total order, its uids, and the shape that every table of rows has."""

from __future__ import annotations

import pyarrow as pa
import pytest

from ashiato.core.record import order_key
from ashiato.core.table import (
    SCHEMA,
    binary_array,
    conform,
    empty,
    in_order,
    offsets_of,
    order_times,
    uids,
    without_doubles,
)
from ingest.rows import build_rows
from tests.unit.ingest.files import NOON, admitted, chunk, cri


def _rows() -> pa.Table:
    arriving = [
        chunk(cri("late", at=9) + cri("early", at=1), number=2),
        chunk(b"untimed\n", number=1, observed=NOON + 5_000_000_000),
        chunk(cri("early too", at=1), number=3),
    ]
    return build_rows(admitted(arriving), {})[0]


def test_rows_stand_in_order_of_time_file_and_offset() -> None:
    assert in_order(_rows())["body"].to_pylist() == ["early", "early too", "untimed", "late"]
    assert in_order(_rows(), newest_first=True, limit=2)["body"].to_pylist() == ["late", "untimed"]
    assert in_order(_rows()).schema == SCHEMA
    assert in_order(empty()).num_rows == 0


def test_the_order_of_the_table_is_the_order_of_its_rows_and_its_reverse_is_the_reverse() -> None:
    rows = _rows()
    at = SCHEMA.get_field_index("k8s_node_name")
    times = pa.array([NOON] * rows.num_rows, pa.int64())
    for nodes in (["b", None, "", "a"], [None, "a", None, "a"]):
        table = rows.set_column(at, SCHEMA.field(at), pa.array(nodes, pa.string()))
        table = table.set_column(SCHEMA.get_field_index("time_unix_nano"), SCHEMA.field("time_unix_nano"), times)
        expected = sorted(table.to_pylist(), key=order_key)
        assert in_order(table).to_pylist() == expected
        assert in_order(table, newest_first=True).to_pylist() == expected[::-1]


def test_what_has_no_time_is_ordered_by_its_reading() -> None:
    assert order_times(_rows()).to_pylist().count(NOON + 5_000_000_000) == 1


def test_doubles_go_by_uid() -> None:
    rows = _rows()
    twice = pa.concat_tables([rows, rows.slice(1, 2)])
    assert without_doubles(twice).to_pylist() == rows.to_pylist()
    assert len(set(uids(rows))) == rows.num_rows


def test_tables_are_brought_into_shape() -> None:
    rows = _rows()
    at = SCHEMA.get_field_index("source")
    encoded = rows.set_column(at, "source", rows["source"].dictionary_encode()).append_column("x", rows["flags"])
    assert conform(encoded).schema == SCHEMA
    assert conform(encoded).to_pylist() == rows.to_pylist()
    with pytest.raises(KeyError):
        conform(rows.drop_columns(["body"]))


def test_binary_arrays_are_made_and_measured_without_a_copy() -> None:
    array = pa.array([b"ab", b"", b"c"], pa.binary())
    assert binary_array(offsets_of(array), b"abc").to_pylist() == [b"ab", b"", b"c"]
    assert offsets_of(array.slice(1)).tolist() == [2, 2, 3]
    assert offsets_of(pa.array([], pa.binary())).tolist() == [0]

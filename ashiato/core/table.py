"""The row table in Arrow: schema, empty table, total order. The collector never imports this module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from ashiato.core.errors import EvidenceError
from ashiato.core.record import COLUMNS, ROW_VERSION

pc: Final[Any] = pyarrow.compute


_TYPES: Final = {"string": pa.string(), "int32": pa.int32(), "int64": pa.int64(), "binary": pa.binary()}

_VERSION_KEY: Final = b"ashiato.row_version"
_VERSION: Final = str(ROW_VERSION).encode()

SCHEMA: Final = pa.schema(
    [pa.field(column.name, _TYPES[column.type]) for column in COLUMNS], metadata={_VERSION_KEY: _VERSION}
)
"""Every table of rows has exactly these columns, in this order, whatever their encoding on disk."""

PARTITION_COLUMNS: Final = ("retention_class", "day")


def empty() -> pa.Table:
    """Return a table of no rows."""
    return SCHEMA.empty_table()


def conform(table: pa.Table) -> pa.Table:
    """Return ``table`` with exactly the columns and types of :data:`SCHEMA`; dictionaries and views unpacked.

    Raises:
        pyarrow.ArrowInvalid: a value does not fit its column.
        KeyError: a column is missing.

    """
    return pa.table([table.column(field.name).cast(field.type) for field in SCHEMA], schema=SCHEMA)


def check_version(metadata: Mapping[bytes, bytes] | None) -> None:
    """Hold the version that stored rows state against the one that is read.

    Raises:
        EvidenceError: another one, or none.

    """
    stated = (metadata or {}).get(_VERSION_KEY)
    if stated != _VERSION:
        raise EvidenceError("rows of an unknown version", version=(stated or b"").decode("ascii", "replace"))


def order_times(table: pa.Table) -> pa.ChunkedArray[Any]:
    """Return the time that orders each row: event time, else reading time."""
    times: pa.ChunkedArray[Any] = pc.coalesce(table["time_unix_nano"], table["observed_time_unix_nano"])
    return times


def in_order(table: pa.Table, *, newest_first: bool = False, limit: int | None = None) -> pa.Table:
    """Return rows in the total order (time, node, file, offset), or its reverse, cut to ``limit``."""
    if table.num_rows == 0:
        return table
    way = "descending" if newest_first else "ascending"
    # A null node sorts as the empty one, which it is in `record.order_key`: Arrow puts nulls last both ways.
    keyed = table.append_column("order_time", order_times(table)).append_column(
        "order_node", pc.fill_null(table["k8s_node_name"], "")
    )
    keys = [(name, way) for name in ("order_time", "order_node", "file_id", "offset_start")]
    indices = pc.sort_indices(keyed, sort_keys=keys)
    return table.take(indices[:limit] if limit is not None else indices)


def row_bytes(table: pa.Table) -> npt.NDArray[np.int64]:
    """Return the bytes of each row's values: the same for a row wherever it was read, however it was stored."""
    found = np.zeros(table.num_rows, np.int64)
    for column in table.columns:
        if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
            found += pc.fill_null(pc.binary_length(column), 0).to_numpy()
        else:
            found += column.type.byte_width
    return found


def fitting(sizes: npt.NDArray[np.int64], *, rows_max: int, bytes_max: int) -> int:
    """Return how many rows from the first on an answer may have; one fits in bytes whatever its size."""
    within = int(np.searchsorted(np.cumsum(sizes), bytes_max, side="right"))
    return min(rows_max, max(within, 1))


def uids(table: pa.Table) -> list[str]:
    """Return ``log.record.uid`` of each row."""
    columns = (table[name].to_pylist() for name in ("file_id", "offset_start", "length", "join_offset"))
    return [
        f"{file_id}-{joined:016x}-j" if length == 0 and joined is not None else f"{file_id}-{offset:016x}"
        for file_id, offset, length, joined in zip(*columns, strict=True)
    ]


def without_doubles(table: pa.Table) -> pa.Table:
    """Return ``table`` with the first row of each uid (Q1)."""
    seen: set[str] = set()
    keep: list[bool] = []
    for uid in uids(table):
        keep.append(uid not in seen)
        seen.add(uid)
    return table if all(keep) else table.filter(pa.array(keep))


def binary_array(offsets: npt.NDArray[np.int32], content: bytes | npt.NDArray[np.uint8]) -> pa.BinaryArray:
    """Return the values ``content[offsets[i]:offsets[i + 1]]`` without copying ``content``."""
    buffers: list[Any] = [
        None,
        pa.py_buffer(offsets.data),
        pa.py_buffer(content if isinstance(content, bytes) else content.data),
    ]
    array: Any = pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)
    values: pa.BinaryArray = array
    return values


def offsets_of(array: Any) -> npt.NDArray[np.int32]:
    """Return where each value of a binary or string array begins in its content, and where the last one ends."""
    buffer = array.buffers()[1]
    if buffer is None:
        return np.zeros(len(array) + 1, np.int32)
    offsets: npt.NDArray[np.int32] = np.frombuffer(buffer, np.int32)
    return offsets[array.offset : array.offset + len(array) + 1]

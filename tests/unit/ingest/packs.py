"""Packs as tests build them and read them back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ashiato.core.render import render_file
from ashiato.core.table import conform
from ingest.contracts import BuiltPack, LineState, Piece
from ingest.pack import PackBuilder

RANDOMNESS = bytes(32)


def build_pack(
    folder: Path, pieces: Iterable[Piece], states: Mapping[str, LineState] | None = None
) -> tuple[BuiltPack | None, dict[str, LineState]]:
    folder.mkdir(parents=True, exist_ok=True)
    builder = PackBuilder(folder, "container", RANDOMNESS, states or {})
    builder.add(pieces)
    return builder.finish(), builder.states


def rows_of(pack: BuiltPack) -> pa.Table:
    return conform(pq.read_table(pack.file))


def bytes_by_file(pack: BuiltPack) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for group in range(pq.ParquetFile(pack.file).num_row_groups):
        rows = conform(pq.ParquetFile(pack.file).read_row_group(group))
        for name in rows["file_id"].unique().to_pylist():
            own = rows.filter(pa.array([file_id == name for file_id in rows["file_id"].to_pylist()], pa.bool_()))
            found[str(name)] = found.get(str(name), b"") + render_file(own)
    return found

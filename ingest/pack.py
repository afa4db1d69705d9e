"""Packs: rows to one Parquet object, read back and held against the bytes before it counts (I1).

Row groups are built per source and written as they fill, so memory does not follow the commit's size (I2).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ashiato.core.invariants import I1, check
from ashiato.core.limits import ROW_GROUP_BYTES
from ashiato.core.manifest import FileHeld, Manifest, RangeHeld, RowGroup
from ashiato.core.render import render_rows
from ashiato.core.table import SCHEMA, conform, order_times
from ingest.contracts import BuiltPack, LineState, Piece
from ingest.rows import build_rows

RANDOM_KEY: Final = b"ashiato.random"
_PLAIN: Final = {
    "offset_start": "DELTA_BINARY_PACKED",
    "length": "DELTA_BINARY_PACKED",
    "time_unix_nano": "DELTA_BINARY_PACKED",
    "body": "DELTA_LENGTH_BYTE_ARRAY",
    "raw": "DELTA_LENGTH_BYTE_ARRAY",
}
_TIMES: Final = ["time_unix_nano", "observed_time_unix_nano"]


@dataclass(slots=True, kw_only=True)
class _File:
    source: str
    path: str
    ranges: list[list[int]] = field(default_factory=list)
    rows: int = 0
    row_groups: list[int] = field(default_factory=list)
    salts: set[tuple[int, bytes]] = field(default_factory=set)


class PackBuilder:
    """Builds one pack of one retention class. ``states`` are updated as rows are built, for the batch behind it."""

    def __init__(self, folder: Path, retention_class: str, randomness: bytes, states: Mapping[str, LineState]) -> None:
        self.states: dict[str, LineState] = {}
        self._before = states
        self._class = retention_class
        self._path = folder / f"{retention_class}.parquet"
        self._schema = SCHEMA.with_metadata({**(SCHEMA.metadata or {}), RANDOM_KEY: randomness.hex().encode()})
        self._writer: pq.ParquetWriter | None = None
        self._pending: list[Piece] = []
        self._pending_bytes = 0
        self._files: dict[str, _File] = {}
        self._groups: list[RowGroup] = []
        self._digests: list[dict[str, bytes]] = []
        self._observed: list[tuple[int, int]] = []
        self._quarantined = 0

    def add(self, pieces: Iterable[Piece]) -> None:
        """Take pieces, best ordered by source; full row groups are written at once."""
        for piece in pieces:
            self._pending.append(piece)
            self._pending_bytes += len(piece.chunk.payload)
            if self._pending_bytes >= ROW_GROUP_BYTES:
                self._write()

    def finish(self) -> BuiltPack | None:
        """Write what is left, read everything back, and return the pack; None where there were no rows.

        Raises:
            InvariantError: I1, the written file does not give the bytes back.

        """
        self._write()
        if self._writer is None:
            return None
        self._writer.close()
        self._read_back()
        with self._path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        observed_max = max(high for _, high in self._observed)
        day = datetime.fromtimestamp(observed_max // 1_000_000_000, UTC).strftime("%Y-%m-%d")
        told = Manifest(
            path=f"retention_class={self._class}/day={day}/{sha256}.parquet",
            sha256=sha256,
            size=self._path.stat().st_size,
            rows=sum(group.rows for group in self._groups),
            raw_bytes=sum(group.raw_bytes for group in self._groups),
            retention_class=self._class,
            day=day,
            time_min_unix_nano=min(group.time_min_unix_nano for group in self._groups),
            time_max_unix_nano=max(group.time_max_unix_nano for group in self._groups),
            observed_min_unix_nano=min(low for low, _ in self._observed),
            observed_max_unix_nano=observed_max,
            files=tuple(
                FileHeld(
                    file_id=file_id,
                    source=held.source,
                    path=held.path,
                    ranges=tuple(RangeHeld(start=start, end=end) for start, end in held.ranges),
                    rows=held.rows,
                    row_groups=tuple(held.row_groups),
                    salts=tuple(sorted(held.salts)),
                )
                for file_id, held in sorted(self._files.items())
            ),
            row_groups=tuple(self._groups),
        )
        return BuiltPack(file=self._path, manifest=told, quarantined_rows=self._quarantined)

    def _write(self) -> None:
        pieces, self._pending, self._pending_bytes = self._pending, [], 0
        if not pieces:
            return
        rows, states, quarantined = build_rows(pieces, {**self._before, **self.states})
        self.states.update(states)
        self._quarantined += quarantined
        self._note_ranges(pieces)
        if rows.num_rows == 0:
            return
        self._note_rows(pieces, rows)
        if self._writer is None:
            self._writer = _open_writer(self._path, self._schema)
        self._writer.write_table(rows.replace_schema_metadata(self._schema.metadata), row_group_size=rows.num_rows)

    def _note_ranges(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            chunk = piece.chunk
            held = self._files.setdefault(chunk.file.file_id, _File(source=chunk.file.source, path=chunk.file.path))
            if held.ranges and held.ranges[-1][1] == chunk.offset_start:
                held.ranges[-1][1] = chunk.offset_end
            elif chunk.payload:
                held.ranges.append([chunk.offset_start, chunk.offset_end])
            held.salts.update(chunk.file.salts)

    def _note_rows(self, pieces: list[Piece], rows: pa.Table) -> None:
        number = len(self._groups)
        times = pc.min_max(order_times(rows)).as_py()
        observed = pc.min_max(rows["observed_time_unix_nano"]).as_py()
        self._observed.append((observed["min"], observed["max"]))
        self._groups.append(
            RowGroup(
                rows=rows.num_rows,
                raw_bytes=sum(len(piece.chunk.payload) for piece in pieces),
                time_min_unix_nano=times["min"],
                time_max_unix_nano=times["max"],
            )
        )
        for entry in rows["file_id"].value_counts().to_pylist():
            held = self._files[entry["values"]]
            held.rows += entry["counts"]
            held.row_groups.append(number)
        self._digests.append(_digests_of_pieces(pieces))

    def _read_back(self) -> None:
        """(I1) read each row group from the written bytes, render it, and compare with what came."""
        written = pq.ParquetFile(self._path)
        check(I1, written.num_row_groups == len(self._digests), reason="row groups are missing")
        for number, expected in enumerate(self._digests):
            rows = conform(written.read_row_group(number, use_threads=False))
            check(I1, _digests_of_rows(rows) == expected, row_group=number, retention_class=self._class)
        written.close()


def _digests_of_pieces(pieces: list[Piece]) -> dict[str, bytes]:
    """Return the digest of each file's bytes, in offset order."""
    by_file: dict[str, list[Piece]] = {}
    for piece in pieces:
        if piece.chunk.payload:
            by_file.setdefault(piece.chunk.file.file_id, []).append(piece)
    digests = {}
    for file_id, own in by_file.items():
        own.sort(key=lambda piece: piece.chunk.offset_start)
        digest = hashlib.sha256()
        for piece in own:
            digest.update(piece.chunk.payload)
        digests[file_id] = digest.digest()
    return digests


def _digests_of_rows(rows: pa.Table) -> dict[str, bytes]:
    """Return the same of rendered rows."""
    rendered = render_rows(rows)
    order = pc.sort_indices(rows.select(["file_id", "offset_start"]), sort_keys=_BY_FILE)
    ordered = rendered.take(order)
    names = rows["file_id"].take(order).combine_chunks().dictionary_encode()
    codes = np.asarray(names.indices)
    # take() has laid the lines end to end, so the bytes of one file are one slice.
    offsets = np.frombuffer(ordered.buffers()[1], np.int32)[ordered.offset : ordered.offset + len(ordered) + 1]
    content = memoryview(ordered.buffers()[2] or b"")
    borders = np.concatenate((np.zeros(1, np.int64), np.flatnonzero(np.diff(codes)) + 1, np.array([len(codes)])))
    digests: dict[str, bytes] = {}
    for begin, end in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        span = content[offsets[begin] : offsets[end]]
        if len(span):
            digests[names.dictionary[int(codes[begin])].as_py()] = hashlib.sha256(span).digest()
    return digests


_BY_FILE: Final[Any] = [("file_id", "ascending"), ("offset_start", "ascending")]


def _open_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=[name for name in schema.names if name not in _PLAIN],
        column_encoding=_PLAIN,
        write_statistics=_TIMES,
        write_page_index=True,
        write_page_checksum=True,
        store_schema=False,
        data_page_size=1 << 20,
    )

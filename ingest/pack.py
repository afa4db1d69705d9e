"""Packs: rows to one Parquet object, read back and held against the bytes before it counts (I1).

Row groups are built per source and written as they fill, so memory does not follow the commit's size (I2).
"""

from __future__ import annotations

import hashlib
import secrets
from collections import ChainMap, Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from xxhash import xxh3_128

from ashiato.core.attest import salts_touching
from ashiato.core.invariants import I1, check
from ashiato.core.limits import ROW_GROUP_BYTES
from ashiato.core.manifest import FileHeld, Manifest, RangeHeld, RowGroup
from ashiato.core.render import render_rows
from ashiato.core.table import SCHEMA, conform, offsets_of, order_times
from ashiato.core.token_rows import TEXT_COLUMNS
from ingest.contracts import BuiltPack, LineState, Piece, Refused
from ingest.filters import SidecarBuilder
from ingest.rows import build_rows

pc: Final[Any] = pyarrow.compute

RANDOM_KEY: Final = "ashiato.random"
"""Key of the random bytes in a pack's metadata: its digest tells nothing about the bytes that it held."""
_PLAIN: Final = {
    "offset_start": "DELTA_BINARY_PACKED",
    "length": "DELTA_BINARY_PACKED",
    "time_unix_nano": "DELTA_BINARY_PACKED",
    "body": "DELTA_LENGTH_BYTE_ARRAY",
    "raw": "DELTA_LENGTH_BYTE_ARRAY",
}
_BY_FILE: Final[Any] = [("file_id", "ascending"), ("offset_start", "ascending")]
_TIMES: Final = ["time_unix_nano", "observed_time_unix_nano"]

_SEED: Final = secrets.randbits(64)

_Range = tuple[str, int, int, bytes]
"""(file id, start, end, digest of the bytes between)."""


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
        self._states = ChainMap(self.states, dict(states))
        self._class = retention_class
        self._path = folder / f"{retention_class}.parquet"
        self._metadata = {key.decode(): value.decode() for key, value in (SCHEMA.metadata or {}).items()}
        self._metadata[RANDOM_KEY] = randomness.hex()
        self._writer: pq.ParquetWriter | None = None
        self._pending: list[Piece] = []
        self._pending_bytes = 0
        self._files: dict[str, _File] = {}
        self._groups: list[RowGroup] = []
        self._written: list[list[_Range]] = []
        self._observed: list[tuple[int, int]] = []
        self._refused: Refused = Counter()

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
        # The writer stores no Arrow schema, and with it none of its metadata: the row version and the random bytes.
        self._writer.add_key_value_metadata(self._metadata)
        self._writer.close()
        sidecars = SidecarBuilder()
        self._read_back(sidecars)
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
        return BuiltPack(
            file=self._path,
            manifest=told,
            quarantined_rows=self._refused.total(),
            refused=self._refused,
            sidecars=sidecars.finish(sha256),
        )

    def _write(self) -> None:
        pieces, self._pending, self._pending_bytes = self._pending, [], 0
        if not pieces:
            return
        rows, states, refused = build_rows(pieces, self._states)
        self.states.update(states)
        self._refused.update(refused)
        self._note_ranges(pieces)
        if rows.num_rows == 0:
            return
        self._note_rows(pieces, rows)
        if self._writer is None:
            self._writer = _open_writer(self._path)
        self._writer.write_table(rows, row_group_size=rows.num_rows)

    def _note_ranges(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            chunk = piece.chunk
            held = self._files.setdefault(chunk.file.file_id, _File(source=chunk.file.source, path=chunk.file.path))
            if held.ranges and held.ranges[-1][1] == chunk.offset_start:
                held.ranges[-1][1] = chunk.offset_end
            elif chunk.payload:
                held.ranges.append([chunk.offset_start, chunk.offset_end])
            held.salts.update(salts_touching(chunk.file.salts, chunk.offset_start, chunk.offset_end))

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
        for entry in pc.value_counts(rows["file_id"]).to_pylist():
            held = self._files[entry["values"]]
            held.rows += entry["counts"]
            held.row_groups.append(number)
        self._written.append(_ranges_of_pieces(pieces))

    def _read_back(self, sidecars: SidecarBuilder) -> None:
        """(I1) read each row group from the written bytes, render it, and compare with what came."""
        # Dictionaries are kept for who reads values only; casting them back is cheaper than decoding them twice.
        repeated: Any = [name for name in TEXT_COLUMNS if name not in _PLAIN]
        written = pq.ParquetFile(self._path, read_dictionary=repeated)
        check(I1, written.num_row_groups == len(self._written), reason="row groups are missing")
        for number, expected in enumerate(self._written):
            stored = written.read_row_group(number, use_threads=False)
            rows = conform(stored)
            check(I1, _ranges_of_rows(rows) == expected, row_group=number, retention_class=self._class)
            sidecars.add(stored)
        written.close()


def _fresh(content: bytes | memoryview = b"") -> xxh3_128:
    """Return a digest for comparing within this process: 128 bits, and a seed that nobody outside can know.

    It goes over every byte twice, and is nine times as fast as SHA-256.
    """
    return xxh3_128(content, seed=_SEED)


def _ranges_of_pieces(pieces: list[Piece]) -> list[_Range]:
    """Return the contiguous ranges of each file, by file and offset."""
    ranges: list[_Range] = []
    ordered = sorted(
        (piece.chunk for piece in pieces if piece.chunk.payload),
        key=lambda chunk: (chunk.file.file_id, chunk.offset_start),
    )
    at: tuple[str, int] | None = None
    digest = _fresh()
    for chunk in ordered:
        if at != (chunk.file.file_id, chunk.offset_start):
            ranges.append((chunk.file.file_id, chunk.offset_start, chunk.offset_end, b""))
            digest = _fresh()
        digest.update(chunk.payload)
        file_id, start, _, _ = ranges[-1]
        ranges[-1] = (file_id, start, chunk.offset_end, digest.digest())
        at = (chunk.file.file_id, chunk.offset_end)
    return ranges


def _ranges_of_rows(rows: pa.Table) -> list[_Range]:
    """Return the same of rendered rows, by the addresses that the rows state."""
    lines = rows.select(["file_id", "offset_start", "length"]).append_column("line", render_rows(rows))
    # Empty rows close joins: their parts need them to be rendered, and they have no bytes.
    lines = lines.filter(pc.greater(lines["length"], 0)).sort_by(_BY_FILE).combine_chunks()
    if not lines.num_rows:
        return []
    names: Any = lines["file_id"].chunk(0).dictionary_encode()
    codes = np.asarray(names.indices)
    starts = lines["offset_start"].to_numpy()
    ends = starts + lines["length"].to_numpy()
    rendered: Any = lines["line"].chunk(0)
    # Sorting has laid the lines end to end, so a range is one slice.
    offsets = offsets_of(rendered)
    check(I1, np.array_equal(np.diff(offsets), ends - starts), reason="a line has not its length")
    content = memoryview(rendered.buffers()[2])
    breaks = (np.diff(codes) != 0) | (starts[1:] != ends[:-1])
    borders = [0, *(np.flatnonzero(breaks) + 1).tolist(), len(codes)]
    return [
        (
            names.dictionary[int(codes[first])].as_py(),
            int(starts[first]),
            int(ends[end - 1]),
            _fresh(content[offsets[first] : offsets[end]]).digest(),
        )
        for first, end in pairwise(borders)
    ]


def _open_writer(path: Path) -> pq.ParquetWriter:
    repeated: Any = [name for name in SCHEMA.names if name not in _PLAIN]
    return pq.ParquetWriter(
        path,
        SCHEMA,
        compression="zstd",
        compression_level=1,
        use_dictionary=repeated,
        column_encoding=_PLAIN,
        write_statistics=_TIMES,
        write_page_index=True,
        write_page_checksum=True,
        store_schema=False,
        data_page_size=1 << 20,
    )

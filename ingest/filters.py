"""Sidecars of a pack, made from its rows as they were read back: token filters and the entity index.

The same rows give the same bytes (under one release of Arrow), so what is lost is made again from packs alone.
"""

from __future__ import annotations

import io
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyfusefilter._xorfilter import ffi, lib

from ashiato.core import sidecar
from ashiato.core.entities import EntityCollector
from ashiato.core.fuse import Fuse, packed
from ashiato.core.invariants import Q3, check
from ashiato.core.sidecar import Sidecar
from ashiato.core.token_hashes import Hashes, gathered
from ashiato.core.token_rows import hashes_of_rows

_FILLERS: Final = np.arange(1, 17, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
"""Keys in every filter: the library builds none of less than two."""
_PLAIN: Final = {
    "value": "DELTA_BYTE_ARRAY", "first_unix_nano": "DELTA_BINARY_PACKED", "lasted_nano": "DELTA_BINARY_PACKED",
}  # fmt: skip


class SidecarBuilder:
    """Takes the row groups of a pack in order."""

    def __init__(self) -> None:
        self._filters: list[Fuse] = []
        self._entities = EntityCollector()

    def add(self, rows: pa.Table) -> None:
        """Take a row group.

        Raises:
            InvariantError: Q3, the filter that was built lacks a token.

        """
        self._entities.begin(rows)
        hashes = hashes_of_rows(rows, self._entities.read)
        self._entities.end()
        built = fuse(hashes)
        check(Q3, built.holds_all(hashes), reason="a filter lacks a token", tokens=len(hashes))
        self._filters.append(built)

    def finish(self, pack_sha256: str) -> tuple[Sidecar, ...]:
        """Return the sidecars of the pack."""
        listed = entity_table(self._entities)
        return (
            Sidecar(kind="filters", content=sidecar.encode_filters(pack_sha256, self._filters)),
            Sidecar(
                kind="entities", content=sidecar.encode_entities(pack_sha256, listed, self._entities.dense)
            ),
        )  # fmt: skip


def fuse(hashes: Hashes) -> Fuse:
    """Return a filter over hashes that are sorted and each there once."""
    keys = gathered((hashes, _FILLERS))
    filter_ = ffi.new("binary_fuse16_t *")
    if not lib.binary_fuse16_allocate(len(keys), filter_):
        raise MemoryError("no room for a filter")
    try:
        # It fails one time in 10^30 for distinct keys, and then has tried a hundred seeds.
        assert lib.binary_fuse16_populate(ffi.from_buffer("uint64_t[]", keys), len(keys), filter_), "no filter found"
        return Fuse(
            seed=filter_.Seed,
            segment_length=filter_.SegmentLength,
            segments_length=filter_.SegmentCountLength,
            fingerprints=packed(np.frombuffer(ffi.buffer(filter_.Fingerprints, 2 * filter_.ArrayLength), np.uint16)),
        )
    finally:
        lib.binary_fuse16_free(filter_)


def entity_table(entities: EntityCollector) -> bytes:
    """Return the entities as a Parquet table, by kind and value."""
    listed = list(entities.listed())
    table = pa.table(
        {
            "kind": pa.array([kind for kind, _, _ in listed], pa.string()),
            "value": pa.array([value for _, value, _ in listed], pa.string()),
            "first_unix_nano": pa.array([seen.first for _, _, seen in listed], pa.int64()),
            "lasted_nano": pa.array([seen.last - seen.first for _, _, seen in listed], pa.int64()),
        }
    )
    written = io.BytesIO()
    dictionary: Any = ["kind"]
    pq.write_table(
        table, written, compression="zstd", compression_level=1, use_dictionary=dictionary, column_encoding=_PLAIN,
        write_statistics=False, store_schema=False,
    )  # fmt: skip
    return written.getvalue()

"""Rows that are indexed from packs: what only the archiver can name, and what the bus no longer holds.

A fork's number and a damaged record's time of reading are decisions of the archiver. The indexer never repeats them:
it takes such rows from the packs, once they are committed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ashiato.core import manifest
from ashiato.core.errors import EvidenceError
from ashiato.core.journal import AddedPack
from ashiato.core.manifest import Manifest
from ashiato.core.ports import ArchiveReader
from ashiato.core.table import conform

_DAMAGED: Final = "file/bus/"
"""How the sources of damaged records begin (see ``admission.damaged_frame``)."""
_FORK: Final = "~"


def is_from_packs_only(file_id: str, source: str) -> bool:
    """Tell whether the rows of a file are never made from the bus: it is a fork, or a damaged record."""
    return _FORK in file_id or source.startswith(_DAMAGED)


def files_from_packs_only(archive: ArchiveReader, pack: AddedPack) -> frozenset[str]:
    """Return the ids of the files of ``pack`` whose rows are only ever indexed from packs.

    Raises:
        NotHeldError, TransientError: the manifest cannot be had. EvidenceError: it is not the one that was committed.

    """
    held = manifest_of(archive, pack)
    return frozenset(file.file_id for file in held.files if is_from_packs_only(file.file_id, file.source))


def rows_of_pack(archive: ArchiveReader, pack: AddedPack, files: Collection[str] | None = None) -> Iterator[pa.Table]:
    """Yield the rows of ``pack``, or those of some of its files, one row group at a time.

    Raises:
        NotHeldError, TransientError: the pack cannot be had. EvidenceError: its manifest is another one.

    """
    wanted = None if files is None else sorted(files)
    groups = None if files is None else _groups_of(manifest_of(archive, pack), files)
    stored: Any = archive.open(pack.ref)
    try:
        parquet = pq.ParquetFile(pa.PythonFile(stored, mode="r"))
        for number in range(parquet.num_row_groups) if groups is None else groups:
            rows = conform(parquet.read_row_group(number))
            if wanted is not None:
                rows = rows.filter(pc.is_in(rows["file_id"], value_set=pa.array(wanted, pa.string())))
            if rows.num_rows:
                yield rows
    finally:
        stored.close()


def manifest_of(archive: ArchiveReader, pack: AddedPack) -> Manifest:
    """Return the manifest of ``pack``, held against the hash that its commit names."""
    content, _ = archive.get("evidence", pack.manifest_path, pack.manifest_version_id)
    if manifest.sha256(content) != pack.manifest_sha256:
        raise EvidenceError("manifest does not match the hash that its commit names", path=pack.manifest_path)
    return manifest.decode(content)


def _groups_of(held: Manifest, files: Collection[str]) -> list[int]:
    return sorted({number for file in held.files if file.file_id in files for number in file.row_groups})

"""``python -m ingest sidecars``: makes the sidecars that are missing or damaged again, from packs alone.

Nothing is deleted and nothing that can be used is touched. Where a store keeps versions, a new one is put over a
damaged one; in a folder, which replaces nothing, it stands beside it under a longer name, which readers take first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ashiato.adapters.journal import Journal
from ashiato.adapters.sidecars import SidecarReader
from ashiato.core.errors import AlreadyExistsError, EvidenceError, NotHeldError
from ashiato.core.journal import AddedPack
from ashiato.core.ports import ArchiveReader, ArchiveWriter, ObjectRef
from ashiato.core.sidecar import Sidecar
from ashiato.core.sidecar_names import KINDS, path_of
from ashiato.core.table import conform
from ingest.filters import SidecarBuilder


class Rebuilt(msgspec.Struct, kw_only=True):
    """What a run did."""

    packs: int = 0
    sound: int = 0
    """Packs that had both sidecars."""
    made: int = 0
    """Sidecars that were put."""
    unreadable: list[str] = []
    """Packs that are gone or damaged: they have no sidecars, and are findings of ``fsck``."""


def rebuild(archive: ArchiveWriter, *, again: bool = False) -> Rebuilt:
    """Make what is missing of all live packs; with ``again`` make all, and put what differs.

    Raises:
        EvidenceError: the journal cannot be read.
        TransientError: the archive does not answer.

    """
    told = Rebuilt()
    reader = SidecarReader(archive)
    for pack in Journal(archive).refresh().packs.values():
        told.packs += 1
        wanted = {kind for kind in KINDS if again or not reader.is_sound(kind, pack.sha256)}
        if not wanted:
            told.sound += 1
            continue
        try:
            made = [one for one in sidecars_of(archive, pack) if one.kind in wanted]
        except (NotHeldError, EvidenceError, pa.ArrowException, OSError, KeyError):
            told.unreadable.append(pack.path)
            continue
        told.made += sum(_put(archive, pack, one) for one in made)
    return told


def sidecars_of(archive: ArchiveReader, pack: AddedPack) -> tuple[Sidecar, ...]:
    """Return the sidecars of a pack, made from its rows as they are stored."""
    builder = SidecarBuilder()
    for group in row_groups(archive, pack):
        builder.add(group)
    return builder.finish(pack.sha256)


def row_groups(archive: ArchiveReader, pack: AddedPack) -> Iterator[pa.Table]:
    """Yield the row groups of a pack in order; each page is held against its checksum."""
    stored: Any = archive.open(pack.ref)
    try:
        parquet = pq.ParquetFile(pa.PythonFile(stored, mode="r"), page_checksum_verification=True)
        for number in range(parquet.num_row_groups):
            yield conform(parquet.read_row_group(number, use_threads=False))
    finally:
        stored.close()


def _put(archive: ArchiveWriter, pack: AddedPack, made: Sidecar) -> bool:
    """Put a sidecar where readers look first; return whether that was needed."""
    path = path_of(made.kind, pack.sha256)
    present = sorted(archive.list("work", path), key=lambda ref: ref.path)
    # The newest version counts here, not the oldest as for commits: that one may be what was damaged since.
    if present and _content(archive, present[-1]) == made.content:
        return False
    try:
        archive.put("work", path, made.content)
    except AlreadyExistsError:
        beside = f"{path}.{hashlib.sha256(made.content).hexdigest()[:16]}"
        archive.put_if_absent("work", beside, made.content)
    return True


def _content(archive: ArchiveReader, ref: ObjectRef) -> bytes:
    try:
        return archive.get_range(ref, 0, ref.size)
    except (NotHeldError, EvidenceError):
        return b""

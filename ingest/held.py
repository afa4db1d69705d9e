"""What the archive already holds of a file: its rows and its bytes, read back from packs.

Used where bytes arrive a second time (J4) and where a join was open when an archiver stopped.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ashiato.core import manifest
from ashiato.core.errors import EvidenceError, NotHeldError
from ashiato.core.frontier import FileState
from ashiato.core.journal import AddedPack, JournalState
from ashiato.core.ports import ArchiveReader, ObjectRef
from ashiato.core.render import render_rows
from ashiato.core.table import conform, empty


class HeldPacks:
    """Reads single files out of packs. Keeps the newest manifest, because resends come in runs."""

    def __init__(self, archive: ArchiveReader, state: JournalState) -> None:
        self._archive = archive
        self._state = state
        self._manifest: manifest.Manifest | None = None

    def bytes_of(self, file: FileState, start: int, end: int) -> bytes | None:
        """Return bytes ``[start, end)`` of a file as the packs render them; None where one is out of reach."""
        parts: list[bytes] = []
        at = start
        while at < end:
            held = next((r for r in reversed(file.ranges) if r.start <= at < r.end and r.pack), None)
            pack = self._state.packs.get(held.pack) if held is not None else None
            if held is None or pack is None:
                return None
            content, first = self._render(pack, file.file_id, at, min(end, held.end))
            piece = content[at - first : min(end, held.end) - first]
            if not piece:
                return None
            parts.append(piece)
            at += len(piece)
        return b"".join(parts)

    def rows_of(self, file: FileState, start: int) -> pa.Table:
        """Return the held rows of a file from offset ``start`` on, in offset order, as far as packs are known."""
        tables = []
        for path in dict.fromkeys(r.pack for r in file.ranges if r.end > start and r.pack):
            pack = self._state.packs.get(path)
            if pack is not None:
                rows = self._read(pack, file.file_id)
                tables.append(rows.filter(pc.greater_equal(rows["offset_start"], start)))
        if not tables:
            return empty()
        return pa.concat_tables(tables).sort_by("offset_start")

    def _render(self, pack: AddedPack, file_id: str, start: int, end: int) -> tuple[bytes, int]:
        """Return rendered bytes that cover as much of ``[start, end)`` as the pack has, and their first offset."""
        rows = self._read(pack, file_id)
        lines = render_rows(rows).to_pylist()
        offsets = rows["offset_start"].to_pylist()
        content = bytearray()
        first = start
        for offset, line in zip(offsets, lines, strict=True):
            if offset + len(line) <= start or offset >= end:
                continue
            if not content:
                first = offset
            elif first + len(content) != offset:
                break
            content += line
        return bytes(content), first

    def _read(self, pack: AddedPack, file_id: str) -> pa.Table:
        listed = next((f for f in self._manifest_of(pack).files if f.file_id == file_id), None)
        if listed is None:
            return empty()
        ref = ObjectRef(
            bucket="evidence", path=pack.path, version_id=pack.version_id, size=pack.size, sha256=pack.sha256
        )
        stored = self._archive.open(ref)
        try:
            parquet = pq.ParquetFile(stored)
            rows = conform(parquet.read_row_groups(list(listed.row_groups)))
        finally:
            stored.close()
        return rows.filter(pc.equal(rows["file_id"], file_id)).sort_by("offset_start")

    def _manifest_of(self, pack: AddedPack) -> manifest.Manifest:
        if self._manifest is None or self._manifest.path != pack.path:
            content, _ = self._archive.get("evidence", pack.manifest_path, pack.manifest_version_id)
            if manifest.sha256(content) != pack.manifest_sha256:
                raise EvidenceError("manifest does not match the hash that its commit names", path=pack.manifest_path)
            self._manifest = manifest.decode(content)
        return self._manifest


def held_or_none(packs: HeldPacks, file: FileState, start: int, end: int) -> bytes | None:
    """As :meth:`HeldPacks.bytes_of`, with None for a pack that is gone."""
    try:
        return packs.bytes_of(file, start, end)
    except NotHeldError:
        return None

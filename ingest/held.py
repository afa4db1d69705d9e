"""What the archive already holds of a file: its rows and its bytes, read back from packs.

Used where bytes arrive a second time (J4) and where a join was open when an archiver stopped.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from ashiato.core.errors import EvidenceError, NotHeldError, RejectedError
from ashiato.core.frontier import FileState
from ashiato.core.journal import AddedPack, JournalState
from ashiato.core.manifest import Manifest
from ashiato.core.ports import ArchiveReader
from ashiato.core.render import render_rows
from ashiato.core.table import conform, empty
from ingest.packed_rows import manifest_of

K = TypeVar("K")
V = TypeVar("V")

pc: Final[Any] = pyarrow.compute

_MANIFESTS_KEPT: Final = 4
_FILES_KEPT: Final = 64
_GROUPS_KEPT: Final = 4
_WHERE: Final = ("file_id", "offset_start", "length")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rendered:
    """The lines of one file in one row group, in offset order."""

    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    content: bytes
    """Lines end to end."""
    borders: npt.NDArray[np.int64]
    """Where each line begins in ``content``."""

    def bytes_at(self, start: int, end: int) -> bytes:
        """Return bytes from ``start`` up to ``end``, or as far as the lines go without a hole."""
        first = int(np.searchsorted(self.ends, start, side="right"))
        if first == len(self.ends) or start < self.starts[first]:
            return b""
        holes = np.flatnonzero(self.starts[first + 1 :] != self.ends[first:-1])
        last = first + int(holes[0]) if len(holes) else len(self.ends) - 1
        begin = int(self.borders[first]) + start - int(self.starts[first])
        return self.content[begin : begin + min(end, int(self.ends[last])) - start]


class HeldPacks:
    """Reads single files out of packs. Keeps what it read last, because what is sent again comes in runs."""

    def __init__(self, archive: ArchiveReader, state: JournalState) -> None:
        self._archive = archive
        self._state = state
        self._manifests: OrderedDict[str, Manifest] = OrderedDict()
        self._places: OrderedDict[tuple[str, str], list[tuple[int, int, int]]] = OrderedDict()
        self._rendered: OrderedDict[tuple[str, str, int], _Rendered] = OrderedDict()

    def bytes_of(self, file: FileState, start: int, end: int) -> bytes | None:
        """Return bytes ``[start, end)`` of a file as the packs render them; None where one is out of reach.

        Raises:
            NotHeldError, EvidenceError, RejectedError, pyarrow.ArrowException: a pack is gone or damaged.
            TransientError: the archive does not answer.

        """
        parts: list[bytes] = []
        at = start
        while at < end:
            held = next((r for r in reversed(file.ranges) if r.start <= at < r.end and r.pack), None)
            pack = self._state.packs.get(held.pack) if held is not None else None
            if held is None or pack is None:
                return None
            part = self._bytes_in(pack, file.file_id, at, min(end, held.end))
            if not part:
                return None
            parts.append(part)
            at += len(part)
        return b"".join(parts)

    def rows_of(self, file: FileState, start: int) -> pa.Table:
        """Return the held rows of a file from offset ``start`` on, in offset order, as far as packs are known."""
        tables = []
        for path in dict.fromkeys(r.pack for r in file.ranges if r.end > start and r.pack):
            pack = self._state.packs.get(path)
            if pack is not None:
                groups = [group for group, _, last in self._groups(pack, file.file_id) if last > start]
                rows = self._read(pack, file.file_id, groups)
                tables.append(rows.filter(pc.greater_equal(rows["offset_start"], start)))
        return pa.concat_tables(tables).sort_by("offset_start") if tables else empty()

    def _bytes_in(self, pack: AddedPack, file_id: str, start: int, end: int) -> bytes:
        for group, first, last in self._groups(pack, file_id):
            if first <= start < last and (found := self._lines(pack, file_id, group).bytes_at(start, end)):
                return found
        return b""

    def _groups(self, pack: AddedPack, file_id: str) -> list[tuple[int, int, int]]:
        """Return (row group, first byte, end) of a file's rows in a pack."""
        key = (pack.path, file_id)
        if (known := self._places.get(key)) is not None:
            return known
        listed = next((f for f in self._manifest(pack).files if f.file_id == file_id), None)
        found: list[tuple[int, int, int]] = []
        for group in listed.row_groups if listed is not None else ():
            rows = self._read_groups(pack, [group], columns=list(_WHERE))
            own = rows.filter(pc.equal(rows["file_id"], file_id))
            starts, lengths = own["offset_start"].to_numpy(), own["length"].to_numpy()
            if len(starts):
                found.append((group, int(starts.min()), int((starts + lengths).max())))
        _keep(self._places, key, found, _FILES_KEPT)
        return found

    def _lines(self, pack: AddedPack, file_id: str, group: int) -> _Rendered:
        key = (pack.path, file_id, group)
        if (known := self._rendered.get(key)) is not None:
            return known
        rows = self._read(pack, file_id, [group])
        content = b"".join(line or b"" for line in render_rows(rows).to_pylist())
        # Empty rows close joins: their parts need them to be rendered, and they have no place.
        rows = rows.filter(pc.greater(rows["length"], 0))
        starts, lengths = rows["offset_start"].to_numpy(), rows["length"].to_numpy()
        lines = _Rendered(
            starts=starts,
            ends=starts + lengths,
            content=content,
            borders=np.cumsum(lengths, dtype=np.int64) - lengths,
        )
        _keep(self._rendered, key, lines, _GROUPS_KEPT)
        return lines

    def _read(self, pack: AddedPack, file_id: str, groups: list[int]) -> pa.Table:
        rows = conform(self._read_groups(pack, groups)) if groups else empty()
        return rows.filter(pc.equal(rows["file_id"], file_id)).sort_by("offset_start")

    def _read_groups(self, pack: AddedPack, groups: list[int], columns: list[str] | None = None) -> pa.Table:
        stored: Any = self._archive.open(pack.ref)
        try:
            parquet = pq.ParquetFile(pa.PythonFile(stored, mode="r"), page_checksum_verification=True)
            return parquet.read_row_groups(groups, columns=columns, use_threads=False)
        finally:
            stored.close()

    def _manifest(self, pack: AddedPack) -> Manifest:
        if (known := self._manifests.get(pack.path)) is not None:
            return known
        found = manifest_of(self._archive, pack)
        _keep(self._manifests, pack.path, found, _MANIFESTS_KEPT)
        return found


def held_or_none(packs: HeldPacks, file: FileState, start: int, end: int) -> bytes | None:
    """As :meth:`HeldPacks.bytes_of`, with None for a pack that is gone or damaged: such bytes cannot be compared."""
    try:
        return packs.bytes_of(file, start, end)
    except (NotHeldError, EvidenceError, RejectedError, pa.ArrowException):
        return None


def _keep(cache: OrderedDict[K, V], key: K, value: V, count_max: int) -> None:
    cache[key] = value
    while len(cache) > count_max:
        cache.popitem(last=False)

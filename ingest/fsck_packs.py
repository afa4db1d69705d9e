"""``fsck``: packs held against their commits and manifests, and, in full, row by row.

The rows are judged here by arithmetic of its own: every line is rendered, its length and place are laid end to end,
and the ranges that come out must be those of the manifest, no byte more and none less.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from ashiato.adapters.sidecars import SidecarReader, UnusableError
from ashiato.core import manifest
from ashiato.core.commit import AddedPack
from ashiato.core.entities import EntityCollector
from ashiato.core.errors import EvidenceError, NotHeldError, RefusedError, RejectedError
from ashiato.core.limits import MIB
from ashiato.core.manifest import Manifest
from ashiato.core.ports import ArchiveReader, ObjectRef, ReadableObject
from ashiato.core.render import render_rows
from ashiato.core.sidecar_names import KINDS as SIDECAR_KINDS
from ashiato.core.table import check_version, conform
from ashiato.core.token_rows import hashes_of_rows
from ingest.fsck_told import Finding

pc: Final[Any] = pyarrow.compute

_READ_BYTES: Final = 4 * MIB
_SAME: Final = (
    "path", "sha256", "size", "rows", "raw_bytes", "retention_class", "day", "time_min_unix_nano",
    "time_max_unix_nano", "observed_min_unix_nano", "observed_max_unix_nano",
)  # fmt: skip
"""What a commit and a manifest both state of a pack."""

Held = dict[tuple[str, str], list[tuple[int, int]]]


class PackChecks:
    """Checks packs one by one, and what they hold of the same files together."""

    def __init__(self, archive: ArchiveReader, *, full: bool) -> None:
        self._archive = archive
        self._full = full
        self._sidecars = SidecarReader(archive)
        self.held: Held = {}
        """Of (path of a pack, file id), what its manifest states; ``(path, '')`` for each pack that has one."""
        self.rows = 0
        self.raw_bytes = 0

    def check(self, pack: AddedPack) -> Iterator[Finding]:
        """Yield what is wrong with one pack, its manifest and its sidecars."""
        told = yield from self._manifest(pack)
        if told is not None:
            self.held[pack.path, ""] = []
            self.held.update({(pack.path, f.file_id): [(r.start, r.end) for r in f.ranges] for f in told.files})
        is_sound = yield from self._object(pack, told)
        yield from self._sidecars_of(pack, told, is_sound=is_sound)

    def across(self) -> Iterator[Finding]:
        """Yield bytes that two packs hold of one file: nothing is archived twice (J4)."""
        by_file: dict[str, list[tuple[int, int, str]]] = {}
        for (path, file_id), ranges in self.held.items():
            by_file.setdefault(file_id, []).extend((start, end, path) for start, end in ranges)
        for file_id, held in by_file.items():
            reach, holder = -1, ""
            for start, end, path in sorted(held):
                if start < reach:
                    what = f"{file_id} [{start}, {min(end, reach)}) is in {holder} too"
                    yield Finding(kind="held_twice", path=path, what=what)
                if end > reach:
                    reach, holder = end, path

    # -- manifests -------------------------------------------------------------------------------------------

    def _manifest(self, pack: AddedPack) -> Generator[Finding, None, Manifest | None]:
        path = pack.manifest_path
        try:
            content, _ = self._archive.get("evidence", path, pack.manifest_version_id)
        except NotHeldError:
            yield Finding(kind="manifest", path=path, version_id=pack.manifest_version_id, what="is missing")
            return None
        except (EvidenceError, RefusedError) as error:
            yield Finding(kind="manifest", path=path, version_id=pack.manifest_version_id, what=str(error))
            return None
        if hashlib.sha256(content).hexdigest() != pack.manifest_sha256:
            yield Finding(kind="manifest", path=path, what="has not the hash that its commit names")
            return None
        try:
            told = manifest.decode(content)
        except RejectedError as error:
            yield Finding(kind="manifest", path=path, what=str(error))
            return None
        for name in _SAME:
            if getattr(told, name) != getattr(pack, name):
                what = f"{name} is {getattr(told, name)}, its commit says {getattr(pack, name)}"
                yield Finding(kind="manifest", path=path, what=what)
        yield from _sums(told)
        return told

    # -- packs -----------------------------------------------------------------------------------------------

    def _object(self, pack: AddedPack, told: Manifest | None) -> Generator[Finding, None, bool]:
        ref = ObjectRef(bucket="evidence", path=pack.path, version_id=pack.version_id, size=pack.size)
        try:
            stored = self._archive.open(ref)
            try:
                return (yield from self._stored(pack, told, stored))
            finally:
                stored.close()
        except NotHeldError:
            yield Finding(kind="pack", path=pack.path, version_id=pack.version_id, what="is missing")
        except (EvidenceError, RefusedError, pa.ArrowException, OSError, KeyError) as error:
            yield Finding(kind="pack", path=pack.path, version_id=pack.version_id, what=f"cannot be read: {error}")
        return False

    def _stored(self, pack: AddedPack, told: Manifest | None, stored: ReadableObject) -> Generator[Finding, None, bool]:
        if (size := stored.seek(0, 2)) != pack.size:
            yield Finding(kind="pack", path=pack.path, what=f"has {size} bytes, its commit says {pack.size}")
            return False
        if self._full and _sha256(stored) != pack.sha256:
            yield Finding(kind="pack", path=pack.path, what="has not the hash that its commit names")
            return False
        return (yield from self._rows(pack, told, stored))

    def _rows(self, pack: AddedPack, told: Manifest | None, stored: Any) -> Generator[Finding, None, bool]:
        stored.seek(0)
        parquet = pq.ParquetFile(pa.PythonFile(stored, mode="r"), page_checksum_verification=True)
        check_version(parquet.metadata.metadata)
        sizes = [parquet.metadata.row_group(n).num_rows for n in range(parquet.num_row_groups)]
        if sum(sizes) != pack.rows or (told is not None and sizes != [group.rows for group in told.row_groups]):
            yield Finding(kind="rows", path=pack.path, what=f"row groups of {sizes} rows, not those that are stated")
            return False
        self.rows += pack.rows
        self.raw_bytes += pack.raw_bytes
        if not self._full or told is None:
            return True
        judge = _Rows(pack, told)
        filters = self._filters(pack, len(sizes))
        entities = EntityCollector()
        for number in range(len(sizes)):
            rows = conform(parquet.read_row_group(number, use_threads=False))
            yield from judge.row_group(number, rows)
            entities.begin(rows)
            hashes = hashes_of_rows(rows, entities.read)
            entities.end()
            if number in filters and not filters[number].holds_all(hashes):
                yield Finding(kind="sidecar", path=pack.path, row_group=number, what="its filter lacks tokens (Q3)")
        yield from judge.files()
        yield from self._entities(pack, entities)
        return True

    # -- sidecars --------------------------------------------------------------------------------------------

    def _sidecars_of(self, pack: AddedPack, told: Manifest | None, *, is_sound: bool) -> Iterator[Finding]:
        for kind in SIDECAR_KINDS:
            try:
                found = self._sidecars.parts_of(kind, pack.sha256)
            except UnusableError as error:
                cure = "; ingest sidecars makes it again" if is_sound else ""
                yield Finding(kind="sidecar", path=pack.path, what=f"{kind}: {error.message}{cure}")
                continue
            if kind == "filters" and told is not None and found != len(told.row_groups):
                what = f"{found} filters for {len(told.row_groups)} row groups"
                yield Finding(kind="sidecar", path=pack.path, what=what)

    def _filters(self, pack: AddedPack, count: int) -> dict[int, Any]:
        try:
            return dict(self._sidecars.filters_of(pack.sha256, pack.size, range(count)))
        except UnusableError:
            return {}  # said where sidecars are checked

    def _entities(self, pack: AddedPack, entities: EntityCollector) -> Iterator[Finding]:
        dense = entities.dense
        named = list(entities.listed())
        for kind in {kind for kind, _, _ in named} | set(dense):
            try:
                listed = self._sidecars.entities_of(pack.sha256, kind).seen
            except UnusableError:
                return  # said where sidecars are checked
            if listed != (None if kind in dense else {value: seen for of, value, seen in named if of == kind}):
                yield Finding(kind="sidecar", path=pack.path, what=f"entities: {kind} is not what the rows name")


class _Rows:
    """Holds the rows of one pack against its manifest."""

    def __init__(self, pack: AddedPack, told: Manifest) -> None:
        self._path = pack.path
        self._told = told
        self._lines: dict[str, list[tuple[int, int]]] = {}
        self._rows: dict[str, int] = {}
        self._groups: dict[str, list[int]] = {}

    def row_group(self, number: int, rows: pa.Table) -> Iterator[Finding]:
        """Yield what is wrong with a row group by itself."""
        stated = self._told.row_groups[number]
        lengths = rows["length"].to_numpy()
        try:
            rendered = pc.binary_length(render_rows(rows)).to_numpy(zero_copy_only=False)
        except (pa.ArrowException, RejectedError, ValueError) as error:
            yield Finding(kind="rows", path=self._path, row_group=number, what=f"rows cannot be rendered: {error}")
            return
        if not np.array_equal(rendered, lengths):
            at = int(np.flatnonzero(rendered != lengths)[0])
            what = f"row {at} renders {rendered[at]} bytes, it states {lengths[at]}"
            yield Finding(kind="rows", path=self._path, row_group=number, what=what)
        if int(lengths.sum()) != stated.raw_bytes:
            what = f"{int(lengths.sum())} raw bytes, {stated.raw_bytes} are stated"
            yield Finding(kind="rows", path=self._path, row_group=number, what=what)
        is_timed = pc.is_valid(rows["time_unix_nano"])
        times = pc.if_else(is_timed, rows["time_unix_nano"], rows["observed_time_unix_nano"]).to_numpy()
        if (int(times.min()), int(times.max())) != (stated.time_min_unix_nano, stated.time_max_unix_nano):
            yield Finding(kind="rows", path=self._path, row_group=number, what="times are not those that are stated")
        self._note(number, rows, lengths)

    def files(self) -> Iterator[Finding]:
        """Yield what is wrong with what the row groups hold of each file together."""
        for file in self._told.files:
            found = _joined(self._lines.pop(file.file_id, []))
            if found != _joined([(held.start, held.end) for held in file.ranges]):
                what = f"{file.file_id}: rows hold {found[:4]}, not the ranges that are stated"
                yield Finding(kind="rows", path=self._path, what=what)
            if self._rows.get(file.file_id, 0) != file.rows:
                what = f"{file.file_id}: {self._rows.get(file.file_id, 0)} rows, {file.rows} are stated"
                yield Finding(kind="rows", path=self._path, what=what)
            if self._groups.get(file.file_id, []) != list(file.row_groups):
                yield Finding(kind="rows", path=self._path, what=f"{file.file_id}: in other row groups than stated")
        for file_id in self._lines:
            yield Finding(kind="rows", path=self._path, what=f"{file_id}: rows of a file that the manifest lacks")

    def _note(self, number: int, rows: pa.Table, lengths: Any) -> None:
        starts = rows["offset_start"].to_numpy()
        names: Any = pc.dictionary_encode(rows["file_id"].combine_chunks())
        codes = names.indices.to_numpy()
        for code, file_id in enumerate(names.dictionary.to_pylist()):
            own = codes == code
            self._rows[file_id] = self._rows.get(file_id, 0) + int(own.sum())
            self._groups.setdefault(file_id, []).append(number)
            lines = zip(starts[own].tolist(), (starts + lengths)[own].tolist(), strict=True)
            self._lines[file_id] = _joined([*self._lines.get(file_id, []), *((s, e) for s, e in lines if e > s)])


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join what is adjacent; what overlaps stays apart, and so is told."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _sums(told: Manifest) -> Iterator[Finding]:
    groups = told.row_groups
    totals: tuple[tuple[str, int, int], ...] = (
        ("rows", sum(group.rows for group in groups), told.rows),
        ("rows of files", sum(file.rows for file in told.files), told.rows),
        ("raw bytes", sum(group.raw_bytes for group in groups), told.raw_bytes),
        ("bytes of ranges", sum(r.end - r.start for file in told.files for r in file.ranges), told.raw_bytes),
        ("earliest time", min((group.time_min_unix_nano for group in groups), default=0), told.time_min_unix_nano),
        ("latest time", max((group.time_max_unix_nano for group in groups), default=0), told.time_max_unix_nano),
    )
    for name, found, stated in totals:
        if found != stated:
            yield Finding(kind="manifest", path=told.path, what=f"its parts have {found} {name}, it states {stated}")


def _sha256(stored: ReadableObject) -> str:
    digest = hashlib.sha256()
    stored.seek(0)
    while block := stored.read(_READ_BYTES):
        digest.update(block)
    return digest.hexdigest()

"""Packs for reading: manifests and single row groups of exactly the versions that commits name.

Only what is asked for is fetched: the footer once per pack, then the columns of the row groups that are read. Each
page is held against its checksum.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from ashiato.core import manifest
from ashiato.core.errors import EvidenceError, RejectedError
from ashiato.core.journal import AddedPack
from ashiato.core.manifest import Manifest
from ashiato.core.ports import ArchiveReader, ReadableObject
from ashiato.core.table import SCHEMA, check_version

K = TypeVar("K")
V = TypeVar("V")

MANIFESTS_KEPT_MAX: Final = 512
"""Manifests in memory: some kilobytes each."""
FOOTERS_KEPT_MAX: Final = 256
"""Parquet footers in memory: some tens of kilobytes each."""
PACKS_OPEN_MAX: Final = 8
"""Packs that one search keeps open at once."""


class _Kept(Generic[K, V]):
    """The values used last, of immutable things; shared by threads."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def keep(self, key: K, value: V) -> V:
        with self._lock:
            self._values[key] = value
            if len(self._values) > self._count_max:
                self._values.popitem(last=False)
        return value


class PackReader:
    """Opens packs; remembers manifests and footers, which never change."""

    def __init__(self, archive: ArchiveReader) -> None:
        self._archive = archive
        self._manifests = _Kept[str, Manifest](MANIFESTS_KEPT_MAX)
        self._footers = _Kept[str, pq.FileMetaData](FOOTERS_KEPT_MAX)

    def manifest_of(self, pack: AddedPack) -> Manifest:
        """Return the manifest that the commit pins.

        Raises:
            NotHeldError: it is gone.
            EvidenceError: it is not the one that was pinned.
            TransientError: the archive does not answer.

        """
        known = self._manifests.get(pack.manifest_sha256)
        if known is not None:
            return known
        content, _ = self._archive.get("evidence", pack.manifest_path, pack.manifest_version_id)
        if manifest.sha256(content) != pack.manifest_sha256:
            raise EvidenceError("manifest has not the hash that its commit names", path=pack.manifest_path)
        try:
            return self._manifests.keep(pack.manifest_sha256, manifest.decode(content))
        except RejectedError as error:
            raise EvidenceError("manifest cannot be read", path=pack.manifest_path) from error

    def open(self, pack: AddedPack) -> OpenPack:
        """Open a pack.

        Raises:
            NotHeldError: it is gone.
            EvidenceError: it is not what the commit pins, or not a pack.
            TransientError: the archive does not answer.

        """
        stored = self._archive.open(pack.ref)
        try:
            _check_size(stored, pack)
            with _damage(pack):
                opened = OpenPack(pack, stored, self._footers.get(pack.sha256))
            check_version(opened.footer.metadata)
        except BaseException:
            stored.close()
            raise
        self._footers.keep(pack.sha256, opened.footer)
        return opened


class OpenPack:
    """One open pack."""

    def __init__(self, pack: AddedPack, stored: ReadableObject, footer: pq.FileMetaData | None) -> None:
        self._pack = pack
        self._stored = stored
        source: Any = stored
        self._parquet = pq.ParquetFile(source, metadata=footer, pre_buffer=True, page_checksum_verification=True)
        self.footer: pq.FileMetaData = self._parquet.metadata

    @property
    def row_groups(self) -> int:
        """How many there are."""
        return self.footer.num_row_groups

    def read(self, row_group: int, columns: Sequence[str]) -> pa.Table:
        """Return columns of one row group.

        Raises:
            NotHeldError: the pack is gone.
            EvidenceError: a page is damaged, or a column is missing.
            TransientError: the archive does not answer.

        """
        with _damage(self._pack):
            table = self._parquet.read_row_group(row_group, columns=list(columns), use_threads=False)
            return pa.table(
                [table.column(name).cast(SCHEMA.field(name).type) for name in columns],
                schema=pa.schema([SCHEMA.field(name) for name in columns]),
            )

    def close(self) -> None:
        """Let go."""
        self._parquet.close()
        self._stored.close()


class OpenPacks:
    """The packs that one search has open: the ones used last, a few at most."""

    def __init__(self, reader: PackReader) -> None:
        self._reader = reader
        self._open: OrderedDict[str, OpenPack] = OrderedDict()

    def get(self, pack: AddedPack) -> OpenPack:
        """Return the open pack. Raises as :meth:`PackReader.open`."""
        opened = self._open.get(pack.path)
        if opened is None:
            if len(self._open) >= PACKS_OPEN_MAX:
                self._open.popitem(last=False)[1].close()
            opened = self._open[pack.path] = self._reader.open(pack)
        self._open.move_to_end(pack.path)
        return opened

    def close(self) -> None:
        """Let go of all."""
        while self._open:
            self._open.popitem()[1].close()


def _check_size(stored: ReadableObject, pack: AddedPack) -> None:
    if stored.seek(0, 2) != pack.size:
        raise EvidenceError("pack has not the size that its commit names", path=pack.path)
    stored.seek(0)


@contextmanager
def _damage(pack: AddedPack) -> Iterator[None]:
    """Tell what Arrow finds wrong with bytes from what the archive says of itself."""
    try:
        yield
    except (pa.ArrowException, OSError, KeyError) as error:
        raise EvidenceError("pack is damaged", path=pack.path, reason=str(error)) from error

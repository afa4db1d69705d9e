"""Sidecars for reading: the filters of single row groups, and the entities of a pack.

What is missing, damaged or of another version is said to be so and never guessed at: who asks then reads the pack.
Nothing of ``work`` is pinned by the journal, so every part is held against the digest that stands beside it. A sidecar
that was made again beside a damaged one has a longer name.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from ashiato.core import sidecar
from ashiato.core.entities import Seen
from ashiato.core.errors import EvidenceError, NotHeldError, RefusedError, RejectedError
from ashiato.core.fuse import Fuse
from ashiato.core.limits import FILTERS_KEPT_BYTES, KIB, MIB
from ashiato.core.ports import ArchiveReader, ObjectRef
from ashiato.core.sidecar import Header
from ashiato.core.sidecar_names import SidecarKind, path_of

T = TypeVar("T")

WHOLE_PACK_BYTES_MAX: Final = 64 * MIB
"""The filters of a smaller pack are fetched in one request, whatever is needed of them: they are some MiB."""
HEAD_BYTES: Final = 16 * KIB
"""Fetched of a larger one at first: its header, mostly."""
GAP_BYTES_MAX: Final = 256 * KIB
"""Filters no farther apart than this are fetched together: a request costs as much time as some hundred KiB."""


class UnusableError(RejectedError):
    """The sidecar cannot be used; the message says whether it is missing or damaged."""

    code = "unusable"

    def __init__(self, message: str, *, is_damage: bool, **facts: object) -> None:
        super().__init__(message, **facts)
        self.is_damage = is_damage


@dataclass(frozen=True, slots=True)
class Entities:
    """What a pack names, of one kind; None where the kind is dense there."""

    seen: dict[str, Seen] | None


class SidecarReader:
    """Reads sidecars; keeps the filters used last, bounded in bytes. Shared by threads."""

    def __init__(self, archive: ArchiveReader, *, bytes_max: int = FILTERS_KEPT_BYTES) -> None:
        self._archive = archive
        self._kept = _KeptFilters(bytes_max)

    def filters_of(self, pack_sha256: str, pack_size: int, row_groups: Sequence[int]) -> dict[int, Fuse]:
        """Return the filters of these row groups.

        Raises:
            UnusableError: they are missing or damaged: the pack must be read.
            TransientError: the archive does not answer.

        """
        found = {number: kept for number in row_groups if (kept := self._kept.get(pack_sha256, number)) is not None}
        missing = [number for number in row_groups if number not in found]
        if missing:
            fetch = self._whole if pack_size <= WHOLE_PACK_BYTES_MAX else self._ranges
            with _usable("filters", pack_sha256):
                for number, filter_ in fetch(pack_sha256, missing):
                    found[number] = filter_
                    self._kept.keep(pack_sha256, number, filter_)
        return found

    def entities_of(self, pack_sha256: str, kind: str) -> Entities:
        """Return what a pack names of one kind. Raises as :meth:`filters_of`."""
        with _usable("entities", pack_sha256):
            return self._first("entities", pack_sha256, lambda held: _entities(held, kind))

    def parts_of(self, kind: SidecarKind, pack_sha256: str) -> int:
        """Return how many parts a sidecar has, all of them read and held against their digests.

        Raises:
            UnusableError, TransientError: as :meth:`filters_of`.

        """
        with _usable(kind, pack_sha256):
            return self._first(kind, pack_sha256, lambda held: len(held.whole().header.parts))

    def is_sound(self, kind: SidecarKind, pack_sha256: str) -> bool:
        """Tell whether a sidecar can be used, all of it. Raises TransientError."""
        try:
            self.parts_of(kind, pack_sha256)
        except UnusableError:
            return False
        return True

    def _whole(self, pack_sha256: str, row_groups: Sequence[int]) -> Iterator[tuple[int, Fuse]]:
        def filters(held: _Held) -> dict[int, Fuse]:
            return {number: sidecar.filter_of(held.header.parts[number], held.part(number)) for number in row_groups}

        yield from self._first("filters", pack_sha256, filters).items()

    def _ranges(self, pack_sha256: str, row_groups: Sequence[int]) -> Iterator[tuple[int, Fuse]]:
        refs = self._refs("filters", pack_sha256)
        try:
            header, start = self._header(refs[0], pack_sha256)
            yield from self._parts(refs[0], header, start, row_groups)
        except (RejectedError, EvidenceError):
            # It is damaged: there may be another.
            yield from self._whole(pack_sha256, row_groups)

    def _refs(self, kind: SidecarKind, pack_sha256: str) -> list[ObjectRef]:
        """Return the objects that there are, what was made again first."""
        refs = sorted(self._archive.list("work", path_of(kind, pack_sha256)), key=lambda ref: ref.path, reverse=True)
        if not refs:
            raise NotHeldError("no such sidecar")
        return refs

    def _header(self, ref: ObjectRef, pack_sha256: str) -> tuple[Header, int]:
        head = self._archive.get_range(ref, 0, min(HEAD_BYTES, ref.size))
        size = sidecar.header_size(head[: sidecar.PREAMBLE_BYTES])
        if size > len(head):
            head += self._archive.get_range(ref, len(head), min(size, ref.size))
        return sidecar.decode_header(head, "filters", pack_sha256), size

    def _parts(
        self, ref: ObjectRef, header: Header, start: int, row_groups: Sequence[int]
    ) -> Iterator[tuple[int, Fuse]]:
        for run in _runs(header, row_groups):
            first, last = header.parts[run[0]], header.parts[run[-1]]
            content = self._archive.get_range(ref, start + first.offset, start + last.offset + last.size)
            for number in run:
                part = header.parts[number]
                at = part.offset - first.offset
                yield number, sidecar.filter_of(part, content[at : at + part.size])

    def _first(self, kind: SidecarKind, pack_sha256: str, use: Callable[[_Held], T]) -> T:
        """Return what ``use`` makes of the first object that it can use."""
        refs = self._refs(kind, pack_sha256)
        for ref in refs[:-1]:
            with contextlib.suppress(NotHeldError, RejectedError, EvidenceError):
                return use(self._held(ref, kind, pack_sha256))
        return use(self._held(refs[-1], kind, pack_sha256))

    def _held(self, ref: ObjectRef, kind: SidecarKind, pack_sha256: str) -> _Held:
        content = self._archive.get_range(ref, 0, ref.size)
        header = sidecar.decode_header(content, kind, pack_sha256)
        return _Held(content, header, sidecar.header_size(content[: sidecar.PREAMBLE_BYTES]))


@dataclass(frozen=True, slots=True)
class _Held:
    """An object whose header is sound."""

    content: bytes
    header: Header
    start: int

    def part(self, number: int) -> bytes:
        """Return the bytes where a part lies; nothing is known of them yet."""
        part = self.header.parts[number]
        return self.content[self.start + part.offset : self.start + part.offset + part.size]

    def whole(self) -> _Held:
        """Hold every part against its digest. Raises RejectedError."""
        for number, part in enumerate(self.header.parts):
            sidecar.part_of(part, self.part(number))
        return self


def _entities(held: _Held, kind: str) -> Entities:
    if kind in held.header.dense:
        return Entities(None)
    table: Any = pq.read_table(
        io.BytesIO(sidecar.part_of(held.header.parts[0], held.part(0))), filters=[("kind", "=", kind)]
    )
    columns = (table[name].to_pylist() for name in ("value", "first_unix_nano", "lasted_nano"))
    return Entities({value: Seen(first, first + lasted) for value, first, lasted in zip(*columns, strict=True)})


def _runs(header: Header, row_groups: Sequence[int]) -> Iterator[list[int]]:
    """Yield the row groups in runs that are fetched together."""
    ordered = sorted(row_groups)
    run = ordered[:1]
    for before, number in pairwise(ordered):
        if header.parts[number].offset - header.parts[before].offset - header.parts[before].size > GAP_BYTES_MAX:
            yield run
            run = []
        run.append(number)
    yield run


class _usable:  # noqa: N801 - reads as a sentence
    """Tell what is wrong with a sidecar from what the archive says of itself."""

    def __init__(self, kind: SidecarKind, pack_sha256: str) -> None:
        self._facts = {"kind": kind, "pack": pack_sha256}

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (NotHeldError, RefusedError)):
            raise UnusableError("sidecar is missing", is_damage=False, **self._facts) from error
        if isinstance(error, (RejectedError, EvidenceError, IndexError, pa.ArrowException, OSError)):
            raise UnusableError("sidecar is damaged", is_damage=True, **self._facts) from error


class _KeptFilters:
    """The filters used last."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._filters: OrderedDict[tuple[str, int], Fuse] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, pack_sha256: str, number: int) -> Fuse | None:
        with self._lock:
            found = self._filters.get((pack_sha256, number))
            if found is not None:
                self._filters.move_to_end((pack_sha256, number))
            return found

    def keep(self, pack_sha256: str, number: int, filter_: Fuse) -> None:
        with self._lock:
            before = self._filters.pop((pack_sha256, number), None)
            self._filters[pack_sha256, number] = filter_
            self._bytes += len(filter_.fingerprints) - (len(before.fingerprints) if before is not None else 0)
            while self._bytes > self._bytes_max and self._filters:
                self._bytes -= len(self._filters.popitem(last=False)[1].fingerprints)

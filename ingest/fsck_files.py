"""``fsck``: frontiers and their pages, held against the hashes that commits name and the ranges that packs hold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import TypeVar

import msgspec

from ashiato.core import frontier
from ashiato.core.commit import AddedPack, FrontierRef, Txn
from ashiato.core.errors import EvidenceError, NotHeldError, RefusedError, RejectedError
from ashiato.core.frontier import FileState, Frontier, Page
from ashiato.core.ports import ArchiveReader
from ingest.fsck_told import Finding

T = TypeVar("T")

Ranges = Mapping[tuple[str, str], list[tuple[int, int]]]
"""Of (path of a pack, file id): what its manifest says that it holds."""


class FileChecks:
    """Checks what commits say is held of every file."""

    def __init__(self, archive: ArchiveReader, live: Mapping[str, AddedPack], held: Ranges) -> None:
        self._archive = archive
        self._live = live
        self._held = held
        self._pages: set[str] = set()

    def check(self, txns: Iterable[Txn]) -> Iterator[Finding]:
        """Yield what is wrong with the frontiers that these name."""
        for txn in txns:
            ref = txn.frontier
            found = yield from self._decoded(ref, frontier.decode)
            if found is not None:
                yield from self._compare(txn, found)

    def _compare(self, txn: Txn, found: Frontier) -> Iterator[Finding]:
        path = txn.frontier.path
        said = (found.topic, found.partition, found.incarnation, found.next)
        if said != (txn.topic, txn.partition, txn.incarnation, txn.next):
            yield Finding(kind="frontier", path=path, what="is of another position than its commit says")
        named = {page.path for page in found.pages}
        for new in txn.frontier.new_pages:
            if new.path not in named:
                yield Finding(kind="frontier", path=path, what=f"does not name the page {new.path} of its commit")
        yield from self._files(found.files, path)
        for page in found.pages:
            if page.sha256 not in self._pages:
                self._pages.add(page.sha256)
                yield from self._page(page)

    def _page(self, page: Page) -> Iterator[Finding]:
        files = yield from self._decoded(page, frontier.decode_page)
        if files is None:
            return
        if len(files) != page.files:
            yield Finding(kind="frontier", path=page.path, what=f"holds {len(files)} files, {page.files} are stated")
        yield from self._files(files, page.path)

    def _files(self, files: Iterable[FileState], path: str) -> Iterator[Finding]:
        """Every range that is said to be in a live pack stands in its manifest."""
        for file in files:
            for held in file.ranges:
                if held.pack not in self._live or (held.pack, "") not in self._held:
                    continue
                ranges = self._held.get((held.pack, file.file_id), [])
                if not any(start <= held.start and held.end <= end for start, end in ranges):
                    what = f"{file.file_id} [{held.start}, {held.end}) is not in {held.pack}"
                    yield Finding(kind="frontier", path=path, what=what)

    def _decoded(
        self, ref: FrontierRef | Page, decode: Callable[[bytes, str], T]
    ) -> Generator[Finding, None, T | None]:
        """Return what is named, None where it is missing or another thing."""
        content = yield from self._read(ref.path, ref.version_id, ref.sha256)
        if content is None:
            return None
        try:
            return decode(content, ref.sha256)
        except (EvidenceError, RejectedError, msgspec.DecodeError) as error:
            yield Finding(kind="frontier", path=ref.path, what=str(error))
            return None

    def _read(self, path: str, version_id: str, sha256: str) -> Generator[Finding, None, bytes | None]:
        try:
            content, _ = self._archive.get("work", path, version_id)
        except NotHeldError:
            yield Finding(kind="frontier", path=path, version_id=version_id, what="is missing")
            return None
        except (EvidenceError, RefusedError) as error:
            yield Finding(kind="frontier", path=path, version_id=version_id, what=str(error))
            return None
        if hashlib.sha256(content).hexdigest() != sha256:
            yield Finding(kind="frontier", path=path, version_id=version_id, what="has not the hash that is stated")
            return None
        return content

"""What the archive's frontiers hold of every file, pages included, and how its lines stand (J4, J5).

Frontier entries carry no payload: where a join is open or a line was cut, the packs tell the rest.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from ashiato.adapters.frontiers import files_of_page, frontier_at
from ashiato.adapters.journal import Journal
from ashiato.core.frontier import FileState, Frontier, Page
from ashiato.core.journal import FrontierRef
from ashiato.core.ports import ArchiveReader, BusReader, Partition
from ingest.contracts import LineState
from ingest.held import HeldPacks
from ingest.rows import reopen

_PAGES_KEPT: Final = 32
"""Pages in memory, of a thousand files each: ids of imported files lie anywhere, so that many pages may have one."""


class KnownFiles:
    """Reads frontiers and pages, each held against the hash that names it.

    Every method may raise TransientError (the archive does not answer), NotHeldError and EvidenceError (what a commit
    names is gone, or is not what it names).
    """

    def __init__(self, archive: ArchiveReader, journal: Journal) -> None:
        self._archive = archive
        self._journal = journal
        self._pages: OrderedDict[str, dict[str, FileState]] = OrderedDict()

    def frontier_at(self, ref: FrontierRef) -> Frontier:
        """Return the frontier that a commit names."""
        return frontier_at(self._archive, ref)

    def files_of(self, page: Page) -> dict[str, FileState]:
        """Return the files of a page by id."""
        files = self._pages.get(page.sha256)
        if files is None:
            files = {file.file_id: file for file in files_of_page(self._archive, page)}
            self._pages[page.sha256] = files
            if len(self._pages) > _PAGES_KEPT:
                self._pages.popitem(last=False)
        self._pages.move_to_end(page.sha256)
        return files

    def find(self, pages: Sequence[Page], file_id: str) -> FileState | None:
        """Return a file's newest entry in ``pages``, None where it has none."""
        for page in reversed(pages):
            if page.file_id_min <= file_id <= page.file_id_max:
                found = self.files_of(page).get(file_id)
                if found is not None:
                    return found
        return None

    def lines_of(self, file: FileState) -> LineState:
        """Return how the lines of a file stand behind what is held of it."""
        state = LineState(
            at_line=file.at_line, cut_iostream=file.cut_iostream, cut_time_unix_nano=file.cut_time_unix_nano
        )
        if file.open_joins:
            packs = HeldPacks(self._archive, self._journal.state)
            rows = packs.rows_of(file, min(join.first_offset for join in file.open_joins))
            state = replace(state, open_parts=reopen(file.file_id, rows).open_parts)
        return state


async def is_same_log(reader: BusReader, where: Partition, *, next_position: int, record_sha256: str) -> bool:
    """Tell whether the record before a position is the one that was read (J5); missing is different."""
    if not record_sha256:
        return True
    record = await reader.read_one(where, next_position - 1)
    return record is not None and hashlib.sha256(record.value).hexdigest() == record_sha256

"""What the archive holds of every file, read from the frontiers that the journal names."""

from __future__ import annotations

from collections.abc import Iterator

from ashiato.core import frontier
from ashiato.core.frontier import FileState, Frontier, Page
from ashiato.core.journal import FrontierRef, JournalState, Txn
from ashiato.core.ports import ArchiveReader


def frontier_at(archive: ArchiveReader, ref: FrontierRef) -> Frontier:
    """Return the frontier that a commit names, held against its hash.

    Raises:
        EvidenceError: it is not what the commit names. NotHeldError; TransientError.

    """
    content, _ = archive.get("work", ref.path, ref.version_id)
    return frontier.decode(content, ref.sha256)


def files_of_page(archive: ArchiveReader, page: Page) -> tuple[FileState, ...]:
    """Return the files of a page that a frontier names, held against its hash. Raises as :func:`frontier_at`."""
    content, _ = archive.get("work", page.path, page.version_id)
    return frontier.decode_page(content, page.sha256)


def file_states(
    archive: ArchiveReader, txn: Txn, pages: dict[str, tuple[FileState, ...]] | None = None
) -> Iterator[FileState]:
    """Yield what is held of each file of one partition, those of its pages first.

    ``pages`` is kept by the caller from commit to commit: a page never changes, and later frontiers name it again.

    Raises:
        EvidenceError: a frontier or page is not what its commit names. NotHeldError; TransientError.

    """
    known = frontier_at(archive, txn.frontier)
    for page in known.pages:
        if pages is None or page.sha256 not in pages:
            files = files_of_page(archive, page)
            if pages is not None:
                pages[page.sha256] = files
        else:
            files = pages[page.sha256]
        yield from files
    yield from known.files


def held_files(archive: ArchiveReader, state: JournalState) -> dict[str, FileState]:
    """Return what is held of every file, by file id; newer entries win over paged ones. Raises as above."""
    held: dict[str, FileState] = {}
    for txn in state.positions.values():
        for file in file_states(archive, txn):
            before = held.get(file.file_id)
            if before is None or file.offset >= before.offset:
                held[file.file_id] = file
    return held

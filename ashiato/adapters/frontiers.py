"""What the archive holds of every file, read from the frontiers that the journal names."""

from __future__ import annotations

from collections.abc import Iterator

from ashiato.core import frontier
from ashiato.core.frontier import FileState
from ashiato.core.journal import JournalState, Txn
from ashiato.core.ports import ArchiveReader


def file_states(
    archive: ArchiveReader, txn: Txn, pages: dict[str, tuple[FileState, ...]] | None = None
) -> Iterator[FileState]:
    """Yield what is held of each file of one partition, those of its pages first.

    ``pages`` is kept by the caller from commit to commit: a page never changes, and later frontiers name it again.

    Raises:
        EvidenceError: a frontier or page is not what its commit names. NotHeldError; TransientError.

    """
    content, _ = archive.get("work", txn.frontier.path, txn.frontier.version_id)
    known = frontier.decode(content, txn.frontier.sha256)
    for page in known.pages:
        if pages is None or page.sha256 not in pages:
            paged, _ = archive.get("work", page.path, page.version_id)
            files = frontier.decode_page(paged, page.sha256)
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

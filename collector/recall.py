"""Whether a file that is on the disk now is one that was read before: by its inode first, by its bytes in the end."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from collector.bookmark import Remembered
from collector.content import Content, Plain
from collector.discovery import Candidate
from collector.followed import Cursor, resume


def open_plain(candidate: Candidate) -> Plain:
    """Open the file that a sweep saw.

    Raises:
        FileNotFoundError: its name is gone, or belongs to another file by now.
        OSError: it cannot be opened.

    """
    content = Plain(Path(candidate.os_path))
    if content.identity != candidate.identity:
        content.close()
        raise FileNotFoundError(candidate.path)
    return content


def resume_any(files: Iterable[Remembered], candidate: Candidate, content: Content) -> tuple[Remembered, Cursor] | None:
    """Return the first file of which ``content`` is the rest, and where to go on. Raises OSError."""
    for file in files:
        if file.head is None and file.known.source != str(candidate.found.source):
            continue
        cursor = resume(content, offset=file.offset, head=file.head, guard=file.guard)
        if cursor is not None:
            return file, cursor
    return None


def is_same(cursor: Cursor, content: Content) -> bool:
    """Whether ``content`` holds what was read up to ``cursor``; never where nothing was read. Raises OSError."""
    if not cursor.head or content.look().size < cursor.offset:
        return False
    length = len(cursor.guard)
    return (
        content.read(len(cursor.head), 0) == cursor.head
        and content.read(length, cursor.offset - length) == cursor.guard
    )

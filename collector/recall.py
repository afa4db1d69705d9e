"""Whether a file that is on the disk now is one that was read before: by its inode first, by its bytes in the end."""

from __future__ import annotations

from collections.abc import Iterable

from collector.bookmark import Head, Remembered
from collector.content import GUARD_BYTES, Content, Plain
from collector.descriptors import Descriptors
from collector.discovery import Candidate
from collector.followed import HEAD_BYTES, Cursor, Followed, digest_of_head, resume


def open_plain(candidate: Candidate, descriptors: Descriptors | None = None) -> Plain:
    """Open the file that a sweep saw.

    Raises:
        FileNotFoundError: its name is gone, or belongs to another file by now.
        OSError: it cannot be opened.

    """
    content = Plain(candidate.os_path, descriptors)
    if content.identity != candidate.identity:
        content.close()
        raise FileNotFoundError(candidate.path)
    # One tuple for all who know the file.
    content.identity = candidate.identity
    return content


def resume_inode(
    files: Iterable[Remembered], candidate: Candidate, content: Content
) -> tuple[Remembered, Cursor] | None:
    """Return the file of this very inode of which ``content`` is the rest, and where to go on. Raises OSError."""
    for file in files:
        if not is_same_inode(file, candidate, content):
            continue
        if file.head is None and file.known.source != str(candidate.found.source):
            continue
        if file.done and file.head is None and not file.generation:
            # It was told to be gone, and nothing was ever read of it: its number alone makes no other file it.
            continue
        if (cursor := resume(content, file)) is not None:
            return file, cursor
    return None


def is_same_inode(file: Remembered, candidate: Candidate, content: Content) -> bool:
    """Whether a remembered file can be this inode: one whose generation differs had its number before."""
    if file.generation and content.generation:
        return file.identity[1] == candidate.identity[1] and file.generation == content.generation
    return file.identity == candidate.identity


def resume_copy(files: Iterable[Remembered], content: Content) -> tuple[Remembered, Cursor] | None:
    """Return the file of which ``content`` is a copy with its rest, and where to go on. Raises OSError.

    Only bytes speak for a copy, so there must be some.
    """
    for file in files:
        if file.head is not None and (cursor := resume(content, file)) is not None:
            return file, cursor
    return None


def is_same(file: Followed, content: Content) -> bool:
    """Whether ``content`` holds what was read of ``file``, or its beginning up to just before the offset.

    Never where nothing was read. Raises OSError.
    """
    cursor, size = file.cursor, content.size()
    head = file.head if file.head is None or size >= file.head.length else file.head_before
    at = cursor.offset - len(cursor.guard)
    common = min(size, cursor.offset) - at
    if head is None or size < head.length or common < 0 or (cursor.guard and not common):
        return False
    return digest_of_head(content.read(head.length, 0)) == head.sha256 and (
        content.read(common, at) == cursor.guard[:common]
    )


def begins_alike(head: Head | None, content: Content) -> bool:
    """Whether ``content`` begins with the head of a file that is known. Raises OSError."""
    return (
        head is not None
        and content.size() >= head.length
        and digest_of_head(content.read(head.length, 0)) == head.sha256
    )


def may_be_copy(content: Content, file: Followed) -> bool:
    """Whether ``content`` is a copy of a followed file: of what it holds, or of what it held until just now.

    Raises OSError.
    """
    if file.content is None:
        return False
    return is_beginning_of(content, file) or (is_same(file, content) and not is_same(file, file.content))


def is_beginning_of(copy: Content, file: Followed) -> bool:
    """Whether ``copy`` is what ``file`` began with, as far as head and end tell; never where it is empty.

    Raises OSError.
    """
    size = copy.size()
    if file.content is None or not 0 < size <= file.content.size():
        return False
    at = max(0, size - GUARD_BYTES)
    first = min(size, HEAD_BYTES)
    return copy.read(first, 0) == file.content.read(first, 0) and copy.read(size - at, at) == file.content.read(
        size - at, at
    )

"""One file that is followed: what it is, and how far it is read and acknowledged."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from ashiato.core import attest
from ashiato.core.chunk import ChunkFlags, FileFacts
from ashiato.core.ids import Kind
from ashiato.core.limits import CHUNK_BYTES_TARGET
from ashiato.core.ports import Partition
from collector.bookmark import Acked, Head, Remembered
from collector.content import GUARD_BYTES, Content
from collector.open_span import Attester, OpenSpan
from collector.tail import READ_BYTES, CutAt, cut

HEAD_BYTES: Final = 1024
GUARD_DIGEST_BYTES: Final = 16


class ContentChangedError(Exception):
    """The bytes before the offset are not those that were read: the file was written anew under its inode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """A place in a file, with what is needed to know that it still is the same file."""

    offset: int = 0
    at_line: bool = True
    guard: bytes = b""
    """The last bytes before ``offset``, as they were read."""
    span: OpenSpan | None = None
    """What is hashed and not stated yet; None where nothing is, or where nothing is to be."""

    def behind(self, payload: bytes, *, at_line: bool) -> Cursor:
        """Return the place behind ``payload``."""
        return Cursor(
            offset=self.offset + len(payload),
            at_line=at_line,
            guard=(self.guard + payload[-GUARD_BYTES:])[-GUARD_BYTES:],
            span=self.span.behind(payload) if self.span is not None else None,
        )


@dataclass(slots=True, kw_only=True)
class Followed:
    """Read through its content until it is unlinked *and* drained; never through its path again."""

    facts: FileFacts
    flags: ChunkFlags
    partition: Partition
    path: str
    content: Content | None
    """None where there is nothing more to read: only its end is to be told."""
    identity: tuple[int, int]
    cursor: Cursor = Cursor()
    """Everything before it is acknowledged."""
    position: int = -1
    incarnation: str = ""
    """Of the bus that ``position`` is a place on; '' where that is not known."""
    head: Head | None = None
    """Digest of the file's first bytes that the bookmark knows; it grows until 1 KiB."""
    head_before: Head | None = None
    """The one before, for copies that were made before it grew."""
    size: int = 0
    """As last seen."""
    changed_monotonic_nano: int = 0
    """When the size last changed."""
    unlinked: bool = False
    rotated: bool = False
    """It carries a rotated name, so that a newer file takes what is written."""
    in_sight: bool = True
    """The last sweep saw it."""
    is_copy: bool = False
    """Its bytes go on in a copy that was made before it was truncated."""
    awaits_copy: bool = False
    """It was truncated, and a copy of it is looked for."""
    moved_since_beat: bool = False
    changed_content: bool = False
    failed: str = ""
    """Why it could not be read last time."""
    failure_stated: bool = False
    closing: str = ""
    """Reason for which it is to be closed once drained."""
    end_sent: bool = False
    """The bus keeps the chunk that closes it."""
    attester: Attester | None = None
    """None where no spans are stated: of the ledger's own files, and of imports."""
    stated: int = 0
    """Everything before it is stated in the durable ledger."""
    sent: int = 0
    """Everything before it may be on the bus, kept or not known to be."""
    unattested: str = ""
    """Why bytes behind ``stated`` are in no span, where that is known."""

    def look(self, now_monotonic_nano: int) -> int:
        """Take in size and link count; return the size before."""
        before = self.size
        if self.content is not None:
            try:
                seen = self.content.look()
            except OSError as error:
                self.failed = error.strerror or str(error)
                return before
            self.unlinked = seen.unlinked
            if seen.size != before:
                self.size, self.changed_monotonic_nano = seen.size, now_monotonic_nano
        return before

    def next_chunk(self, at: Cursor, *, ended: bool) -> tuple[bytes, CutAt] | None:
        """Return the chunk that begins ``at`` and where it ends, None where it has to wait.

        Raises OSError; ContentChangedError.
        """
        if self.content is None:
            return None
        where = None
        for length in (CHUNK_BYTES_TARGET, READ_BYTES):
            read = self.content.read(len(at.guard) + length, at.offset - len(at.guard))
            if read[: len(at.guard)] != at.guard:
                raise ContentChangedError
            payload = read[len(at.guard) :]
            is_all = len(payload) < length
            if is_all or length == READ_BYTES or b"\n" in payload:
                where = cut(payload, at_line=at.at_line, ended=ended)
                # Behind the bytes: what was written anew since would have another head, or the same bytes.
                if where is not None and not self.begins_as_noted():
                    raise ContentChangedError
                return (payload[: where.length], where) if where is not None else None
        raise AssertionError("the second length decides")

    def advance(self, to: Cursor, position: int, incarnation: str) -> None:
        """Take an acknowledgement in (C2)."""
        if to.offset > self.cursor.offset:
            # It is read again: what fails from here on is another failure.
            self.failure_stated = False
        self.cursor, self.position, self.incarnation, self.moved_since_beat = to, position, incarnation, True

    def begin_span(self, at: Cursor) -> Cursor:
        """Return ``at`` with an open span, where spans are stated."""
        if self.attester is None or at.span is not None:
            return at
        return replace(at, span=self.attester.begin(self.facts.file_id, at.offset))

    def facts_at(self, at: Cursor) -> FileFacts:
        """Return what a frame carries of the file: the salt of the span in which the bytes behind ``at`` lie."""
        if at.span is None:
            return self.facts
        return msgspec.structs.replace(self.facts, salts=((at.span.start, at.span.salt),))

    @property
    def is_in_doubt(self) -> bool:
        """Whether bytes behind the acknowledged ones may be on the bus: they carry the open span's salt."""
        return self.sent > self.cursor.offset

    def begins_as_noted(self) -> bool:
        """Whether the file still begins with what the bookmark knows. Raises OSError."""
        if self.head is None or self.content is None:
            return True
        return digest_of_head(self.content.read(self.head.length, 0)) == self.head.sha256

    def guarded(self, to: Cursor) -> Head | None:
        """(C7) Return what the bookmark is to know before bytes up to ``to`` leave; None where it knows enough."""
        if self.head is not None and self.head.length >= min(HEAD_BYTES, to.offset):
            return None
        return self.note_head()

    def note_head(self) -> Head | None:
        """Return the digest of what the file begins with now, if that is more than was noted."""
        try:
            first = self.content.read(HEAD_BYTES, 0) if self.content is not None else b""
        except OSError:
            # It is read again where it is shipped, and a failure is named there.
            return None
        if len(first) <= (self.head.length if self.head is not None else 0):
            return None
        self.head_before = self.head
        self.head = Head(file_id=self.facts.file_id, length=len(first), sha256=digest_of_head(first))
        return self.head

    def acked(self) -> Acked:
        """Return what the bookmark is to know of the acknowledged bytes."""
        at = self.cursor
        return Acked(
            file_id=self.facts.file_id, offset=at.offset, position=self.position, guard=digest(at.guard),
            incarnation=self.incarnation, guard_bytes=GUARD_BYTES, attested=self.stated == at.offset,
        )  # fmt: skip

    @property
    def waiting(self) -> int:
        """Bytes seen and not acknowledged."""
        return max(0, self.size - self.cursor.offset) if self.content is not None else 0

    @property
    def is_named(self) -> bool:
        """Whether a gap names what of it is not acknowledged."""
        return (self.content is None and not self.awaits_copy) or self.failure_stated

    @property
    def is_ledger(self) -> bool:
        """Whether it is the ledger itself."""
        return self.facts.source.startswith(f"{Kind.LEDGER}/")

    def let_go(self) -> None:
        """Close the content; what was not read of it is not read any more."""
        if self.content is not None:
            self.content.close()
            self.content = None


def digest(guard: bytes, size: int = GUARD_DIGEST_BYTES) -> bytes:
    """Return what the bookmark keeps of the bytes before an offset."""
    return hashlib.blake2b(guard, digest_size=size).digest() if guard else b""


def digest_of_head(first: bytes) -> str:
    """Return what the bookmark keeps of a file's first bytes."""
    return hashlib.sha256(first).hexdigest()


def resume(content: Content, file: Remembered) -> Cursor | None:
    """Return the cursor at the remembered offset if ``content`` has the same head, and the same bytes before it.

    Raises OSError.
    """
    offset, head = file.offset, file.head
    if content.size() < max(offset, head.length if head is not None else 0):
        return None
    if head is not None and digest_of_head(content.read(head.length, 0)) != head.sha256:
        return None
    length = min(GUARD_BYTES, offset)
    last = content.read(length, offset - length)
    # A bookmark of an earlier release guards fewer bytes.
    if file.guard and digest(last[-file.guard_bytes :], len(file.guard)) != file.guard:
        return None
    if file.span is not None and not _fits(content, file, *file.span):
        return None
    return Cursor(offset=offset, at_line=offset == 0 or last.endswith(b"\n"), guard=last)


def _fits(content: Content, file: Remembered, start: int, sha256: str) -> bool:
    """Whether ``content`` holds the bytes of a file's last span. Raises OSError."""

    def parts() -> Iterator[bytes]:
        for at in range(start, file.offset, READ_BYTES):
            yield content.read(min(READ_BYTES, file.offset - at), at)

    return attest.digest_of(file.salt, start, parts()) == (sha256, file.offset - start)

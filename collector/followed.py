"""One file that is followed: its descriptor, its identity, and how far it is read."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ashiato.core.chunk import FileFacts
from ashiato.core.ports import Partition
from collector.tail import READ_BYTES, CutAt, cut

HEAD_BYTES: Final = 1024


@dataclass(slots=True, kw_only=True)
class Followed:
    """Read through its descriptor until it is unlinked *and* drained; never through its path again."""

    facts: FileFacts
    partition: Partition
    path: Path
    descriptor: int
    device: int
    inode: int
    offset: int = 0
    """Everything below is acknowledged."""
    position: int = -1
    size: int = 0
    """As last seen."""
    at_line: bool = True
    changed_monotonic_nano: int = 0
    """When the size last changed."""
    unlinked: bool = False
    replaced: bool = False
    """Its name belongs to another file now, or it carries a rotated name."""
    moved_since_beat: bool = False
    head_length: int = 0
    closing: str = ""
    """Reason for which it is to be closed once drained."""

    def look(self, now_monotonic_nano: int) -> None:
        """Take in size and link count."""
        stat = os.fstat(self.descriptor)
        if stat.st_size != self.size:
            self.size = stat.st_size
            self.changed_monotonic_nano = now_monotonic_nano
        self.unlinked = stat.st_nlink == 0

    def next_chunk(self, offset: int, *, at_line: bool, ended: bool) -> tuple[bytes, CutAt] | None:
        """Return the chunk that begins at ``offset`` and where it ends, None where it has to wait."""
        data = os.pread(self.descriptor, READ_BYTES, offset)
        where = cut(data, at_line=at_line, ended=ended)
        return (data[: where.length], where) if where is not None else None

    @property
    def truncated(self) -> bool:
        """Whether the file is shorter than what was read of it."""
        return self.size < self.offset

    @property
    def waiting(self) -> int:
        """Bytes seen and not acknowledged."""
        return max(0, self.size - self.offset)

    def starts_at_line(self) -> bool:
        """Whether the byte at ``offset`` begins a line, by the byte before it."""
        return self.offset == 0 or os.pread(self.descriptor, 1, self.offset - 1) == b"\n"

    def close(self) -> None:
        """Let go of the descriptor."""
        os.close(self.descriptor)


def head_digest(descriptor: int, length: int) -> str:
    """Return the SHA-256 of a file's first ``length`` bytes."""
    return hashlib.sha256(os.pread(descriptor, length, 0)).hexdigest()


def gzip_head(path: Path, length: int) -> bytes:
    """Return the first ``length`` decompressed bytes; b'' where it is not gzip."""
    try:
        with gzip.open(path, "rb") as file:
            return file.read(length)
    except (OSError, EOFError, zlib.error):
        return b""

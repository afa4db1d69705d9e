"""The bytes of a log file by offset: plain through a descriptor, gzipped through a window, never through a copy."""

from __future__ import annotations

import gzip
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

_STEP: Final = 256 * 1024
GUARD_BYTES: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a file is at one moment. Sizes and offsets are of the decompressed bytes."""

    size: int
    unlinked: bool
    modified_nano: int


class Content(Protocol):
    """A file that is open."""

    def look(self) -> Look:
        """Return its present state."""
        ...

    def read(self, length: int, offset: int) -> bytes:
        """Return up to ``length`` bytes from ``offset``; fewer only at the end. Raises OSError."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


class Plain:
    """A plain file, by its descriptor: whatever its name is by now."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        stat = os.fstat(self._descriptor)
        self.identity = (stat.st_dev, stat.st_ino)

    def look(self) -> Look:
        """Return its present state."""
        stat = os.fstat(self._descriptor)
        return Look(size=stat.st_size, unlinked=stat.st_nlink == 0, modified_nano=stat.st_mtime_ns)

    def read(self, length: int, offset: int) -> bytes:
        """Return the bytes."""
        return os.pread(self._descriptor, length, offset)

    def close(self) -> None:
        """Let go."""
        os.close(self._descriptor)


class Gzipped:
    """A gzipped file, which does not change. It is read through once for its size, then again where it is needed."""

    def __init__(self, path: Path) -> None:
        self._raw = path.open("rb")
        stat = os.fstat(self._raw.fileno())
        self.identity = (stat.st_dev, stat.st_ino)
        self.damage = ""
        """What is wrong with it; what stands before the damage is read."""
        self._rewind()
        self._size = self._measure()
        self._rewind()

    @staticmethod
    def head(path: Path, length: int) -> bytes:
        """Return the first bytes, as far as they can be read."""
        try:
            with gzip.open(path) as stream:
                return stream.read1(length)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            return b""

    def look(self) -> Look:
        """Return its present state."""
        stat = os.fstat(self._raw.fileno())
        return Look(size=self._size, unlinked=stat.st_nlink == 0, modified_nano=stat.st_mtime_ns)

    def read(self, length: int, offset: int) -> bytes:
        """Return the bytes; going back means beginning again."""
        if offset < self._start:
            self._rewind()
        while self._start + len(self._window) < min(offset + length, self._size):
            self._drop(offset)
            self._window += self._next(self._size - self._start - len(self._window))
        self._drop(offset)
        return bytes(self._window[offset - self._start : offset - self._start + length])

    def close(self) -> None:
        """Let go."""
        self._raw.close()

    def _rewind(self) -> None:
        self._raw.seek(0)
        self._stream = gzip.GzipFile(fileobj=self._raw)
        self._start, self._window = 0, bytearray()

    def _drop(self, before: int) -> None:
        drop = min(before - self._start, len(self._window))
        del self._window[:drop]
        self._start += drop

    def _next(self, left: int) -> bytes:
        got = self._stream.read1(min(_STEP, left))
        if not got:
            raise OSError("the gzipped file changed while it was read")
        return got

    def _measure(self) -> int:
        size = 0
        try:
            while got := self._stream.read1(_STEP):
                size += len(got)
        except (OSError, EOFError, zlib.error) as error:
            self.damage = f"gzip: {error}"
        return size

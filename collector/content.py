"""The bytes of a log file by offset: plain through a descriptor, gzipped through a window, never through a copy."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import threading
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_ISREG
from typing import Final, Protocol

from collector.descriptors import Descriptors
from collector.generation import generation_of

_STEP: Final = 256 * 1024
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
"""Nothing is waited for: what became a pipe since it was found opens at once, and is refused."""
GUARD_BYTES: Final = 256
"""More than one line of most logs: lines that end alike differ in their beginnings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a file is at one moment. Sizes and offsets are of the decompressed bytes."""

    size: int
    unlinked: bool
    modified_nano: int
    changed_nano: int
    stored_size: int
    """What the disk says; less than ``size`` where it is compressed."""


_NEVER: Final = Look(size=0, unlinked=False, modified_nano=0, changed_nano=0, stored_size=0)


class Content(Protocol):
    """A file that is open."""

    identity: tuple[int, int]
    generation: int
    """Of the inode; 0 where the file system tells none."""

    def look(self) -> Look:
        """Return its present state. Raises OSError."""
        ...

    def size(self) -> int:
        """Return its present size, at the least cost. Raises OSError."""
        ...

    def read(self, length: int, offset: int) -> bytes:
        """Return up to ``length`` bytes from ``offset``; fewer only at the end. Raises OSError."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


class ReplacedError(OSError):
    """The name leads to another file by now, or nowhere, and no descriptor is held."""


class Plain:
    """A plain file, by its descriptor: whatever its name is by now.

    Under a bound of ``descriptors`` it may lose its descriptor while it has a name, and opens it again by its name.
    """

    __slots__ = (
        "_descriptor", "_last", "_lock", "_path", "_pool", "at_rest", "generation", "identity", "is_astray", "is_live",
        "is_replaced",
    )  # fmt: skip

    def __init__(self, path: str | Path, descriptors: Descriptors | None = None) -> None:
        self.at_rest = False
        self.is_live = False
        self.is_replaced = False
        """Its descriptor was given up, and another file has its inode."""
        self.is_astray = False
        """Its descriptor was given up, and its name leads elsewhere: the next sweep knows where it is."""
        self._path = os.fspath(path)
        self._pool = descriptors
        self._lock = threading.Lock()
        """Held while the descriptor is used, so that its number never means another file."""
        self._descriptor = -1
        self._last = _NEVER
        """What it was when its descriptor was given up."""
        self._descriptor = self._open()
        try:
            stat = os.fstat(self._descriptor)
            if not S_ISREG(stat.st_mode):
                raise ReplacedError(errno.EINVAL, "not a regular file any more", self._path)
        except OSError:
            self.close()
            raise
        self.identity = (stat.st_dev, stat.st_ino)
        self.generation = generation_of(self._descriptor)

    def look(self) -> Look:
        """Return its present state; the last one where it has neither a descriptor nor its name."""
        with self._lock:
            if self._descriptor < 0:
                try:
                    stat = os.stat(self._path)  # noqa: PTH116 - a Path for each file would be most of its memory
                except FileNotFoundError:
                    return self._last
                if (stat.st_dev, stat.st_ino) != self.identity:
                    # It has another name, or none: the next sweep knows.
                    return self._last
                if (seen := _look(stat)) == self._last:
                    return seen
                # It moved, or another file has its name: only a descriptor tells.
                self._open_again()
            return _look(os.fstat(self._descriptor))

    def size(self) -> int:
        """Return its present size."""
        with self._lock:
            if self._descriptor >= 0:
                # A third of what fstat costs; all reading is by offset, so the place that it moves means nothing.
                return os.lseek(self._descriptor, 0, os.SEEK_END)
        return self.look().size

    def read(self, length: int, offset: int) -> bytes:
        """Return the bytes."""
        with self._lock:
            if self._descriptor < 0:
                self._open_again()
            elif self._pool is not None and self._pool.is_full:
                self._pool.took(self)
            return os.pread(self._descriptor, length, offset)

    def close(self) -> None:
        """Let go."""
        if self._pool is not None:
            self._pool.gave(self)
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def give_up(self) -> bool:
        """Close the descriptor, where its name leads to it."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if not (self.at_rest or self.is_live) or self._descriptor < 0:
                return False
            if not self._is_under_its_name():
                return False
            self._last = _look(os.fstat(self._descriptor))
            os.close(self._descriptor)
            self._descriptor = -1
            return True
        finally:
            self._lock.release()

    def moved(self, path: str | Path) -> None:
        """Take in the name that it has now."""
        self._path, self.is_astray = os.fspath(path), False

    @property
    def is_held(self) -> bool:
        """Whether a descriptor keeps its bytes, whatever becomes of its name."""
        return self._descriptor >= 0

    def _open(self) -> int:
        if self._pool is not None:
            self._pool.make_room()
        try:
            descriptor = os.open(self._path, _FLAGS)
        except OSError as error:
            if self._pool is None or error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            self._pool.make_room(more=1)
            descriptor = os.open(self._path, _FLAGS)
        if self._pool is not None:
            self._pool.took(self)
        return descriptor

    def _is_under_its_name(self) -> bool:
        try:
            named = os.stat(self._path)  # noqa: PTH116 - as above
        except OSError:
            return False
        return (named.st_dev, named.st_ino) == self.identity

    def _open_again(self) -> None:
        try:
            descriptor = self._open()
        except FileNotFoundError:
            self.is_astray = True
            raise
        stat = os.fstat(descriptor)
        self.is_astray = (stat.st_dev, stat.st_ino) != self.identity
        # An inode that is used again: the file itself is gone.
        self.is_replaced = not self.is_astray and generation_of(descriptor) != self.generation
        if self.is_astray or self.is_replaced:
            os.close(descriptor)
            if self._pool is not None:
                self._pool.gave(self)
            raise ReplacedError(errno.ESTALE, "its name leads to another file", self._path)
        self._descriptor = descriptor


class Gzipped:
    """A gzipped file, which does not change. It is read through once for its size, then again where it is needed."""

    def __init__(self, path: Path) -> None:
        self._raw = os.fdopen(os.open(path, _FLAGS), "rb")
        stat = os.fstat(self._raw.fileno())
        self.identity = (stat.st_dev, stat.st_ino)
        self.generation = generation_of(self._raw.fileno())
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

    @staticmethod
    def glance(path: Path, length: int) -> tuple[str, int]:
        """Return the SHA-256 of the first ``length`` bytes and the size that the end tells; raises OSError.

        The end tells the size of the last member, modulo 2**32; ('', -1) where there is none.
        """
        with os.fdopen(os.open(path, _FLAGS), "rb") as raw:
            try:
                first = gzip.GzipFile(fileobj=raw).read(length)
            except (EOFError, zlib.error, gzip.BadGzipFile):
                return "", -1
            raw.seek(-4, os.SEEK_END)
            return hashlib.sha256(first).hexdigest(), int.from_bytes(raw.read(4), "little")

    def look(self) -> Look:
        """Return its present state."""
        stat = os.fstat(self._raw.fileno())
        return replace(_look(stat), size=self._size)

    def size(self) -> int:
        """Return its size, which does not change."""
        return self._size

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


def _look(stat: os.stat_result) -> Look:
    return Look(
        size=stat.st_size, unlinked=stat.st_nlink == 0, modified_nano=stat.st_mtime_ns, changed_nano=stat.st_ctime_ns,
        stored_size=stat.st_size,
    )  # fmt: skip

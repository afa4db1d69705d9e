"""A file that is only appended to: what `append` wrote is durable when it returns, or the file is as it was before.

Its room is taken beforehand (C8): blocks beyond its end are its own, while its size stays what was written. So a disk
that others fill leaves it a reserve, and what cannot be kept any more is refused before a byte of it is written.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from pathlib import Path
from typing import Final

from ashiato.adapters import files

_KEEP_SIZE: Final = 1
_UNSUPPORTED: Final = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV)


class AppendFile:
    """Written without a buffer of our own, so that a full disk leaves nothing behind that comes out later."""

    def __init__(self, path: Path, *, reserve_bytes: int = 0) -> None:
        files.make_folder(path.parent)
        is_new = not path.exists()
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            stat = os.fstat(self._descriptor)
            if is_new:
                files.sync_folder(path.parent)
            elif stat.st_size:
                # A process that was killed may not have lived to sync what it wrote: it is read, sent and built upon.
                os.fsync(self._descriptor)
        except OSError:
            self.close()
            raise
        self._whole = stat.st_size
        self._torn = False
        self._reserve_bytes = reserve_bytes
        self._taken = max(self._whole, stat.st_blocks * 512)
        """Up to here the disk's blocks are ours."""
        self.is_reserved = reserve_bytes > 0
        """Room can be taken beforehand here; False also where the file system cannot do it."""
        self.top_up()

    @property
    def size(self) -> int:
        """Bytes that are whole and durable."""
        return self._whole

    @property
    def reserve_left_bytes(self) -> int:
        """What can still be written although the disk is full."""
        return max(0, self._taken - self._whole) if self.is_reserved else 0

    def append(self, content: bytes) -> None:
        """Write and fsync. Raises TransientError, with nothing written, where the disk is full or fails."""
        try:
            self._mend()
            if self.is_reserved and self._whole + len(content) > self._taken:
                # Refused as a whole, before anything is written: what is cut off again would give the reserve away.
                self._take(len(content))
            self._torn = True
            view = memoryview(content)
            while view:
                view = view[os.write(self._descriptor, view) :]
            os.fdatasync(self._descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._mend()
            raise files.disk_error(error, self._path) from error
        self._torn = False
        self._whole += len(content)
        self.top_up()

    def cut(self, size: int) -> None:
        """Cut the end off durably: what a crash tore."""
        os.ftruncate(self._descriptor, size)
        os.fsync(self._descriptor)
        self._whole = self._taken = size
        self.top_up()

    def top_up(self) -> None:
        """Take room for the reserve again when a quarter of it is used; a full disk leaves what there is."""
        if self.is_reserved and self._taken - self._whole < self._reserve_bytes * 3 // 4:
            with contextlib.suppress(OSError):
                self._take(self._reserve_bytes)

    def rename(self, path: Path) -> None:
        """Put the file in the place of whatever ``path`` held: the old or the new is there. Raises OSError."""
        self._path.rename(path)
        self._path = path

    def release(self) -> None:
        """Give the reserve back: nothing more will be appended."""
        if self.is_reserved:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._whole)
            self.is_reserved = False

    def close(self) -> None:
        """Let go of the file. It keeps its reserve: the disk may be full when it is opened again."""
        os.close(self._descriptor)

    def _mend(self) -> None:
        """Take back what a failed append left: it must not stand before the next one."""
        if self._torn:
            os.ftruncate(self._descriptor, self._whole)
            self._taken = self._whole
            self._torn = False

    def _take(self, length: int) -> None:
        """Make the blocks behind the end ours. Raises OSError where the disk has none."""
        number = _allocate(self._descriptor, self._whole, length)
        if number == 0:
            self._taken = max(self._taken, self._whole + length)
        elif number in _UNSUPPORTED:
            self.is_reserved = False
        else:
            raise OSError(number, os.strerror(number))


def _allocate(descriptor: int, offset: int, length: int) -> int:
    """Allocate blocks without changing the file's size; return 0 or an error number."""
    try:
        call = ctypes.CDLL(None, use_errno=True).fallocate64
    except AttributeError:
        return errno.ENOSYS
    told = call(ctypes.c_int(descriptor), ctypes.c_int(_KEEP_SIZE), ctypes.c_int64(offset), ctypes.c_int64(length))
    return ctypes.get_errno() if told else 0

"""A file that is only appended to: what `append` wrote is durable when it returns, or the file is as it was before."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ashiato.adapters import files


class AppendFile:
    """Written without a buffer of our own, so that a full disk leaves nothing behind that comes out later."""

    def __init__(self, path: Path) -> None:
        files.make_folder(path.parent)
        is_new = not path.exists()
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._whole = os.fstat(self._descriptor).st_size
        self._torn = False
        if is_new:
            files.sync_folder(path.parent)

    @property
    def size(self) -> int:
        """Bytes that are whole and durable."""
        return self._whole

    def append(self, content: bytes) -> None:
        """Write and fsync. Raises TransientError, with nothing written, where the disk is full or fails."""
        try:
            self._mend()
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

    def cut(self, size: int) -> None:
        """Cut the end off durably: what a crash tore."""
        os.ftruncate(self._descriptor, size)
        os.fsync(self._descriptor)
        self._whole = size

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)

    def _mend(self) -> None:
        """Take back what a failed append left: it must not stand before the next one."""
        if self._torn:
            os.ftruncate(self._descriptor, self._whole)
            self._torn = False

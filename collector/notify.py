"""Which folders changed, told by the kernel: a hint that makes a sweep early, and never the truth.

One inotify instance, folders only, and never a word about writes: a busy log costs nothing here. Whatever it cannot
tell (the queue ran over, no watch was left, a network file system) the next sweep finds all the same.
"""

from __future__ import annotations

import ctypes
import os
import struct
import weakref
from dataclasses import dataclass, field
from typing import Final

_CLOEXEC: Final = os.O_CLOEXEC
_NONBLOCK: Final = os.O_NONBLOCK
_ATTRIB: Final = 0x4
_MOVED_FROM: Final = 0x40
_MOVED_TO: Final = 0x80
_CREATE: Final = 0x100
_DELETE: Final = 0x200
_DELETE_SELF: Final = 0x400
_MOVE_SELF: Final = 0x800
_OVERFLOW: Final = 0x4000
_IGNORED: Final = 0x8000
_ONLY_FOLDERS: Final = 0x0100_0000
_NO_LINKS: Final = 0x0200_0000
_MASK: Final = (
    _ATTRIB | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLY_FOLDERS | _NO_LINKS
)
_EVENT: Final = struct.Struct("=iIII")
_READ_BYTES: Final = 64 * 1024


@dataclass(slots=True)
class Changes:
    """What happened since it was asked last."""

    folders: set[str] = field(default_factory=set)
    overflowed: bool = False
    """More happened than the queue holds: any folder may have changed."""


class Notifier:
    """One inotify instance."""

    def __init__(self) -> None:
        """Open it. Raises OSError where the system has none left."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._called(self._libc.inotify_init1(_CLOEXEC | _NONBLOCK))
        # Whoever forgets to close it must not take one of the few instances of its user for ever.
        self._closing = weakref.finalize(self, os.close, self._descriptor)
        self._folders: dict[int, str] = {}
        self._watches: dict[str, int] = {}

    def fileno(self) -> int:
        """Return the descriptor, which is readable when something happened."""
        return self._descriptor

    def __len__(self) -> int:
        return len(self._watches)

    def watch(self, folder: str) -> bool:
        """Watch a folder; return whether it was not watched before, so that it is to be listed once more.

        Raises OSError: no watch is left (ENOSPC), or memory; a folder that is gone meanwhile is no error.
        """
        if folder in self._watches:
            return False
        try:
            watch = self._called(self._libc.inotify_add_watch(self._descriptor, os.fsencode(folder), _MASK))
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return False
        before = self._folders.get(watch)
        if before is not None:
            self._watches.pop(before, None)
        self._folders[watch], self._watches[folder] = folder, watch
        return True

    def changes(self) -> Changes:
        """Return what happened, each folder once, however much that was."""
        changes = Changes()
        while True:
            try:
                told = os.read(self._descriptor, _READ_BYTES)
            except BlockingIOError:
                return changes
            at = 0
            while at < len(told):
                watch, mask, _, length = _EVENT.unpack_from(told, at)
                at += _EVENT.size + length
                self._take(watch, mask, changes)

    def close(self) -> None:
        """Let go of all watches."""
        self._closing()

    def _take(self, watch: int, mask: int, changes: Changes) -> None:
        if mask & _OVERFLOW:
            changes.overflowed = True
            return
        folder = self._folders.get(watch)
        if folder is None:
            return
        changes.folders.add(folder)
        if mask & _MOVE_SELF:
            # It has another path now, under which the sweep finds and watches it again.
            self._libc.inotify_rm_watch(self._descriptor, watch)
        if mask & (_MOVE_SELF | _IGNORED):
            del self._folders[watch]
            if self._watches.get(folder) == watch:
                del self._watches[folder]

    def _called(self, result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result

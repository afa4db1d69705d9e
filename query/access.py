"""The access log: who asked what. A file of JSON lines that is tailed, archived and sealed like any other.

A question that cannot be written down is not answered. Files are numbered and never renamed; the highest number is
the one that is written to.
"""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import Final

import msgspec

from ashiato.adapters import files
from ashiato.core.limits import MIB

FILE_BYTES_MAX: Final = 8 * MIB
FILES_KEPT: Final = 8
"""Older files are removed: by then a collector has read them, or nobody ever will."""

_NAME: Final = re.compile(r"access-(\d{1,9})\.jsonl")


class AccessLine(msgspec.Struct, frozen=True, kw_only=True):
    """One question. Never a token."""

    time_unix_nano: str
    user: str
    address: str
    method: str
    path: str
    asked: str
    """The question's parameters, as JSON."""
    status: int


class AccessLog:
    """Appends lines to the newest file of a folder."""

    def __init__(self, folder: Path) -> None:
        files.make_folder(folder)
        self._folder = folder
        self._lock = threading.Lock()
        self._number = max(self._numbers(), default=1)
        self._descriptor = self._open()

    def write(self, line: AccessLine) -> None:
        """Append one line. Raises TransientError where the disk does not take it."""
        encoded = msgspec.json.encode(line) + b"\n"
        with self._lock:
            try:
                if os.fstat(self._descriptor).st_size > FILE_BYTES_MAX:
                    self._rotate()
                written = os.write(self._descriptor, encoded)
            except OSError as error:
                raise files.disk_error(error, self._folder) from error
            if written < len(encoded):
                # What follows begins on a line of its own.
                os.truncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
                raise files.disk_error(OSError(28, "short write"), self._folder)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _rotate(self) -> None:
        self._number += 1
        following = self._open()
        os.close(self._descriptor)
        self._descriptor = following
        for number in sorted(self._numbers())[:-FILES_KEPT]:
            self._path(number).unlink(missing_ok=True)

    def _open(self) -> int:
        return os.open(self._path(self._number), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _path(self, number: int) -> Path:
        return self._folder / f"access-{number:06d}.jsonl"

    def _numbers(self) -> list[int]:
        return [int(match[1]) for path in self._folder.iterdir() if (match := _NAME.fullmatch(path.name))]

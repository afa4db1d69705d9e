"""The node's ledger on disk: appended, fsynced, rotated by size; tailed like every other source (C3, C7)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ashiato.adapters import files
from ashiato.core import ledger
from ashiato.core.errors import RejectedError
from ashiato.core.ledger import Head, Rotated, Statement
from ashiato.core.ports import Clock

ROTATE_BYTES = 8 * 1024 * 1024


class LedgerFile:
    """The chain's end. A number is never used twice: the chain goes on from the last whole line on disk."""

    def __init__(self, folder: Path, *, node: str, clock: Clock) -> None:
        self.folder = folder
        self._node = node
        self._clock = clock
        files.make_folder(folder)
        numbers = sorted(int(path.stem.removeprefix("ledger-")) for path in folder.glob("ledger-*.jsonl"))
        self._number = numbers[-1] if numbers else 1
        self._head = self._recover(numbers)
        self._file = self._path().open("ab")

    @property
    def head(self) -> Head:
        """Where the chain stands."""
        return self._head

    def append(self, statements: Sequence[Statement]) -> None:
        """Write statements, durably, in order. Raises TransientError where the disk is full."""
        if not statements:
            return
        if self._file.tell() > ROTATE_BYTES:
            self._rotate()
        self._write(statements)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, statements: Sequence[Statement]) -> None:
        head, lines = self._head, []
        for statement in statements:
            line, head = ledger.append(
                head, statement, node=self._node, time_unix_nano=self._clock.now_unix_nano(),
                boot_nano=self._clock.monotonic_nano(),
            )  # fmt: skip
            lines.append(line)
        whole = self._file.tell()
        try:
            self._file.write(b"".join(lines))
            self._file.flush()
            os.fdatasync(self._file.fileno())
        except OSError as error:
            self._file.truncate(whole)
            raise files.disk_error(error, self._path()) from error
        self._head = head

    def _rotate(self) -> None:
        before = self._path().name
        self._file.close()
        self._number += 1
        self._file = self._path().open("ab")
        files.sync_folder(self.folder)
        self._write([Rotated(predecessor=before)])

    def _path(self) -> Path:
        return self.folder / f"ledger-{self._number:06d}.jsonl"

    def _recover(self, numbers: list[int]) -> Head:
        """Return the head behind the last whole line; a torn end is cut off."""
        for number in reversed(numbers):
            path = self.folder / f"ledger-{number:06d}.jsonl"
            stored = path.read_bytes()
            whole = stored.rfind(b"\n") + 1
            if whole != len(stored):
                os.truncate(path, whole)
            last = stored[:whole].splitlines()[-1:]
            if last:
                try:
                    return Head(n=ledger.decode(last[0]).n + 1, prev=ledger.digest(last[0]))
                except RejectedError:
                    continue
        return Head()

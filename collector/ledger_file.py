"""The node's ledger on disk: appended, fsynced, rotated by size; tailed like every other source (C3, C7, C8)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from ashiato.adapters import files
from ashiato.core import ledger
from ashiato.core.errors import RejectedError, SettingsError, TransientError
from ashiato.core.ledger import Head, Line, Rotated, Statement
from ashiato.core.ports import Clock, Signer
from collector.append_file import AppendFile

ROTATE_BYTES = 8 * 1024 * 1024
FILES_KEPT = 4
"""Ledger files that stay on the node after they are acknowledged, for a person who looks."""


class LedgerFile:
    """The chain's end. A number is never used twice: the chain goes on from the last whole line on disk.

    Lines below ``durable_n`` were whole once: they are never cut, whatever became of them.
    """

    def __init__(
        self,
        folder: Path,
        *,
        node: str,
        clock: Clock,
        signer: Signer | None = None,
        reserve_bytes: int = 0,
        durable_n: int = 0,
    ) -> None:
        self.folder = folder
        self._node = node
        self._clock = clock
        self._signer = signer
        self._reserve_bytes = reserve_bytes
        files.make_folder(folder)
        self._number = max(self._numbers(), default=1)
        self._head = self._recover(durable_n)
        self._file = AppendFile(self._path(self._number), reserve_bytes=reserve_bytes)

    @property
    def head(self) -> Head:
        """Where the chain stands."""
        return self._head

    @property
    def reserve_left_bytes(self) -> int:
        """What can still be stated although the disk is full (C8)."""
        return self._file.reserve_left_bytes

    @property
    def is_reserved(self) -> bool:
        """Whether the file system gives room beforehand."""
        return self._file.is_reserved

    def append(self, statements: Sequence[Statement]) -> None:
        """Write statements, durably, in order. Raises TransientError, with nothing written, where the disk is full."""
        if not statements:
            return
        if self._file.size > ROTATE_BYTES:
            # On a full disk it goes on in the file that has a reserve.
            with contextlib.suppress(TransientError):
                self._rotate()
        if self._file.size == 0 and self._number > 1:
            statements = [Rotated(predecessor=self._path(self._number - 1).name), *statements]
        self._write(statements)

    def since(self, n: int) -> Iterator[Line]:
        """Yield the lines from number ``n`` on, in order."""
        newest_first = []
        for number in sorted(self._numbers(), reverse=True):
            lines = self._path(number).read_bytes().splitlines()
            newest_first.append(lines)
            if lines and _number_of(lines[0]) <= n:
                break
        for lines in reversed(newest_first):
            for raw in lines:
                if (line := _decoded(raw)) is not None and line.n >= n:
                    yield line

    def forget(self, path: Path) -> None:
        """Remove a file that is acknowledged and bookmarked, unless it is one of the newest."""
        numbers = sorted(self._numbers())
        if path.parent == self.folder and path.name in {self._path(n).name for n in numbers[:-FILES_KEPT]}:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, statements: Sequence[Statement]) -> None:
        head, lines = self._head, []
        for statement in statements:
            line, head = ledger.append(
                head, statement, node=self._node, time_unix_nano=self._clock.now_unix_nano(),
                boot_nano=self._clock.monotonic_nano(), signer=self._signer,
            )  # fmt: skip
            lines.append(line)
        self._file.append(b"".join(lines))
        self._head = head

    def _rotate(self) -> None:
        """Begin the next file, once its reserve is taken; the file before it gives back what it did not use."""
        path = self._path(self._number + 1)
        try:
            following = AppendFile(path, reserve_bytes=self._reserve_bytes)
        except OSError as error:
            raise files.disk_error(error, self.folder) from error
        if following.is_reserved and following.reserve_left_bytes < self._reserve_bytes:
            following.close()
            path.unlink(missing_ok=True)
            raise TransientError("no room for the next ledger file", path=str(path))
        before, self._file = self._file, following
        before.release()
        before.close()
        self._number += 1

    def _numbers(self) -> list[int]:
        stems = [path.stem.removeprefix("ledger-") for path in self.folder.glob("ledger-*.jsonl")]
        return [int(stem) for stem in stems if stem.isdecimal()]

    def _path(self, number: int) -> Path:
        return self.folder / f"ledger-{number:06d}.jsonl"

    def _recover(self, durable_n: int) -> Head:
        """Return the head behind the last whole line; a torn end is cut off."""
        for number in sorted(self._numbers(), reverse=True):
            path = self._path(number)
            stored = path.read_bytes()
            whole = _whole(stored, durable_n)
            if whole != len(stored):
                os.truncate(path, whole)
            for raw in reversed(stored[:whole].splitlines()):
                _check_version(raw, path)
                if (line := _decoded(raw)) is not None:
                    return Head(n=line.n + 1, prev=ledger.digest(raw))
        return Head()


def _whole(stored: bytes, durable_n: int) -> int:
    """Return where what a crash tore begins: an unfinished line, or zeros where blocks were never written."""
    whole = stored.rfind(b"\n") + 1
    zeros = stored.find(b"\0")
    if 0 <= zeros < whole:
        at = stored.rfind(b"\n", 0, zeros) + 1
        behind = (line for raw in stored[at:whole].splitlines() if (line := _decoded(raw)) is not None)
        if all(line.n >= durable_n for line in behind):
            return at
    return whole


class _Version(msgspec.Struct, frozen=True):
    v: int = ledger.LEDGER_VERSION


def _check_version(raw: bytes, path: Path) -> None:
    """Refuse to go on before a line of another release: its number would be used twice (C3)."""
    try:
        version = msgspec.json.decode(raw, type=_Version).v
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    if version not in ledger.VERSIONS_READ:
        readable = " and ".join(map(str, ledger.VERSIONS_READ))
        raise SettingsError(f"{path} is of version {version}, and this release reads {readable}")


def _decoded(raw: bytes) -> Line | None:
    try:
        return ledger.decode(raw)
    except RejectedError:
        return None


def _number_of(raw: bytes) -> int:
    line = _decoded(raw)
    return line.n if line is not None else 0

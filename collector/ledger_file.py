"""The node's ledger on disk: appended, fsynced, rotated by size; tailed like every other source (C3, C7, C8)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path

import msgspec

from ashiato.core import ledger
from ashiato.core.errors import RejectedError, SettingsError
from ashiato.core.ledger import Head, Line, Rotated, Statement
from ashiato.core.ports import Clock, Signer
from collector.numbered_files import NumberedFiles

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
        self._node = node
        self._clock = clock
        self._signer = signer
        self._files = NumberedFiles(folder, "ledger", reserve_bytes=reserve_bytes)
        self._head = self._recover(durable_n)
        self._files.open(max(self._files.numbers(), default=1))

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return self._files.folder

    @property
    def head(self) -> Head:
        """Where the chain stands."""
        return self._head

    @property
    def reserve_left_bytes(self) -> int:
        """What can still be stated although the disk is full (C8)."""
        return self._files.last.reserve_left_bytes

    @property
    def is_reserved(self) -> bool:
        """Whether the file system gives room beforehand."""
        return self._files.last.is_reserved

    def append(self, statements: Sequence[Statement]) -> None:
        """Write statements, durably, in order. Raises TransientError, with nothing written, where the disk is full."""
        if not statements:
            return
        if self._files.last.size > ROTATE_BYTES:
            self._files.turn()
        if self._files.last.size == 0 and self._files.name_before:
            statements = [Rotated(predecessor=self._files.name_before), *statements]
        self._write(statements)

    def since(self, n: int) -> list[Line]:
        """Return the lines from number ``n`` on, in order. What lies before them is not read through."""
        return list(takewhile(lambda line: line.n >= n, self._newest_first()))[::-1]

    def forget(self, path: Path) -> None:
        """Remove a file that is acknowledged and bookmarked, unless it is one of the newest."""
        if path in map(self._files.path, self._files.numbers()[:-FILES_KEPT]):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        self._files.close()

    def _write(self, statements: Sequence[Statement]) -> None:
        head, lines = self._head, []
        for statement in statements:
            line, head = ledger.append(
                head, statement, node=self._node, time_unix_nano=self._clock.now_unix_nano(),
                boot_nano=self._clock.monotonic_nano(), signer=self._signer,
            )  # fmt: skip
            lines.append(line)
        self._files.last.append(b"".join(lines))
        self._head = head

    def _newest_first(self) -> Iterator[Line]:
        for number in reversed(self._files.numbers()):
            for raw in reversed(self._files.path(number).read_bytes().splitlines()):
                if (line := _decoded(raw)) is not None:
                    yield line

    def _recover(self, durable_n: int) -> Head:
        """Return the head behind the last whole line; a torn end is cut off."""
        for number in reversed(self._files.numbers()):
            path = self._files.path(number)
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

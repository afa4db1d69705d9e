"""The log of a process that we started: kept short, and read for what a person should know of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

LOG_BYTES_MAX: Final = 8 * 1024 * 1024
_READ_BYTES_MAX: Final = 256 * 1024
"""What is looked at for the last words, or for news, at once."""

_OUR_PATH: Final = re.compile(r" \(path=[^)]*\)$")


class ServiceLog:
    """One process's log. ``begin`` marks where the words of a new process start."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begin = 0
        self._told = 0
        self._begun = False

    def begin(self) -> None:
        """Begin with a new process: what stands in the log by now is an older one's. Raises OSError."""
        self.shorten()
        self._begin = self.path.stat().st_size if self.path.exists() else 0
        if not self._begun:
            self._told = self._begin
        self._begun = True

    def shorten(self) -> None:
        """Keep one older log beside the present one, so that our own words cannot fill the disk.

        The process goes on appending to the same file, so it is copied and emptied, not renamed.
        """
        with contextlib.suppress(OSError):
            if self.path.stat().st_size > LOG_BYTES_MAX:
                shutil.copyfile(self.path, self.path.with_name(f"{self.path.name}.1"))
                os.truncate(self.path, 0)
                self._begin = self._told = 0

    def has(self, event: str) -> bool:
        """Tell whether the process has said that something happened."""
        return any(told.get("event") == event for told in _events(self._read(self._begin)))

    def troubles(self) -> list[str]:
        """Return what a person should know of what was said since this was last asked."""
        found = []
        text = self._read(self._told)
        whole = text[: text.rfind(b"\n") + 1]
        self._told += len(whole)
        for told in _events(whole):
            if told.get("event") == "part_unavailable":
                # Which of our own files it was is for the log; a person is told once of all of them.
                found.append(f"waits for its {told.get('part')}: {_OUR_PATH.sub('', str(told.get('error')))}")
            elif told.get("level") == "error":
                found.append(sentence(told))
        return found

    def last_words(self) -> str:
        """Return what the process said last: its last words to a person, else the last thing that happened."""
        text = self._read(self._begin)[-_READ_BYTES_MAX:]
        lines = [line for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
        plain = [line.strip() for line in lines if not line.startswith("{")]
        if plain:
            return plain[-1]
        events = list(_events(text))
        return sentence(events[-1]) if events else "it says nothing"

    def _read(self, start: int) -> bytes:
        with contextlib.suppress(OSError), self.path.open("rb") as log:
            log.seek(start)
            return log.read()
        return b""


def sentence(told: Mapping[str, Any]) -> str:
    """Return an event as words: ``file unreadable: path=/x, error=Permission denied``."""
    facts = {name: value for name, value in told.items() if name not in ("event", "service", "level", "timestamp")}
    said = ", ".join(f"{name}={value}" for name, value in facts.items())
    name = str(told.get("event")).replace("_", " ")
    return f"{name}: {said}" if said else name


def _events(text: bytes) -> Iterator[Mapping[str, Any]]:
    for line in text.splitlines():
        if not line.startswith(b"{"):
            continue
        with contextlib.suppress(ValueError):
            told = json.loads(line)
            if isinstance(told, dict) and "event" in told:
                yield told

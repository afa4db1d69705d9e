"""The tail as readers see it: Arrow segments of rows that no commit holds yet.

They are named ``<topic>-<partition>-<from>-<to>.arrow``, mapped into memory, and stay readable when their files are
removed. A segment that vanishes between the listing and the opening was committed: the caller starts again (Q1).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from ashiato.core.errors import EvidenceError
from ashiato.core.ports import Partition
from ashiato.core.table import SCHEMA, check_version, conform, empty

_NAME: Final = re.compile(r"(?P<topic>.+)-(?P<partition>\d+)-(?P<start>\d+)-(?P<end>\d+)\.arrow")


@dataclass(frozen=True, slots=True, kw_only=True)
class TailSegment:
    """Rows of the positions ``[start, end)`` of one partition."""

    name: str
    where: Partition
    start: int
    end: int
    rows: pa.Table
    damaged: bool = False
    """The file is not whole, as after a power cut, or of another version: its rows are still on the bus, not here."""


class VanishedError(Exception):
    """A listed segment is gone."""


class TailReader:
    """Reads the segments of one folder; what was read before and is still there is not read again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[tuple[str, int, int], TailSegment] = {}

    def read(self) -> tuple[TailSegment, ...]:
        """Return every segment in order of partition and position; none where there is no folder.

        Raises:
            VanishedError: a segment was removed meanwhile.

        """
        found: dict[tuple[str, int, int], TailSegment] = {}
        try:
            with os.scandir(self._folder) as entries:
                listed = [(entry, match) for entry in entries if (match := _NAME.fullmatch(entry.name))]
        except FileNotFoundError:
            return ()
        try:
            for entry, match in listed:
                # The same name may be published again by an archiver that was restarted.
                stat = entry.stat()
                key = (entry.name, stat.st_ino, stat.st_mtime_ns)
                found[key] = self._known.get(key) or _segment(Path(entry.path), match)
        except FileNotFoundError as error:
            raise VanishedError(str(error.filename)) from error
        self._known = found
        return tuple(sorted(found.values(), key=lambda segment: (segment.where, segment.start, segment.end)))


def _segment(path: Path, match: re.Match[str]) -> TailSegment:
    rows, damaged = empty(), False
    try:
        # What is mapped outlives both the file's name and this handle.
        with pa.memory_map(str(path)) as source:
            rows = pa.ipc.open_file(source).read_all()
        check_version(rows.schema.metadata)
        if not rows.schema.equals(SCHEMA):
            rows = conform(rows)
    except FileNotFoundError:
        raise
    except (pa.ArrowInvalid, OSError, KeyError, EvidenceError):
        rows, damaged = empty(), True
    return TailSegment(
        name=path.name, where=Partition(match["topic"], int(match["partition"])), start=int(match["start"]),
        end=int(match["end"]), rows=rows, damaged=damaged,
    )  # fmt: skip

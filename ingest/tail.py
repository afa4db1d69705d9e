"""The tail: rows that no commit holds yet, published as Arrow files in a folder that query reads (embedded).

A segment is ``<topic>-<partition>-<from>-<to>.arrow``: rows of the bus positions ``[from, to)``. It is a copy of what
the bus holds, never evidence: it is not fsynced, and it is removed once a commit has its positions.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ashiato.adapters import files
from ashiato.core.ports import Partition
from ingest import leftovers

_NAME = re.compile(r"^(?P<topic>.+)-(?P<partition>\d+)-(?P<start>\d+)-(?P<end>\d+)\.arrow$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One published file."""

    path: Path
    where: Partition
    start: int
    end: int


class TailFolder:
    """Writes, lists and removes segments."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        leftovers.sweep(folder)
        self._folder = folder

    def publish(self, where: Partition, start: int, end: int, rows: pa.Table) -> None:
        """Make rows visible under their positions; the name appears only when the file is whole.

        Raises:
            TransientError: no room, or the disk failed; nothing is visible.

        """
        final = self._folder / f"{where.topic}-{where.number}-{start}-{end}.arrow"
        temporary = final.with_name(leftovers.unfinished(final.name))
        try:
            with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
                writer.write_table(rows)
            temporary.rename(final)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise files.disk_error(error, final) from error

    def segments(self) -> list[Segment]:
        """Return what is published, in order of partition and position."""
        found = []
        for path in self._folder.iterdir():
            if match := _NAME.match(path.name):
                where = Partition(match["topic"], int(match["partition"]))
                found.append(Segment(path=path, where=where, start=int(match["start"]), end=int(match["end"])))
        return sorted(found, key=lambda segment: (segment.where, segment.start, segment.end))

    def forget(self, where: Partition, below: int) -> None:
        """Remove the segments of a partition whose positions all lie below ``below``."""
        for segment in self.segments():
            if segment.where == where and segment.end <= below:
                segment.path.unlink(missing_ok=True)

    def forget_all(self, where: Partition) -> None:
        """Remove every segment of a partition: its bus is another one now."""
        for segment in self.segments():
            if segment.where == where:
                segment.path.unlink(missing_ok=True)

"""Files that follow each other by number: the last one is appended to, and a full disk never begins the next."""

from __future__ import annotations

from pathlib import Path

from ashiato.adapters import files
from collector.append_file import AppendFile


class NumberedFiles:
    """``NAME-000001.jsonl`` and those after it in one folder. What they hold can be read before one is opened."""

    last: AppendFile
    """The file that is appended to, once :meth:`open` was called."""
    number: int
    """Of that file."""

    def __init__(self, folder: Path, name: str, *, reserve_bytes: int) -> None:
        self.folder = folder
        self._name = name
        self._reserve_bytes = reserve_bytes
        files.make_folder(folder)

    def numbers(self) -> list[int]:
        """Return the numbers of the files that there are, in order."""
        stems = (path.stem.removeprefix(f"{self._name}-") for path in self.folder.glob(f"{self._name}-*.jsonl"))
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def path(self, number: int) -> Path:
        """Return where the file of a number lies."""
        return self.folder / f"{self._name}-{number:06d}.jsonl"

    def open(self, number: int) -> None:
        """Append to the file of this number. Raises OSError."""
        self.last, self.number = AppendFile(self.path(number), reserve_bytes=self._reserve_bytes), number

    def turn(self) -> None:
        """Begin the next file, once its reserve is taken; where there is no room, the present one takes more.

        The file before it gives back what it did not use.
        """
        path = self.path(self.number + 1)
        try:
            following = AppendFile(path, reserve_bytes=self._reserve_bytes)
        except OSError:
            return
        if following.is_reserved and following.reserve_left_bytes < self._reserve_bytes:
            following.close()
            path.unlink(missing_ok=True)
            return
        before, self.last = self.last, following
        before.release()
        before.close()
        self.number += 1

    @property
    def name_before(self) -> str:
        """Name of the file before the last one; '' where that is the first."""
        return self.path(self.number - 1).name if self.number > 1 else ""

    def close(self) -> None:
        """Let go of the last file."""
        self.last.close()

"""Which followed files are looked at now, so that files that do not move cost next to nothing.

A file that moved lately, or of which something is to be settled, is looked at each time. Of the others a part is asked
for its size alone, and only one that differs is looked at; each is asked every ``PARTS`` times, and all are asked when
a sweep was carried out, so that its moment means what it says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from collector.followed import Followed

MOVING_NS: Final = 2_000_000_000
"""A file that moved this lately is looked at each time."""
PARTS: Final = 2


class Attention:
    """Remembers what was seen of each file."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        self._watched: dict[str, Followed] = {}
        """Files that are looked at each time."""
        self._part = 0

    def due(self, files: Mapping[str, Followed], *, everything: bool = False) -> list[Followed]:
        """Return the files to look at now; ``everything`` asks all of them, not a part."""
        self._part = (self._part + 1) % PARTS
        quiet = list(files.items())
        if not everything:
            quiet = quiet[self._part :: PARTS]
        seen, watched = self._seen, self._watched
        found = [file for file_id, file in watched.items() if file_id in files]
        found += [
            file for file_id, file in quiet if file_id not in watched and _differs(file, seen.get(file_id, -1))
        ]  # fmt: skip
        return found

    def looked(self, files: Iterable[Followed], now_ns: int) -> None:
        """Take in what was seen of the files that were looked at."""
        for file in files:
            file_id = file.facts.file_id
            self._seen[file_id] = file.size
            if _is_unsettled(file) or now_ns - file.changed_monotonic_nano < MOVING_NS:
                self._watched[file_id] = file
            else:
                self._watched.pop(file_id, None)

    def swept(self, files: Mapping[str, Followed]) -> None:
        """Take in that a sweep was carried out: files have come, gone, lost their names or got others."""
        self._seen = {file_id: size for file_id, size in self._seen.items() if file_id in files}
        self._watched = {file_id: file for file_id, file in self._watched.items() if file_id in files}
        self._watched |= {file_id: file for file_id, file in files.items() if _is_unsettled(file)}


def _differs(file: Followed, seen: int) -> bool:
    if file.content is None or file.failed or file.changed_content:
        return True
    try:
        return file.content.size() != seen
    except OSError:
        return True


def _is_unsettled(file: Followed) -> bool:
    """Whether something will happen to a file even if it does not grow."""
    return bool(file.closing or file.rotated or file.unlinked or file.failed) or not file.in_sight

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
        self._parts: list[list[tuple[str, Followed]]] = [[] for _ in range(PARTS)]
        """All files, each in one part, as they were when there were this many."""
        self._count = -1
        self._part = 0

    def due(self, files: Mapping[str, Followed], *, everything: bool = False) -> list[Followed]:
        """Return the files to look at now; ``everything`` asks all of them, not a part."""
        if len(files) != self._count:
            self._divide(files)
        self._part = (self._part + 1) % PARTS
        parts = self._parts if everything else (self._parts[self._part],)
        seen, watched = self._seen.get, self._watched
        found = [file for file_id, file in watched.items() if file_id in files]
        # The one loop of the collector that costs something where nothing happens.
        found += [
            file
            for part in parts
            for file_id, file in part
            if _differs(file, seen(file_id)) and file_id not in watched and file_id in files
        ]
        return found

    def _divide(self, files: Mapping[str, Followed]) -> None:
        everyone = list(files.items())
        self._parts = [everyone[part::PARTS] for part in range(PARTS)]
        self._count = len(everyone)

    @property
    def rests(self) -> int:
        """How many turns may be left out, because nothing moves: then all are asked at once, as often as before."""
        return 0 if self._watched else PARTS - 1

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
        self._divide(files)


def _differs(file: Followed, seen: int | None) -> bool:
    content = file.content
    try:
        return content is None or content.size() != seen or file.changed_content or bool(file.failed)
    except OSError:
        return True


def _is_unsettled(file: Followed) -> bool:
    """Whether something will happen to a file even if it does not grow."""
    return bool(file.closing or file.rotated or file.unlinked or file.failed) or not file.in_sight

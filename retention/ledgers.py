"""Which ledger packs are still needed: a ledger pack lives as long as any pack that it may state (R1).

A statement about a file is made between the file's birth, which its id tells, and shortly after its last reading. So a
live pack needs every ledger line read from the earliest birth among its files on until its own newest reading. That is
never too little, also where a clock that ran ahead is told by an id: births and readings are all within. Of imported
files, whose ids tell no birth, it keeps everything before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ashiato.core import manifest
from ashiato.core.commit import AddedPack
from ashiato.core.errors import EvidenceError, NotHeldError, RejectedError
from ashiato.core.ports import ArchiveReader
from retention.policy import LEDGER_CLASS

STATED_LATE_NS: Final = 600_000_000_000
"""A statement follows what it states within 30 s; ten minutes forgive a stopped node."""

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """The reading times within which ledger lines may speak of a pack."""

    start_unix_nano: int
    end_unix_nano: int


class LedgerUse:
    """Answers whether a ledger pack is needed; remembers what it has read of manifests, which never change."""

    def __init__(self, archive: ArchiveReader) -> None:
        self._archive = archive
        self._births: dict[str, tuple[int, int]] = {}
        """The earliest and the latest birth among the files of a pack."""

    def unneeded(self, ledgers: Iterable[AddedPack], live: Iterable[AddedPack]) -> list[AddedPack]:
        """Return those of ``ledgers`` that no pack of ``live`` needs."""
        wanted = list(ledgers)
        if not wanted:
            return []
        others = {pack.path: pack for pack in live if pack.retention_class != LEDGER_CLASS}
        self._births = {path: birth for path, birth in self._births.items() if path in others}
        stated = [self._stated(pack) for pack in others.values()]
        return [ledger for ledger in wanted if not any(_meet(ledger, span) for span in stated)]

    def _stated(self, pack: AddedPack) -> Stated:
        if pack.path not in self._births:
            self._births[pack.path] = self._births_of(pack)
        earliest, latest = self._births[pack.path]
        return Stated(
            start_unix_nano=min(earliest, pack.observed_min_unix_nano),
            end_unix_nano=max(latest, pack.observed_max_unix_nano) + STATED_LATE_NS,
        )

    def _births_of(self, pack: AddedPack) -> tuple[int, int]:
        """Return when the files of a pack were born; 0, which needs every ledger, where that is not known."""
        try:
            content, _ = self._archive.get("evidence", pack.manifest_path, pack.manifest_version_id)
            files = manifest.decode(content).files
        except (NotHeldError, RejectedError, EvidenceError):
            # That a manifest cannot be read is the scrubber's finding; here it only means that nothing may go.
            return 0, 0
        births = [birth_unix_nano(file.file_id) for file in files]
        return min(births, default=0), max(births, default=0)


def birth_unix_nano(file_id: str) -> int:
    """Return the birth time that a file id tells: its first ten characters are milliseconds."""
    try:
        milliseconds = 0
        for character in file_id[:10]:
            milliseconds = milliseconds << 5 | _CROCKFORD.index(character)
    except ValueError:
        return 0
    return milliseconds * 1_000_000


def _meet(ledger: AddedPack, span: Stated) -> bool:
    return ledger.observed_min_unix_nano <= span.end_unix_nano and span.start_unix_nano <= ledger.observed_max_unix_nano

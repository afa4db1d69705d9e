"""When something was first and last named, over all packs: from their entity indexes, and from rows where none tells.

The answer is exact for what it has seen, and says what it has not: packs that are gone or damaged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from ashiato.adapters.pack_reader import PackReader
from ashiato.adapters.sidecars import SidecarReader, UnusableError
from ashiato.core.entities import EntityCollector, Seen, canonical, where_named
from ashiato.core.errors import EvidenceError, NotHeldError
from ashiato.core.journal import AddedPack
from ashiato.core.needs import NOTHING, met, needed
from ashiato.core.predicate import compile_node
from ashiato.core.pruning import row_groups_of
from ashiato.core.query import Node, Query
from ashiato.core.table import SCHEMA
from ashiato.core.token_hashes import windows_of
from ashiato.core.words import words_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What is known of one entity."""

    seen: Seen | None
    """None where no pack names it."""
    packs: int
    """Packs that name it."""
    read: int
    """Packs whose rows were read, for no index of theirs told."""
    unreadable: tuple[str, ...]
    """Packs that could not be asked: the entity may be named there as well."""


class EntityIndex:
    """Asks packs. Its methods block."""

    def __init__(self, packs: PackReader, sidecars: SidecarReader) -> None:
        self._packs = packs
        self._sidecars = sidecars

    def named(self, packs: Iterable[AddedPack], kind: str, value: str) -> Named:
        """Return when an entity was first and last named in ``packs``.

        Raises:
            RejectedError: there is no such kind, or it has no such value.
            TransientError: the archive does not answer.

        """
        value = canonical(kind, value)
        found: list[Seen] = []
        read = 0
        unreadable: list[str] = []
        for pack in packs:
            try:
                seen, was_read = self._in_pack(pack, kind, value)
            except (NotHeldError, EvidenceError):
                unreadable.append(pack.path)
                continue
            read += was_read
            found += [seen] if seen is not None else []
        whole = Seen(min(s.first for s in found), max(s.last for s in found)) if found else None
        return Named(seen=whole, packs=len(found), read=read, unreadable=tuple(unreadable))

    def _in_pack(self, pack: AddedPack, kind: str, value: str) -> tuple[Seen | None, bool]:
        try:
            listed = self._sidecars.entities_of(pack.sha256, kind).seen
        except UnusableError:
            listed = None
        if listed is not None:
            return listed.get(value), False
        return self._in_rows(pack, kind, value), True

    def _in_rows(self, pack: AddedPack, kind: str, value: str) -> Seen | None:
        """Read what the pack's rows name. What extracts entities for the index extracts them here."""
        where = where_named(kind, value)
        test, collector = compile_node(where), EntityCollector(is_bounded=False)
        opened = self._packs.open(pack)
        try:
            for number in self._row_groups(pack, where):
                rows = opened.read(number, SCHEMA.names)
                rows = rows.filter(pa.array(test.evaluate(rows)))
                if rows.num_rows:
                    collector.begin(rows)
                    for words in words_of(rows["body"]):
                        collector.read(words, windows_of(words))
        finally:
            opened.close()
        return {name: seen for of, name, seen in collector.listed() if of == kind}.get(value)

    def _row_groups(self, pack: AddedPack, where: Node) -> list[int]:
        numbers = row_groups_of(Query(where=where), self._packs.manifest_of(pack))
        need = needed(where)
        if not numbers or need == NOTHING:
            return numbers
        try:
            filters = self._sidecars.filters_of(pack.sha256, pack.size, numbers)
        except UnusableError:
            return numbers
        return [number for number in numbers if met(need, filters[number].holds)]

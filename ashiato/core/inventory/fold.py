"""The inventory: every object's record, compressed, and an index from what records name to the records.

The fold of a set of rows is the same whatever their order and however often they come. A record is decoded only where
it is asked for or added to, and the index holds numbers, no text (memory: ``bench/inventory.py``).
"""

from __future__ import annotations

import re
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from ashiato.core.inventory import records
from ashiato.core.inventory.records import APART, Claims, Field, Key, Sighting, WatchGap

_PENDING_MAX: Final = 100_000
"""Entries of the index that wait to be sorted in."""
_JOB: Final = re.compile(r"(?P<cron>.+)-\d{8,10}")
_TEMPLATE_HASH: Final = "pod-template-hash="


class Inventory:
    """All that is known of all objects. Not shared by threads while it takes in."""

    def __init__(self) -> None:
        self._records: list[bytes] = []
        self._keys: list[str] = []
        self._numbers: dict[str, int] = {}
        self._index = _Index()
        self.gaps: set[WatchGap] = set()

    def __len__(self) -> int:
        return len(self._records)

    def take(self, sightings: Iterable[Sighting]) -> set[str]:
        """Take in what rows say; return the keys of the records that changed."""
        by_key: dict[str, list[Sighting]] = {}
        for sighting in sightings:
            by_key.setdefault(sighting.key, []).append(sighting)
        changed = set()
        for key, members in by_key.items():
            claims = self.claims(key)
            before = set(claims)
            for sighting in members:
                records.take(claims, sighting)
            if self._put(key, claims, before):
                changed.add(key)
        return changed

    def join(self, stored: Iterable[tuple[str, bytes]]) -> None:
        """Take in records of another inventory. Raises EvidenceError where one is damaged."""
        for key, content in stored:
            if key not in self._numbers:
                self._store(key, content, records.keys(content), frozenset())
                continue
            claims = self.claims(key)
            before = set(claims)
            records.join(claims, records.decode(content))
            self._put(key, claims, before)

    def claims(self, key: str) -> Claims:
        """Return what is claimed of an object, {} where nothing is; the caller's own copy."""
        number = self._numbers.get(key)
        return records.decode(self._records[number]) if number is not None else {}

    def record(self, key: str) -> bytes:
        """Return an object's record as it is stored."""
        return self._records[self._numbers[key]]

    def all_keys(self, kind: str = "") -> Iterator[str]:
        """Yield the objects' keys, of one kind where it is named."""
        return (key for key in self._keys if key.startswith(kind))

    def naming(self, term: str) -> list[str]:
        """Return the keys of the objects that may have a term of the index; some may not."""
        return [self._keys[number] for number in self._index.find(term)]

    def __contains__(self, key: str) -> bool:
        return key in self._numbers

    def _put(self, key: str, claims: Claims, before: set[Key]) -> bool:
        content = records.encode(claims)
        number = self._numbers.get(key)
        if number is not None and content == self._records[number]:
            return False
        self._store(key, content, claims, before)
        return True

    def _store(
        self, key: str, content: bytes, claims: Mapping[Key, object], before: set[Key] | frozenset[Key]
    ) -> None:  # fmt: skip
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._keys)
            self._keys.append(key)
            self._records.append(content)
        else:
            self._records[number] = content
        for term in set(terms(claims, before)):
            self._index.add(term, number)


def terms(claims: Mapping[Key, object], known: set[Key] | frozenset[Key] = frozenset()) -> Iterator[str]:
    """Yield the terms under which an object is found, those of its new claims alone."""
    for key in claims:
        if key not in known:
            yield from _terms(Field(key[0]), key[1])
    yield from _derived_owners(claims, known)


def of_image(reference: str) -> Iterator[str]:
    """Yield the ways in which an image is named: in full, without digest, without tag, and by digest."""
    plain = reference.partition("://")[2] or reference
    named, _, digest = plain.partition("@")
    yield plain
    yield named
    if digest:
        yield digest
    before, colon, tag = named.rpartition(":")
    if colon and "/" not in tag:
        yield before


def _terms(field: Field, value: str) -> Iterator[str]:
    match field:
        case Field.NAME:
            yield f"name:{value.partition('/')[2]}"
            yield f"ns:{value.partition('/')[0]}"
        case Field.NODE:
            yield f"node:{value.partition(APART)[0]}"
        case Field.IP | Field.HOST_IP:
            yield f"{'ip' if field is Field.IP else 'host'}:{value}"
        case Field.ACCOUNT | Field.TOKEN:
            yield f"sa:{value}"
        case Field.OWNER:
            kind, name, uid = value.split("/", 2)
            yield f"owner:{kind}/{name}"
            yield f"of:{uid}"
        case Field.LABEL:
            yield f"label:{value}"
        case Field.IMAGE | Field.DIGEST:
            for reference in value.split(APART)[1:]:
                yield from (f"image:{name}" for name in of_image(reference) if name)
        case Field.ALIAS:
            yield f"alias:{value}"
        case _:
            return


def _derived_owners(claims: Mapping[Key, object], known: set[Key] | frozenset[Key]) -> Iterator[str]:
    """Yield the owners that names tell: a ReplicaSet is called as its Deployment and the template's hash."""
    if any(field in (Field.OWNER, Field.LABEL) and (field, value) not in known for field, value in claims):
        yield from (f"owner:{owner}" for owner in derived_owners(claims))


def derived_owners(claims: Mapping[Key, object]) -> Iterator[str]:
    """Yield ``<kind>/<name>`` of what owns the owner, where its name tells."""
    hashes = [value.removeprefix(_TEMPLATE_HASH) for field, value in claims if field == Field.LABEL
              and value.startswith(_TEMPLATE_HASH)]  # fmt: skip
    for field, value in claims:
        if field != Field.OWNER:
            continue
        kind, name, _ = value.split("/", 2)
        if kind == "replicaset":
            yield from (f"deployment/{name[: -len(h) - 1]}" for h in hashes if h and name.endswith(f"-{h}"))
        elif kind == "job" and (found := _JOB.fullmatch(name)):
            yield f"cronjob/{found['cron']}"


class _Index:
    """Which records have a term: pairs (32 bits of the term's CRC, number of the record), sorted."""

    def __init__(self) -> None:
        self._sorted: npt.NDArray[np.uint64] = np.zeros(0, np.uint64)
        self._pending = array("Q")

    def add(self, term: str, number: int) -> None:
        self._pending.append(zlib.crc32(term.encode("utf-8", "surrogatepass")) << 32 | number)
        if len(self._pending) >= max(_PENDING_MAX, len(self._sorted) // 4):
            self._sort_in()

    def find(self, term: str) -> list[int]:
        if self._pending:
            self._sort_in()
        low = zlib.crc32(term.encode("utf-8", "surrogatepass")) << 32
        start, end = np.searchsorted(self._sorted, np.array([low, low + (1 << 32)], np.uint64))
        found: list[int] = np.unique(self._sorted[start:end] & np.uint64(0xFFFFFFFF)).tolist()
        return found

    def _sort_in(self) -> None:
        fresh = np.frombuffer(self._pending, np.uint64)
        self._sorted = np.unique(np.concatenate([self._sorted, fresh]))
        self._pending = array("Q")

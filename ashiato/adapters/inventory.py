"""Where inventories lie: write-once segments in ``work``, and roots that name them; what is newest counts.

``inventory/segments/<sha256>.v1`` holds records; ``inventory/roots/<20 digits>-<sha256>.json`` names segments, and by
its number the first commit that they do not know. All of it can be made again from the packs: an object that is missing
or damaged is a reason to take an older root, or none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import pyarrow as pa

from ashiato.core.errors import AlreadyExistsError, EvidenceError, NotHeldError, RejectedError, TransientError
from ashiato.core.inventory import FOLD_VERSION, Inventory, WatchGap
from ashiato.core.ports import ArchiveReader, ArchiveWriter

PREFIX: Final = "inventory/"
ROOTS: Final = f"{PREFIX}roots/"
SEGMENTS: Final = f"{PREFIX}segments/"
FORMAT_VERSION: Final = 1
SEGMENT_RECORDS_MAX: Final = 50_000
"""Records in one segment: they stand in memory at once while it is written or read."""
_MERGE_FACTOR: Final = 2
"""A segment is merged with the one before it that is smaller than this many times itself: so there are few."""
_BESIDE_MAX: Final = 8
"""Names that are tried for an object whose own name holds damaged bytes."""
_MAGIC: Final = b"ASHINV1\n"
_CODEC: Final[Any] = pa.Codec("zstd", compression_level=3)

Stored = list[tuple[str, bytes]]


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """An object that holds records."""

    path: str
    sha256: str
    size: int
    records: int


class Root(msgspec.Struct, frozen=True, kw_only=True):
    """An inventory at a commit."""

    next_commit: int
    """All commits before it are known."""
    time_unix_nano: int
    """Of the newest of them."""
    segments: tuple[Segment, ...]
    """Oldest first; records of one object in several of them are joined."""
    objects: int
    unread_rows: int = 0
    """Rows that should have told something and could not be read."""
    unread_packs: tuple[str, ...] = ()
    """Packs that were gone or damaged when they were to be read."""
    gaps: tuple[tuple[str, str, str, int, int, int, str], ...] = ()
    fold: int = FOLD_VERSION
    v: int = FORMAT_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What stands in ``work``."""

    root: Root
    inventory: Inventory


_ROOT: Final = msgspec.json.Decoder(Root)
_RECORDS: Final = msgspec.msgpack.Decoder(Stored)


class InventoryReader:
    """Finds the newest inventory that is whole."""

    def __init__(self, archive: ArchiveReader) -> None:
        self._archive = archive

    def newest(self) -> Root | None:
        """Return the newest root of our version that is sound; None where there is none. Raises TransientError."""
        return next(self.roots(), None)

    def roots(self) -> Iterator[Root]:
        """Yield the sound roots of our version, the newest first. Raises TransientError."""
        for ref in sorted(self._archive.list("work", ROOTS), key=lambda ref: ref.path, reverse=True):
            try:
                content, _ = self._archive.get("work", ref.path)
                root = decode_root(content, ref.path)
            except (NotHeldError, RejectedError, EvidenceError):
                continue
            if (root.v, root.fold) == (FORMAT_VERSION, FOLD_VERSION):
                yield root

    def load(self) -> Loaded | None:
        """Return the newest inventory of which all segments are whole. Raises TransientError."""
        for root in self.roots():
            inventory = Inventory()
            try:
                for segment in root.segments:
                    inventory.join(self.records(segment))
            except (NotHeldError, RejectedError, EvidenceError):
                continue
            inventory.gaps |= gaps_of(root)
            return Loaded(root=root, inventory=inventory)
        return None

    def records(self, segment: Segment) -> Stored:
        """Return a segment's records.

        Raises:
            EvidenceError: it is not what its root names. NotHeldError; TransientError.

        """
        content, _ = self._archive.get("work", segment.path)
        if hashlib.sha256(content).hexdigest() != segment.sha256:
            raise EvidenceError("segment of the inventory is not what its root names", path=segment.path)
        return decode_segment(content)


class InventoryWriter(InventoryReader):
    """Puts inventories."""

    def __init__(self, archive: ArchiveWriter) -> None:
        super().__init__(archive)
        self._writer = archive

    def save(self, inventory: Inventory, changed: Sequence[str], before: Root | None, root: Root) -> Root:
        """Put what changed since ``before`` and a root that names it; return the root as it stands.

        Small segments are merged into one, so that there are few, and each record is written a few times in its life.

        Raises:
            TransientError: the archive does not answer.

        """
        kept = list(before.segments) if before is not None else []
        keys = dict.fromkeys(changed)
        while kept and kept[-1].records < _MERGE_FACTOR * len(keys) and len(keys) < SEGMENT_RECORDS_MAX:
            merged = kept.pop()
            try:
                keys |= dict.fromkeys(key for key, _ in self.records(merged))
            except (NotHeldError, EvidenceError):
                # What it held stands in memory: all of it is written anew.
                keys, kept = dict.fromkeys(inventory.all_keys()), []
        ordered = sorted(keys)
        for start in range(0, len(ordered), SEGMENT_RECORDS_MAX):
            part = ordered[start : start + SEGMENT_RECORDS_MAX]
            kept.append(self._put([(key, inventory.record(key)) for key in part]))
        gaps = tuple(
            sorted(
                (
                    gap.source, gap.resource, gap.reason, gap.start_unix_nano, gap.end_unix_nano,
                    gap.observed_unix_nano, gap.row,
                )
                for gap in inventory.gaps
            )
        )  # fmt: skip
        root = msgspec.structs.replace(root, segments=tuple(kept), objects=len(inventory), gaps=gaps)
        content = encode_root(root)
        self._put_object(root_path(root.next_commit, content), content)
        return root

    def _put(self, stored: Stored) -> Segment:
        content = encode_segment(stored)
        sha256 = hashlib.sha256(content).hexdigest()
        path = self._put_object(f"{SEGMENTS}{sha256}.v{FORMAT_VERSION}", content)
        return Segment(path=path, sha256=sha256, size=len(content), records=len(stored))

    def _put_object(self, path: str, content: bytes) -> str:
        """Put an object; where its name holds other bytes, which were damaged since, beside it. Return its path."""
        for name in (path, *(f"{path}.{number}" for number in range(1, _BESIDE_MAX))):
            try:
                self._writer.put("work", name, content)
            except AlreadyExistsError:
                continue
            return name
        raise TransientError("too many damaged objects of the inventory", path=path)


# -- bytes -----------------------------------------------------------------------------------------------------


def encode_segment(stored: Stored) -> bytes:
    """Return a segment's bytes: magic, the size of what is compressed, and that."""
    plain = msgspec.msgpack.encode(stored)
    return _MAGIC + len(plain).to_bytes(8, "little") + bytes(_CODEC.compress(plain, asbytes=True))


def decode_segment(content: bytes) -> Stored:
    """Read a segment back. Raises EvidenceError."""
    if not content.startswith(_MAGIC):
        raise EvidenceError("not a segment of an inventory")
    size = int.from_bytes(content[8:16], "little")
    try:
        return _RECORDS.decode(_CODEC.decompress(content[16:], size, asbytes=True))
    except (pa.ArrowException, OSError, msgspec.DecodeError) as error:
        raise EvidenceError("segment of an inventory is damaged") from error


def encode_root(root: Root) -> bytes:
    """Return a root's canonical bytes."""
    return msgspec.json.encode(root, order="sorted")


def root_path(next_commit: int, content: bytes) -> str:
    """Return where a root lies: by its number, and by what it says."""
    return f"{ROOTS}{next_commit:020d}-{hashlib.sha256(content).hexdigest()}.json"


def decode_root(content: bytes, path: str) -> Root:
    """Read a root back.

    Raises:
        RejectedError: damaged, or not the one that its name says.

    """
    try:
        root = _ROOT.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RejectedError("root of an inventory is damaged", path=path) from error
    named = root_path(root.next_commit, content)
    if path != named and not path.startswith(f"{named}."):
        raise RejectedError("root of an inventory is not what its name says", path=path)
    return root


def gaps_of(root: Root) -> set[WatchGap]:
    """Return the gaps of the watch that a root states."""
    return {WatchGap(*told) for told in root.gaps}

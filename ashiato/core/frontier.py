"""The frontier: what the archive holds of every file of one partition (CONTRACTS J4). No payload.

It travels with the commit, which names it by version id and hash. Entries never vanish: closed and idle files move
to content-addressed pages, loaded on demand.

``plan`` is the one rule of admission: it cuts an arriving range into pieces that are new, early or already held.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

import msgspec
import zstandard

from ashiato.core.errors import EvidenceError, RejectedError
from ashiato.core.limits import FRONTIER_ACTIVE_FILES_MAX, FRONTIER_IDLE_NS, FRONTIER_RANGES_MAX

FRONTIER_VERSION: Final = 1
PAGE_FILES_MAX: Final = 1024


class HeldRange(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Bytes ``[start, end)`` of a file, and the pack that holds them ('' while only the present batch does)."""

    start: int
    end: int
    pack: str = ""


class OpenJoin(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A join of CRI parts whose last part has not come; its bytes are in the packs' ``raw`` column."""

    iostream: str
    first_offset: int
    last_offset: int
    """Offset of its newest part."""


class FileState(msgspec.Struct, frozen=True, kw_only=True):
    """What is held of one file."""

    file_id: str
    source: str
    path: str = ""
    base: int = 0
    """First byte that this entry speaks of: 0, or for a fork the offset at which it began."""
    offset: int = 0
    """``[base, offset)`` is held without a hole."""
    early: tuple[HeldRange, ...] = ()
    """Held ranges beyond ``offset``, in order, disjoint."""
    at_line: bool = True
    """The byte at ``offset`` is the first of a line."""
    closed: bool = False
    imported: bool = False
    open_joins: tuple[OpenJoin, ...] = ()
    cut_iostream: str = ""
    cut_time_unix_nano: int | None = None
    ranges: tuple[HeldRange, ...] = ()
    """The newest ranges and their packs, for comparing what is sent again."""
    forks: int = 0
    """How many forks of this file there are; the newest takes what is sent from now on."""
    observed_time_unix_nano: int = 0
    """Reading time of the newest chunk."""


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Closed files moved out of the frontier, pinned like the frontier itself."""

    path: str
    version_id: str
    sha256: str
    file_id_min: str
    file_id_max: str
    files: int


class Frontier(msgspec.Struct, frozen=True, kw_only=True):
    """One partition at one commit."""

    topic: str
    partition: int
    incarnation: str
    next: int
    """Position behind the last one taken in."""
    record_sha256: str
    """SHA-256 of the record at ``next - 1``, '' where none was read: tells whether a bus is the same (J5)."""
    files: tuple[FileState, ...]
    """Ordered by file id."""
    pages: tuple[Page, ...] = ()
    v: int = FRONTIER_VERSION


class _PageFiles(msgspec.Struct, frozen=True, kw_only=True):
    files: tuple[FileState, ...]
    v: int = FRONTIER_VERSION


class Does(Enum):
    """What is to be done with a piece of an arriving chunk."""

    TAKE = "take"
    """New, and follows what is held."""
    TAKE_EARLY = "take_early"
    """New, but bytes before it are missing: archived flagged, its joins wait."""
    COMPARE = "compare"
    """Held already: dropped after comparison, or the start of a fork."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """``[start, end)`` of an arriving chunk, and what to do with it."""

    start: int
    end: int
    does: Does


def plan(state: FileState, start: int, end: int) -> list[Cut]:
    """Cut ``[start, end)`` along what is held of the file.

    The cuts are in order, adjacent, and give the range back exactly. An empty range gives no cut.
    """
    cuts: list[Cut] = []
    held = [HeldRange(start=state.base, end=state.offset), *state.early]
    reach = state.offset
    at = start
    while at < end:
        inside = next((r for r in held if r.start <= at < r.end), None)
        if inside is not None:
            stop = min(end, inside.end)
            cuts.append(Cut(start=at, end=stop, does=Does.COMPARE))
            if inside.start <= reach:
                reach = max(reach, inside.end)
        else:
            following = [r.start for r in held if r.start > at]
            stop = min(end, *following) if following else end
            cuts.append(Cut(start=at, end=stop, does=Does.TAKE if at == reach else Does.TAKE_EARLY))
            if at == reach:
                reach = stop
        at = stop
    return cuts


def extend(state: FileState, cut: Cut, *, observed_time_unix_nano: int) -> FileState:
    """Return the state after a piece was taken; early ranges that the prefix now reaches are folded in."""
    observed = max(state.observed_time_unix_nano, observed_time_unix_nano)
    if cut.does is Does.TAKE_EARLY:
        early = _disjoint((*state.early, HeldRange(start=cut.start, end=cut.end)))
        return msgspec.structs.replace(state, early=early, observed_time_unix_nano=observed)
    offset, waiting = cut.end, list(state.early)
    while waiting and waiting[0].start <= offset:
        offset = max(offset, waiting.pop(0).end)
    return msgspec.structs.replace(state, offset=offset, early=tuple(waiting), observed_time_unix_nano=observed)


def settle(state: FileState, held_by: Iterable[HeldRange]) -> FileState:
    """Return the state that also remembers the packs of newly archived ranges; the oldest are forgotten."""
    ranges = (*state.ranges, *held_by)
    return msgspec.structs.replace(state, ranges=ranges[-FRONTIER_RANGES_MAX:])


def encode(frontier: Frontier) -> bytes:
    """Return the stored bytes: canonical JSON under zstd."""
    return zstandard.ZstdCompressor(level=3, write_checksum=True).compress(_JSON.encode(frontier))


def decode(content: bytes, sha256: str) -> Frontier:
    """Read a frontier back, held against the hash that its commit names.

    Raises:
        EvidenceError: the hash does not fit.
        RejectedError: of a version that is not read.

    """
    frontier = msgspec.json.decode(_checked(content, sha256), type=Frontier)
    if frontier.v != FRONTIER_VERSION:
        raise RejectedError("frontier of an unknown version", version=frontier.v)
    return frontier


def encode_page(files: Iterable[FileState]) -> bytes:
    """Return the stored bytes of a page."""
    page = _PageFiles(files=tuple(files))
    return zstandard.ZstdCompressor(level=3, write_checksum=True).compress(_JSON.encode(page))


def decode_page(content: bytes, sha256: str) -> tuple[FileState, ...]:
    """Read a page back. Raises as :func:`decode`."""
    page = msgspec.json.decode(_checked(content, sha256), type=_PageFiles)
    if page.v != FRONTIER_VERSION:
        raise RejectedError("page of a frontier of an unknown version", version=page.v)
    return page.files


def path_of(sha256: str) -> str:
    """Return the content-addressed name of a frontier or a page in bucket ``work``."""
    return f"frontier/{sha256}.json.zst"


def digest(content: bytes) -> str:
    """Return the hex digest that pins stored bytes."""
    return hashlib.sha256(content).hexdigest()


def overflow(files: Mapping[str, FileState]) -> list[FileState]:
    """Return the closed and idle files that are to move to a page, oldest first; [] while there is room.

    A file that no chunk came of for a day is idle: nodes go, and never close what they had open.
    """
    if len(files) <= FRONTIER_ACTIVE_FILES_MAX:
        return []
    # Not the newest reading of all: one node whose clock runs ahead would make every other file an idle one.
    readings = sorted((file.observed_time_unix_nano for file in files.values()), reverse=True)
    now = readings[FRONTIER_ACTIVE_FILES_MAX // 2]
    resting = [
        file
        for file in files.values()
        if file.closed or file.imported or now - file.observed_time_unix_nano > FRONTIER_IDLE_NS
    ]
    return sorted(resting, key=lambda file: file.file_id)[:PAGE_FILES_MAX]


_JSON: Final = msgspec.json.Encoder(order="sorted")


def _checked(content: bytes, sha256: str) -> bytes:
    if digest(content) != sha256:
        raise EvidenceError("frontier does not match the hash that its commit names", sha256=sha256)
    return zstandard.ZstdDecompressor().decompress(content)


def _disjoint(ranges: Iterable[HeldRange]) -> tuple[HeldRange, ...]:
    merged: list[HeldRange] = []
    for held in sorted(ranges, key=lambda r: r.start):
        if merged and held.start <= merged[-1].end:
            merged[-1] = HeldRange(start=merged[-1].start, end=max(merged[-1].end, held.end))
        else:
            merged.append(HeldRange(start=held.start, end=held.end))
    return tuple(merged)

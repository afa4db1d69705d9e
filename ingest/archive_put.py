"""What a commit puts first: packs with their manifests, and the frontier of each partition that it moves (J4).

None of it counts until a commit names it, so all of it may be put again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from ashiato.core import frontier, manifest
from ashiato.core.errors import AlreadyExistsError
from ashiato.core.frontier import FileState, Frontier, HeldRange, OpenJoin, Page
from ashiato.core.journal import AddedPack, FrontierRef, PageRef, Txn
from ashiato.core.ports import ArchiveWriter, Partition
from ashiato.core.sidecar_names import path_of as sidecar_path_of
from ingest.archive_lane import Lane
from ingest.batch import Reached
from ingest.contracts import BuiltPack, LineState


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierPut:
    """A partition's frontier as it was stored: the txn that names it, its pages, and who moved to the newest one."""

    txn: Txn
    pages: tuple[Page, ...]
    moved: tuple[str, ...]


def put_pack(archive: ArchiveWriter, pack: BuiltPack) -> AddedPack:
    """Put a pack and its manifest. Raises TransientError."""
    told = pack.manifest
    ref = archive.put_file("evidence", told.path, str(pack.file))
    content = manifest.encode(told)
    beside = archive.put("evidence", manifest.path_of(told.path), content)
    return AddedPack(
        path=told.path,
        version_id=ref.version_id,
        sha256=told.sha256,
        size=told.size,
        rows=told.rows,
        raw_bytes=told.raw_bytes,
        retention_class=told.retention_class,
        day=told.day,
        time_min_unix_nano=told.time_min_unix_nano,
        time_max_unix_nano=told.time_max_unix_nano,
        observed_min_unix_nano=told.observed_min_unix_nano,
        observed_max_unix_nano=told.observed_max_unix_nano,
        manifest_path=beside.path,
        manifest_version_id=beside.version_id,
        manifest_sha256=manifest.sha256(content),
    )


def put_sidecars(archive: ArchiveWriter, pack: BuiltPack) -> int:
    """Put what is derived from a pack; return how many bytes that were. Raises TransientError.

    One that stands there already in other bytes, as a damaged one may, is left to ``ingest sidecars``.
    """
    for made in pack.sidecars:
        with contextlib.suppress(AlreadyExistsError):
            archive.put("work", sidecar_path_of(made.kind, pack.manifest.sha256), made.content)
    return sum(len(made.content) for made in pack.sidecars)


def put_frontier(
    archive: ArchiveWriter, where: Partition, lane: Lane, reached: Reached, files: Mapping[str, FileState]
) -> FrontierPut:
    """Put a partition's frontier, and a page of closed files where it has grown too large. Raises TransientError."""
    kept, pages = dict(files), lane.pages
    new_pages: tuple[PageRef, ...] = ()
    moved = frontier.overflow(kept)
    if moved:
        page = _put_page(archive, moved)
        pages = (*pages, page)
        new_pages = (PageRef(path=page.path, version_id=page.version_id),)
        for file in moved:
            del kept[file.file_id]
    document = Frontier(
        topic=where.topic,
        partition=where.number,
        incarnation=lane.incarnation,
        next=reached.next,
        record_sha256=reached.record_sha256,
        files=tuple(kept[file_id] for file_id in sorted(kept)),
        pages=pages,
    )
    content = frontier.encode(document)
    sha256 = frontier.digest(content)
    ref = archive.put("work", frontier.path_of(sha256), content)
    txn = Txn(
        topic=where.topic,
        partition=where.number,
        incarnation=lane.incarnation,
        next=reached.next,
        frontier=FrontierRef(path=ref.path, version_id=ref.version_id, sha256=sha256, new_pages=new_pages),
        follows=lane.follows,
    )
    return FrontierPut(txn=txn, pages=pages, moved=tuple(file.file_id for file in moved))


def settle(
    files: Mapping[str, FileState],
    states: Mapping[str, LineState],
    adds: Sequence[AddedPack],
    built: Sequence[BuiltPack],
) -> dict[str, FileState]:
    """Return the frontier's entries with the new packs' ranges and with how their lines stand."""
    ranges: dict[str, list[HeldRange]] = {}
    for pack, done in zip(adds, built, strict=True):
        for listed in done.manifest.files:
            ranges.setdefault(listed.file_id, []).extend(
                HeldRange(start=held.start, end=held.end, pack=pack.path) for held in listed.ranges
            )
    settled = dict(files)
    for file_id in files:
        if file_id in ranges:
            settled[file_id] = frontier.settle(settled[file_id], ranges[file_id])
        if (state := states.get(file_id)) is not None:
            settled[file_id] = _with_lines(settled[file_id], state)
    return settled


def carried(live: FileState, settled: FileState) -> FileState:
    """Return the live entry with what only a commit can know."""
    return msgspec.structs.replace(
        live,
        ranges=settled.ranges,
        at_line=settled.at_line,
        cut_iostream=settled.cut_iostream,
        cut_time_unix_nano=settled.cut_time_unix_nano,
        open_joins=settled.open_joins,
    )


def _put_page(archive: ArchiveWriter, files: Sequence[FileState]) -> Page:
    ids = [file.file_id for file in files]
    content = frontier.encode_page(files)
    sha256 = frontier.digest(content)
    ref = archive.put("work", frontier.path_of(sha256), content)
    return Page(
        path=ref.path,
        version_id=ref.version_id,
        sha256=sha256,
        file_id_min=min(ids),
        file_id_max=max(ids),
        files=len(ids),
    )


def _with_lines(file: FileState, state: LineState) -> FileState:
    return msgspec.structs.replace(
        file,
        at_line=state.at_line,
        cut_iostream=state.cut_iostream,
        cut_time_unix_nano=state.cut_time_unix_nano,
        open_joins=tuple(
            OpenJoin(iostream=part.iostream, first_offset=part.first_offset, last_offset=part.part_offsets[-1])
            for part in state.open_parts
        ),
    )

"""Which files there are: a sweep of directories. What is named here is only found, not opened."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Final

from ashiato.core.ids import Kind
from ashiato.core.layout import Found, node_of, recognise

DEPTH_MAX: Final = 12
_LOG_LIKE: Final = re.compile(r"\.(?:log|jsonl?|txt|ndjson)(?:\.\d[^/]*|-\d[^/]*)?(?:\.gz)?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A file that a sweep saw."""

    path: Path
    found: Found
    device: int
    inode: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A folder to sweep."""

    path: Path
    cluster: str
    node: str
    all_files: bool = False
    kind: Kind | None = None
    """Every file below is of this kind and one source (our own ledger and access log)."""


def sweep(root: Root) -> Iterator[Candidate]:
    """Yield the log files below ``root``; unreadable folders are passed over, and found again when they open."""
    for path in _files(root.path, 0):
        found = _recognise(root, path)
        if found is None:
            continue
        try:
            stat = path.stat()
        except OSError:
            continue
        if S_ISREG(stat.st_mode):
            yield Candidate(path=path, found=found, device=stat.st_dev, inode=stat.st_ino, size=stat.st_size)


def in_log_order(candidates: list[Candidate]) -> list[Candidate]:
    """Order by source, restart and age, so that file ids minted in this order sort as the log was written."""
    return sorted(
        candidates,
        key=lambda c: (str(c.found.source), c.found.restart_count, not c.found.rotated, c.found.rotated, str(c.path)),
    )


def _recognise(root: Root, path: Path) -> Found | None:
    if root.kind is not None:
        found = recognise(path.name, cluster=root.cluster, node=root.node)
        return found if found.source.kind is root.kind else None
    below = str(path.relative_to(root.path))
    node, rest = root.node, str(path)
    if (named := node_of(below)) is not None:
        node, rest = named
    elif root.all_files:
        rest = below if not re.search(r"(?:^|/)(?:pods|containers)/", str(path)) else str(path)
    found = recognise(rest, cluster=root.cluster, node=node)
    if found.source.kind is Kind.FILE and not (root.all_files and _LOG_LIKE.search(path.name)):
        return None
    return found


def _files(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        try:
            is_folder = entry.is_dir(follow_symlinks=False)
        except OSError:
            continue
        if is_folder:
            # /var/log/containers holds links to the files of /var/log/pods only.
            if depth < DEPTH_MAX and not (entry.name == "containers" and folder.name == "log"):
                yield from _files(Path(entry.path), depth + 1)
        else:
            yield Path(entry.path)

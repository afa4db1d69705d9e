"""Which files there are: a sweep of directories. What is named here is only found, not opened."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from stat import S_ISLNK, S_ISREG
from typing import Final

from ashiato.core.ids import Kind
from ashiato.core.layout import Found, age_key, node_of, readable, recognise

DEPTH_MAX: Final = 12
LOG_NAME: Final = re.compile(r"\.(?:log|jsonl?|txt|ndjson)(?:[.-]\d[0-9T.:_-]*)?(?:\.gz)?\Z")
"""What a plain log file is called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A file that a sweep saw."""

    path: str
    """As text; what is not UTF-8 in it is written out."""
    os_path: str
    """As the system calls it."""
    found: Found
    identity: tuple[int, int]
    size: int
    modified_nano: int
    changed_nano: int
    rotated: bool
    """A newer file takes what is written."""
    linked: bool = False
    """The path is a link."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A folder to sweep."""

    path: Path
    cluster: str
    node: str
    all_files: bool = False
    kind: Kind | None = None
    """Every file below is of this kind and one source (our own ledger and access log)."""
    exclude: tuple[str, ...] = ()
    """Folders below that are not followed."""


@dataclass(slots=True, kw_only=True)
class Swept:
    """What one sweep of all roots saw."""

    roots: list[Root]
    candidates: list[Candidate] = field(default_factory=list)
    """One for each file, whatever number of names it has, in the order in which the logs were written."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Folders that could not be listed, and why."""
    missing: set[str] = field(default_factory=set)
    """Roots that are not there."""


Recognised = dict[tuple[int, str], Found | None]
"""What paths below the n-th root were found to be, so that a sweep of what is known costs little."""


def sweep(roots: Iterable[Root], recognised: Recognised | None = None) -> Swept:
    """Return the log files below ``roots``. A link is followed only to a file below one of the roots.

    ``recognised`` is kept by the caller from sweep to sweep; it holds the paths that the last one saw.
    """
    swept = Swept(roots=list(roots))
    before, now = recognised or {}, Recognised()
    inside = [os.path.realpath(root.path) for root in swept.roots]
    for number, root in enumerate(swept.roots):
        for path in _files(root, str(root.path), 0, swept):
            key = (number, path)
            found = now[key] = before[key] if key in before else _recognise(root, path)
            if found is not None and (candidate := _candidate(path, found, inside)) is not None:
                swept.candidates.append(candidate)
    if recognised is not None:
        recognised.clear()
        recognised.update(now)
    swept.candidates = in_log_order(one_per_file(mark_live(swept.candidates)))
    return swept


def mark_live(candidates: list[Candidate]) -> list[Candidate]:
    """Tell the newest of the numbered files (``ledger-000002.jsonl``): it is the live one, whatever it is called."""
    newest: dict[str, Candidate] = {}
    for candidate in candidates:
        if candidate.found.numbered:
            source = str(candidate.found.source)
            newest[source] = max(newest.get(source, candidate), candidate, key=_number)
    live = {candidate.path for candidate in newest.values()}
    return [replace(c, rotated=False) if c.path in live else c for c in candidates]


def _number(candidate: Candidate) -> tuple[bool, int, str]:
    rotated = candidate.found.rotated
    return rotated == "", len(rotated), rotated


def one_per_file(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Keep one name of each file: a pod's path says more than docker's, and the live name more than another."""
    best: dict[tuple[int, int], Candidate] = {}
    for candidate in candidates:
        other = best.get(candidate.identity)
        if other is None or _rank(candidate) < _rank(other):
            best[candidate.identity] = candidate
    return list(best.values())


def in_log_order(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Order by source, restart and age, so that file ids minted in this order sort as the log was written."""
    return sorted(
        candidates,
        key=lambda c: (str(c.found.source), c.found.restart_count, not c.rotated, age_key(c.found.rotated), c.path),
    )


def _rank(candidate: Candidate) -> tuple[bool, bool, bool, str]:
    source = candidate.found.source
    no_pod = source.kind is not Kind.CONTAINER or source.namespace == "docker"
    return no_pod, candidate.linked, candidate.rotated, candidate.path


def _candidate(path: str, found: Found, inside: list[str]) -> Candidate | None:
    try:
        stat = os.lstat(path)
        if linked := S_ISLNK(stat.st_mode):
            real = os.path.realpath(path)
            if not any(real.startswith(f"{root}/") for root in inside):
                return None
            stat = os.lstat(real)
    except OSError:
        return None
    if not S_ISREG(stat.st_mode):
        return None
    return Candidate(
        path=readable(path), os_path=path, found=found, identity=(stat.st_dev, stat.st_ino), size=stat.st_size,
        modified_nano=stat.st_mtime_ns, changed_nano=stat.st_ctime_ns,
        rotated=bool(found.rotated) or found.compressed, linked=linked,
    )  # fmt: skip


def _recognise(root: Root, os_path: str) -> Found | None:
    path = readable(os_path)
    if root.kind is not None:
        found = recognise(Path(path).name, cluster=root.cluster, node=root.node)
        return found if found.source.kind is root.kind else None
    below = path[len(readable(str(root.path))) + 1 :]
    node, rest = root.node, path
    if (named := node_of(below)) is not None:
        node, rest = named
    found = recognise(rest, cluster=root.cluster, node=node)
    if root.all_files and named is None and found.source.kind is not Kind.CONTAINER:
        found = recognise(below, cluster=root.cluster, node=node)
    if found.source.kind in (Kind.LEDGER, Kind.ACCESS):
        # Only what lies in our own folders speaks for this node, whatever another file is called.
        found = replace(found, source=replace(found.source, kind=Kind.FILE))
    if found.source.kind is Kind.FILE and not (root.all_files and LOG_NAME.search(path)):
        return None
    return found


def _files(root: Root, folder: str, depth: int, swept: Swept) -> Iterator[str]:
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        if depth == 0 and error.errno in (errno.ENOENT, errno.ENOTDIR):
            swept.missing.add(readable(folder))
        elif error.errno != errno.ENOENT:
            swept.unreadable[readable(folder)] = error.strerror or str(error)
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.path in root.exclude:
            continue
        if not entry.is_dir(follow_symlinks=False):
            yield entry.path
        elif depth >= DEPTH_MAX:
            swept.unreadable[readable(entry.path)] = f"deeper than {DEPTH_MAX} folders"
        elif not (entry.name == "containers" and folder.endswith("/log")):
            # /var/log/containers holds links to the files of /var/log/pods only.
            yield from _files(root, entry.path, depth + 1, swept)

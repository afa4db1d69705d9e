"""Which files there are: a sweep of directories. What is named here is only found, not opened."""

from __future__ import annotations

import errno
import functools
import os
import re
import struct
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from stat import S_ISLNK, S_ISREG
from typing import Final

from ashiato.core.ids import Kind
from ashiato.core.layout import Found, age_key, node_of, readable, recognise

DEPTH_MAX: Final = 12
STAMP_SURE_NS: Final = 2_000_000_000
"""A folder that had its modification time for this long before it was listed is listed again only when it changes."""
LONG_NS: Final = 20_000_000
REST: Final = 50
"""A folder that took longer than that to list is left alone for as many times as long: 2 % of a core, not all of it."""
FOLDER_FILES_MAX: Final = 20_000
"""Log files of one folder that are followed; that there are more is named."""
_STAMP: Final = struct.Struct("=QQq")
_MARKS: Final = (".log", ".json", ".txt", ".ndjson")
_IS_GLOB: Final = re.compile(r"[*?\[]")
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
    pinned: bool = False
    """A pin is its only name."""


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
    """Folders below that are not followed, and globs of files and folders that are not."""
    ours: tuple[str, ...] = ()
    """Folders below that hold no logs but our own state."""
    globs: tuple[str, ...] = ()
    """Files below that are followed whatever they are called."""

    def excludes(self, path: str) -> str | None:
        """Return the setting that keeps a path from being followed; None where none does."""
        for pattern in self.exclude:
            if path == pattern or (_IS_GLOB.search(pattern) and _glob(pattern).fullmatch(path)):
                return pattern
        return None

    def is_asked_for(self, path: str) -> bool:
        """Whether a glob names a path."""
        return any(_glob(pattern).fullmatch(path) for pattern in self.globs)

    def may_be_log(self, name: str) -> bool:
        """Whether a name can be a log's: told at little cost, for folders of very many files."""
        return bool(self.globs) or any(mark in name for mark in _MARKS)


@dataclass(slots=True, kw_only=True)
class Swept:
    """What one sweep of all roots saw."""

    roots: list[Root]
    candidates: list[Candidate] = field(default_factory=list)
    """One for each file, whatever number of names it has, in the order in which the logs were written."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Folders that could not be listed, and why."""
    missing: set[str] = field(default_factory=set)
    """Roots that are not there, and folders that could not be listed for want of a descriptor."""
    is_starved: bool = False
    """There were such folders."""
    excluded: dict[str, str] = field(default_factory=dict)
    """What is there and is not followed, and the setting that says so."""
    folders: list[str] = field(default_factory=list)
    """Folders that were listed, now or before."""


@dataclass(slots=True, kw_only=True, eq=False)
class Named:
    """One file of a folder, as it was last seen."""

    name: str
    found: Found
    linked: bool = False
    """The name is a link."""
    candidate: Candidate | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Listing:
    """What a folder held. A node has more of these than of files, so they hold as little as can be."""

    folder: str
    stamp: bytes
    """Device, inode and modification time when it was listed."""
    since_nano: int
    """When the folder was first seen with that stamp (monotonic); 0 once it is sure."""
    is_sure: bool
    """The folder had its stamp for so long that nothing can have changed within the clock's step."""
    rest_nano: int = 0
    """A folder that took long is not listed again before this."""
    folders: tuple[str, ...] = ()
    below: tuple[Listing | None, ...] = ()
    """What each of ``folders`` held; None where it could not be listed."""
    files: tuple[Named, ...] = ()
    excluded: tuple[tuple[str, str], ...] = ()
    """What is there and is not followed, and why."""
    too_many: bool = False

    def known_below(self) -> dict[str, Listing | None]:
        """Return what each folder below held."""
        return dict(zip(self.folders, self.below, strict=True))


@dataclass(slots=True, kw_only=True)
class Memory:
    """What is kept from sweep to sweep, so that a sweep of what is known costs little."""

    listings: dict[str, Listing | None] = field(default_factory=dict)
    """Of the roots; each leads to those below it."""
    candidates: list[Candidate] = field(default_factory=list)
    changed: set[str] | None = None
    """Folders that are to be looked at, where the kernel tells; None looks at all."""
    holds: Callable[[tuple[int, int]], bool] = lambda _: False
    """Whether an inode is followed through a descriptor, so that its state need not be asked for here."""
    monotonic_nano: Callable[[], int] = time.monotonic_ns


def sweep(roots: Iterable[Root], memory: Memory | None = None) -> Swept:
    """Return the log files below ``roots``. A link is followed only to a file below one of the roots."""
    return _Sweep(list(roots), memory or Memory()).run()


def found_at(roots: Iterable[Root], path: str) -> Found | None:
    """Return what a path is that is not there any more; None where it is no log below ``roots``."""
    for root in roots:
        if path.startswith(f"{root.path}/") and root.kind is None:
            return None if root.excludes(path) is not None else _recognise(root, path)
    return None


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


def _candidate(path: str, found: Found, inside: list[str]) -> tuple[Candidate | None, bool]:
    """Return what a path is now, and whether it is a link."""
    linked = False
    try:
        stat = os.lstat(path)
        if linked := S_ISLNK(stat.st_mode):
            real = os.path.realpath(path)
            if not any(real.startswith(f"{root}/") for root in inside):
                return None, True
            stat = os.lstat(real)
    except OSError:
        return None, linked
    if not S_ISREG(stat.st_mode):
        return None, linked
    candidate = Candidate(
        path=readable(path), os_path=path, found=found, identity=(stat.st_dev, stat.st_ino), size=stat.st_size,
        modified_nano=stat.st_mtime_ns, changed_nano=stat.st_ctime_ns,
        rotated=bool(found.rotated) or found.compressed, linked=linked,
    )  # fmt: skip
    return candidate, linked


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
    is_wanted = (root.all_files and LOG_NAME.search(path)) or root.is_asked_for(_live_name(os_path, found))
    if found.source.kind is Kind.FILE and not is_wanted:
        return None
    return found


def _live_name(path: str, found: Found) -> str:
    """Return the name that a plain file has before it is rotated."""
    return path.removesuffix(".gz").removesuffix(found.rotated)


@functools.cache
def _glob(pattern: str) -> re.Pattern[str]:
    """Return a glob as an expression: ``*`` and ``?`` stay within a folder, ``**`` does not."""
    parts = re.split(r"(\*\*/?|\*|\?|\[[^]]+\])", pattern)
    known = {"**": ".*", "**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    said = (
        known.get(part) or (f"[{part[1:-1].replace('!', '^', 1)}]" if part.startswith("[") else re.escape(part))
        for part in parts
    )
    return re.compile("(?s)" + "".join(said))


class _Sweep:
    """One sweep."""

    def __init__(self, roots: list[Root], memory: Memory) -> None:
        self._memory = memory
        self._swept = Swept(roots=roots)
        self._inside = [os.path.realpath(root.path) for root in roots]
        self._found: list[Candidate] = []
        self._is_same = True
        """Nothing is other than it was in the sweep before."""

    def run(self) -> Swept:
        """Look through all roots."""
        swept, memory = self._swept, self._memory
        before = memory.listings
        memory.listings = {}
        for number, root in enumerate(swept.roots):
            key = f"{number}:{root.path}"
            memory.listings[key] = self._folder(number, root, str(root.path), 0, before.get(key))
        if not (self._is_same and before.keys() == memory.listings.keys()):
            memory.candidates = in_log_order(one_per_file(mark_live(self._found)))
        swept.candidates = memory.candidates
        return swept

    def _folder(self, number: int, root: Root, folder: str, depth: int, before: Listing | None) -> Listing | None:
        """Look at a folder and below; return what it held, None where it cannot be listed."""
        swept = self._swept
        try:
            listing = self._listing(number, root, folder, before)
        except OSError as error:
            self._is_same = self._is_same and before is None
            self._cannot_list(folder, depth, error)
            return None
        swept.folders.append(listing.folder)
        swept.excluded.update(listing.excluded)
        if listing.too_many:
            swept.unreadable[readable(folder)] = f"more than {FOLDER_FILES_MAX} logs in one folder"
        self._files(listing)
        if listing.folders:
            listing.below = self._below(number, root, listing, depth + 1)
        return listing

    def _below(self, number: int, root: Root, listing: Listing, depth: int) -> tuple[Listing | None, ...]:
        """Look at the folders of a folder; what is as it was stays the same objects."""
        if depth > DEPTH_MAX:
            for folder in listing.folders:
                self._swept.unreadable[readable(folder)] = f"deeper than {DEPTH_MAX} folders"
            return listing.below
        below = tuple(
            self._folder(number, root, folder, depth, before)
            for folder, before in zip(listing.folders, listing.below, strict=True)
        )
        return listing.below if below == listing.below else below

    def _cannot_list(self, folder: str, depth: int, error: OSError) -> None:
        swept = self._swept
        if error.errno in (errno.EMFILE, errno.ENFILE):
            # Nothing below it is known now, and nothing of it is gone: the next sweep comes at once.
            swept.missing.add(readable(folder))
            swept.is_starved = True
        elif depth == 0 and error.errno in (errno.ENOENT, errno.ENOTDIR):
            swept.missing.add(readable(folder))
        elif error.errno not in (errno.ENOENT, errno.ENOTDIR):
            swept.unreadable[readable(folder)] = error.strerror or str(error)

    def _files(self, listing: Listing) -> None:
        """Take in what the files of a folder are now."""
        changed, holds = self._memory.changed, self._memory.holds
        is_quiet = listing.is_sure and changed is not None and listing.folder not in changed
        for file in listing.files:
            before = file.candidate
            # A link's end may move without a word, and so may the size of what is not followed.
            if before is not None and not file.linked and (is_quiet or (listing.is_sure and holds(before.identity))):
                self._found.append(before)
                continue
            candidate, file.linked = _candidate(f"{listing.folder}/{file.name}", file.found, self._inside)
            if candidate != before:
                self._is_same = False
                file.candidate = candidate
            if file.candidate is not None:
                self._found.append(file.candidate)

    def _listing(self, number: int, root: Root, folder: str, before: Listing | None) -> Listing:
        """Return what a folder holds, as it was listed before where it cannot have changed. Raises OSError."""
        changed = self._memory.changed
        if before is not None and before.is_sure and changed is not None and folder not in changed:
            return before
        stat = os.lstat(self._inside[number] if folder == str(root.path) else folder)
        stamp = _STAMP.pack(stat.st_dev, stat.st_ino, stat.st_mtime_ns)
        now = self._memory.monotonic_nano()
        if before is not None and (now < before.rest_nano or (before.stamp == stamp and before.is_sure)):
            return before
        since = before.since_nano if before is not None and before.stamp == stamp else now
        is_sure = now - since >= STAMP_SURE_NS
        listing = Listing(
            folder=before.folder if before is not None else folder, stamp=stamp, is_sure=is_sure,
            since_nano=0 if is_sure else since,
        )  # fmt: skip
        self._list(root, listing, before)
        took = self._memory.monotonic_nano() - now
        if took > LONG_NS:
            listing.rest_nano = now + took * REST
        return listing

    def _list(self, root: Root, listing: Listing, before: Listing | None) -> None:
        known = {file.name: file for file in before.files} if before is not None else {}
        folders: list[str] = []
        files: dict[str, Named] = {}
        excluded: dict[str, str] = {}
        with os.scandir(listing.folder) as entries:
            for entry in entries:
                name, path = entry.name, entry.path
                is_folder = entry.is_dir(follow_symlinks=False)
                # Of most names of a folder that is no log folder nothing is kept.
                if name.startswith(".") or not (is_folder or root.may_be_log(name)) or path in root.ours:
                    continue
                if (why := root.excludes(path)) is not None:
                    excluded[readable(path)] = why
                elif is_folder:
                    folders.append(path)
                elif name in known:
                    files[name] = known[name]
                elif (found := _recognise(root, path)) is not None:
                    if len(files) >= FOLDER_FILES_MAX:
                        listing.too_many = True
                    else:
                        # One string for the name that most containers' files have.
                        files[name] = Named(name=sys.intern(name), found=found)
        # /var/log/containers holds links to the files of /var/log/pods only.
        folders = sorted(below for below in folders if not below.endswith("/log/containers"))
        below = before.known_below() if before is not None else {}
        if before is not None and tuple(folders) == before.folders:
            listing.folders, listing.below = before.folders, before.below
        else:
            listing.folders, listing.below = tuple(folders), tuple(map(below.get, folders))
            self._is_same = False
        self._is_same = self._is_same and known.keys() == files.keys()
        listing.files = tuple(files.values())
        listing.excluded = tuple(excluded.items())

"""What somebody saved: which files of a folder are logs, of which node and kind. Found by path, then by content."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Final

from ashiato.core.ids import FileId, Kind, imported_file_id
from ashiato.core.layout import node_of, readable, recognise
from collector.content import Content, Gzipped, Plain
from collector.discovery import LOG_NAME, Candidate, in_log_order, mark_live, one_per_file

HEAD_BYTES: Final = 64 * 1024
"""What is read to recognise a kind."""
IDENTITY_BYTES: Final = 1024
"""The first line, or this much of it, tells two files apart; it stays as it is when the file grows."""
NODE_DEFAULT: Final = "imported"

_ABSOLUTE_NODE: Final = re.compile(r"(?s)/(?P<node>[^/]+)/(?P<rest>var/(?:log|lib/docker)/.+)\Z")
_TIME: Final = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)")
_AUDITD_TIME: Final = re.compile(rb"msg=audit\((\d{1,11})\.(\d{3}):")
_PACKED: Final = (b"\xfd7zXZ\0", b"BZh", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"LPKSHHRH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A file that is not taken, and why."""

    path: str
    reason: str


@dataclass(slots=True, kw_only=True)
class Saved:
    """What lies below the paths."""

    candidates: list[Candidate] = field(default_factory=list)
    """One for each log, in the order in which they were written."""
    skipped: list[Skipped] = field(default_factory=list)


def find(paths: Iterable[Path], *, cluster: str, node: str) -> Saved:
    """Look through files and folders. Links are not followed out of a path; what is no log is named."""
    saved = Saved()
    for given in paths:
        root = Path(os.path.realpath(given))
        for path in _walk(root, saved):
            _consider(path, root, saved, cluster=cluster, node=node)
    saved.candidates = in_log_order(one_per_file(mark_live(saved.candidates)))
    return saved


def open_saved(candidate: Candidate) -> Content:
    """Open a log. Raises OSError."""
    path = Path(candidate.os_path)
    return Gzipped(path) if candidate.found.compressed else Plain(path)


def name_of(candidate: Candidate) -> str:
    """Return the path that tells a log from the others of its node, the same for all its rotations."""
    source = candidate.found.source
    if source.kind is Kind.CONTAINER:
        count = max(candidate.found.restart_count, 0)
        return f"{source.namespace}_{source.pod}_{source.pod_uid}/{source.container}/{count}.log"
    return source.path


def file_id_of(candidate: Candidate, content: Content, *, name: str) -> FileId:
    """Return the id that a second import of the file, or of a longer version of it, finds again."""
    head = content.read(IDENTITY_BYTES, 0)
    first = head[: head.find(b"\n") + 1] or head
    source = candidate.found.source
    return imported_file_id(
        cluster=source.cluster, node=source.node, relative_path=name, head_sha256=hashlib.sha256(first).digest(),
        birth_unix_ms=_time_of(first),
    )  # fmt: skip


def _consider(path: str, root: Path, saved: Saved, *, cluster: str, node: str) -> None:
    try:
        real = os.path.realpath(path)
        linked = Path(path).is_symlink()
        if linked and real != str(root) and not real.startswith(f"{root}/"):
            saved.skipped.append(Skipped(path=readable(path), reason="a link that leads outside"))
            return
        stat = os.lstat(real)
        if not S_ISREG(stat.st_mode):
            if not S_ISDIR(stat.st_mode):
                saved.skipped.append(Skipped(path=readable(path), reason="not a regular file"))
            return
        head, compressed = _head(real)
    except OSError as error:
        saved.skipped.append(Skipped(path=readable(path), reason=error.strerror or str(error)))
        return
    named_node, rest = _where(readable(path), readable(str(root)), node)
    found = replace(recognise(rest, cluster=cluster, node=named_node, head=head), compressed=compressed)
    if (reason := _refuse(path, found.source.kind, head, is_named=path == str(root))) is not None:
        saved.skipped.append(Skipped(path=readable(path), reason=reason))
        return
    saved.candidates.append(
        Candidate(
            path=readable(path), os_path=path, found=found, identity=(stat.st_dev, stat.st_ino), size=stat.st_size,
            modified_nano=stat.st_mtime_ns, changed_nano=stat.st_ctime_ns,
            rotated=bool(found.rotated) or compressed, linked=linked,
        )
    )  # fmt: skip


def _head(path: str) -> tuple[bytes, bool]:
    """Return the first decompressed bytes, and whether they were compressed."""
    with Path(path).open("rb") as file:
        raw = file.read(HEAD_BYTES)
    if not raw.startswith(b"\x1f\x8b"):
        return raw, False
    return Gzipped.head(Path(path), HEAD_BYTES), True


def _where(path: str, root: str, node: str) -> tuple[str, str]:
    """Return (node, path on the node)."""
    below = os.path.relpath(path, root) if path != root else Path(root).name
    if (named := node_of(below)) is not None:
        return named
    if (match := _ABSOLUTE_NODE.search(path)) is not None:
        return (match["node"] if node in ("", NODE_DEFAULT) else node), match["rest"]
    if "/pods/" in path or "/containers/" in path:
        return node or NODE_DEFAULT, path
    return node or NODE_DEFAULT, below


def _refuse(path: str, kind: Kind, head: bytes, *, is_named: bool) -> str | None:
    """Say why a file is not taken, None where it is."""
    if kind is not Kind.FILE:
        return None
    reason = None
    first = head.lstrip().split(b"\n", 1)[0]
    if head.startswith(_PACKED):
        reason = "packed, or binary, in a form that is not read: unpack it first"
    elif is_named:
        pass
    elif b"\0" in head[:4096] and "\ufffd" in head[:4096].decode("utf-8", "replace"):
        reason = "binary"
    elif not (LOG_NAME.search(path) or "/log/" in path):
        reason = "neither its name nor its content is a log's"
    elif re.search(r"\.json(?:\.gz)?\Z", path) and not (first.startswith(b"{") and first.rstrip().endswith(b"}")):
        reason = "a JSON document, not a log of one object a line"
    return reason


def _walk(root: Path, saved: Saved) -> Iterator[str]:
    if not root.is_dir():
        if root.exists():
            yield str(root)
        else:
            saved.skipped.append(Skipped(path=readable(str(root)), reason=os.strerror(errno.ENOENT)))
        return

    def unreadable(error: OSError) -> None:
        saved.skipped.append(Skipped(path=readable(str(error.filename)), reason=error.strerror or str(error)))

    for folder, folders, names in os.walk(root, onerror=unreadable):
        folders.sort()
        yield from (f"{folder}/{name}" for name in sorted(names))


def _time_of(first: bytes) -> int:
    """Return the first time that a first line tells, in ms; 0 where it tells none."""
    if (match := _AUDITD_TIME.search(first)) is not None:
        return int(match[1]) * 1000 + int(match[2])
    if (match := _TIME.search(first)) is not None:
        text = match[0].decode()
        try:
            told = datetime.fromisoformat(re.sub(r"\.(\d+)", lambda m: f".{m[1][:6]:0<6}", text))
        except ValueError:
            return 0
        return max(0, int(told.timestamp() * 1000))
    return 0

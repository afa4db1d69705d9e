"""Where logs lie: path facts of a log file, from its path (and, for what people saved, its first bytes).

Pure: the callers list directories and read heads. Namespace, pod, uid, container and restart count come from
the path and never fail; no API is needed to read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from sys import intern

import msgspec

from ashiato.core.envelopes import is_audit
from ashiato.core.errors import RejectedError
from ashiato.core.ids import Kind, Source

_POD_LOG = re.compile(
    r"(?:^|/)(?:var/log/)?pods/(?P<namespace>[^/_]+)_(?P<pod>[^/_]+)_(?P<uid>[^/_]+)"
    r"/(?P<container>[^/]+)/(?P<restart>\d{1,9})\.log(?P<rotated>\.\d[0-9-]*)?(?P<gz>\.gz)?\Z"
)
_DOCKER_LOG = re.compile(r"(?:^|/)containers/(?P<id>[0-9a-f]{64})/(?P=id)-json\.log(?P<rotated>\.\d+)?(?P<gz>\.gz)?\Z")

# Rotations: ".1" (logrotate), "-20261124", "-2026-11-24T03-14-15.926" (lumberjack, which puts it before the ending).
_STAMP = r"(?:[.-]\d[0-9T.:_-]*)"
_AFTER = rf"(?P<rotated>{_STAMP})?(?P<gz>\.gz)?\Z"
_BETWEEN = r"(?P<rotated>-\d[0-9T.:_-]*)?(?P<ending>\.log|\.jsonl?)(?P<gz>\.gz)?\Z"
# A name may hold anything but a slash, a newline too: (?s) lets the dot stand for it.
_NAMES: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    (Kind.LEDGER, re.compile(rf"(?s)(?P<stem>(?:^|.*/)ledger){_BETWEEN}")),
    (Kind.ACCESS, re.compile(r"(?s)(?P<stem>(?:^|.*/)access)(?P<rotated>-\d+)?(?P<ending>\.jsonl)(?P<gz>\.gz)?\Z")),
    (Kind.WATCH, re.compile(rf"(?s)(?P<stem>(?:^|.*/)[^/]+\.watch\.jsonl){_AFTER}")),
    (Kind.WATCH, re.compile(r"(?s)(?P<stem>(?:^|.*/)watch)(?P<rotated>-\d{6,})(?P<ending>\.jsonl)(?P<gz>\.gz)?\Z")),
    (Kind.AUDITD, re.compile(rf"(?s)(?P<stem>(?!.*kube)(?:^|.*/)audit/audit\.log){_AFTER}")),
    (Kind.FALCO, re.compile(rf"(?s)(?P<stem>(?:^|.*/)falco/[^/]*\.(?:jsonl?|log|txt)){_AFTER}")),
    (Kind.FALCO, re.compile(rf"(?s)(?P<stem>(?:^|.*/)falco[^/]*\.(?:jsonl?|log|txt)){_AFTER}")),
    (Kind.AUDIT, re.compile(rf"(?s)(?P<stem>(?:^|.*/)(?:[^/]*-)?audit){_BETWEEN}")),
    (Kind.AUDIT, re.compile(rf"(?s)(?P<stem>(?:^|.*/)(?:[^/]*-)?audit\.log){_AFTER}")),
    (Kind.FILE, re.compile(r"(?s)(?P<stem>.*?[^/])(?P<rotated>\.\d{1,3}|[.-]\d{8}[0-9T:_-]*)?(?P<gz>\.gz)?\Z")),
)
_NUMBERED = (Kind.LEDGER, Kind.ACCESS)
_NUMBERED_WATCH = "watch.jsonl"
"""What `collector watch` writes; streams that others saved keep their names."""
_WATCH_TYPES = ("ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR")
_WATCH_STATEMENTS = {"SYNC": "Sync", "GAP": "Gap", "REFUSED": "Refused", "FILE": "File"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a path tells."""

    source: Source
    restart_count: int = -1
    rotated: str = ""
    """What tells the file from its siblings: ``.20261124-031415``, ``.1``; '' for the live file."""
    compressed: bool = False

    @property
    def numbered(self) -> bool:
        """Whether all files are numbered, the live one too: the highest number is the live one."""
        kind, path = self.source.kind, self.source.path
        return kind in _NUMBERED or (kind is Kind.WATCH and path.rpartition("/")[2] == _NUMBERED_WATCH)


def recognise(path: str, *, cluster: str, node: str, head: bytes = b"") -> Found:
    """Return the source of the file at ``path`` (POSIX separators, relative to the node's root).

    The container path decides alone. For all other files, the content's first bytes decide where they are
    given (an import), else the name (a node). What is nothing else is kind ``file``.
    """
    if match := _POD_LOG.search(path):
        return Found(
            source=Source(
                kind=Kind.CONTAINER, cluster=cluster, node=node, namespace=intern(match["namespace"]), pod=match["pod"],
                pod_uid=match["uid"], container=intern(match["container"]),
            ),
            restart_count=int(match["restart"]), rotated=match["rotated"] or "", compressed=bool(match["gz"]),
        )  # fmt: skip
    if match := _DOCKER_LOG.search(path):
        container_id = match["id"]
        return Found(
            source=Source(
                kind=Kind.CONTAINER, cluster=cluster, node=node, namespace="docker", pod=container_id[:12],
                pod_uid=container_id, container=container_id[:12],
            ),
            rotated=match["rotated"] or "", compressed=bool(match["gz"]),
        )  # fmt: skip
    kind, match = _by_name(path)
    if head and kind not in _NUMBERED:
        kind = kind_of_content(head) or (kind if kind is Kind.FALCO else Kind.FILE)
    return Found(
        source=Source(kind=kind, cluster=cluster, node=node, path=match["stem"] + match.groupdict().get("ending", "")),
        rotated=match["rotated"] or "", compressed=bool(match["gz"]),
    )  # fmt: skip


def readable(path: str) -> str:
    r"""Return a path as text that can be sent and kept: bytes of a name that are no UTF-8 are written out.

    >>> readable(b"app-\xff.log".decode("utf-8", "surrogateescape"))
    'app-\\xff.log'
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return path


def age_key(rotated: str) -> tuple[int, str]:
    """Return what sorts the rotations of one log from the oldest to the newest.

    ``.3`` is older than ``.1``; times and long numbers sort as they are written.
    """
    number = rotated[1:]
    if rotated.startswith(".") and number.isdecimal() and len(number) <= 4:
        return -int(number), rotated
    return 0, rotated


def node_of(path: str) -> tuple[str, str] | None:
    """Split ``<node>/var/log/...`` (or ``var/lib/docker``) into (node, rest); None where it names no node."""
    match = re.match(r"(?s)^(?P<node>[^/]+)/(?P<rest>var/(?:log|lib/docker)/.+)\Z", path)
    if match:
        return match["node"], match["rest"]
    return None


def kind_of_content(head: bytes) -> Kind | None:
    """Recognise audit events, Falco alerts, watch streams, auditd records and ledgers by their first lines."""
    for line in head.split(b"\n")[:64]:
        if re.match(rb"^(?:node=\S+ )?type=[A-Z_0-9]+ msg=audit\(\d+\.\d+:\d+\)", line):
            return Kind.AUDITD
        if not line.startswith(b"{"):
            continue
        try:
            event = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        if (kind := _kind_of_object(event)) is not None:
            return kind
    return None


def _kind_of_object(event: dict[str, object]) -> Kind | None:
    if is_audit(event):
        return Kind.AUDIT
    if "rule" in event and "priority" in event and "output" in event:
        return Kind.FALCO
    if isinstance(told := event.get("object"), dict):
        said = event.get("type")
        if said in _WATCH_TYPES or (isinstance(said, str) and told.get("kind") == _WATCH_STATEMENTS.get(said, "")):
            return Kind.WATCH
    if "prev" in event and "statement" in event and "boot_nano" in event:
        return Kind.LEDGER
    return None


def _by_name(path: str) -> tuple[Kind, re.Match[str]]:
    for kind, pattern in _NAMES:
        if match := pattern.match(path):
            return kind, match
    raise RejectedError("a file has a name", path=path)

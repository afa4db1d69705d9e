"""Where logs lie: path facts of a log file, from its path (and, for what people saved, its first bytes).

Pure: the callers list directories and read heads. Namespace, pod, uid, container and restart count come from
the path and never fail; no API is needed to read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

from ashiato.core.ids import Kind, Source

_POD_LOG = re.compile(
    r"(?:^|/)(?:var/log/)?pods/(?P<namespace>[^/_]+)_(?P<pod>[^/_]+)_(?P<uid>[^/_]+)"
    r"/(?P<container>[^/]+)/(?P<restart>\d+)\.log(?P<rotated>\.[^/]*)?$"
)
_DOCKER_LOG = re.compile(r"(?:^|/)containers/(?P<id>[0-9a-f]{64})/(?P=id)-json\.log(?P<rotated>\.\d+(?:\.gz)?)?$")
_AUDIT_NAME = re.compile(r"(?:^|/)(?:[^/]*-)?audit(?:-[0-9T.:-]+)?\.log(?P<rotated>\.gz)?$")
_AUDITD_NAME = re.compile(r"(?:^|/)audit/audit\.log(?P<rotated>\.\d+)?$")
_FALCO_NAME = re.compile(
    r"(?:^|/)falco/[^/]*\.(?:json|log|jsonl)(?P<rotated>\.[^/]*)?$|(?:^|/)falco[^/]*\.(?:json|log|jsonl)$"
)
_WATCH_NAME = re.compile(r"(?:^|/)[^/]*\.watch\.jsonl(?P<rotated>\.[^/]*)?$")
_LEDGER_NAME = re.compile(r"(?:^|/)ledger(?P<rotated>-\d+)\.jsonl$")
_ACCESS_NAME = re.compile(r"(?:^|/)access(?P<rotated>-\d+)?\.jsonl$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a path tells."""

    source: Source
    restart_count: int = -1
    rotated: str = ""
    """The rotation suffix: '' for the live file; sorts with its siblings in order of rotation where it is a time."""
    compressed: bool = False


def recognise(path: str, *, cluster: str, node: str, head: bytes = b"") -> Found:
    """Return the source of the file at ``path`` (POSIX separators, relative to the node's root).

    The container path decides alone. For all other files, the content's first bytes decide where they are
    given (an import), else the name (a node). What is nothing else is kind ``file``.
    """
    if match := _POD_LOG.search(path):
        suffix = match["rotated"] or ""
        return Found(
            source=Source(
                kind=Kind.CONTAINER, cluster=cluster, node=node, namespace=match["namespace"], pod=match["pod"],
                pod_uid=match["uid"], container=match["container"],
            ),
            restart_count=int(match["restart"]), rotated=suffix, compressed=suffix.endswith(".gz"),
        )  # fmt: skip
    if match := _DOCKER_LOG.search(path):
        suffix = match["rotated"] or ""
        container_id = match["id"]
        return Found(
            source=Source(
                kind=Kind.CONTAINER, cluster=cluster, node=node, namespace="docker", pod=container_id[:12],
                pod_uid=container_id, container=container_id[:12],
            ),
            rotated=suffix, compressed=suffix.endswith(".gz"),
        )  # fmt: skip
    kind, rotated = _by_name(path)
    if head and kind not in (Kind.LEDGER, Kind.ACCESS):
        kind = kind_of_content(head) or (kind if kind is Kind.FALCO else Kind.FILE)
    stem = path.replace(rotated, "", 1) if rotated and path.count(rotated) == 1 else path
    return Found(
        source=Source(kind=kind, cluster=cluster, node=node, path=stem),
        rotated=rotated,
        compressed=path.endswith(".gz"),
    )


def node_of(path: str) -> tuple[str, str] | None:
    """Split ``<node>/var/log/...`` into (node, rest); None where the path does not name a node."""
    match = re.match(r"^(?P<node>[^/]+)/(?P<rest>var/log/.+)$", path)
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
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        if (kind := _kind_of_object(event)) is not None:
            return kind
    return None


def _kind_of_object(event: dict[str, object]) -> Kind | None:
    if "auditID" in event and "stage" in event:
        return Kind.AUDIT
    if "rule" in event and "priority" in event and "output" in event:
        return Kind.FALCO
    if isinstance(event.get("object"), dict) and event.get("type") in {
        "ADDED",
        "MODIFIED",
        "DELETED",
        "BOOKMARK",
        "ERROR",
    }:
        return Kind.WATCH
    if "prev" in event and "statement" in event and "boot_nano" in event:
        return Kind.LEDGER
    return None


def _by_name(path: str) -> tuple[Kind, str]:
    for kind, pattern in (
        (Kind.LEDGER, _LEDGER_NAME),
        (Kind.ACCESS, _ACCESS_NAME),
        (Kind.WATCH, _WATCH_NAME),
        (Kind.AUDITD, _AUDITD_NAME),
        (Kind.FALCO, _FALCO_NAME),
        (Kind.AUDIT, _AUDIT_NAME),
    ):
        if match := pattern.search(path):
            groups = match.groupdict()
            return kind, groups.get("rotated") or ""
    return Kind.FILE, ""

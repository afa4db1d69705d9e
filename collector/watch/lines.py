"""Lines of the watch, as they are written: ``docs/formats/watch.md`` says them in full.

Each line is one JSON object. ``type`` and ``object`` are those of a Kubernetes watch stream; what stands beside them
is ours, and so are the types ``SYNC``, ``GAP``, ``REFUSED`` and ``FILE``.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from collector.watch.keep import Kept
from collector.watch.resources import Resource

WATCH, LIST, ABSENCE = "watch", "list", "absence"
"""Where an object's line comes from: the stream, a list of all there is, or its absence from one."""

_ENCODE: Final = msgspec.json.Encoder().encode


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is remembered of an object that was written."""

    namespace: str
    name: str
    resource_version: str
    digest: str
    spec_sha256: str
    spec_file: int
    """Number of the newest file in which its spec stands in full."""


def object_line(
    type_: str, resource: Resource, api_version: str, kept: Kept, *, source: str, now: int,
    known: Entry | None, file: int,
) -> bytes:  # fmt: skip
    """Return the line of an object; its spec in brief where it stands in the same file."""
    is_same = bool(
        kept.spec_brief and known is not None and known.spec_file == file and known.spec_sha256 == kept.spec_sha256
    )
    metadata = b'{"resourceVersion":%b' % _ENCODE(kept.resource_version)
    metadata += b"," + kept.metadata[1:] if len(kept.metadata) > 2 else b"}"
    parts = [b'{"type":"%b","object":{"kind":"%b","apiVersion":"%b","metadata":%b' % (
        type_.encode(), resource.kind.encode(), api_version.encode(), metadata,
    )]  # fmt: skip
    if kept.spec:
        parts.append(b',"spec":' + (kept.spec_brief if is_same else kept.spec))
    if len(kept.rest) > 2:
        parts.append(b"," + kept.rest[1:-1])
    parts.append(b'},"resource":"%b","source":"%b","digest":"%b"' % (
        resource.name.encode(), source.encode(), kept.digest.encode(),
    ))  # fmt: skip
    if kept.spec_sha256:
        parts.append(b',"spec_sha256":"%b"' % kept.spec_sha256.encode())
    if is_same:
        parts.append(b',"spec_same":true')
    parts.append(b',"observed_time_unix_nano":"%d"}\n' % now)
    return b"".join(parts)


def unread_line(
    type_: str, resource: Resource, api_version: str, kept: Kept, *, source: str, now: int, why: str
) -> bytes:
    """Return the line of an object that is not of its kind: its metadata, and why there is no more."""
    line = object_line(type_, resource, api_version, kept, source=source, now=now, known=None, file=0)
    return line[:-2] + b',"unread":%b}\n' % _ENCODE(why)


def absent_line(resource: Resource, api_version: str, uid: str, entry: Entry, *, start: int, end: int) -> bytes:
    """Return the synthetic DELETED of an object that was known and is in no list: it went in between."""
    metadata = {"name": entry.name, "namespace": entry.namespace, "uid": uid, "resourceVersion": entry.resource_version}
    return _line(
        "DELETED", resource.name,
        {"kind": resource.kind, "apiVersion": api_version, "metadata": {k: v for k, v in metadata.items() if v}},
        now=end, source=ABSENCE, end_unknown={"from_unix_nano": str(start), "to_unix_nano": str(end)},
    )  # fmt: skip


def gap_line(
    resource: Resource, *, reason: str, start: int, end: int, from_version: str = "", to_version: str = ""
) -> bytes:
    """Return the statement that what happened to a resource between two moments is not known in full."""
    return _line(
        "GAP", resource.name,
        {
            "kind": "Gap", "resource": resource.name, "reason": reason, "from_unix_nano": str(start),
            "to_unix_nano": str(end), "from_resource_version": from_version, "to_resource_version": to_version,
        },
        now=end,
    )  # fmt: skip


def sync_line(
    resource: Resource, api_version: str, *, reason: str, mode: str, resource_version: str, count: int,
    key_id: str, now: int,
) -> bytes:  # fmt: skip
    """Return the statement that every object of a resource was listed."""
    return _line(
        "SYNC", resource.name,
        {
            "kind": "Sync", "resource": resource.name, "apiVersion": api_version, "reason": reason, "mode": mode,
            "resourceVersion": resource_version, "objects": count, "hmac_key_id": key_id,
        },
        now=now,
    )  # fmt: skip


def refused_line(resource: Resource, *, status: int, now: int) -> bytes:
    """Return the statement that a resource may not be read."""
    return _line("REFUSED", resource.name, {"kind": "Refused", "resource": resource.name, "status": status}, now=now)


def file_line(number: int, predecessor: str, *, now: int) -> bytes:
    """Return the first line of a file: its number, and the file before it."""
    return _line("FILE", "", {"kind": "File", "number": number, "predecessor": predecessor}, now=now)


def _line(type_: str, resource: str, told: dict[str, Any], *, now: int, **beside: Any) -> bytes:
    line = {"type": type_, "object": told, **({"resource": resource} if resource else {}), **beside}
    return _ENCODE({**line, "observed_time_unix_nano": str(now)}) + b"\n"


# -- read back -----------------------------------------------------------------------------------------------


class _Meta(msgspec.Struct, rename="camel"):
    uid: str = ""
    name: str = ""
    namespace: str = ""
    resource_version: str = ""


class _Said(msgspec.Struct, rename={"resource_version": "resourceVersion"}):
    metadata: _Meta = msgspec.field(default_factory=_Meta)
    resource_version: str = ""


class Written(msgspec.Struct):
    """A line as our own memory reads it after a crash."""

    type: str
    object: _Said
    resource: str = ""
    source: str = ""
    digest: str = ""
    spec_sha256: str = ""
    spec_same: bool = False
    observed_time_unix_nano: str = "0"


read: Final = msgspec.json.Decoder(Written).decode

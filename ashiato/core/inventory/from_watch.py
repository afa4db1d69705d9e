"""What a line of a watch stream says: of ``collector watch``, of streams that others saved, and of docker's facts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from ashiato.core.inventory import objects
from ashiato.core.inventory.objects import OWNERS, Bare, Meta, Node, Pod, instant, of_meta, of_node, of_pod
from ashiato.core.inventory.records import APART, Field, Line, Sighting, Told, WatchGap

_DOCKER: Final = "docker/"
_SOURCES: Final = {"list": Told.LIST, "absence": Told.ABSENCE}


class _Watch(msgspec.Struct, gc=False):
    type: str
    object: msgspec.Raw
    resource: str = ""
    source: str = ""
    spec_sha256: str = ""
    observed_time_unix_nano: str = ""
    end_unknown: dict[str, str] | None = None


class _Kinded(msgspec.Struct, rename="camel", gc=False):
    kind: str = ""
    api_version: str = ""


class _Gap(msgspec.Struct, gc=False):
    reason: str
    from_unix_nano: str
    to_unix_nano: str


class _Named(msgspec.Struct, rename="camel", gc=False):
    kind: str | None = None
    namespace: str | None = None
    name: str | None = None
    uid: str | None = None


class _Event(msgspec.Struct, rename="camel", gc=False):
    involved_object: _Named | None = None
    regarding: _Named | None = None
    reason: str | None = None
    source: dict[str, Any] | None = None
    reporting_instance: str | None = None


_WATCH: Final = msgspec.json.Decoder(_Watch).decode
_KINDED: Final = msgspec.json.Decoder(_Kinded).decode
_POD: Final = msgspec.json.Decoder(Pod).decode
_BARE: Final = msgspec.json.Decoder(Bare).decode
_NODE: Final = msgspec.json.Decoder(Node).decode
_EVENT: Final = msgspec.json.Decoder(_Event).decode
_GAP: Final = msgspec.json.Decoder(_Gap).decode
_ANY: Final = msgspec.json.Decoder(dict[str, Any]).decode


def read(line: Line) -> Iterator[Sighting | WatchGap]:
    """Yield what a line says. Raises msgspec.DecodeError where it is no watch event."""
    event = _WATCH(line.body)
    if event.type == "GAP":
        yield _gap(event, line)
    if event.type not in ("ADDED", "MODIFIED", "DELETED"):
        return
    kinded = _KINDED(event.object)
    if kinded.api_version.startswith(_DOCKER):
        yield from _docker(event, line)
    elif kinded.kind == "Event":
        yield from _event(event, line)
    elif kinded.kind in ("Pod", "Node") or kinded.kind.lower() in OWNERS:
        yield from _object(kinded.kind, event, line)


def _gap(event: _Watch, line: Line) -> WatchGap:
    told = _GAP(event.object)
    return WatchGap(
        line.source, event.resource, told.reason, _int(told.from_unix_nano), _int(told.to_unix_nano),
        line.observed_unix_nano, line.row,
    )  # fmt: skip


def _object(kind: str, event: _Watch, line: Line) -> Iterator[Sighting]:
    decoded = _decoded(kind, event.object)
    meta = decoded.metadata
    if meta is None or not meta.uid or not meta.name:
        return
    moment = line.time_unix_nano if line.time_unix_nano is not None else line.observed_unix_nano
    seen = _int(event.observed_time_unix_nano) or moment
    says = list(of_meta(meta, moment)) if event.source != "absence" else [(Field.NAME, _name(meta), moment)]
    says.append((Field.CLUSTER, line.cluster, moment))
    if isinstance(decoded, Pod):
        says += of_pod(decoded, moment)
    elif isinstance(decoded, Node):
        says += of_node(decoded, moment)
    if event.spec_sha256:
        says.append((Field.SPEC, event.spec_sha256, moment))
    if event.type == "DELETED":
        says.append(_gone(event, meta, line, seen))
    else:
        says.append((Field.SEEN, "", seen))
    told = _SOURCES.get(event.source, Told.WATCH)
    yield Sighting(f"{kind.lower()}:{meta.uid}", line.row, line.observed_unix_nano, told, tuple(says))


def _gone(event: _Watch, meta: Meta, line: Line, seen: int) -> objects.Says:
    """Return between which moments an object went."""
    if event.end_unknown:
        low, high = (_int(event.end_unknown.get(name, "")) for name in ("from_unix_nano", "to_unix_nano"))
        return Field.GONE, str(low), max(low, high)
    deletion = instant(meta.deletion_timestamp)
    if deletion is not None:
        low = deletion - max(meta.deletion_grace_period_seconds or 0, 0) * 1_000_000_000
    else:
        low = line.time_unix_nano if line.time_unix_nano is not None else seen
    if event.observed_time_unix_nano:
        return Field.GONE, str(min(low, seen)), seen
    # A saved stream does not say when it was written: the row's time and its uncertainty are all there is.
    return Field.GONE, str(low), (line.time_unix_nano or low) + line.uncertainty_ns + 1_000_000_000


def _decoded(kind: str, raw: msgspec.Raw) -> Pod | Node | Bare:
    try:
        return _POD(raw) if kind == "Pod" else _NODE(raw) if kind == "Node" else _BARE(raw)
    except msgspec.ValidationError:
        # One field is not of its type: what the metadata says counts still.
        return _BARE(raw)


def _event(event: _Watch, line: Line) -> Iterator[Sighting]:
    """Tell of an event about a pod that it was there, and where."""
    if event.type == "DELETED":
        return
    told = _EVENT(event.object)
    named = told.regarding or told.involved_object
    if named is None or named.kind != "Pod" or not named.uid or not named.name:
        return
    moment = line.time_unix_nano if line.time_unix_nano is not None else line.observed_unix_nano
    says = [(Field.NAME, f"{named.namespace or ''}/{named.name}", moment), (Field.CLUSTER, line.cluster, moment)]
    origin = told.source or {}
    if origin.get("component") == "kubelet" and isinstance(host := origin.get("host"), str) and host:
        # Other controllers tell of pods that are gone.
        says += [(Field.NODE, host, moment), (Field.SEEN, "", moment)]
    yield Sighting(f"pod:{named.uid}", line.row, line.observed_unix_nano, Told.EVENT, tuple(says))


def _docker(event: _Watch, line: Line) -> Iterator[Sighting]:
    told = _ANY(event.object)
    metadata, spec, status = (_dict(told.get(name)) for name in ("metadata", "spec", "status"))
    uid = metadata.get("uid")
    if not isinstance(uid, str) or not uid:
        return
    key, seen = f"pod:{uid}", _int(event.observed_time_unix_nano) or line.observed_unix_nano
    if event.type == "DELETED":
        says: list[objects.Says] = [(Field.GONE, str(line.time_unix_nano or 0), seen)]
    else:
        says = list(_of_container(metadata, spec, status, seen))
    yield Sighting(key, line.row, line.observed_unix_nano, Told.DOCKER, tuple(says))


def _of_container(
    metadata: dict[str, Any], spec: dict[str, Any], status: dict[str, Any], seen: int
) -> Iterator[objects.Says]:
    uid, namespace = str(metadata["uid"]), str(metadata.get("namespace") or "")
    container = uid[:12]
    yield Field.SEEN, "", seen
    if isinstance(name := metadata.get("name"), str) and name:
        yield Field.NAME, f"{namespace}/{name}", seen
    if (created := instant(_text(metadata.get("creationTimestamp")))) is not None:
        yield Field.CREATED, str(created), created
    for name, value in sorted(_dict(metadata.get("labels")).items()):
        yield Field.LABEL, f"{name}={value}", seen
    if image := _text(spec.get("image")):
        yield Field.IMAGE, f"{container}{APART}{image}", seen
        if image_id := _text(spec.get("imageID")):
            yield Field.DIGEST, f"{container}{APART}{image}{APART}{image_id}", seen
    run = f"{container}{APART}{status.get('restartCount') or 0}"
    yield Field.CONTAINER, f"{run}{APART}{uid}", seen
    if (started := instant(_text(status.get("startedAt")))) is not None:
        yield Field.STARTED, run, started
    finished = instant(_text(status.get("finishedAt")))
    if finished is not None and not status.get("running") and (started is None or finished >= started):
        reason = "OOMKilled" if status.get("oomKilled") else ""
        yield Field.EXITED, APART.join((run, str(status.get("exitCode") or 0), "", reason)), finished


def _name(meta: Meta) -> str:
    return f"{meta.namespace or ''}/{meta.name or ''}"


def _int(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 19 else 0


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""

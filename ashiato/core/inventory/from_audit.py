"""What an audit event says of pods, and of what they belong to: who made, bound, changed, entered and removed them.

With bodies (level Request, RequestResponse) an event is as good as a watch; without, it names namespace and name, and
which of the pods of that name is meant is decided where it is asked, by the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs, urlsplit

import msgspec

from ashiato.core.envelopes import events_in
from ashiato.core.inventory.objects import OWNERS, Bare, Meta, Pod, Says, instant, of_meta, of_pod
from ashiato.core.inventory.records import APART, Field, Line, Sighting, Told

T = TypeVar("T")

VERBS: Final = ("create", "update", "patch", "delete", "deletecollection", "get", "connect")
"""``get`` is how some clients ask for exec."""
RESOURCES: Final = ("pods", *(f"{kind}s" for kind in OWNERS))
_WAYS_IN: Final = ("exec", "attach", "portforward", "ephemeralcontainers")
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"
_POD_NAME: Final = "authentication.kubernetes.io/pod-name"
_KINDS: Final = {f"{kind}s": kind for kind in ("pod", *OWNERS)}


class _User(msgspec.Struct, gc=False):
    username: str | None = None
    extra: dict[str, list[str]] | None = None


class _Ref(msgspec.Struct, gc=False):
    resource: str | None = None
    subresource: str | None = None
    namespace: str | None = None
    name: str | None = None
    uid: str | None = None


class _Response(msgspec.Struct, gc=False):
    code: int | None = None


class _Event(msgspec.Struct, rename="camel", gc=False):
    stage: str | None = None
    verb: str | None = None
    user: _User | None = None
    object_ref: _Ref | None = None
    response_status: _Response | None = None
    source_ips: list[str] | None = msgspec.field(name="sourceIPs", default=None)
    request_uri: str | None = msgspec.field(name="requestURI", default=None)
    request_object: msgspec.Raw = msgspec.Raw(b"null")
    response_object: msgspec.Raw = msgspec.Raw(b"null")
    request_received_timestamp: str | None = None
    stage_timestamp: str | None = None

    @property
    def username(self) -> str:
        """Who asked, '' where it is not said."""
        return (self.user.username or "") if self.user is not None else ""


class _Target(msgspec.Struct, gc=False):
    name: str | None = None


class _Bound(msgspec.Struct, rename="camel", gc=False):
    kind: str | None = None
    name: str | None = None
    uid: str | None = None


class _TokenSpec(msgspec.Struct, rename="camel", gc=False):
    bound_object_ref: _Bound | None = None


class _Request(msgspec.Struct, rename="camel", gc=False):
    """Of a binding, a token or a deletion."""

    metadata: Meta | None = None
    target: _Target | None = None
    spec: _TokenSpec | None = None
    grace_period_seconds: int | None = None


class _List(msgspec.Struct, gc=False):
    items: list[Bare] | None = None


_DECODE: Final = msgspec.json.Decoder(_Event).decode
_ANY: Final = msgspec.json.Decoder(dict[str, Any]).decode


def read(line: Line) -> Iterator[Sighting]:
    """Yield what a line says. Raises msgspec.DecodeError where it is no audit event."""
    try:
        event = _DECODE(line.body)
        events = [event] if event.verb is not None else []
    except msgspec.ValidationError:
        events = []
    if not events:
        events = [_DECODE(msgspec.json.encode(inner)) for inner in events_in(_ANY(line.body))]
    for event in events:
        yield from _of_event(event, line)


def _of_event(event: _Event, line: Line) -> Iterator[Sighting]:
    moment = instant(event.stage_timestamp) or instant(event.request_received_timestamp) or line.time_unix_nano
    if moment is None:
        moment = line.observed_unix_nano
    yield from _acted(event, line, moment)
    ref, status = event.object_ref, event.response_status
    if ref is None or event.stage == "RequestReceived" or not _is_done(status):
        return
    kind = _KINDS.get(ref.resource or "")
    if ref.resource == "serviceaccounts" and ref.subresource == "token" and event.verb == "create":
        yield from _token(event, ref, line, moment)
    elif kind == "pod" and ref.subresource in _WAYS_IN:
        yield from _entered(event, ref, line, moment)
    elif kind is None or event.stage != "ResponseComplete":
        return
    elif kind == "pod" and ref.subresource == "binding":
        yield from _bound(event, ref, line, moment)
    elif event.verb == "deletecollection":
        for one in _asked(event.response_object, _List, _List()).items or ():
            yield from _changed(kind, event, ref, one.metadata, line, moment)
    elif event.verb in ("create", "update", "patch", "delete"):
        yield from _object(kind, event, ref, line, moment)


def _is_done(status: _Response | None) -> bool:
    code = status.code if status is not None else None
    return code is None or code < 300


def _object(kind: str, event: _Event, ref: _Ref, line: Line, moment: int) -> Iterator[Sighting]:
    pod = _pod_of(event)
    meta = pod.metadata if pod is not None else None
    if event.verb == "delete":
        yield from _changed(kind, event, ref, meta, line, moment)
        return
    if pod is None or meta is None or not (meta.uid or ref.uid):
        # Level Metadata: that it was made or changed, of a pod that only its name tells.
        if ref.name and kind == "pod":
            created = [(Field.CREATED, str(moment), moment)] if event.verb == "create" and not ref.subresource else []
            yield _nameless(ref, line, moment, [(Field.SEEN, str(moment), moment), *created])
        return
    meta.name, meta.namespace = meta.name or ref.name, meta.namespace or ref.namespace
    says = [*of_meta(meta, moment), (Field.CLUSTER, line.cluster, moment), (Field.SEEN, "", moment)]
    if kind == "pod":
        says += of_pod(pod, moment)
        if ref.subresource == "status" and event.username.startswith("system:node:"):
            says.append((Field.NODE, event.username.removeprefix("system:node:"), moment))
    yield Sighting(f"{kind}:{meta.uid or ref.uid}", line.row, line.observed_unix_nano, Told.AUDIT, tuple(says))


def _pod_of(event: _Event) -> Pod | None:
    """Return the object as it was answered, else as it was asked for."""
    for raw in (event.response_object, event.request_object):
        try:
            found = msgspec.json.decode(raw, type=Pod | None)
        except msgspec.DecodeError:
            try:
                bare = msgspec.json.decode(raw, type=Bare | None)
            except msgspec.DecodeError:
                continue
            found = Pod(metadata=bare.metadata) if bare is not None else None
        if found is not None and found.metadata is not None and (found.metadata.uid or found.status is not None):
            return found
    return None


def _changed(kind: str, event: _Event, ref: _Ref, meta: Meta | None, line: Line, moment: int) -> Iterator[Sighting]:
    """Tell a deletion: asked for, and done where no grace was left."""
    uid = (meta.uid if meta is not None else None) or ref.uid
    is_gone = _is_final(event, meta)
    ended: list[Says] = [(Field.DELETION, event.username, moment)]
    if is_gone:
        ended.append((Field.GONE, str(moment), moment))
    if uid:
        said = list(of_meta(meta, moment)) if meta is not None and meta.name else []
        yield Sighting(f"{kind}:{uid}", line.row, line.observed_unix_nano, Told.AUDIT, (*said, *ended))
    elif ref.name and kind == "pod":
        named = [
            (field, f"{value}{APART}{moment}" if field is Field.DELETION else value, at) for field, value, at in ended
        ]
        yield _nameless(ref, line, moment, named)


def _is_final(event: _Event, meta: Meta | None) -> bool:
    asked = _asked(event.request_object, _Request, _Request())
    if meta is not None and meta.deletion_grace_period_seconds is not None:
        return meta.deletion_grace_period_seconds == 0
    return asked.grace_period_seconds == 0 or (
        event.username.startswith("system:node:") and asked.grace_period_seconds is None
    )


def _bound(event: _Event, ref: _Ref, line: Line, moment: int) -> Iterator[Sighting]:
    asked = _asked(event.request_object, _Request, _Request())
    if asked.target is None or not asked.target.name:
        return
    says: list[Says] = [(Field.NODE, asked.target.name, moment), (Field.SEEN, "", moment)]
    uid = (asked.metadata.uid if asked.metadata is not None else None) or ref.uid
    if uid:
        says.append((Field.NAME, f"{ref.namespace or ''}/{ref.name or ''}", moment))
        yield Sighting(f"pod:{uid}", line.row, line.observed_unix_nano, Told.AUDIT, tuple(says))
    elif ref.name:
        yield _nameless(ref, line, moment, [(Field.NODE, f"{asked.target.name}{APART}{moment}", moment)])


def _entered(event: _Event, ref: _Ref, line: Line, moment: int) -> Iterator[Sighting]:
    asked = parse_qs(urlsplit(event.request_uri or "").query)
    value = APART.join((event.username, ref.subresource or "", (asked.get("container") or [""])[0]))
    if ref.uid:
        says: tuple[Says, ...] = ((Field.ENTERED, value, moment), (Field.SEEN, "", moment))
        yield Sighting(f"pod:{ref.uid}", line.row, line.observed_unix_nano, Told.AUDIT, says)
    elif ref.name:
        yield _nameless(ref, line, moment, [(Field.ENTERED, f"{value}{APART}{moment}", moment)])


def _token(event: _Event, ref: _Ref, line: Line, moment: int) -> Iterator[Sighting]:
    asked = _asked(event.request_object, _Request, _Request())
    bound = asked.spec.bound_object_ref if asked.spec is not None else None
    if bound is not None and bound.kind == "Pod" and bound.uid:
        account = f"{ref.namespace or ''}/{ref.name or ''}"
        says: list[Says] = [(Field.TOKEN, account, moment), (Field.ACCOUNT, account, moment)]
        if bound.name:
            says.append((Field.NAME, f"{ref.namespace or ''}/{bound.name}", moment))
        yield Sighting(f"pod:{bound.uid}", line.row, line.observed_unix_nano, Told.AUDIT, tuple(says))


def _acted(event: _Event, line: Line, moment: int) -> Iterator[Sighting]:
    """Tell that the token of a pod was used: the API server says of which."""
    user = event.user
    if user is None or not user.extra or not (uids := user.extra.get(_POD_UID)):
        return
    name = (user.extra.get(_POD_NAME) or [""])[0]
    _, _, account = event.username.partition("system:serviceaccount:")
    namespace, _, short = account.partition(":")
    address = (event.source_ips or [""])[0]
    says: list[Says] = [(Field.ACTED, f"{event.username}{APART}{address}", moment)]
    if short:
        says.append((Field.ACCOUNT, f"{namespace}/{short}", moment))
        if name:
            says.append((Field.NAME, f"{namespace}/{name}", moment))
    yield Sighting(f"pod:{uids[0]}", line.row, line.observed_unix_nano, Told.AUDIT, tuple(says))


def _nameless(ref: _Ref, line: Line, moment: int, says: list[Says]) -> Sighting:
    name = f"{ref.namespace or ''}/{ref.name or ''}"
    told = ((Field.NAME, name, moment), (Field.CLUSTER, line.cluster, moment), *says)
    return Sighting(f"pod@{line.cluster}/{name}", line.row, line.observed_unix_nano, Told.AUDIT, told)


def _asked(raw: msgspec.Raw, type_: type[T], otherwise: T) -> T:
    try:
        found = msgspec.json.decode(raw, type=type_ | None)
    except msgspec.DecodeError:
        return otherwise
    return otherwise if found is None else found

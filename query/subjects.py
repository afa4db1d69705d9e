"""What an anchor means: which pods it names, and the predicate of their timeline.

Pods are known from the paths of their logs and from the watch; a pod that neither knows is still looked for by name
in audit events and alerts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
import pyarrow as pa

from ashiato.core.anchor import Anchor, AnchorKind
from ashiato.core.errors import RejectedError
from ashiato.core.ids import Kind, Source
from ashiato.core.instant import parse_instant
from ashiato.core.query import And, Exists, Node, Not, Or, Range, Term, Wildcard

PODS_MAX: Final = 200
"""Pods that one timeline follows."""
CHOICES_LISTED_MAX: Final = 20

_SECOND_NS: Final = 1_000_000_000
_INT64_MAX: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod that is or was."""

    namespace: str
    name: str
    uid: str = ""
    """'' where nothing tells it."""
    nodes: frozenset[str] = frozenset()
    service_account: str = ""
    images: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()
    owners: frozenset[str] = frozenset()
    """``<kind>/<name>``, the kind in lower case."""
    created_unix_nano: int | None = None
    deleted_unix_nano: int | None = None
    """The latest moment at which it may still have been there."""
    logged: bool = False
    """A source of container output names it."""


def pods_of_sources(sources: Iterable[str]) -> Iterator[Pod]:
    """Yield the pods that sources of container output name."""
    for text in sources:
        if text.startswith(f"{Kind.CONTAINER}/"):
            source = Source.parse(text)
            yield Pod(
                namespace=source.namespace, name=source.pod, uid=source.pod_uid, nodes=frozenset({source.node}),
                logged=True,
            )  # fmt: skip


def pods_of_watch(rows: pa.Table) -> Iterator[Pod]:
    """Yield what each watch event of a pod tells, in the order of the rows."""
    columns = (rows[name].to_pylist() for name in ("body", "event_action", "time_unix_nano", "time_uncertainty_ns"))
    for body, action, time, uncertainty in zip(*columns, strict=True):
        try:
            event = _WATCH.decode(body or "")
        except (msgspec.DecodeError, UnicodeEncodeError):
            continue
        pod = _pod_of(event.object)
        if pod is not None:
            gone = action == "DELETED" and time is not None
            yield replace(pod, deleted_unix_nano=time + (uncertainty or 0) + _SECOND_NS) if gone else pod


def merged(pods: Iterable[Pod]) -> list[Pod]:
    """Return each pod once, with all that is told of it."""
    found: dict[tuple[str, str, str], Pod] = {}
    for pod in pods:
        key = (pod.namespace, pod.name, pod.uid)
        found[key] = _both(found[key], pod) if key in found else pod
    return [found[key] for key in sorted(found)]


def matching(anchor: Anchor, pods: Sequence[Pod]) -> list[Pod]:
    """Return the pods that an anchor names.

    Raises:
        RejectedError: a pod's name that several pods have, with the choices; or more pods than a timeline follows.

    """
    found = [pod for pod in pods if _is_meant(anchor, pod)]
    if anchor.kind is AnchorKind.POD:
        return _one(found, anchor)
    if len(found) > PODS_MAX:
        raise RejectedError(f"more than {PODS_MAX} pods are meant: name one of them", anchor=str(anchor))
    return found


def watch_query(anchor: Anchor) -> Node:
    """Return the predicate of the watch events that may tell which pods an anchor names."""
    pods: list[Node] = [
        Term(field="source_kind", value=Kind.WATCH),
        Term(field="object_resource", value="pods"),
        Wildcard(field="event_name", pattern="k8s.pod.*"),
    ]
    if anchor.kind is AnchorKind.POD:
        pods.append(Term(field="object_name", value=anchor.name))
    elif anchor.kind is AnchorKind.UID:
        pods.append(Term(field="object.metadata.uid", value=anchor.name))
    if anchor.namespace:
        pods.append(Term(field="object_namespace", value=anchor.namespace))
    return And(nodes=tuple(pods))


def predicate(anchor: Anchor, pods: Sequence[Pod]) -> Node:
    """Return which rows belong to the timeline."""
    parts: list[Node] = [_about(pod) for pod in pods]
    match anchor.kind:
        case AnchorKind.POD if not pods:
            parts.append(_about(Pod(namespace=anchor.namespace, name=anchor.name)))
        case AnchorKind.UID if not pods:
            parts.append(Term(field="k8s_pod_uid", value=anchor.name))
            parts.append(Term(field="objectRef.uid", value=anchor.name))
        case AnchorKind.SERVICE_ACCOUNT:
            parts = [_user(_account(anchor.namespace, anchor.name))]
        case AnchorKind.USER:
            parts.append(_user(anchor.name))
        case AnchorKind.IP:
            parts.append(Term(field="source_address", value=anchor.name))
            parts.append(Term(field="", value=anchor.name))
        case AnchorKind.NODE:
            parts.append(_node(anchor.name))
        case _:
            pass
    return Or(nodes=tuple(parts))


def demanded(anchor: Anchor) -> Mapping[str, Kind]:
    """Return what a timeline is asked for, and the kind of source that would tell."""
    if anchor.kind in (AnchorKind.USER, AnchorKind.SERVICE_ACCOUNT):
        return {"who acted through the API server": Kind.AUDIT}
    if anchor.kind in (AnchorKind.NODE, AnchorKind.IP):
        return {}
    return {
        "what its containers wrote": Kind.CONTAINER,
        "who acted on it through the API server": Kind.AUDIT,
        "what ran in it": Kind.FALCO,
        "how it came and went": Kind.WATCH,
    }


# -- predicates ----------------------------------------------------------------------------------------------


def _about(pod: Pod) -> Node:
    """Return the predicate of one pod: its output, what was done to it, seen in it, said of it, missing of it."""
    gap = And(nodes=(_kind(Kind.LEDGER), Term(field="flags", value="gap")))
    own = And(nodes=(Or(nodes=(_kind(Kind.CONTAINER), gap)), _own(pod)))
    named = And(nodes=(*_object(pod), _in_life(pod)))
    told: Node = Or(
        nodes=(
            And(nodes=(_kind(Kind.AUDIT), _pod_resource(), named)),
            And(nodes=(_kind(Kind.FALCO), Term(field="object_resource", value="pods"), named)),
            And(nodes=(_kind(Kind.WATCH), Term(field="object_resource", value="pods"), *_object(pod), _not_other(pod))),
        )
    )
    acted: tuple[Node, ...] = ()
    if pod.service_account and pod.created_unix_nano is not None:
        acted = (And(nodes=(_user(_account(pod.namespace, pod.service_account)), _in_life(pod))),)
    return Or(nodes=(own, told, *acted))


def _own(pod: Pod) -> Node:
    if pod.uid:
        return Term(field="k8s_pod_uid", value=pod.uid)
    name = Term(field="k8s_pod_name", value=pod.name)
    return And(nodes=(name, Term(field="k8s_namespace_name", value=pod.namespace))) if pod.namespace else name


def _object(pod: Pod) -> tuple[Node, ...]:
    name = Term(field="object_name", value=pod.name)
    if not pod.namespace:
        return (name,)
    # An alert need not say which namespace it saw the pod in.
    somewhere = Or(
        nodes=(Term(field="object_namespace", value=pod.namespace), Not(node=Exists(field="object_namespace")))
    )
    return (name, somewhere)


def _not_other(pod: Pod) -> Node:
    """Return what leaves out another pod of the same name: one with another uid."""
    if not pod.uid:
        return And(nodes=())
    uids = ("object.metadata.uid", "object.involvedObject.uid")
    own = tuple(Term(field=field, value=pod.uid) for field in uids)
    return Or(nodes=(*own, Not(node=Or(nodes=(_pod_event(), Exists(field="object.involvedObject.uid"))))))


def _pod_event() -> Node:
    return Wildcard(field="event_name", pattern="k8s.pod.*")


def _in_life(pod: Pod) -> Node:
    """Return the range of a pod's life, as far as the watch tells it."""
    if pod.created_unix_nano is None and pod.deleted_unix_nano is None:
        return And(nodes=())
    # Beyond what int64 holds there is no bound to give.
    low = str(max(pod.created_unix_nano - _SECOND_NS, -_INT64_MAX)) if pod.created_unix_nano is not None else ""
    high = str(min(pod.deleted_unix_nano, _INT64_MAX)) if pod.deleted_unix_nano is not None else ""
    in_range = Range(field="time_unix_nano", low=low, high=high)
    return Or(nodes=(in_range, Not(node=Exists(field="time_unix_nano"))))


def _pod_resource() -> Node:
    return Or(nodes=(Term(field="object_resource", value="pods"), Wildcard(field="object_resource", pattern="pods/*")))


def _kind(kind: Kind) -> Node:
    return Term(field="source_kind", value=kind)


def _user(name: str) -> Node:
    return And(nodes=(_kind(Kind.AUDIT), Term(field="user_name", value=name)))


def _account(namespace: str, name: str) -> str:
    return f"system:serviceaccount:{namespace}:{name}"


def _node(name: str) -> Node:
    """Return what happened on a node and to it, without the output of its containers."""
    quiet = tuple(_kind(kind) for kind in (Kind.FALCO, Kind.AUDITD))
    on_it = And(nodes=(Term(field="k8s_node_name", value=name), Or(nodes=quiet)))
    gaps = And(nodes=(_kind(Kind.LEDGER), Term(field="k8s_node_name", value=name), Term(field="flags", value="gap")))
    to_it = And(
        nodes=(
            _kind(Kind.AUDIT),
            Or(
                nodes=(
                    And(
                        nodes=(
                            Wildcard(field="object_resource", pattern="nodes*"),
                            Term(field="object_name", value=name),
                        )
                    ),
                    Term(field="user_name", value=f"system:node:{name}"),
                )
            ),
        )
    )
    of_it = And(
        nodes=(
            _kind(Kind.WATCH),
            Or(
                nodes=(
                    Term(field="object.spec.nodeName", value=name),
                    And(nodes=(Term(field="object_resource", value="nodes"), Term(field="object_name", value=name))),
                )
            ),
        )
    )
    return Or(nodes=(on_it, gaps, to_it, of_it))


# -- pods ----------------------------------------------------------------------------------------------------


class _Watch(msgspec.Struct):
    object: dict[str, Any]


_WATCH: Final = msgspec.json.Decoder(_Watch)


def _pod_of(told: Mapping[str, Any]) -> Pod | None:
    metadata, spec, status = (_mapping(told.get(name)) for name in ("metadata", "spec", "status"))
    name, uid = metadata.get("name"), metadata.get("uid")
    if not isinstance(name, str) or not isinstance(uid, str):
        return None
    containers = [_mapping(one) for one in (*_list(spec.get("containers")), *_list(spec.get("initContainers")))]
    statuses = [_mapping(one) for one in _list(status.get("containerStatuses"))]
    owners = [_mapping(one) for one in _list(metadata.get("ownerReferences"))]
    images = {*(one.get("image") for one in containers), *(one.get("imageID") for one in statuses)}
    addresses = {status.get("podIP"), *(_mapping(one).get("ip") for one in _list(status.get("podIPs")))}
    return Pod(
        namespace=str(metadata.get("namespace") or ""),
        name=name,
        uid=uid,
        nodes=frozenset(_texts([spec.get("nodeName")])),
        service_account=str(spec.get("serviceAccountName") or ""),
        images=frozenset(_texts(images)),
        addresses=frozenset(_texts(addresses)),
        owners=frozenset(f"{str(one.get('kind', '')).lower()}/{one.get('name', '')}" for one in owners),
        created_unix_nano=_instant(metadata.get("creationTimestamp")),
    )


def _both(one: Pod, other: Pod) -> Pod:
    created = [value for value in (one.created_unix_nano, other.created_unix_nano) if value is not None]
    deleted = [value for value in (one.deleted_unix_nano, other.deleted_unix_nano) if value is not None]
    return Pod(
        namespace=one.namespace,
        name=one.name,
        uid=one.uid,
        nodes=one.nodes | other.nodes,
        service_account=other.service_account or one.service_account,
        images=one.images | other.images,
        addresses=one.addresses | other.addresses,
        owners=one.owners | other.owners,
        created_unix_nano=min(created, default=None),
        deleted_unix_nano=max(deleted, default=None),
        logged=one.logged or other.logged,
    )


def _is_meant(anchor: Anchor, pod: Pod) -> bool:
    somewhere = anchor.namespace in ("", pod.namespace)
    match anchor.kind:
        case AnchorKind.POD:
            return somewhere and pod.name == anchor.name
        case AnchorKind.UID:
            return pod.uid == anchor.name
        case AnchorKind.IMAGE:
            return any(_is_image(image, anchor.name) for image in pod.images)
        case AnchorKind.WORKLOAD:
            return somewhere and _is_of(pod, anchor.name)
        case AnchorKind.NODE | AnchorKind.USER | AnchorKind.IP | AnchorKind.SERVICE_ACCOUNT:
            return False


def _one(named: list[Pod], anchor: Anchor) -> list[Pod]:
    """Return the one pod of a name, or say which ones there are."""
    if len(named) < 2:
        return named
    spaces = {pod.namespace for pod in named}
    if len(spaces) == len(named):
        choices = [f"pod:{pod.namespace}/{pod.name}" for pod in named]
    else:
        choices = [f"uid:{pod.uid} ({pod.namespace}/{pod.name})" for pod in named]
    listed = ", ".join(choices[:CHOICES_LISTED_MAX])
    more = f" and {len(choices) - CHOICES_LISTED_MAX} more" if len(choices) > CHOICES_LISTED_MAX else ""
    raise RejectedError(f"{len(named)} pods are called {anchor.name}; choose one: {listed}{more}")


def _is_image(image: str, asked: str) -> bool:
    """Whether an image is the one that was asked for: by reference, by name without tag, or by digest."""
    return asked in (image, image.partition("@")[2], image.partition("@")[0]) or (
        image.startswith((f"{asked}:", f"{asked}@"))
    )


def _is_of(pod: Pod, workload: str) -> bool:
    """Whether a pod belongs to a workload: by its owner, or (a Deployment, a CronJob) by its owner's owner's name."""
    kind, _, name = workload.partition("/")
    if workload in pod.owners:
        return True
    through = {"deployment": "replicaset", "cronjob": "job"}.get(kind, "")
    if any(re.fullmatch(rf"{through}/{re.escape(name)}-[a-z0-9]+", owner) for owner in pod.owners if through):
        return True
    if pod.owners:
        return False
    tail = {"deployment": "-[a-z0-9]+-[a-z0-9]{5}", "statefulset": "-[0-9]+", "daemonset": "-[a-z0-9]{5}"}
    return re.fullmatch(re.escape(name) + tail.get(kind, "(-[a-z0-9]+){1,2}"), pod.name) is not None


def _instant(value: object) -> int | None:
    try:
        return parse_instant(value) if isinstance(value, str) else None
    except RejectedError:
        return None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(values: Iterable[object]) -> Iterator[str]:
    return (value for value in values if isinstance(value, str) and value)

"""What an anchor means: which pods it names, and the predicate of their timeline.

Pods are known from the inventory (watch, audit, logs, docker); one that it does not know is still looked for by name in
audit events and alerts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ashiato.core.anchor import Anchor, AnchorKind
from ashiato.core.errors import RejectedError
from ashiato.core.ids import Kind, Source
from ashiato.core.instant import print_instant
from ashiato.core.inventory import Held, PodView
from ashiato.core.inventory.records import APART
from ashiato.core.query import And, Exists, Node, Not, Or, Range, Term, Wildcard

PODS_MAX: Final = 200
"""Pods that one timeline follows."""
CHOICES_LISTED_MAX: Final = 20
PARTLY: Final = (AnchorKind.NODE, AnchorKind.SERVICE_ACCOUNT, AnchorKind.IP)
"""What is more than its pods: where these are too many, the newest are followed, and that is said."""

DOCKER: Final = "docker"
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
    aliases: frozenset[str] = frozenset()
    """Other uids of it: that of a static pod's logs."""
    images: frozenset[str] = frozenset()
    owners: frozenset[str] = frozenset()
    """``<kind>/<name>``, the kind in lower case."""
    created_unix_nano: int | None = None
    deleted_unix_nano: int | None = None
    """The latest moment at which it may still have been there."""
    since_unix_nano: int | None = None
    """From then on it had what the anchor names, which it did not have all its life."""
    until_unix_nano: int | None = None


def pods_of_sources(sources: Iterable[str]) -> Iterator[Pod]:
    """Yield the pods that sources of container output name."""
    for text in sources:
        if text.startswith(f"{Kind.CONTAINER}/"):
            source = Source.parse(text)
            yield Pod(namespace=source.namespace, name=source.pod, uid=source.pod_uid, nodes=frozenset({source.node}))


def pods_of_inventory(views: Iterable[PodView], anchor: Anchor) -> Iterator[Pod]:
    """Yield the pods that the inventory knows, and when each was what the anchor says."""
    for view in views:
        held = _held(view, anchor)
        ends = [one.end_unix_nano for one in held]
        yield Pod(
            namespace=view.namespace, name=_name(view, anchor), uid=view.uid, aliases=frozenset(view.aliases),
            nodes=frozenset(one.value for one in view.nodes),
            service_account=view.accounts[-1].value.partition("/")[2] if view.accounts else "",
            images=frozenset(reference for one in (*view.images, *view.digests) for reference in _references(one)),
            owners=frozenset(view.owners), created_unix_nano=view.created_unix_nano,
            deleted_unix_nano=last_moment(view),
            since_unix_nano=min((one.start_unix_nano for one in held), default=None),
            until_unix_nano=None if None in ends else max((end for end in ends if end is not None), default=None),
        )  # fmt: skip


def last_moment(view: PodView) -> int | None:
    """Return the latest moment at which a pod may still have been there: its end is told to the second."""
    return view.end_unix_nano + _SECOND_NS if view.end_unix_nano is not None else None


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
    if len(found) > PODS_MAX and anchor.kind not in PARTLY:
        raise RejectedError(f"more than {PODS_MAX} pods are meant: name one of them", anchor=str(anchor))
    return found


def predicate(anchor: Anchor, pods: Sequence[Pod]) -> Node:
    """Return which rows belong to the timeline."""
    match anchor.kind:
        case AnchorKind.SERVICE_ACCOUNT:
            parts = [_user(_account(anchor.namespace, anchor.name)), *(_while(_told_of(pod), pod) for pod in pods)]
        case AnchorKind.USER:
            parts = [_user(anchor.name)]
        case AnchorKind.IP:
            words: list[Node] = [
                Term(field="source_address", value=anchor.name), Term(field="", value=anchor.name)
            ]  # fmt: skip
            parts = [*words, *(_while(_about(pod), pod) for pod in pods)]
        case AnchorKind.NODE:
            parts = [_node(anchor.name), *(_while(_told_of(pod), pod) for pod in pods)]
        case AnchorKind.POD if not pods:
            parts = [_about(Pod(namespace=anchor.namespace, name=anchor.name))]
        case AnchorKind.UID if not pods:
            parts = [
                Term(field="k8s_pod_uid", value=anchor.name), Term(field="objectRef.uid", value=anchor.name)
            ]  # fmt: skip
        case _:
            parts = [_about(pod) for pod in pods]
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


def newest(pods: Sequence[Pod]) -> list[Pod]:
    """Return as many pods as one timeline follows, the newest of them."""
    return sorted(pods, key=lambda pod: (pod.since_unix_nano or 0, pod.uid))[-PODS_MAX:]


def said_of(anchor: Anchor, pods: Sequence[Pod], views: Sequence[PodView]) -> Iterator[str]:
    """Yield sentences: who had an address, and how many pods are followed."""
    if len(pods) > PODS_MAX:
        yield f"{len(pods)} pods belong to {anchor}: the newest {PODS_MAX} are followed, narrow the time for others"
    if anchor.kind is not AnchorKind.IP:
        return
    for view in views[:CHOICES_LISTED_MAX]:
        for one in _held(view, anchor):
            until = print_instant(one.end_unix_nano) if one.end_unix_nano is not None else "it is not known when"
            yield (
                f"{anchor.name} was pod {view.namespace}/{view.name} ({view.uid}) from "
                f"{print_instant(one.start_unix_nano)} until {until}: {one.told} said so, in {one.row}, "
                f"read at {print_instant(one.known_unix_nano)}"
            )


# -- predicates ----------------------------------------------------------------------------------------------


def _about(pod: Pod) -> Node:
    """Return the predicate of one pod: its output, what was done to it, seen in it, said of it, missing of it."""
    gap = And(nodes=(_kind(Kind.LEDGER), Term(field="flags", value="gap")))
    own = And(nodes=(Or(nodes=(_kind(Kind.CONTAINER), gap)), _own(pod)))
    acted: tuple[Node, ...] = ()
    if pod.service_account and pod.created_unix_nano is not None:
        acted = (And(nodes=(_user(_account(pod.namespace, pod.service_account)), _in_life(pod))),)
    return Or(nodes=(own, _told_of(pod), *acted))


def _told_of(pod: Pod) -> Node:
    """Return what others say of a pod: what was done to it, seen in it, and how it came and went."""
    named = And(nodes=(*_object(pod), _in_life(pod)))
    told: tuple[Node, ...] = (
        And(nodes=(_kind(Kind.AUDIT), _pod_resource(), named)),
        And(nodes=(_kind(Kind.FALCO), Term(field="object_resource", value="pods"), named)),
        And(nodes=(_kind(Kind.WATCH), Term(field="object_resource", value="pods"), *_object(pod), _not_other(pod))),
    )
    if pod.uid and pod.namespace == DOCKER:
        told += (And(nodes=(_kind(Kind.WATCH), Term(field="object.metadata.uid", value=pod.uid))),)
    return Or(nodes=told)


def _while(node: Node, pod: Pod) -> Node:
    """Return a predicate in the time in which a pod had what the anchor names."""
    return And(nodes=(node, within(pod.since_unix_nano, pod.until_unix_nano)))


def _own(pod: Pod) -> Node:
    if pod.uid:
        return with_uids((pod.uid, *sorted(pod.aliases)))
    name = Term(field="k8s_pod_name", value=pod.name)
    return And(nodes=(name, Term(field="k8s_namespace_name", value=pod.namespace))) if pod.namespace else name


def with_uids(uids: Iterable[str]) -> Node:
    """Return the predicate of the rows that a pod of one of these uids wrote."""
    return Or(nodes=tuple(Term(field="k8s_pod_uid", value=uid) for uid in uids))


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
    """Return the range of a pod's life, as far as it is known."""
    return within(pod.created_unix_nano, pod.deleted_unix_nano)


def within(start_unix_nano: int | None, end_unix_nano: int | None) -> Node:
    """Return a range of time, a second wider at its beginning; what has no time may lie in it."""
    if start_unix_nano is None and end_unix_nano is None:
        return And(nodes=())
    # Beyond what int64 holds there is no bound to give.
    low = str(max(start_unix_nano - _SECOND_NS, -_INT64_MAX)) if start_unix_nano is not None else ""
    high = str(min(end_unix_nano, _INT64_MAX)) if end_unix_nano is not None else ""
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


def _held(view: PodView, anchor: Anchor) -> list[Held]:
    """Return when a pod had the address, was on the node, or ran under the account that an anchor names."""
    match anchor.kind:
        case AnchorKind.IP:
            held, value = view.addresses, anchor.name
        case AnchorKind.NODE:
            held, value = view.nodes, anchor.name
        case AnchorKind.SERVICE_ACCOUNT:
            held, value = view.accounts, f"{anchor.namespace}/{anchor.name}"
        case _:
            return []
    return [one for one in held if one.value == value]


def _name(view: PodView, anchor: Anchor) -> str:
    """Return the name that was asked for, where a pod has several: docker's can be renamed."""
    names = {name.partition("/")[2] for name in view.names}
    return anchor.name if anchor.kind is AnchorKind.POD and anchor.name in names else view.name


def _references(image: Held) -> list[str]:
    """Return how an image is named: behind its container."""
    return [reference for reference in image.value.split(APART)[1:] if reference]


def _both(one: Pod, other: Pod) -> Pod:
    created = [value for value in (one.created_unix_nano, other.created_unix_nano) if value is not None]
    deleted = [value for value in (one.deleted_unix_nano, other.deleted_unix_nano) if value is not None]
    return replace(
        one, nodes=one.nodes | other.nodes, service_account=other.service_account or one.service_account,
        aliases=one.aliases | other.aliases, images=one.images | other.images, owners=one.owners | other.owners,
        created_unix_nano=min(created, default=None), deleted_unix_nano=max(deleted, default=None),
        since_unix_nano=other.since_unix_nano, until_unix_nano=other.until_unix_nano,
    )  # fmt: skip


def _is_meant(anchor: Anchor, pod: Pod) -> bool:
    somewhere = anchor.namespace in ("", pod.namespace)
    match anchor.kind:
        case AnchorKind.POD:
            return somewhere and pod.name == anchor.name
        case AnchorKind.UID:
            return anchor.name == pod.uid or anchor.name in pod.aliases
        case AnchorKind.IMAGE:
            return any(_is_image(image, anchor.name) for image in pod.images)
        case AnchorKind.WORKLOAD:
            return somewhere and _is_of(pod, anchor.name)
        case AnchorKind.IP | AnchorKind.NODE | AnchorKind.SERVICE_ACCOUNT:
            return pod.since_unix_nano is not None
        case AnchorKind.USER:
            return False


def _one(named: list[Pod], anchor: Anchor) -> list[Pod]:
    """Return the one pod of a name, or say which ones there are."""
    certain = [pod for pod in named if pod.uid]
    if len(certain) < 2:
        # What only the name told, of a time in which no pod of it is known, is told with the one that is known.
        return named
    named = certain
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

"""Predicates on what a pod is, resolved at the moment of the question: labels, owners, images and addresses.

Rows know a pod by its uid alone. ``k8s.pod.label.app:web`` becomes the uids of the pods that carry the label and the
times in which they lived, so that a fact that came late is right at once for rows that are old. What a row says itself
under the same name counts still.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ashiato.core.errors import RejectedError
from ashiato.core.inventory import Pods, PodView, wanted
from ashiato.core.pod_fields import ADDRESS, IMAGES, LABELS, is_pod_field
from ashiato.core.query import And, Node, Not, Or, Phrase, Term
from query.pods import Wish
from query.subjects import last_moment, with_uids, within

PODS_MAX: Final = 1000
"""Pods that one condition may mean."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A field of a pod and its value."""

    field: str
    value: str


def conditions(where: Node) -> list[Condition]:
    """Return what of a predicate only the inventory can tell, each once."""
    return list(dict.fromkeys(_conditions(where)))


def of_conditions(
    asked: Sequence[Condition], start: int | None, end: int | None
) -> Wish[dict[Condition, list[PodView]]]:
    """Ask for the pods that conditions mean at a moment of a time."""
    return Wish(
        what=", ".join(f"{one.field}:{one.value}" for one in asked),
        choose=lambda pods: {one: _chosen(pods, one, start, end) for one in asked}, about=wanted(),
        start_unix_nano=start, end_unix_nano=end,
    )  # fmt: skip


def resolved(where: Node, meant: Callable[[Condition], list[PodView]]) -> Node:
    """Return a predicate with its conditions replaced by the pods that they mean.

    Raises:
        RejectedError: more pods are meant than one condition may mean.

    """
    match where:
        case Not(node=inner):
            return Not(node=resolved(inner, meant))
        case And(nodes=nodes):
            return And(nodes=tuple(resolved(node, meant) for node in nodes))
        case Or(nodes=nodes):
            return Or(nodes=tuple(resolved(node, meant) for node in nodes))
        case Term() | Phrase() if (condition := _condition(where)) is not None:
            pods = meant(condition)
            if len(pods) > PODS_MAX:
                raise RejectedError(
                    f"{len(pods)} pods have {condition.field}:{condition.value}, more than {PODS_MAX}: narrow the time"
                )
            return Or(nodes=(where, *(_rows_of(pod, condition) for pod in pods)))
        case _:
            return where


def _conditions(where: Node) -> Iterator[Condition]:
    match where:
        case Not(node=inner):
            yield from _conditions(inner)
        case And(nodes=nodes) | Or(nodes=nodes):
            for node in nodes:
                yield from _conditions(node)
        case Term() | Phrase() if (condition := _condition(where)) is not None:
            yield condition
        case _:
            return


def _condition(leaf: Term | Phrase) -> Condition | None:
    return Condition(leaf.field, leaf.value) if is_pod_field(leaf.field) else None


def _chosen(pods: Pods, condition: Condition, start: int | None, end: int | None) -> list[PodView]:
    field, value = condition.field, condition.value
    for prefix in LABELS:
        if field.startswith(prefix):
            return pods.labelled(field.removeprefix(prefix), value, start, end)
    if field in IMAGES:
        return pods.of_image(value, start, end)
    if field == ADDRESS:
        return pods.holding(value, start, end)
    return pods.of_workload(f"{field.split('.')[1]}/{value}", "", start, end)


def _rows_of(pod: PodView, condition: Condition) -> Node:
    """Return the rows of a pod in the time in which a condition held of it."""
    uids = with_uids(filter(None, (pod.uid, *pod.aliases)))
    if condition.field != ADDRESS:
        return And(nodes=(uids, within(pod.created_unix_nano, last_moment(pod))))
    held = [one for one in pod.addresses if one.value == condition.value]
    return And(nodes=(uids, Or(nodes=tuple(within(one.start_unix_nano, one.end_unix_nano) for one in held))))

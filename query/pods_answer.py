"""The listing of pods: what ran where and when, the gone included, as JSON lines with the coverage last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from ashiato.core.coverage import Coverage
from ashiato.core.inventory import Held, PodView, Run
from ashiato.core.inventory.records import APART
from ashiato.core.record import UID_FIELD

PODS_MAX: Final = 10_000
"""Pods of one listing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodsRequest:
    """Which pods: all that were there at a moment of a time."""

    node: str = ""
    namespace: str = ""
    time_start_unix_nano: int | None = None
    time_end_unix_nano: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodsAnswer:
    """Pods in the order of their starts, and what is known of them."""

    pods: Sequence[PodView]
    coverage: Coverage


def to_lines(answer: PodsAnswer) -> Iterator[bytes]:
    """Yield a JSON object a line, the last one ``{"coverage": ...}``."""
    for pod in answer.pods:
        yield msgspec.json.encode(document(pod))
    yield msgspec.json.encode({"coverage": answer.coverage.to_document()})


def document(pod: PodView) -> dict[str, object]:
    """Return a pod at the rim: dotted names, 64-bit integers as strings, what is not known left out."""
    told: dict[str, object] = {
        "k8s.pod.uid": pod.uid, "k8s.pod.name": pod.name, "k8s.namespace.name": pod.namespace,
        "k8s.cluster.name": pod.cluster, "k8s.node.name": pod.nodes[-1].value if pod.nodes else "",
        "ashiato.pod.start": _text(pod.start_unix_nano), "ashiato.pod.end": _text(pod.end_unix_nano),
        "ashiato.pod.gone_after": _text(pod.gone_after_unix_nano),
        "ashiato.pod.deletion": _text(pod.deletion_unix_nano), "ashiato.pod.last_seen": _text(pod.last_seen_unix_nano),
        "ashiato.pod.known_since": _text(pod.known_unix_nano), "ashiato.pod.phase": pod.phase,
        "ashiato.pod.addresses": [_held(one) for one in pod.addresses],
        "ashiato.pod.accounts": [_held(one) for one in pod.accounts],
        "ashiato.pod.images": [_image(one) for one in (*pod.images, *pod.digests)],
        "ashiato.pod.owners": list(pod.owners), "ashiato.pod.posture": list(pod.posture),
        "ashiato.pod.runs": [_run(run) for run in pod.runs], "ashiato.pod.told_by": list(pod.told), UID_FIELD: pod.row,
        **{f"k8s.pod.label.{name}": value for name, value in pod.labels.items()},
    }  # fmt: skip
    return {name: value for name, value in told.items() if value not in ("", [])}


def _held(one: Held) -> dict[str, str]:
    told = {"value": one.value, "start": _text(one.start_unix_nano), "end": _text(one.end_unix_nano)}
    return {name: value for name, value in {**told, "told_by": one.told, UID_FIELD: one.row}.items() if value}


def _image(one: Held) -> dict[str, str]:
    container, reference, *digest = one.value.split(APART)
    told = {"container": container, "reference": reference, "digest": digest[0] if digest else ""}
    return {name: value for name, value in {**told, UID_FIELD: one.row}.items() if value}


def _run(run: Run) -> dict[str, object]:
    first, last = run.logged_unix_nano or (None, None)
    told: dict[str, object] = {
        "container": run.container, "restart": run.restart, "id": run.container_id,
        "started": _text(run.started_unix_nano), "exited": _text(run.exited_unix_nano), "reason": run.reason,
        "first_line": _text(first), "last_line": _text(last),
    }  # fmt: skip
    if run.exit_code is not None:
        told["exit_code"] = run.exit_code
    return {name: value for name, value in told.items() if value != ""}


def _text(number: int | None) -> str:
    return str(number) if number is not None else ""

"""What is read of Kubernetes objects, wherever they stand: in watch lines, in audit events, in lists that were saved.

Only what becomes a claim is decoded. A field of another type than Kubernetes gives it makes the object unreadable; its
metadata is read alone then.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import msgspec

from ashiato.core.errors import RejectedError
from ashiato.core.instant import parse_instant
from ashiato.core.inventory.records import APART, Field

MIRROR: Final = "kubernetes.io/config.mirror"
"""On the object of a static pod: the uid in the path of its logs."""
OWNERS: Final = ("replicaset", "job", "deployment", "statefulset", "daemonset", "cronjob")
_LABELS_MAX: Final = 64
_CONTAINERS_MAX: Final = 256

Says = tuple[Field, str, int]


class _Camel(msgspec.Struct, kw_only=True, rename="camel", gc=False):
    pass


class _Owner(_Camel):
    kind: str | None = None
    name: str | None = None
    uid: str | None = None
    controller: bool | None = None


class Meta(_Camel):
    """Object metadata."""

    name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[_Owner] | None = None


class _SecurityContext(_Camel):
    privileged: bool | None = None
    allow_privilege_escalation: bool | None = None
    run_as_user: int | None = None
    capabilities: dict[str, list[str] | None] | None = None


class _Container(_Camel):
    name: str | None = None
    image: str | None = None
    security_context: _SecurityContext | None = None


class _Path(_Camel):
    path: str | None = None
    secret_name: str | None = None


class _Volume(_Camel):
    host_path: _Path | None = None
    secret: _Path | None = None


class _Spec(_Camel):
    node_name: str | None = None
    service_account_name: str | None = None
    host_network: bool | None = None
    host_pid: bool | None = msgspec.field(name="hostPID", default=None)
    host_ipc: bool | None = msgspec.field(name="hostIPC", default=None)
    init_containers: list[_Container] | None = None
    containers: list[_Container] | None = None
    ephemeral_containers: list[_Container] | None = None
    volumes: list[_Volume] | None = None


class _Terminated(_Camel):
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    container_id: str | None = msgspec.field(name="containerID", default=None)


class _Running(_Camel):
    started_at: str | None = None


class _State(_Camel):
    running: _Running | None = None
    terminated: _Terminated | None = None


class _ContainerStatus(_Camel):
    name: str | None = None
    image: str | None = None
    image_id: str | None = msgspec.field(name="imageID", default=None)
    container_id: str | None = msgspec.field(name="containerID", default=None)
    restart_count: int | None = None
    state: _State | None = None
    last_state: _State | None = None


class _Address(_Camel):
    ip: str | None = None


class _Status(_Camel):
    phase: str | None = None
    reason: str | None = None
    pod_ip: str | None = msgspec.field(name="podIP", default=None)
    pod_ips: list[_Address] | None = msgspec.field(name="podIPs", default=None)
    host_ip: str | None = msgspec.field(name="hostIP", default=None)
    init_container_statuses: list[_ContainerStatus] | None = None
    container_statuses: list[_ContainerStatus] | None = None
    ephemeral_container_statuses: list[_ContainerStatus] | None = None


class Pod(_Camel):
    """A pod, as far as it is claimed of."""

    metadata: Meta | None = None
    spec: _Spec | None = None
    status: _Status | None = None


class Bare(_Camel):
    """Any object, by its metadata."""

    metadata: Meta | None = None


class _NodeStatus(_Camel):
    node_info: dict[str, Any] | None = None


class Node(Bare):
    """A node, as it runs."""

    status: _NodeStatus | None = None


def of_meta(meta: Meta, moment: int) -> Iterator[Says]:
    """Yield what the metadata of any object says at a moment."""
    yield Field.NAME, f"{meta.namespace or ''}/{meta.name or ''}", moment
    if (created := instant(meta.creation_timestamp)) is not None:
        yield Field.CREATED, str(created), created
    if (deletion := instant(meta.deletion_timestamp)) is not None:
        # The API server stamps the end of the grace period: it was asked for that much earlier.
        asked = deletion - max(meta.deletion_grace_period_seconds or 0, 0) * 1_000_000_000
        yield Field.DELETION, "", asked
    owners = meta.owner_references or ()
    for owner in [one for one in owners if one.controller] or owners:
        yield Field.OWNER, f"{(owner.kind or '').lower()}/{owner.name or ''}/{owner.uid or ''}", moment
    for name, value in list((meta.labels or {}).items())[:_LABELS_MAX]:
        yield Field.LABEL, f"{name}={value}", moment
    if meta.annotations and (alias := meta.annotations.get(MIRROR)):
        yield Field.ALIAS, alias, moment


def of_pod(pod: Pod, moment: int) -> Iterator[Says]:
    """Yield what a pod's spec and status say at a moment."""
    namespace = (pod.metadata.namespace if pod.metadata is not None else None) or ""
    if pod.spec is not None:
        yield from _of_spec(pod.spec, namespace, moment)
    if pod.status is not None:
        yield from _of_status(pod.status, moment)


def of_node(node: Node, moment: int) -> Iterator[Says]:
    """Yield what a node runs."""
    info = (node.status.node_info if node.status is not None else None) or {}
    names = ("bootID", "kernelVersion", "containerRuntimeVersion", "kubeletVersion", "osImage")
    if told := [str(info[name]) for name in names if info.get(name)]:
        yield Field.REVISION, APART.join(told), moment


@lru_cache(4096)
def instant(text: str | None) -> int | None:
    """Return the ns of a time as Kubernetes writes it, None where it is none."""
    try:
        return parse_instant(text) if text else None
    except RejectedError:
        return None


def _of_spec(spec: _Spec, namespace: str, moment: int) -> Iterator[Says]:
    if spec.node_name:
        yield Field.NODE, spec.node_name, moment
    if spec.service_account_name:
        yield Field.ACCOUNT, f"{namespace}/{spec.service_account_name}", moment
    for right, is_given in (
        ("hostNetwork", spec.host_network), ("hostPID", spec.host_pid), ("hostIPC", spec.host_ipc),
    ):  # fmt: skip
        if is_given:
            yield Field.POSTURE, right, moment
    for container in _each(spec.init_containers, spec.containers, spec.ephemeral_containers):
        name = container.name or ""
        if container.image:
            yield Field.IMAGE, f"{name}{APART}{container.image}", moment
        yield from _of_context(container.security_context, name, moment)
    for volume in (spec.volumes or ())[:_CONTAINERS_MAX]:
        if volume.host_path is not None:
            yield Field.POSTURE, f"hostPath {volume.host_path.path or ''}", moment
        if volume.secret is not None:
            yield Field.POSTURE, f"secret {volume.secret.secret_name or ''}", moment


def _of_context(context: _SecurityContext | None, name: str, moment: int) -> Iterator[Says]:
    if context is None:
        return
    if context.privileged:
        yield Field.POSTURE, f"privileged {name}", moment
    if context.run_as_user == 0:
        yield Field.POSTURE, f"root {name}", moment
    for capability in (context.capabilities or {}).get("add") or ():
        yield Field.POSTURE, f"capability {capability} {name}", moment


def _of_status(status: _Status, moment: int) -> Iterator[Says]:
    if status.phase:
        yield Field.PHASE, f"{status.phase}{APART}{status.reason}" if status.reason else status.phase, moment
    addresses = [status.pod_ip, *(one.ip for one in status.pod_ips or ())]
    for address in dict.fromkeys(address for address in addresses if address):
        yield Field.IP, address, moment
    if status.host_ip:
        yield Field.HOST_IP, status.host_ip, moment
    for one in _each(status.init_container_statuses, status.container_statuses, status.ephemeral_container_statuses):
        yield from _of_container(one, moment)


def _of_container(one: _ContainerStatus, moment: int) -> Iterator[Says]:
    name, restart = one.name or "", one.restart_count or 0
    if one.image_id:
        yield Field.DIGEST, f"{name}{APART}{one.image or ''}{APART}{one.image_id}", moment
    if one.container_id:
        yield Field.CONTAINER, f"{name}{APART}{restart}{APART}{one.container_id}", moment
    for state, count in ((one.last_state, restart - 1), (one.state, restart)):
        if state is None or count < 0:
            continue
        run = f"{name}{APART}{count}"
        ended = state.terminated
        began = ended.started_at if ended is not None else state.running.started_at if state.running else None
        if (started := instant(began)) is not None:
            yield Field.STARTED, run, started
        if ended is not None:
            exited = instant(ended.finished_at)
            how = APART.join((str(ended.exit_code), str(ended.signal or ""), ended.reason or ""))
            yield Field.EXITED, f"{run}{APART}{how}", exited if exited is not None else moment
            if ended.container_id:
                yield Field.CONTAINER, f"{run}{APART}{ended.container_id}", exited if exited is not None else moment


def _each(*lists: list[Any] | None) -> Iterator[Any]:
    count = 0
    for members in lists:
        for member in members or ():
            if count == _CONTAINERS_MAX:
                return
            count += 1
            yield member

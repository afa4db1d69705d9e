"""What is kept of Kubernetes objects: these fields and no others. What is not named here is never decoded.

Mutable on purpose: an object is read, stripped and written within one call. Everything may be absent or null.
"""

from __future__ import annotations

from typing import Any

import msgspec

Free = dict[str, Any]


class Kube(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """The root: names as the API writes them, what is absent is not written."""


class Owner(Kube):
    """An ``ownerReference``."""

    api_version: str | None = None
    kind: str | None = None
    name: str | None = None
    uid: str | None = None
    controller: bool | None = None


class Meta(Kube):
    """Object metadata."""

    name: str | None = None
    generate_name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[Owner] | None = None


class Exec(Kube):
    """A command."""

    command: list[str] | None = None


class Handler(Kube):
    """A probe or a hook: its command, and nothing of the requests that it may make."""

    exec_: Exec | None = msgspec.field(name="exec", default=None)


class Lifecycle(Kube):
    """Hooks of a container."""

    post_start: Handler | None = None
    pre_stop: Handler | None = None


class Env(Kube):
    """An environment variable: its value becomes a keyed hash before anything is written."""

    name: str | None = None
    value: str | None = None
    hmac: str | None = None
    value_from: Free | None = None
    """References by name."""


class Mount(Kube):
    """A volume in a container."""

    name: str | None = None
    mount_path: str | None = None
    read_only: bool | None = None
    recursive_read_only: str | None = None
    sub_path: str | None = None
    sub_path_expr: str | None = None
    mount_propagation: str | None = None


class Container(Kube):
    """A container as it was asked for: app, init, sidecar or ephemeral."""

    name: str | None = None
    image: str | None = None
    image_pull_policy: str | None = None
    command: list[str] | None = None
    args: list[str] | None = None
    working_dir: str | None = None
    ports: list[Free] | None = None
    env: list[Env] | None = None
    env_from: list[Free] | None = None
    volume_mounts: list[Mount] | None = None
    volume_devices: list[Free] | None = None
    security_context: Free | None = None
    resources: Free | None = None
    liveness_probe: Handler | None = None
    readiness_probe: Handler | None = None
    startup_probe: Handler | None = None
    lifecycle: Lifecycle | None = None
    stdin: bool | None = None
    tty: bool | None = None
    restart_policy: str | None = None
    target_container_name: str | None = None


class HostPath(Kube):
    """A path of the node."""

    path: str | None = None
    type: str | None = None


class SecretVolume(Kube):
    """A secret by name."""

    secret_name: str | None = None
    optional: bool | None = None


class Named(Kube):
    """A reference by name."""

    name: str | None = None


class Driver(Kube):
    """A CSI or flex driver, without its attributes, which may hold secrets."""

    driver: str | None = None
    read_only: bool | None = None


class Claim(Kube):
    """A persistent volume claim by name."""

    claim_name: str | None = None
    read_only: bool | None = None


class EmptyDir(Kube):
    """A scratch volume."""

    medium: str | None = None
    size_limit: Any = None


class Nfs(Kube):
    """A folder of a file server."""

    server: str | None = None
    path: str | None = None
    read_only: bool | None = None


class ImageVolume(Kube):
    """An image mounted as files."""

    reference: str | None = None
    pull_policy: str | None = None


class AccountToken(Kube):
    """A projected token."""

    audience: str | None = None
    expiration_seconds: int | None = None
    path: str | None = None


class Projection(Kube):
    """One source of a projected volume."""

    service_account_token: AccountToken | None = None
    secret: Named | None = None
    config_map: Named | None = None
    downward_api: Kube | None = msgspec.field(name="downwardAPI", default=None)
    cluster_trust_bundle: Named | None = None
    pod_certificate: Kube | None = None


class Projected(Kube):
    """A projected volume."""

    sources: list[Projection] | None = None


class Volume(Kube):
    """A volume; of a type that is not named here, the name alone."""

    name: str | None = None
    host_path: HostPath | None = None
    secret: SecretVolume | None = None
    config_map: Named | None = None
    csi: Driver | None = None
    flex_volume: Driver | None = None
    persistent_volume_claim: Claim | None = None
    ephemeral: Kube | None = None
    empty_dir: EmptyDir | None = None
    projected: Projected | None = None
    image: ImageVolume | None = None
    nfs: Nfs | None = None
    downward_api: Kube | None = msgspec.field(name="downwardAPI", default=None)


class PodSpec(Kube):
    """What was asked for."""

    node_name: str | None = None
    service_account_name: str | None = None
    automount_service_account_token: bool | None = None
    image_pull_secrets: list[Named] | None = None
    host_network: bool | None = None
    host_pid: bool | None = msgspec.field(name="hostPID", default=None)
    host_ipc: bool | None = msgspec.field(name="hostIPC", default=None)
    host_users: bool | None = None
    share_process_namespace: bool | None = None
    dns_policy: str | None = None
    host_aliases: list[Free] | None = None
    scheduler_name: str | None = None
    priority_class_name: str | None = None
    runtime_class_name: str | None = None
    restart_policy: str | None = None
    tolerations: list[Free] | None = None
    security_context: Free | None = None
    init_containers: list[Container] | None = None
    containers: list[Container] | None = None
    ephemeral_containers: list[Container] | None = None
    volumes: list[Volume] | None = None


class Condition(Kube):
    """A condition, without the heartbeats that change it and say nothing."""

    type: str | None = None
    status: str | None = None
    reason: str | None = None
    message: str | None = None
    last_transition_time: str | None = None


class Terminated(Kube):
    """How a container ended."""

    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    message: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    container_id: str | None = msgspec.field(name="containerID", default=None)


class ContainerState(Kube):
    """One of three."""

    waiting: Free | None = None
    running: Free | None = None
    terminated: Terminated | None = None


class ContainerStatus(Kube):
    """A container as it runs."""

    name: str | None = None
    image: str | None = None
    image_id: str | None = msgspec.field(name="imageID", default=None)
    container_id: str | None = msgspec.field(name="containerID", default=None)
    restart_count: int | None = None
    ready: bool | None = None
    started: bool | None = None
    state: ContainerState | None = None
    last_state: ContainerState | None = None
    user: Free | None = None


class PodStatus(Kube):
    """What became of it."""

    phase: str | None = None
    reason: str | None = None
    message: str | None = None
    conditions: list[Condition] | None = None
    host_ip: str | None = msgspec.field(name="hostIP", default=None)
    host_ips: list[Free] | None = msgspec.field(name="hostIPs", default=None)
    pod_ip: str | None = msgspec.field(name="podIP", default=None)
    pod_ips: list[Free] | None = msgspec.field(name="podIPs", default=None)
    start_time: str | None = None
    qos_class: str | None = None
    resize: str | None = None
    init_container_statuses: list[ContainerStatus] | None = None
    container_statuses: list[ContainerStatus] | None = None
    ephemeral_container_statuses: list[ContainerStatus] | None = None


class Object(Kube):
    """Any object, by its metadata."""

    metadata: Meta | None = None


class Pod(Object):
    """A pod."""

    spec: PodSpec | None = None
    status: PodStatus | None = None


class NamespaceStatus(Kube):
    """Active or going."""

    phase: str | None = None


class Namespace(Object):
    """A namespace; its labels are its admission rules."""

    status: NamespaceStatus | None = None


class NodeSpec(Kube):
    """A node as it was registered."""

    provider_id: str | None = msgspec.field(name="providerID", default=None)
    pod_cidrs: list[str] | None = msgspec.field(name="podCIDRs", default=None)
    unschedulable: bool | None = None
    taints: list[Free] | None = None


class NodeStatus(Kube):
    """A node as it runs: boot, kernel, runtime, addresses."""

    node_info: Free | None = None
    addresses: list[Free] | None = None
    conditions: list[Condition] | None = None


class Node(Object):
    """A node."""

    spec: NodeSpec | None = None
    status: NodeStatus | None = None


class Template(Kube):
    """A workload's pods, of which a digest and the images are kept."""

    spec: PodSpec | None = None
    sha256: str | None = None
    images: list[str] | None = None
    service_account_name: str | None = None


class JobTemplateSpec(Kube):
    """What a CronJob makes jobs of."""

    template: Template | None = None


class JobTemplate(Kube):
    """A CronJob's template."""

    spec: JobTemplateSpec | None = None


class WorkloadSpec(Kube):
    """A Deployment, ReplicaSet, StatefulSet, DaemonSet, Job or CronJob as it was asked for."""

    replicas: int | None = None
    parallelism: int | None = None
    completions: int | None = None
    suspend: bool | None = None
    schedule: str | None = None
    selector: Free | None = None
    service_name: str | None = None
    template: Template | None = None
    job_template: JobTemplate | None = None


class WorkloadStatus(Kube):
    """How a Job ended."""

    start_time: str | None = None
    completion_time: str | None = None
    succeeded: int | None = None
    failed: int | None = None


class Workload(Object):
    """Anything that makes pods."""

    spec: WorkloadSpec | None = None


class Job(Workload):
    """A workload that ends."""

    status: WorkloadStatus | None = None


class Event(Object):
    """An event of either API: ``events.k8s.io/v1``, or ``v1`` with the names of old."""

    type: str | None = None
    reason: str | None = None
    action: str | None = None
    note: str | None = None
    message: str | None = None
    regarding: Free | None = None
    involved_object: Free | None = None
    related: Free | None = None
    event_time: str | None = None
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    count: int | None = None
    series: Free | None = None
    source: Free | None = None
    reporting_controller: str | None = None
    reporting_component: str | None = None
    reporting_instance: str | None = None
    deprecated_first_timestamp: str | None = None
    deprecated_last_timestamp: str | None = None
    deprecated_count: int | None = None
    deprecated_source: Free | None = None

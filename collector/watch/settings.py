"""Settings of ``collector watch``. Inside a cluster none is needed but ``state_dir``."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ashiato.core.limits import STATE_RESERVE_BYTES

ACCOUNT_DIR = "/var/run/secrets/kubernetes.io/serviceaccount"

RESOURCES = (
    "pods",
    "events",
    "namespaces",
    "nodes",
    "replicasets",
    "jobs",
    "deployments",
    "statefulsets",
    "daemonsets",
    "cronjobs",
    "serviceaccounts",
)

ANNOTATIONS = (
    "kubernetes.io/config.*",
    "kubernetes.io/psp",
    "kubectl.kubernetes.io/default-container",
    "kubectl.kubernetes.io/restartedAt",
    "container.apparmor.security.beta.kubernetes.io/*",
    "container.seccomp.security.alpha.kubernetes.io/*",
    "seccomp.security.alpha.kubernetes.io/pod",
    "pod-security.kubernetes.io/*",
    "deployment.kubernetes.io/revision",
    "cronjob.kubernetes.io/instantiate",
    "batch.kubernetes.io/*",
    "cni.projectcalico.org/podIP*",
    "k8s.v1.cni.cncf.io/network*",
    "openshift.io/scc",
)


class WatchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One watcher of one cluster; a second one elsewhere is harmless, for its lines say the same."""

    state_dir: str
    """Where each watch stands, and the key of the hashes; must outlive the process."""
    folder: str = "/var/log/ashiato/watch"
    """Where the lines go (``watch-000001.jsonl`` ...): a collector on the same node follows it."""
    kube_url: str = ""
    """Address of the API server; '' takes the cluster's own (``KUBERNETES_SERVICE_HOST`` and ``_PORT``)."""
    token_file: str = ""
    """Bearer token, read again for each request; '' takes the pod's own inside a cluster, and none elsewhere."""
    ca_file: str = ""
    """Who vouches for the API server (PEM); '' takes the pod's own inside a cluster, the system's elsewhere."""
    resources: tuple[str, ...] = RESOURCES
    """What is listed and watched; never secrets or config maps."""
    annotations: tuple[str, ...] = ANNOTATIONS
    """Annotations that are kept, as globs; of ``last-applied-configuration`` a keyed hash is, the rest is not."""
    page_objects: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 500
    """Objects on a page, where a list comes in pages."""
    silence_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 90.0
    """A connection on which nothing came for so long is dead: bookmarks come each minute."""
    watch_s: Annotated[float, msgspec.Meta(ge=1, le=86_400)] = 300.0
    """How long a watch is asked for, at least; up to twice that."""
    backoff_s_max: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 30.0
    """Longest wait between tries where the API server fails."""
    refused_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 600.0
    """How often a resource is tried again that may not be read; each time, the time without it is stated as a gap."""
    checkpoint_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 15.0
    """How often the state is written; what is newer is read from the lines themselves."""
    rotate_bytes: Annotated[int, msgspec.Meta(ge=1, le=1 << 40)] = 32 * 1024 * 1024
    """Size from which a new file is begun."""
    files_kept: Annotated[int, msgspec.Meta(ge=2, le=10_000)] = 16
    """Files that stay, the present one included. A collector that is away for longer than they reach loses lines."""
    reserve_bytes: Annotated[int, msgspec.Meta(ge=0, le=1 << 30)] = STATE_RESERVE_BYTES
    """Room taken beforehand on the disk; 0 takes none."""
    metrics_port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    """Port of /metrics, /healthz and /readyz; 0 serves none."""
    metrics_address: str = "127.0.0.1"
    """Address of them; the pod's own, or 0.0.0.0, where others ask."""

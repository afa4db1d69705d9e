"""Settings of the collector."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ashiato.adapters.bus import BusSettings
from ashiato.core.limits import (
    BEAT_INTERVAL_NS,
    CHUNK_AGE_NS_MAX,
    SPAN_INTERVAL_NS,
    STATE_RESERVE_BYTES,
    UNTERMINATED_IDLE_NS,
)
from collector.schedule import Rate

DEFAULT_ROOTS = (
    "/var/log/pods",
    "/var/lib/docker/containers",
    "/var/log/kubernetes",
    "/var/log/kube-apiserver",
    "/var/log/apiserver",
    "/var/lib/rancher/k3s/server/logs",
    "/var/lib/rancher/rke2/server/logs",
    "/var/log/falco",
    "/var/log/audit",
    "/var/log/ashiato/watch",
)


class CollectorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One collector on one node."""

    bus: BusSettings
    """The bus, as what may write its topics."""
    state_dir: str
    """Bookmark and ledger; must outlive the process, and belongs to one node."""
    node_key_file: str = ""
    """Ed25519 key (PEM) that signs the ledger's beats; '' keeps one in ``state_dir``. Made where there is none."""
    span_interval_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = SPAN_INTERVAL_NS / 1e9
    """How often the digests of what was acknowledged are stated: as much is sent again after a crash."""
    reserve_bytes: Annotated[int, msgspec.Meta(ge=0, le=1 << 30)] = STATE_RESERVE_BYTES
    """Room taken beforehand on the disk for each of ledger and bookmark; 0 takes none."""
    cluster: str = "default"
    """Name of the cluster that records carry."""
    node: str = ""
    """Name of this node; '' takes the host's."""
    roots: tuple[str, ...] = DEFAULT_ROOTS
    """Folders to follow. Below a folder of several nodes (``<node>/var/log/...``) the path names the node."""
    all_files: bool = False
    """Follow every log-like file (``.log``, ``.json``, ``.jsonl``, ``.txt``), not only known kinds."""
    files: tuple[str, ...] = ()
    """Plain files to follow, with their rotations, whatever they are called: globs, in which ``*`` stays within a
    folder and ``**`` does not (``/srv/*/app.out``)."""
    exclude: tuple[str, ...] = ()
    """Folders that are not followed, and globs of folders and files; the ledger states what is there and is not."""
    ours: tuple[str, ...] = ()
    """Folders below a root that hold no logs but our own state, and are passed over in silence."""
    access_dir: str = ""
    """Where the query service writes its access log, to be followed like any other source; '' for none."""
    poll_interval_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 0.25
    """How often followed files are looked at; those that stand still, half as often."""
    linger_s: Annotated[float, msgspec.Meta(ge=0, le=0.3)] = CHUNK_AGE_NS_MAX / 1e9
    """How long bytes that do not fill a frame wait for company."""
    namespace_budgets: dict[str, Rate] = msgspec.field(default_factory=dict)
    """How fast the containers of a namespace may ship, together (``shop = {bytes_per_s = 1000000, burst_bytes =
    8000000}``; ``"*"`` for each that is not named). What is over it waits in its file, and is never dropped."""
    sweep_interval_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 1.0
    """How often folders are looked at for new, renamed and removed files."""
    beat_interval_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = BEAT_INTERVAL_NS / 1e9
    """How soon after a movement the ledger beats: answers are complete up to the last beat."""
    idle_beat_interval_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = BEAT_INTERVAL_NS / 1e9
    """How often the ledger beats where nothing moves."""
    unterminated_idle_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = UNTERMINATED_IDLE_NS / 1e9
    """A last line without a newline is shipped, flagged, when its file has stood still this long."""
    settle_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 15.0
    """A rotated file that is drained closes after standing still this long."""
    drain_s: Annotated[float, msgspec.Meta(ge=0, le=600)] = 5.0
    """Grace at shutdown for what is on disk and not acknowledged."""
    container_log_bytes_max: Annotated[int, msgspec.Meta(ge=1)] = 10 * 1024 * 1024
    """The kubelet's ``containerLogMaxSize``; headroom is told by it. Smaller rotated files outrank it."""
    container_log_files_max: Annotated[int, msgspec.Meta(ge=2, le=1000)] = 5
    """The kubelet's ``containerLogMaxFiles``. More rotated files on the disk outrank it."""
    container_log_check_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 10.0
    """The kubelet's ``containerLogMonitorInterval``: how often it looks whether a log is to be rotated."""
    pins_dir: str = ""
    """Where `collector pin` holds log files that rotation would delete, on the mount of the logs; '' for nowhere."""
    pin_bytes_max: Annotated[int, msgspec.Meta(ge=0)] = 2 * 1024 * 1024 * 1024
    """What pins may hold that nothing else does; beyond it the oldest are given up, and stated."""
    pin_free_share_min: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.15
    """Share of the disk that pins leave free: the kubelet evicts pods where less is left than its threshold (0.1)."""
    metrics_port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    """Port of /metrics, /healthz and /readyz; 0 serves none."""
    metrics_address: str = "127.0.0.1"
    """Address of them; the pod's own, or 0.0.0.0, where others ask."""

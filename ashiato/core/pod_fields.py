"""Fields of pods that rows do not carry (OTel's names): the inventory knows them, so asking for one means pods."""

from __future__ import annotations

from typing import Final

LABELS: Final = ("k8s.pod.label.", "k8s.pod.labels.")
OWNERS: Final = tuple(
    f"k8s.{kind}.name" for kind in ("deployment", "statefulset", "daemonset", "replicaset", "job", "cronjob")
)
IMAGES: Final = ("container.image.name", "container.image.repo_digests")
ADDRESS: Final = "k8s.pod.ip"


def is_pod_field(name: str) -> bool:
    """Tell whether a field is one that only the inventory knows.

    >>> is_pod_field("k8s.pod.label.app"), is_pod_field("k8s.pod.name")
    (True, False)
    """
    return name in OWNERS or name in IMAGES or name == ADDRESS or name.startswith(LABELS)

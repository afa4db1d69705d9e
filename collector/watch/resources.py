"""Which resources can be watched, where the API has them, and what is decoded of each. The list is closed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import msgspec

from ashiato.core.errors import SettingsError
from collector.watch.objects import Event, Job, Namespace, Node, Object, Pod, Workload

_JSON: Final = "application/json"
_PARTIAL: Final = "application/json;as=PartialObjectMetadata{list};g=meta.k8s.io;v=v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A place where the API has a resource."""

    api_version: str

    def path(self, resource: str) -> str:
        """Return the path of the whole cluster's collection."""
        root = "api" if "/" not in self.api_version else "apis"
        return f"/{root}/{self.api_version}/{resource}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One kind of object."""

    name: str
    """As the API's paths have it."""
    kind: str
    served: tuple[Served, ...]
    """In order of preference."""
    decoder: msgspec.json.Decoder[Object]
    expires: bool = False
    """Objects go by themselves, after a time: that one is in no list means nothing."""
    metadata_only: bool = False

    def accept(self, *, as_list: bool) -> str:
        """Return the form that is asked for."""
        return _PARTIAL.format(list="List" if as_list else "") if self.metadata_only else _JSON


def _resource(name: str, kind: str, *api_versions: str, type_: type[Object]) -> Resource:
    return Resource(
        name=name, kind=kind, served=tuple(Served(api_version=version) for version in api_versions),
        decoder=msgspec.json.Decoder(type_), expires=type_ is Event, metadata_only=type_ is Object,
    )  # fmt: skip


_ALL: Final = {
    resource.name: resource
    for resource in (
        _resource("pods", "Pod", "v1", type_=Pod),
        _resource("events", "Event", "events.k8s.io/v1", "v1", type_=Event),
        _resource("namespaces", "Namespace", "v1", type_=Namespace),
        _resource("nodes", "Node", "v1", type_=Node),
        _resource("replicasets", "ReplicaSet", "apps/v1", type_=Workload),
        _resource("jobs", "Job", "batch/v1", type_=Job),
        _resource("deployments", "Deployment", "apps/v1", type_=Workload),
        _resource("statefulsets", "StatefulSet", "apps/v1", type_=Workload),
        _resource("daemonsets", "DaemonSet", "apps/v1", type_=Workload),
        _resource("cronjobs", "CronJob", "batch/v1", type_=Workload),
        _resource("serviceaccounts", "ServiceAccount", "v1", type_=Object),
    )
}


def resource_of(name: str) -> Resource:
    """Return a resource by its name.

    Raises:
        SettingsError: it is none of those that can be watched.

    """
    try:
        return _ALL[name]
    except KeyError:
        raise SettingsError(f"{name!r} cannot be watched; what can: {', '.join(_ALL)}") from None


def bare(resource: Resource) -> Resource:
    """Return a resource of whose objects the metadata alone is read."""
    return replace(resource, decoder=msgspec.json.Decoder(Object))

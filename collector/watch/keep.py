"""From an object as the API sends it to what is written of it: stripped, hashed where it may hold secrets, compared."""

from __future__ import annotations

import fnmatch
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import msgspec

from collector.watch.objects import (
    Container,
    Event,
    Meta,
    Namespace,
    Node,
    Object,
    Pod,
    PodSpec,
    Template,
    Workload,
    WorkloadSpec,
)
from collector.watch.resources import Resource

LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_TOKEN_VOLUME: Final = re.compile(rb'"kube-api-access-[a-z0-9]{5}"')
"""Named at random for each pod: two pods of one template differ in nothing else."""
_ANNOTATION_NAMES_MAX: Final = 4096
_ENCODE: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An object in parts, each as JSON."""

    uid: str
    namespace: str
    name: str
    resource_version: str
    metadata: bytes
    """Without the resource version."""
    spec: bytes
    """b'' where the kind has none that is kept."""
    spec_sha256: str
    """Of the spec with the names of token volumes made equal; '' where there is none."""
    spec_brief: bytes
    """What still stands for the spec where it is known already."""
    rest: bytes
    """Everything else, as an object."""
    digest: str
    """Of all but the resource version: objects with the same digest say the same."""


class Keeper:
    """Holds the key and the list of annotations."""

    def __init__(self, key: bytes, annotations: Iterable[str]) -> None:
        self._key = key
        self.key_id = hashlib.sha256(b"ashiato watch key/1\n" + key).hexdigest()[:16]
        self._patterns = re.compile("|".join(fnmatch.translate(pattern) for pattern in annotations) or r"(?!)")
        self._is_kept = lru_cache(_ANNOTATION_NAMES_MAX)(lambda name: self._patterns.fullmatch(name) is not None)

    def keep(self, resource: Resource, raw: bytes | msgspec.Raw) -> Kept:
        """Return what is kept of an object. Raises msgspec.DecodeError where it is not of its kind."""
        found = resource.decoder.decode(raw)
        meta = found.metadata or Meta()
        found.metadata = None
        return self._parts(found, meta)

    def hashed(self, value: str) -> str:
        """Return what stands for a value that is not written: equal values have equal hashes, under this key alone."""
        return hmac.digest(self._key, value.encode("utf-8", "surrogatepass"), "sha256").hex()[:32]

    def _parts(self, found: Object, meta: Meta) -> Kept:
        version, meta.resource_version = meta.resource_version or "", None
        self._strip_annotations(meta)
        spec, brief = self._spec(found)
        metadata, rest = _ENCODE(meta), _ENCODE(found)
        spec_sha256 = hashlib.sha256(_TOKEN_VOLUME.sub(b'"kube-api-access"', spec)).hexdigest()[:32] if spec else ""
        digest = hashlib.sha256(b"\0".join((metadata, spec, rest))).hexdigest()[:32]
        return Kept(
            uid=meta.uid or "", namespace=meta.namespace or "", name=meta.name or "", resource_version=version,
            metadata=metadata, spec=spec, spec_sha256=spec_sha256, spec_brief=brief, rest=rest, digest=digest,
        )  # fmt: skip

    def _strip_annotations(self, meta: Meta) -> None:
        annotations = meta.annotations
        if annotations is None:
            return
        kept = {name: value for name, value in annotations.items() if self._is_kept(name)}
        if (applied := annotations.get(LAST_APPLIED)) is not None:
            kept[LAST_APPLIED] = f"hmac:{self.hashed(applied)}"
        meta.annotations = kept or None

    def _spec(self, found: Object) -> tuple[bytes, bytes]:
        """Take the spec out of an object; return it, and what stands for it where it is known."""
        match found:
            case Pod(spec=PodSpec() as spec):
                found.spec = None
                self._strip(spec)
                brief = PodSpec(node_name=spec.node_name, service_account_name=spec.service_account_name)
                return _ENCODE(spec), _ENCODE(brief)
            case Workload(spec=WorkloadSpec() as told):
                found.spec = None
                told.template = self._template(told.template)
                if told.job_template is not None and told.job_template.spec is not None:
                    told.template = self._template(told.job_template.spec.template)
                told.job_template = None
                return _ENCODE(told), b""
            case Node(spec=spec) if spec is not None:
                found.spec = None
                return _ENCODE(spec), b""
            case Pod() | Workload() | Node() | Namespace() | Event() | Object():
                return b"", b""

    def _template(self, template: Template | None) -> Template | None:
        if template is None or template.spec is None:
            return None
        spec = template.spec
        self._strip(spec)
        images = [one.image for one in _containers(spec) if one.image]
        return Template(
            sha256=hashlib.sha256(_TOKEN_VOLUME.sub(b'"kube-api-access"', _ENCODE(spec))).hexdigest()[:32],
            images=images or None, service_account_name=spec.service_account_name,
        )  # fmt: skip

    def _strip(self, spec: PodSpec) -> None:
        """Put hashes in the place of the values of environment variables."""
        for container in _containers(spec):
            for env in container.env or ():
                env.hmac = self.hashed(env.value) if env.value else None
                env.value = None


def _containers(spec: PodSpec) -> Iterable[Container]:
    for containers in (spec.init_containers, spec.containers, spec.ephemeral_containers):
        yield from containers or ()

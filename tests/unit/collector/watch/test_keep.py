"""What is kept of objects, what is compared, and what never leaves."""

from __future__ import annotations

import json
from typing import Any

import pytest

from collector.watch.keep import Keeper, Kept
from collector.watch.lines import Entry, object_line, read
from collector.watch.resources import Resource, resource_of
from collector.watch.settings import ANNOTATIONS, RESOURCES
from tests.parts.watcher import pod

PODS = resource_of("pods")


@pytest.fixture
def keeper() -> Keeper:
    return Keeper(b"k" * 32, ANNOTATIONS)


def kept(keeper: Keeper, told: dict[str, Any], resource: Resource = PODS) -> Kept:
    return keeper.keep(resource, json.dumps(told).encode())


def line_of(found: Kept, resource: Resource = PODS, *, known: Entry | None = None, file: int = 1) -> dict[str, Any]:
    version = resource.served[0].api_version
    line = object_line("ADDED", resource, version, found, source="watch", now=7, known=known, file=file)
    told: dict[str, Any] = json.loads(line)
    return told


def entry(found: Kept, file: int) -> Entry:
    return Entry(found.namespace, found.name, found.resource_version, found.digest, found.spec_sha256, file)


def test_equal_values_are_equal_under_one_key_alone(keeper: Keeper) -> None:
    other = Keeper(b"o" * 32, ANNOTATIONS)

    assert keeper.hashed("secret") == keeper.hashed("secret") != keeper.hashed("Secret")
    assert keeper.hashed("secret") != other.hashed("secret")
    assert keeper.key_id != other.key_id


def test_the_resource_version_and_what_is_not_kept_change_no_digest(keeper: Keeper) -> None:
    one, other = pod("web"), pod("web")
    other["metadata"] |= {"resourceVersion": "9", "managedFields": [], "annotations": {"unknown/x": "1"}}
    other["status"]["observedGeneration"] = 4

    assert kept(keeper, one).digest == kept(keeper, other).digest
    assert kept(keeper, other).resource_version == "9"


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"labels": {"app": "api"}}}, {"spec": {"hostPID": True}}, {"status": {"phase": "Failed"}},
        {"spec": {"automountServiceAccountToken": False}}, {"metadata": {"deletionTimestamp": "2026-11-25T00:00:00Z"}},
    ],
)  # fmt: skip
def test_what_is_kept_changes_the_digest(keeper: Keeper, change: dict[str, dict[str, Any]]) -> None:
    told = pod("web")
    before = kept(keeper, told).digest
    for part, values in change.items():
        told[part] |= values

    assert kept(keeper, told).digest != before


def test_a_changed_value_of_the_environment_shows_and_is_not_told(keeper: Keeper) -> None:
    one, other = kept(keeper, pod("web", env="hunter2")), kept(keeper, pod("web", env="hunter3"))

    assert one.digest != other.digest
    assert b"hunter" not in one.spec + other.spec


def test_a_workload_keeps_its_template_as_a_digest_and_images(keeper: Keeper) -> None:
    spec = pod("web", env="hunter2")["spec"]
    job = {
        "metadata": {"name": "nightly"},
        "spec": {"schedule": "@daily", "jobTemplate": {"spec": {"template": {"spec": spec}}}},
    }
    resource = resource_of("cronjobs")
    told = line_of(kept(keeper, job, resource), resource)["object"]

    assert told["spec"]["schedule"] == "@daily"
    assert told["spec"]["template"]["images"] == ["registry.example.com/web:1"]
    assert len(told["spec"]["template"]["sha256"]) == 32
    assert "jobTemplate" not in told["spec"]


def test_pods_of_one_template_have_one_spec_digest_whatever_their_token_volume_is_called(keeper: Keeper) -> None:
    digests = set()
    for name in ("abcde", "x7k2p"):
        told = pod("web")
        told["spec"]["volumes"] = [{"name": f"kube-api-access-{name}", "projected": {"sources": []}}]
        told["spec"]["containers"][0]["volumeMounts"] = [{"name": f"kube-api-access-{name}", "mountPath": "/var/run"}]
        digests.add(kept(keeper, told).spec_sha256)

    assert len(digests) == 1


def test_a_spec_that_stands_in_the_same_file_is_not_written_again(keeper: Keeper) -> None:
    found = kept(keeper, pod("web"))

    same, later = line_of(found, known=entry(found, 1)), line_of(found, known=entry(found, 1), file=2)

    assert same["spec_same"] is True
    assert same["object"]["spec"] == {"nodeName": "n1", "serviceAccountName": "web"}
    assert "spec_same" not in later
    assert later["object"]["spec"]["containers"]


def test_a_line_tells_its_own_memory_what_it_needs(keeper: Keeper) -> None:
    told = pod("web")
    told["metadata"] |= {"uid": "u1", "resourceVersion": "9"}
    found = kept(keeper, told)

    written = read(object_line("ADDED", PODS, "v1", found, source="watch", now=7, known=None, file=1))

    meta = written.object.metadata
    assert (meta.uid, meta.name, meta.namespace, meta.resource_version) == ("u1", "web", "shop", "9")
    assert (written.digest, written.spec_sha256) == (found.digest, found.spec_sha256)


def test_heartbeats_of_nodes_are_no_news(keeper: Keeper) -> None:
    resource = resource_of("nodes")
    digests = set()
    for beat in ("2026-11-25T00:00:00Z", "2026-11-25T00:00:10Z"):
        condition = {"type": "Ready", "status": "True", "lastHeartbeatTime": beat}
        told = {"metadata": {"name": "n1"}, "spec": {"providerID": "x://1"}, "status": {"conditions": [condition]}}
        digests.add(kept(keeper, told, resource).digest)

    assert len(digests) == 1


@pytest.mark.parametrize("name", RESOURCES)
def test_an_object_of_nothing_is_written(keeper: Keeper, name: str) -> None:
    resource = resource_of(name)

    assert line_of(kept(keeper, {}, resource), resource)["object"]["kind"] == resource.kind
    assert line_of(kept(keeper, {"metadata": None, "spec": None}, resource), resource)["resource"] == name


def test_credentials_of_volumes_are_not_kept(keeper: Keeper) -> None:
    told = pod("web")
    told["spec"]["volumes"] = [
        {"name": "v", "csi": {"driver": "d", "volumeAttributes": {"password": "hunter2"}}},
        {"name": "w", "rbd": {"keyring": "hunter2"}},
    ]
    spec = json.loads(kept(keeper, told).spec)

    assert spec["volumes"] == [{"name": "v", "csi": {"driver": "d"}}, {"name": "w"}]

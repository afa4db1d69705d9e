"""What rows say of pods, and what an inventory answers: lives of one name, ends that nobody saw, names without uids."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from ashiato.core.inventory import Inventory, Pods, PodView, Sighting, from_audit, from_watch
from ashiato.core.inventory.records import Line

SECOND = 1_000_000_000
NOON = 1_795_608_000_000_000_000
"""2026-11-25 12:00:00 UTC."""
REAL = Path(os.environ.get("ASHIATO_DATA", ""))
needs_real = pytest.mark.skipif(not REAL.name, reason="ASHIATO_DATA names no folder of real logs")


def row(body: dict[str, Any] | str, number: int, *, time: int | None = None, observed: int = NOON) -> Line:
    text = body if isinstance(body, str) else json.dumps(body)
    return Line(f"F-{number:016x}", "watch/c/n/watch.jsonl", "c", observed, time, 0, "", text)


def clock(second: int) -> str:
    return f"2026-11-25T12:{second // 60:02d}:{second % 60:02d}Z"


def pod(name: str, uid: str, *, created: int = 0, **beside: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop", "uid": uid, "creationTimestamp": clock(created)}
    metadata |= beside.pop("metadata", {})
    return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, **beside}


def watched(type_: str, object_: dict[str, Any], *, at: int, **beside: Any) -> dict[str, Any]:
    return {"type": type_, "object": object_, "observed_time_unix_nano": str(NOON + at * SECOND), **beside}


def audited(
    verb: str, name: str, at: int, *, subresource: str = "", stage: str = "ResponseComplete", code: int = 200,
    user: str = "alice", **beside: Any,
) -> dict[str, Any]:  # fmt: skip
    return {
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "auditID": f"a-{name}-{at}", "stage": stage, "verb": verb,
        "user": {"username": user, **beside.pop("user_beside", {})}, "responseStatus": {"code": code},
        "objectRef": {"resource": "pods", "namespace": "shop", "name": name, "subresource": subresource},
        "stageTimestamp": f"2026-11-25T12:{at // 60:02d}:{at % 60:02d}.500000Z", **beside,
    }  # fmt: skip


def entered(name: str, at: int) -> dict[str, Any]:
    return audited("create", name, at, subresource="exec", stage="ResponseStarted", code=101)


def inventory(watch: Iterable[dict[str, Any]] = (), audit: Iterable[dict[str, Any]] = ()) -> Pods:
    told: list[Sighting] = []
    for number, body in enumerate(watch):
        at = int(body["observed_time_unix_nano"])
        told += [one for one in from_watch.read(row(body, number, time=at)) if isinstance(one, Sighting)]
    for number, body in enumerate(audit, 1000):
        told += from_audit.read(row(body, number))
    made = Inventory()
    made.take(told)
    return Pods(made)


def only(pods: list[PodView]) -> PodView:
    [one] = pods
    return one


# -- names ---------------------------------------------------------------------------------------------------


def test_what_only_a_name_tells_belongs_to_the_pod_that_lived_then() -> None:
    first, second = pod("db-0", "u-1"), pod("db-0", "u-2", created=100)
    pods = inventory(
        [watched("ADDED", first, at=0), watched("DELETED", first, at=60), watched("ADDED", second, at=100)],
        [entered("db-0", 30), entered("db-0", 130)],
    )

    one, two = pods.named("db-0", "shop")

    assert (one.uid, two.uid) == ("u-1", "u-2")
    assert one.last_seen_unix_nano == NOON + 30 * SECOND + SECOND // 2
    assert two.last_seen_unix_nano == NOON + 130 * SECOND + SECOND // 2
    assert {"audit", "watch"} == set(one.told)


def test_a_pod_that_only_names_tell_of_is_a_pod_without_a_uid() -> None:
    pods = inventory(audit=[audited("create", "seen", 5), audited("delete", "seen", 50, user="system:node:n1")])

    seen = only(pods.named("seen"))

    assert (seen.uid, seen.namespace) == ("", "shop")
    assert seen.start_unix_nano == NOON + 5 * SECOND + SECOND // 2
    assert seen.end_unix_nano == NOON + 50 * SECOND + SECOND // 2


def test_a_uid_that_comes_late_takes_what_its_name_told() -> None:
    names = [audited("create", "web", 0), audited("delete", "web", 90, user="system:node:n1")]

    assert only(inventory(audit=names).named("web")).uid == ""
    late = only(inventory([watched("ADDED", pod("web", "u-1"), at=1)], names).named("web"))

    assert late.uid == "u-1"
    assert late.end_unix_nano == NOON + 90 * SECOND + SECOND // 2


def test_refused_and_unfinished_requests_say_nothing() -> None:
    pods = inventory(
        audit=[audited("create", "no", 1, code=403), audited("create", "not-yet", 1, stage="RequestReceived")]
    )
    assert pods.between() == []


def test_a_static_pod_is_one_pod_by_its_own_uid_and_by_that_of_its_logs() -> None:
    mirror = pod("etcd-n1", "u-api", metadata={"annotations": {"kubernetes.io/config.mirror": "hash-1"}})
    log = pod("etcd-n1", "hash-1", spec={"nodeName": "n1"})
    pods = inventory([watched("ADDED", mirror, at=0), watched("ADDED", log, at=1)])

    assert [one.uid for one in pods.between()] == ["u-api"]
    assert [one.uid for one in pods.on_node("n1")] == ["u-api"]
    by_log = pods.with_uid("hash-1")
    assert by_log is not None
    assert (by_log.uid, by_log.aliases) == ("u-api", ("hash-1",))


# -- times ---------------------------------------------------------------------------------------------------


def test_an_end_lies_between_what_was_asked_and_what_was_observed() -> None:
    gone = {"deletionTimestamp": clock(60), "deletionGracePeriodSeconds": 30}
    pods = inventory([watched("DELETED", pod("web", "u-1", metadata=gone), at=45, source="watch")])

    web = only(pods.named("web"))

    assert (web.gone_after_unix_nano, web.end_unix_nano) == (NOON + 30 * SECOND, NOON + 45 * SECOND)


def test_an_end_that_nobody_saw_is_as_wide_as_the_gap_until_somebody_tells() -> None:
    end = {"from_unix_nano": str(NOON + 10 * SECOND), "to_unix_nano": str(NOON + 90 * SECOND)}
    absent = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "web", "namespace": "shop", "uid": "u-1"}}
    lines = [
        watched("ADDED", pod("web", "u-1"), at=0),
        watched("DELETED", absent, at=90, source="absence", end_unknown=end),
    ]
    final = audited("delete", "web", 40, responseObject=pod("web", "u-1", metadata={"deletionGracePeriodSeconds": 0}))

    unseen, told = only(inventory(lines).named("web")), only(inventory(lines, [final]).named("web"))

    assert (unseen.gone_after_unix_nano, unseen.end_unix_nano) == (NOON + 10 * SECOND, NOON + 90 * SECOND)
    exact = NOON + 40 * SECOND + SECOND // 2
    assert (told.gone_after_unix_nano, told.end_unix_nano) == (exact, exact)


def test_an_address_of_each_family_is_held_at_once_and_a_new_one_ends_the_old() -> None:
    def having(*addresses: str) -> dict[str, Any]:
        return pod("web", "u-1", status={"podIPs": [{"ip": address} for address in addresses]})

    pods = inventory(
        [
            watched("ADDED", having("10.0.0.1", "fd00::1"), at=0),
            watched("MODIFIED", having("10.0.0.2", "fd00::1"), at=50),
        ]
    )

    def holds(address: str, second: int) -> bool:
        at = NOON + second * SECOND
        return bool(pods.holding(address, at, at + 1))

    assert [holds("10.0.0.1", 10), holds("10.0.0.1", 60)] == [True, False]
    assert [holds("10.0.0.2", 10), holds("10.0.0.2", 60)] == [False, True]
    assert [holds("fd00::1", 10), holds("fd00::1", 60)] == [True, True]


def test_what_was_known_then_is_told_as_it_was() -> None:
    made = Inventory()
    early = row(watched("ADDED", pod("web", "u-1"), at=0), 1, time=NOON, observed=NOON + SECOND)
    late = row(watched("DELETED", pod("web", "u-1"), at=5), 2, time=NOON, observed=NOON + 500 * SECOND)
    for line in (late, early):
        made.take([one for one in from_watch.read(line) if isinstance(one, Sighting)])

    assert only(Pods(made).between()).end_unix_nano == NOON + 5 * SECOND
    assert only(Pods(made, known_unix_nano=NOON + 60 * SECOND).between()).end_unix_nano is None
    assert Pods(made, known_unix_nano=NOON).between() == []


# -- what pods are -------------------------------------------------------------------------------------------


def test_a_tag_is_told_with_every_digest_it_pointed_at() -> None:
    def running(name: str, digest: str, created: int) -> dict[str, Any]:
        status = {"name": "c", "image": "registry/app:latest", "imageID": f"registry/app@sha256:{digest}"}
        return pod(
            name, f"u-{name}", created=created, status={"containerStatuses": [status]},
            spec={"containers": [{"name": "c", "image": "registry/app:latest"}]},
        )  # fmt: skip

    pods = inventory([watched("ADDED", running("a", "11", 0), at=0), watched("ADDED", running("b", "22", 100), at=100)])

    told = [(digest.rpartition(":")[2], view.name) for digest, _, view in pods.tags("registry/app:latest")]
    assert told == [("11", "a"), ("22", "b")]
    assert [one.name for one in pods.of_image("sha256:22")] == ["b"]
    assert [one.name for one in pods.of_image("registry/app")] == ["a", "b"]


def test_containers_have_starts_exits_and_reasons_over_restarts() -> None:
    ended = {"exitCode": 137, "reason": "OOMKilled", "startedAt": clock(1), "finishedAt": clock(30)}
    status = {
        "name": "c", "restartCount": 1, "containerID": "containerd://bb",
        "state": {"running": {"startedAt": clock(31)}},
        "lastState": {"terminated": {**ended, "containerID": "containerd://aa"}},
    }  # fmt: skip
    pods = inventory([watched("MODIFIED", pod("web", "u-1", status={"containerStatuses": [status]}), at=40)])

    first, second = only(pods.between()).runs

    assert (first.restart, first.exit_code, first.reason, first.container_id) == (
        0,
        137,
        "OOMKilled",
        "containerd://aa",
    )
    assert (first.started_unix_nano, first.exited_unix_nano) == (NOON + SECOND, NOON + 30 * SECOND)
    assert (second.restart, second.started_unix_nano, second.exited_unix_nano) == (1, NOON + 31 * SECOND, None)


def test_the_token_of_a_pod_says_which_pod_used_an_account() -> None:
    extra = {
        "authentication.kubernetes.io/pod-uid": ["u-1"], "authentication.kubernetes.io/pod-name": ["web"],
    }  # fmt: skip
    user = "system:serviceaccount:shop:robot"
    pods = inventory(audit=[audited("list", "", 30, user=user, user_beside={"extra": extra}, sourceIPs=["10.0.0.4"])])

    used = only(pods.of_account("shop", "robot", NOON, NOON + 60 * SECOND))

    assert (used.uid, used.name, used.namespace) == ("u-1", "web", "shop")


def test_a_workload_owns_through_replica_sets_that_nobody_saw() -> None:
    owner = {"kind": "ReplicaSet", "name": "web-7d9c5b6f8", "uid": "rs-1", "controller": True}
    told = {"ownerReferences": [owner], "labels": {"pod-template-hash": "7d9c5b6f8"}}
    pods = inventory([watched("ADDED", pod("web-7d9c5b6f8-x", "u-1", metadata=told), at=0)])

    assert only(pods.of_workload("deployment/web")).owners == ("replicaset/web-7d9c5b6f8", "deployment/web")


def test_an_object_of_another_form_is_known_by_its_metadata() -> None:
    pods = inventory([watched("ADDED", pod("odd", "u-1", spec={"containers": "none"}), at=0)])
    assert only(pods.between()).name == "odd"


# -- real objects ----------------------------------------------------------------------------------------------


@needs_real
def test_the_pods_of_a_real_cluster_are_read_as_they_are() -> None:
    lists = sorted((REAL / "k8s_objects" / "troubleshoot_k3s").glob("**/pods/*.json"))
    objects = [item for path in lists for item in json.loads(path.read_text()).get("items") or []]
    assert len(objects) == 8
    pods = inventory(watched("ADDED", item, at=0) for item in objects)
    for item in objects:
        view = pods.with_uid(item["metadata"]["uid"])
        assert view is not None
        assert (view.namespace, view.name) == (item["metadata"]["namespace"], item["metadata"]["name"])
        assert dict(view.labels) == item["metadata"].get("labels", {})
        if address := item["status"].get("podIP"):
            assert address in [one.value for one in view.addresses]
        ids = {one["containerID"] for one in item["status"].get("containerStatuses", []) if one.get("containerID")}
        assert ids <= {run.container_id for run in view.runs}


@needs_real
def test_every_pod_that_real_audit_events_made_is_known() -> None:
    made, named = {}, set()
    lines = []
    for path in sorted((REAL / "k8s_audit" / "falco_traces").glob("*.json")):
        for text in path.read_text().splitlines():
            try:
                event = json.loads(text)
            except ValueError:
                continue
            lines.append(text)
            ref = event.get("objectRef", {})
            answer = event.get("responseObject") or {}
            if (event.get("verb"), ref.get("resource"), answer.get("kind")) == ("create", "pods", "Pod"):
                made[answer["metadata"]["uid"]] = answer["metadata"]["name"]
            if ref.get("subresource") in ("exec", "attach"):
                named.add(ref["name"])
    inventory_ = Inventory()
    for number, text in enumerate(lines):
        inventory_.take(from_audit.read(row(text, number)))
    pods = Pods(inventory_)
    assert len(made) > 5
    assert {uid: view.name for uid in made if (view := pods.with_uid(uid)) is not None} == made
    assert named
    assert all(pods.named(name) for name in named)

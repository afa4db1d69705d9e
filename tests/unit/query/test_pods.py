"""Pods as questions mean them: by what they were at the time, from snapshots of the inventory and what is newer."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from ashiato.adapters.archive_directory import DirectoryWriter
from ashiato.adapters.index_memory import MemoryIndex, MemoryIndexKeeper, MemoryIndexWriter, MemoryIndices
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.ids import Kind, Source
from ashiato.core.query import Query
from ashiato.core.query_text import parse
from ingest.inventory import InventoryKeeper
from query import pods
from query.engine import Engine, TimelineRequest
from query.pods_answer import PodsRequest, to_lines
from tests.unit.query.house import (
    CLUSTER,
    FACTS,
    INCIDENT,
    NOON,
    SECOND,
    House,
    container,
    cri,
    documents,
    index_tail_into,
    seen,
)

WATCH = Source(kind=Kind.WATCH, cluster=CLUSTER, node="cp", path="watch.jsonl")


def event(
    kind: str, name: str, uid: str, *, at: int = 0, address: str = "", labels: dict[str, str] | None = None,
    owner: tuple[str, str, str] | None = None, resource: str = "pods", **spec: Any,
) -> bytes:  # fmt: skip
    """Return a line of the watch, observed ``at`` seconds after noon."""
    metadata: dict[str, Any] = {"name": name, "namespace": "shop", "uid": uid, "labels": labels or {}}
    metadata["creationTimestamp"] = "2026-11-25T12:00:00Z"
    if owner:
        metadata["ownerReferences"] = [{"kind": owner[0], "name": owner[1], "uid": owner[2], "controller": True}]
    kinds = {"pods": "Pod", "replicasets": "ReplicaSet"}
    told = {
        "type": kind, "resource": resource, "source": "watch", "observed_time_unix_nano": str(NOON + at * SECOND),
        "object": {"kind": kinds[resource], "apiVersion": "v1", "metadata": metadata, "spec": spec,
                   "status": {"podIP": address} if address else {}},
    }  # fmt: skip
    return json.dumps(told).encode() + b"\n"


def keep(house: House) -> None:
    made = InventoryKeeper(DirectoryWriter(house.root / "archive"), telemetry=Telemetry("ingest", stream=io.StringIO()))
    made.open()
    made.step()


async def bodies(engine: Engine, anchor: str, *, start: int | None = None, end: int | None = None) -> list[str]:
    answer = await engine.timeline(
        TimelineRequest(anchor=anchor, time_start_unix_nano=start, time_end_unix_nano=end)
    )  # fmt: skip
    return [one["body"] for one in documents(answer) if one["ashiato.timeline.kind"] == "output"]


async def two_holders(house: House) -> None:
    """Pods that had one address after each other, and wrote all the time."""
    await house.send(house.file(container("old", uid="u-1")), cri(*(f"old {n}" for n in range(8))))
    await house.send(house.file(container("new", uid="u-2")), cri(*(f"new {n}" for n in range(8))))
    deleted = event("DELETED", "old", "u-1", at=4, address="10.0.0.9")
    await house.send(
        house.file(WATCH, path="/watch/watch-000001.jsonl"),
        event("ADDED", "old", "u-1", address="10.0.0.9") + deleted
        + event("MODIFIED", "new", "u-2", at=70, address="10.0.0.9"),
    )  # fmt: skip


@pytest.mark.parametrize("where", ["snapshot", "packs", "tail"])
async def test_an_address_means_the_pod_that_had_it_then(house: House, where: str) -> None:
    await two_holders(house)
    await (house.tail() if where == "tail" else house.commit())
    if where == "snapshot":
        keep(house)

    told = await bodies(house.engine(), "ip:10.0.0.9", end=NOON + 60 * SECOND)

    assert [body for body in told if body.startswith("old")] == ["old 0", "old 1", "old 2", "old 3"]
    assert [body for body in told if body.startswith("new")] == []


async def test_a_fact_that_comes_late_is_right_at_once_for_old_rows(house: House) -> None:
    await house.send(house.file(container("web-1", uid="u-1")), cri("one"))
    await house.commit()
    keep(house)
    engine = house.engine()
    query = Query(where=parse("k8s.pod.label.team:payments"))
    assert documents(await engine.search(query)) == []

    await house.send(
        house.file(WATCH, path="/watch.jsonl"), event("ADDED", "web-1", "u-1", labels={"team": "payments"})
    )
    await house.tail()

    assert [one["body"] for one in documents(await engine.search(query))] == ["one"]


@pytest.mark.parametrize(
    "text",
    [
        "k8s.deployment.name:web", "k8s.replicaset.name:web-rs", "container.image.name:registry/app",
        "k8s.pod.ip:10.0.0.7", 'k8s.pod.label.app:"a b"', "NOT k8s.deployment.name:other AND source_kind:container",
    ],
)  # fmt: skip
async def test_what_a_pod_is_can_be_asked_of_its_rows(house: House, text: str) -> None:
    await house.send(house.file(container("x", uid="u-1")), cri("wanted"))
    await house.send(
        house.file(WATCH, path="/watch.jsonl"),
        event("ADDED", "web-rs", "rs-1", resource="replicasets", owner=("Deployment", "web", "d-1"))
        + event("ADDED", "x", "u-1", owner=("ReplicaSet", "web-rs", "rs-1"), labels={"app": "a b"}, address="10.0.0.7",
                containers=[{"name": "web", "image": "registry/app:1"}]),
    )  # fmt: skip
    await house.commit()
    keep(house)

    answer = await house.engine().search(Query(where=parse(text)))

    found = [one["body"] for one in documents(answer) if one["ashiato.source.kind"] == "container"]
    assert found == ["wanted"]


async def test_packs_too_many_to_read_are_searched_and_that_is_said(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pods, "PACKS_READ_MAX", 1)
    watch = house.file(WATCH, path="/watch.jsonl")
    for number in range(3):
        await house.send(watch, event("ADDED", f"web-{number}", f"u-{number}", nodeName="n7"))
        await house.commit()

    answer = await house.engine().timeline(TimelineRequest(anchor="pod:web-2"))

    assert [one["ashiato.object.name"] for one in documents(answer)] == ["web-2"]
    assert any("does not know 2 packs yet" in finding for finding in answer.coverage.findings)


async def test_a_question_with_several_conditions_looks_at_what_is_newer_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pods, "PACKS_READ_MAX", 1)
    await house.send(house.file(container("web-1", uid="u-1")), cri("one"))
    await house.send(
        house.file(WATCH, path="/w.jsonl"),
        event("ADDED", "web-1", "u-1", labels={"team": "payments", "app": "web"}, address="10.0.0.9"),
    )
    await house.commit()
    query = Query(where=parse("k8s.pod.label.team:payments AND k8s.pod.label.app:web AND k8s.pod.ip:10.0.0.9"))

    answer = await house.engine().search(query)

    assert [one["body"] for one in documents(answer)] == ["one"]
    behind = [finding for finding in answer.coverage.findings if "packs yet" in finding]
    assert behind == [
        (
            "the pod inventory does not know 1 packs yet: they were searched for k8s.pod.label.team:payments, "
            "k8s.pod.label.app:web, k8s.pod.ip:10.0.0.9"
        )
    ]


async def test_what_only_the_hot_index_has_tells_of_pods_too(house: House) -> None:
    indices = MemoryIndices()
    await house.send(house.file(container("web-1", uid="u-1")), cri("one"))
    await house.commit()
    keep(house)
    await house.send(house.file(WATCH, path="/watch.jsonl"), event("ADDED", "web-1", "u-1", labels={"app": "x"}))
    await house.tail()
    await index_tail_into(house, MemoryIndexKeeper(indices), MemoryIndexWriter(indices))

    answer = await house.engine(MemoryIndex(indices), has_tail=False).search(Query(where=parse("k8s.pod.label.app:x")))

    assert [one["body"] for one in documents(answer)] == ["one"]


async def test_a_gap_of_the_watch_is_a_gap_of_the_answer(house: House) -> None:
    gap = {
        "type": "GAP", "resource": "pods", "observed_time_unix_nano": str(NOON + 20 * SECOND),
        "object": {"kind": "Gap", "resource": "pods", "reason": "expired", "from_unix_nano": str(NOON + 10 * SECOND),
                   "to_unix_nano": str(NOON + 20 * SECOND)},
    }  # fmt: skip
    await house.send(
        house.file(WATCH, path="/watch.jsonl"),
        event("ADDED", "web-1", "u-1", nodeName="n1") + json.dumps(gap).encode() + b"\n",
    )
    await house.commit()
    keep(house)

    whole = await house.engine().timeline(TimelineRequest(anchor="pod:web-1"))
    before = await house.engine().timeline(TimelineRequest(anchor="pod:web-1", time_end_unix_nano=NOON + 5 * SECOND))

    assert ("watch", "gap", "source_reported", 0) in seen(whole)
    assert ("watch", "gap", "source_reported", 0) not in seen(before)


async def test_docker_containers_are_found_by_the_name_that_docker_gives_them(house: House) -> None:
    uid = "ab" * 32
    source = Source(
        kind=Kind.CONTAINER, cluster=CLUSTER, node="n1", namespace="docker", pod=uid[:12], pod_uid=uid,
        container=uid[:12],
    )  # fmt: skip
    path = f"/var/lib/docker/containers/{uid}/{uid}-json.log"
    line = {"log": "hello\n", "stream": "stdout", "time": "2026-11-25T12:00:01.000000001Z"}
    await house.send(house.file(source, path=path), json.dumps(line).encode() + b"\n")
    facts = {
        "apiVersion": "docker/config.v2", "kind": "Container", "spec": {"image": "nginx:1.27"},
        "metadata": {"uid": uid, "namespace": "docker", "name": "frontend"},
        "status": {"running": True, "startedAt": "2026-11-25T12:00:00Z", "restartCount": 0},
    }  # fmt: skip
    told = {"type": "ADDED", "object": facts, "observed_time_unix_nano": str(NOON + SECOND)}
    watch = Source(kind=Kind.WATCH, cluster=CLUSTER, node="n1", path="docker.watch.jsonl")
    await house.send(house.file(watch, path="/state/docker.watch.jsonl"), json.dumps(told).encode() + b"\n")
    await house.tail()

    assert await bodies(house.engine(), "pod:frontend") == ["hello"]
    assert await bodies(house.engine(), f"pod:docker/{uid[:12]}") == ["hello"]
    assert await bodies(house.engine(), "image:nginx") == ["hello"]


async def test_a_listing_tells_what_ran_on_a_node_at_a_moment_the_gone_included(house: House) -> None:
    await house.take([INCIDENT])
    keep(house)
    engine = house.engine()
    uid = FACTS["pods"][FACTS["evil"]][1]
    [toolbox] = [pod for pod in (await engine.pods(PodsRequest())).pods if pod.uid == uid]
    assert toolbox.end_unix_nano is not None

    then = PodsRequest(
        node="node-1", time_start_unix_nano=toolbox.end_unix_nano - 1, time_end_unix_nano=toolbox.end_unix_nano
    )
    after = PodsRequest(node="node-1", time_start_unix_nano=toolbox.end_unix_nano)

    assert {pod.name for pod in (await engine.pods(then)).pods} == {FACTS["evil"], FACTS["web_deleted"]}
    assert FACTS["evil"] not in {pod.name for pod in (await engine.pods(after)).pods}
    lines = [json.loads(line) for line in to_lines(await engine.pods(then))]
    assert [one["k8s.pod.uid"] for one in lines[:-1]] == [FACTS["pods"][FACTS["web_deleted"]][1], uid]
    assert lines[1]["ashiato.pod.addresses"][0]["value"] == "10.244.1.14"
    assert "privileged toolbox" in lines[1]["ashiato.pod.posture"]
    assert lines[-1]["coverage"]["intervals"]


async def test_a_listing_of_nothing_says_what_could_not_tell(house: House) -> None:
    await house.send(house.file(container("web-1")), cri("one"))
    await house.tail()

    answer = await house.engine().pods(PodsRequest(namespace="elsewhere"))

    assert list(answer.pods) == []
    assert not answer.coverage.complete
    assert ("watch", "unobservable", "no_source", 0) in seen(answer)

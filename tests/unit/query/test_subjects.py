"""What an anchor means: one pod, several of a name, one that only the watch or an alert knows."""

from __future__ import annotations

import json

import pytest

from ashiato.core.errors import RejectedError
from ashiato.core.ids import Kind, Source
from query.engine import TimelineRequest
from tests.unit.query.house import CLUSTER, NODE, House, container, cri, documents

PODS = Source(kind=Kind.WATCH, cluster=CLUSTER, node="cp", path="pods.watch.jsonl")
FALCO = Source(kind=Kind.FALCO, cluster=CLUSTER, node=NODE, path="var/log/falco/events.json")


def pod_event(kind: str, name: str, uid: str, *, namespace: str = "shop", deleted: str = "", **spec: object) -> bytes:
    metadata = {"name": name, "namespace": namespace, "uid": uid, "creationTimestamp": "2026-11-25T12:00:00Z"}
    if deleted:
        metadata["deletionTimestamp"] = deleted
    event = {"type": kind, "object": {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": spec}}
    return json.dumps(event).encode() + b"\n"


def alert(pod: str, rule: str, second: int, **fields: str) -> bytes:
    return json.dumps(
        {
            "rule": rule, "priority": "Notice", "output": rule, "time": f"2026-11-25T12:00:{second:02d}.000000000Z",
            "output_fields": {"k8s.pod.name": pod, **fields},
        }
    ).encode() + b"\n"  # fmt: skip


async def told(house: House, anchor: str) -> list[tuple[str, str]]:
    answer = await house.engine().timeline(TimelineRequest(anchor=anchor))
    return [
        (one["ashiato.timeline.kind"], one.get("security_rule.name") or one.get("event.action") or one["body"])
        for one in documents(answer)
    ]


async def test_pods_of_one_name_in_two_namespaces_are_the_choices(house: House) -> None:
    await house.send(house.file(container("web-0", uid="u-1", namespace="a")), cri("from a"))
    await house.send(house.file(container("web-0", uid="u-2", namespace="b")), cri("from b"))
    await house.tail()

    with pytest.raises(RejectedError, match="choose one: pod:a/web-0, pod:b/web-0"):
        await told(house, "pod:web-0")

    assert await told(house, "pod:b/web-0") == [("output", "from b")]


async def test_pods_of_one_name_after_each_other_are_told_apart_by_uid(house: House) -> None:
    await house.send(house.file(container("db-0", uid="u-1")), cri("the first"))
    await house.send(house.file(container("db-0", uid="u-2")), cri("the second"))
    watch = house.file(PODS, path="/pods.watch.jsonl")
    gone = "2026-11-25T12:00:10Z"
    await house.send(
        watch,
        pod_event("ADDED", "db-0", "u-1")
        + pod_event("DELETED", "db-0", "u-1", deleted=gone)
        + pod_event("ADDED", "db-0", "u-2"),
    )
    falco = house.file(FALCO, path="/var/log/falco/events.json")
    await house.send(falco, alert("db-0", "in its life", 5) + alert("db-0", "long after", 40))
    await house.tail()

    with pytest.raises(RejectedError, match=r"uid:u-1 \(shop/db-0\), uid:u-2 \(shop/db-0\)"):
        await told(house, "pod:shop/db-0")
    first = await told(house, "uid:u-1")

    assert ("output", "the first") in first
    assert ("output", "the second") not in first
    assert [one for one in first if one[0] == "lifecycle"] == [("lifecycle", "ADDED"), ("lifecycle", "DELETED")]
    assert [one for one in first if one[0] == "alert"] == [("alert", "in its life")]


async def test_a_pod_whose_logs_were_never_held_is_known_from_the_watch(house: House) -> None:
    await house.send(house.file(PODS, path="/pods.watch.jsonl"), pod_event("ADDED", "quiet", "u-7"))
    await house.tail()

    assert await told(house, "pod:quiet") == [("lifecycle", "ADDED")]
    assert await told(house, "uid:u-7") == [("lifecycle", "ADDED")]


async def test_an_alert_that_names_no_namespace_still_counts(house: House) -> None:
    await house.send(house.file(container("web-1")), cri("one"))
    falco = house.file(FALCO, path="/var/log/falco/events.json")
    await house.send(
        falco,
        alert("web-1", "nowhere said", 1)
        + alert("web-1", "here", 2, **{"k8s.ns.name": "shop"})
        + alert("web-1", "elsewhere", 3, **{"k8s.ns.name": "other"}),
    )
    await house.tail()

    assert [one for one in await told(house, "pod:shop/web-1") if one[0] == "alert"] == [
        ("alert", "nowhere said"), ("alert", "here"),
    ]  # fmt: skip


async def test_a_watch_event_that_is_damaged_hides_no_other(house: House) -> None:
    watch = house.file(PODS, path="/pods.watch.jsonl")
    await house.send(watch, b'{"type":"ADDED","object":\n' + pod_event("ADDED", "web-1", "u-1"))
    await house.tail()

    assert await told(house, "pod:web-1") == [("lifecycle", "ADDED")]


@pytest.mark.parametrize(
    ("anchor", "found"),
    [
        ("image:registry/app", 1), ("image:registry/app:1.2", 1), ("image:registry/ap", 0),
        ("workload:shop/pod/none", 0),
    ],
)  # fmt: skip
async def test_an_image_is_named_with_or_without_its_tag(house: House, anchor: str, found: int) -> None:
    watch = house.file(PODS, path="/pods.watch.jsonl")
    await house.send(
        watch, pod_event("ADDED", "web-1", "u-1", containers=[{"name": "web", "image": "registry/app:1.2"}])
    )
    await house.tail()

    assert len(await told(house, anchor)) == found


async def test_a_pod_whose_times_lie_at_the_end_of_time_still_has_a_timeline(house: House) -> None:
    """What an API server says of one pod must not make the question about it one that cannot be asked."""
    event = pod_event("DELETED", "odd", "u-1", deleted="2262-04-11T23:47:16Z")
    early = event.replace(b"2026-11-25T12:00:00Z", b"1677-09-21T00:12:44Z")
    await house.send(house.file(PODS), event + early)
    await house.tail()

    assert ("lifecycle", "DELETED") in await told(house, "pod:shop/odd")

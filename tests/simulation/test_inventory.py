"""The pod inventory of a cluster that churns: what the watch missed, audit tells; without it, the gaps do."""

from __future__ import annotations

import io
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ashiato.adapters.archive_directory import DirectoryWriter
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.ids import Kind, Source
from ashiato.core.instant import print_instant
from ashiato.core.inventory import Pods, PodView
from ingest.inventory import InventoryKeeper
from tests.parts.apiserver import ApiServer, serving
from tests.parts.watcher import Watcher, pod, until
from tests.unit.query.house import CLUSTER, House

WATCH = Source(kind=Kind.WATCH, cluster=CLUSTER, node="cp", path="watch.jsonl")
AUDIT = Source(kind=Kind.AUDIT, cluster=CLUSTER, node="cp", path="audit.log")
PODS = 10_000
CUTS = 3
PIECE = 256 * 1024


@dataclass
class Cluster:
    """An API server that writes an audit log of pods, as its policy says."""

    api: ApiServer
    audit: list[bytes] = field(default_factory=list)
    lives: dict[str, list[int | None]] = field(default_factory=dict)
    """(born, died) by uid."""
    names: dict[str, str] = field(default_factory=dict)

    def create(self, name: str) -> None:
        made = self.api.put("pods", {**pod(name, node=f"n{len(self.lives) % 20}")})
        self.lives[made["metadata"]["uid"]] = [time.time_ns(), None]
        self.names[name] = made["metadata"]["uid"]
        self._log("create", made)

    def delete(self, name: str) -> None:
        self.api.delete("pods", name, "shop")
        uid = self.names[name]
        self.lives[uid][1] = time.time_ns()
        self._log("delete", {"metadata": {"name": name, "namespace": "shop", "uid": uid,
                                          "deletionGracePeriodSeconds": 0}})  # fmt: skip

    def _log(self, verb: str, answer: dict[str, Any]) -> None:
        event = {
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse", "auditID": str(uuid.uuid4()),
            "stage": "ResponseComplete", "verb": verb, "user": {"username": "system:admin"},
            "objectRef": {"resource": "pods", "namespace": "shop", "name": answer["metadata"]["name"]},
            "responseStatus": {"code": 200}, "responseObject": answer, "stageTimestamp": print_instant(time.time_ns()),
        }  # fmt: skip
        self.audit.append(json.dumps(event).encode() + b"\n")


@pytest.fixture(scope="module")
def churned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, bytes]]:
    """A cluster in which 10,000 pods came, half of them went, and the watch was cut off and forgotten three times."""
    with serving() as api:
        cluster = Cluster(api)
        watcher = Watcher(tmp_path_factory.mktemp("watch"), kube_url=api.url, resources=("pods",))
        for number in range(PODS // 2):
            cluster.create(f"web-{number}")
        with watcher.running(files_kept=1000):
            until(lambda: set(watcher.standing()) == api.uids("pods"))
            for number in range(PODS // 2, PODS):
                cluster.create(f"web-{number}")
                cluster.delete(f"web-{number - PODS // 4}")
                if number % (PODS // (2 * CUTS) + 1) == 0:
                    forget(cluster, watcher, number)
            until(lambda: set(watcher.standing()) == api.uids("pods"))
        yield cluster, watcher.content()


def forget(cluster: Cluster, watcher: Watcher, number: int) -> None:
    """Cut the watch off; pods come and go, one that was known goes, and all of it is forgotten (410)."""
    api, syncs = cluster.api, len(watcher.lines("SYNC"))
    until(lambda: set(watcher.standing()) == api.uids("pods"))
    api.faults.status["pods"] = 503
    api.break_off()
    broken = watcher.telemetry.value("watch_broken_total", resource="pods")
    until(lambda: watcher.telemetry.value("watch_broken_total", resource="pods") > broken)
    for brief in range(5):
        cluster.create(f"brief-{number}-{brief}")
        cluster.delete(f"brief-{number}-{brief}")
    cluster.create(f"known-{number}")
    cluster.delete(f"web-{number % (PODS // 4)}")
    api.compact()
    api.faults.status.clear()
    until(lambda: len(watcher.lines("SYNC")) > syncs)


async def inventoried(root: Path, *logs: tuple[Source, bytes]) -> InventoryKeeper:
    """Ship logs, archive them, and return the inventory that is made of the archive."""
    house = await House(root).open()
    for source, content in logs:
        file = house.file(source, path=f"/var/log/{source.path}")
        at = 0
        while at < len(content):
            end = content.rfind(b"\n", at, at + PIECE) + 1 or len(content)
            await house.send(file, content[at:end])
            at = end
    await house.commit()
    keeper = InventoryKeeper(DirectoryWriter(root / "archive"), telemetry=Telemetry("ingest", stream=io.StringIO()))
    keeper.open()
    keeper.step()
    return keeper


def by_uid(keeper: InventoryKeeper) -> dict[str, PodView]:
    return {view.uid: view for view in Pods(keeper.inventory).between()}


async def test_no_pod_is_missing_where_the_audit_log_is_held(churned: tuple[Cluster, bytes], tmp_path: Path) -> None:
    cluster, lines = churned

    keeper = await inventoried(tmp_path, (WATCH, lines), (AUDIT, b"".join(cluster.audit)))

    known = by_uid(keeper)
    assert known.keys() == cluster.lives.keys()
    assert len([gap for gap in keeper.inventory.gaps if gap.resource == "pods"]) == CUTS
    for uid, (_, died) in cluster.lives.items():
        end = known[uid].end_unix_nano
        assert (end is None) == (died is None)
        assert died is None or (end is not None and abs(end - died) < 60_000_000_000)
    assert keeper.root is not None
    assert keeper.root.unread_rows == 0


async def test_without_the_audit_log_every_missing_pod_lies_in_a_gap(
    churned: tuple[Cluster, bytes], tmp_path: Path
) -> None:
    cluster, lines = churned

    keeper = await inventoried(tmp_path, (WATCH, lines))

    known, gaps = by_uid(keeper), [gap for gap in keeper.inventory.gaps if gap.resource == "pods"]
    assert len(gaps) == CUTS
    assert {gap.reason for gap in gaps} == {"expired"}
    missing = cluster.lives.keys() - known.keys()
    assert len(missing) == 5 * CUTS
    for uid in missing:
        born, died = cluster.lives[uid]
        assert born is not None
        assert died is not None
        assert any(gap.start_unix_nano <= born and died <= gap.end_unix_nano for gap in gaps)


async def test_a_pod_that_ended_unseen_ended_within_the_gap(churned: tuple[Cluster, bytes], tmp_path: Path) -> None:
    cluster, lines = churned

    keeper = await inventoried(tmp_path, (WATCH, lines))

    gaps = [gap for gap in keeper.inventory.gaps if gap.resource == "pods"]
    unseen = [view for view in by_uid(keeper).values() if "absence" in view.told]
    assert len(unseen) == CUTS
    for view in unseen:
        died = cluster.lives[view.uid][1]
        low, high = view.gone_after_unix_nano, view.end_unix_nano
        assert died is not None
        assert low is not None
        assert high is not None
        assert low <= died <= high
        assert any(gap.start_unix_nano == low and high <= gap.end_unix_nano for gap in gaps)

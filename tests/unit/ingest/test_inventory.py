"""The keeper of the pod inventory: from packs to snapshots and back, whatever is interrupted, lost or damaged."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from ashiato.adapters.archive_directory import DirectoryWriter
from ashiato.adapters.inventory import ROOTS, SEGMENTS, InventoryReader
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.errors import TransientError
from ashiato.core.ids import Kind, Source
from ashiato.core.inventory import Inventory, Pods
from ashiato.core.ports import Bucket, ObjectRef
from ingest.inventory import InventoryKeeper
from tests.unit.query.house import CLUSTER, FACTS, INCIDENT, NOON, SECOND, House, container, cri

PODS = Source(kind=Kind.WATCH, cluster=CLUSTER, node="cp", path="watch.jsonl")


@pytest.fixture
async def house(tmp_path: Path) -> House:
    return await House(tmp_path).open()


def keeper(house: House, *, again: bool = False) -> InventoryKeeper:
    made = InventoryKeeper(DirectoryWriter(house.root / "archive"), telemetry=Telemetry("ingest", stream=io.StringIO()))
    made.open(again=again)
    return made


def records(inventory: Inventory) -> dict[str, bytes]:
    return {key: inventory.record(key) for key in inventory.all_keys()}


def line(kind: str, name: str, uid: str, *, node: str = "n1", address: str = "", second: int = 0) -> bytes:
    status = {"podIP": address} if address else {}
    pod = {
        "kind": "Pod", "apiVersion": "v1", "spec": {"nodeName": node}, "status": status,
        "metadata": {"name": name, "namespace": "shop", "uid": uid, "creationTimestamp": "2026-11-25T12:00:00Z"},
    }  # fmt: skip
    told = {"type": kind, "object": pod, "resource": "pods", "source": "watch"}
    return json.dumps({**told, "observed_time_unix_nano": str(NOON + second * SECOND)}).encode() + b"\n"


async def test_what_ran_on_a_node_and_no_longer_exists_is_told(house: House) -> None:
    await house.take([INCIDENT])
    made = keeper(house)

    assert made.step()

    pods = Pods(made.inventory)
    [toolbox] = pods.named("debug-toolbox")
    assert toolbox.end_unix_nano is not None
    at = toolbox.end_unix_nano - SECOND
    assert toolbox.name in [pod.name for pod in pods.on_node("node-1", at, at + 1)]
    assert toolbox.name not in [pod.name for pod in pods.on_node("node-1", toolbox.end_unix_nano)]
    assert set(toolbox.told) >= {"watch", "audit", "path"}
    assert {"privileged toolbox", "hostPath /"} <= set(toolbox.posture)
    assert toolbox.runs[0].logged_unix_nano is not None
    assert [pod.uid for pod in pods.holding(toolbox.addresses[0].value)] == [toolbox.uid]
    assert FACTS["pods"]["debug-toolbox"] == ["shop", toolbox.uid, toolbox.nodes[0].value]
    assert {pod.name: [pod.namespace, pod.uid, pod.nodes[0].value] for pod in pods.between()} == FACTS["pods"]


async def test_a_snapshot_is_what_a_rebuild_makes(house: House) -> None:
    watch = house.file(PODS, path="/var/log/ashiato/watch/watch-000001.jsonl")
    first = keeper(house)
    for number in range(12):
        event = line("ADDED", f"web-{number % 5}", f"u-{number % 5}", address=f"10.0.0.{number}", second=number)
        await house.send(watch, event)
        await house.commit()
        first.step()
        if number % 4 == 3:
            first = keeper(house)

    again = keeper(house, again=True)
    again.step()

    assert records(keeper(house).inventory) == records(again.inventory) == records(first.inventory)
    assert len(again.inventory) == 5
    root = InventoryReader(house.archive).newest()
    assert root is not None
    assert len(root.segments) < 6


async def test_logs_alone_tell_of_a_pod(house: House) -> None:
    file = house.file(container("job-1", uid="u-9", node="node-7"), restart=2)
    await house.send(file, cri("one", "two", "three", start=NOON))
    await house.commit()
    made = keeper(house)

    made.step()

    [pod] = Pods(made.inventory).on_node("node-7", NOON + SECOND, NOON + SECOND + 1)
    assert (pod.namespace, pod.name, pod.uid, pod.told) == ("shop", "job-1", "u-9", ("path",))
    assert pod.end_unix_nano is None
    assert pod.last_seen_unix_nano == NOON + 2 * SECOND + 1
    assert [(run.container, run.restart) for run in pod.runs] == [("web", 2)]
    assert pod.runs[0].logged_unix_nano == (NOON + 1, NOON + 2 * SECOND + 1)
    assert pod.row == f"{file.file_id}-{0:016x}"


@pytest.mark.parametrize("damaged", [SEGMENTS, ROOTS])
async def test_a_damaged_snapshot_is_made_again_from_packs(house: House, damaged: str) -> None:
    watch = house.file(PODS, path="/watch.jsonl")
    await house.send(watch, line("ADDED", "web-1", "u-1"))
    await house.commit()
    keeper(house).step()
    for path in (house.root / "archive" / "work" / damaged).rglob("*"):
        if path.is_file():
            path.chmod(0o600)
            path.write_bytes(path.read_bytes()[:-3] + b"???")

    assert InventoryReader(house.archive).load() is None
    made = keeper(house)
    made.step()

    assert [pod.name for pod in Pods(made.inventory).between()] == ["web-1"]


async def test_a_pack_that_cannot_be_read_is_named(house: House) -> None:
    watch = house.file(PODS, path="/watch.jsonl")
    await house.send(watch, line("ADDED", "web-1", "u-1"))
    await house.commit()
    [pack] = house.archiver.journal.state.packs.values()
    for path in (house.root / "archive" / "evidence").rglob("*.parquet"):
        path.chmod(0o600)
        path.write_bytes(b"\0" * path.stat().st_size)
    made = keeper(house)

    made.step()

    assert made.root is not None
    assert made.root.unread_packs == (pack.path,)
    assert keeper(house).root == made.root


async def test_lines_that_cannot_be_read_are_counted(house: House) -> None:
    watch = house.file(PODS, path="/watch.jsonl")
    await house.send(watch, b'{"type":"ADDED","object":\n' + line("ADDED", "web-1", "u-1"))
    await house.commit()
    made = keeper(house)

    made.step()

    assert made.root is not None
    assert (made.root.unread_rows, made.root.objects) == (1, 1)


class Failing(DirectoryWriter):
    """Puts nothing until it is told to."""

    fails = True

    def put(self, bucket: Bucket, path: str, content: bytes) -> ObjectRef:
        if self.fails:
            raise TransientError("the store is away")
        return super().put(bucket, path, content)


async def test_what_was_read_is_put_when_the_store_is_there_again(house: House) -> None:
    watch = house.file(PODS, path="/watch.jsonl")
    await house.send(watch, line("ADDED", "web-1", "u-1"))
    await house.commit()
    store = Failing(house.root / "archive")
    made = InventoryKeeper(store, telemetry=Telemetry("ingest", stream=io.StringIO()))
    made.open()

    with pytest.raises(TransientError):
        made.step()
    store.fails = False

    assert made.step()
    assert records(keeper(house).inventory) == records(made.inventory) != {}

"""What the pod inventory costs: list and decode, fold, memory, snapshot, questions. Prints, asserts nothing.

``python bench/inventory.py [--quick] [--pods N]``: 10,000 pods, or 1,000. The last line is JSON. The list is what an
API server pages out; the collector's watch decodes it into the lines that it writes, and the fold takes these lines as
archived rows. Each pod passes four states.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from ashiato.adapters.inventory import decode_segment, encode_segment
from ashiato.core.inventory import Inventory, Pods, PodView, Sighting
from ashiato.core.inventory.from_watch import read
from ashiato.core.inventory.records import Line
from bench.kit.machine import ROOT, facts, memory_mib
from collector.watch import lines
from collector.watch.keep import Keeper
from collector.watch.resources import resource_of
from collector.watch.settings import ANNOTATIONS

NOON = 1_795_608_000_000_000_000
SECOND = 1_000_000_000
PAGE = 500
STATES = ("Pending", "Scheduled", "Running", "Deleting")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,000 pods")
    parser.add_argument("--pods", type=int, default=0)
    arguments = parser.parse_args()
    count = arguments.pods or (1_000 if arguments.quick else 10_000)
    found: dict[str, object] = {"pods": count}
    inventory = _folded(count, found)
    _questions(inventory, found)
    _stored(inventory, found)
    print(json.dumps({**found, **facts(ROOT)}))


def _folded(count: int, found: dict[str, object]) -> Inventory:
    pages = [
        json.dumps({"items": [pod(n, "Running") for n in range(at, min(at + PAGE, count))]}).encode()
        for at in range(0, count, PAGE)
    ]
    found["list_json_bytes"] = sum(map(len, pages))
    keeper, resource_ = Keeper(b"k" * 32, ANNOTATIONS), resource_of("pods")
    with _timed("list_and_decode_cpu_s", found):
        written = list(_written(pages, keeper, resource_))
    found["lines_bytes"] = sum(map(len, written))
    del pages
    inventory, before = Inventory(), memory_mib("VmRSS")
    with _timed("read_lines_cpu_s", found):
        told = _told(written, 0)
    with _timed("fold_cpu_s", found):
        inventory.take(told)
    del told, written
    _lives(inventory, count)
    gc.collect()
    found["resident_more_mib"] = round(memory_mib("VmRSS") - before)
    found["records_bytes"] = sum(len(inventory.record(key)) for key in inventory.all_keys())
    return inventory


def _stored(inventory: Inventory, found: dict[str, object]) -> None:
    records = [(key, inventory.record(key)) for key in inventory.all_keys()]
    with _timed("snapshot_cpu_s", found):
        stored = encode_segment(records)
    found["snapshot_bytes"] = len(stored)
    loaded = Inventory()
    with _timed("load_cpu_s", found):
        loaded.join(decode_segment(stored))


@contextmanager
def _timed(name: str, found: dict[str, object]) -> Iterator[None]:
    began = time.process_time()
    yield
    found[name] = round(time.process_time() - began, 3)
    print(f"{name}: {found[name]}", flush=True)


def pod(number: int, phase: str) -> dict[str, Any]:
    """Return a pod with two containers, managed fields included, as an API server lists it."""
    name, node = f"web-{number // 50:05d}-7d9c5b6f8-{number:05d}", f"node-{number % 100}"
    fields: dict[str, Any] = {f"f:field{n}": {"f:inner": {}} for n in range(120)}
    managed = [
        {"manager": m, "operation": "Update", "fieldsV1": fields} for m in ("kube-controller-manager", "kubelet")
    ]
    containers = [
        {
            "name": c, "image": f"registry.example.com/shop/{c}:{number % 7}",
            "env": [{"name": f"VARIABLE_{n}", "value": f"value-{n}"} for n in range(20)],
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}},
            "volumeMounts": [{"name": "kube-api-access-abcde", "mountPath": "/var/run/secrets/x", "readOnly": True}],
            "securityContext": {"capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True},
        }
        for c in ("web", "proxy")
    ]  # fmt: skip
    statuses = [
        {
            "name": c, "image": f"registry.example.com/shop/{c}:{number % 7}", "ready": True, "restartCount": 0,
            "imageID": f"registry.example.com/shop/{c}@sha256:{number % 7:064x}",
            "containerID": f"containerd://{number:060x}{len(c):04x}",
            "state": {"running": {"startedAt": "2026-11-25T12:00:02Z"}},
        }
        for c in ("web", "proxy")
    ]  # fmt: skip
    metadata: dict[str, Any] = {
        "name": name, "namespace": f"team-{number % 20}", "uid": f"{number:08x}-0000-4000-8000-000000000000",
        "resourceVersion": str(number), "creationTimestamp": "2026-11-25T12:00:00Z", "managedFields": managed,
        "labels": {"app": f"web-{number // 50}", "pod-template-hash": "7d9c5b6f8", "team": f"t{number % 20}"},
        "ownerReferences": [
            {"kind": "ReplicaSet", "name": f"web-{number // 50:05d}-7d9c5b6f8", "uid": f"rs-{number // 50}",
             "controller": True}
        ],
    }  # fmt: skip
    if phase == "Deleting":
        metadata |= {"deletionTimestamp": "2026-11-25T13:00:30Z", "deletionGracePeriodSeconds": 30}
    spec: dict[str, Any] = {"containers": containers, "serviceAccountName": "web"}
    if phase != "Pending":
        spec["nodeName"] = node
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    running = {"podIP": address, "podIPs": [{"ip": address}], "hostIP": f"192.168.0.{number % 100}",
               "containerStatuses": statuses}  # fmt: skip
    return {
        "metadata": metadata, "spec": spec,
        "status": {"phase": "Running" if phase == "Deleting" else phase,
                   **(running if phase in ("Running", "Deleting") else {})},
    }  # fmt: skip


def _written(pages: list[bytes], keeper: Keeper, resource_: Any) -> Iterator[bytes]:
    class Page(msgspec.Struct):
        items: list[msgspec.Raw]

    decode = msgspec.json.Decoder(Page).decode
    for page in pages:
        for raw in decode(page).items:
            kept = keeper.keep(resource_, raw)
            yield lines.object_line("ADDED", resource_, "v1", kept, source=lines.LIST, now=NOON, known=None, file=1)


def _told(written: list[bytes], step: int) -> list[Sighting]:
    moment, source = NOON + step * SECOND, "watch/c/n/watch.jsonl"
    rows = [(f"01K{step:023d}-{number:016x}", body.decode()) for number, body in enumerate(written)]
    told = (one for row, body in rows for one in read(Line(row, source, "c", moment, moment, 0, "", body)))
    return [one for one in told if isinstance(one, Sighting)]


def _lives(inventory: Inventory, count: int) -> None:
    """Take in every pod's other states, a thousand at a time."""
    keeper, resource_ = Keeper(b"k" * 32, ANNOTATIONS), resource_of("pods")
    for step, phase in enumerate(STATES, 1):
        for at in range(0, count, 1000):
            page = json.dumps({"items": [pod(n, phase) for n in range(at, min(at + 1000, count))]}).encode()
            inventory.take(_told(list(_written([page], keeper, resource_)), step))


def _questions(inventory: Inventory, found: dict[str, object]) -> None:
    pods = Pods(inventory)
    at = NOON + 10 * SECOND
    asks: dict[str, Callable[[], list[PodView]]] = {
        "on_node": lambda: pods.on_node("node-7", at, at + 1),
        "holding": lambda: pods.holding("10.0.0.9", at, at + 1),
        "of_workload": lambda: pods.of_workload("deployment/web-00003"),
    }
    for what, ask in asks.items():
        began = time.perf_counter()
        count = len(ask())
        found[f"{what}_ms"] = round((time.perf_counter() - began) * 1000, 2)
        print(f"{what}: {count} pods in {found[f'{what}_ms']} ms")


if __name__ == "__main__":
    main()

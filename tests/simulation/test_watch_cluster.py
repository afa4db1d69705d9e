"""The same claims of ``collector watch`` on our API server and, where ASHIATO_KUBE_URL names one, on a real one.

ASHIATO_KUBE_TOKEN_FILE and ASHIATO_KUBE_CA_FILE let us in; the token may make and delete pods and namespaces.
"""

from __future__ import annotations

import json
import os
import secrets
import ssl
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pytest

from collector.watch.journal import Standing
from tests.parts.apiserver import ApiServer, serving
from tests.parts.watcher import Line, Watcher, pod, until

URL, TOKEN_FILE, CA_FILE = (os.environ.get(f"ASHIATO_KUBE_{name}", "") for name in ("URL", "TOKEN_FILE", "CA_FILE"))


class Cluster(Protocol):
    """What a test does to a cluster, in a namespace of its own."""

    namespace: str
    settings: dict[str, Any]

    def create(self, name: str) -> None: ...

    def delete(self, name: str) -> None: ...

    def uids(self) -> set[str]: ...


class Ours:
    """Our API server."""

    def __init__(self, api: ApiServer) -> None:
        self.namespace = "shop"
        self.settings: dict[str, Any] = {"kube_url": api.url}
        self._api = api

    def create(self, name: str) -> None:
        self._api.put("pods", pod(name))

    def delete(self, name: str) -> None:
        self._api.delete("pods", name, "shop")

    def uids(self) -> set[str]:
        return self._api.uids("pods")


class Real:
    """A real one; pods need no node to be made."""

    def __init__(self) -> None:
        self.namespace = f"ashiato-test-{secrets.token_hex(4)}"
        self.settings: dict[str, Any] = {"kube_url": URL, "token_file": TOKEN_FILE, "ca_file": CA_FILE}
        self._ask("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace}})

    def close(self) -> None:
        self._ask("DELETE", f"/api/v1/namespaces/{self.namespace}")

    def create(self, name: str) -> None:
        containers = [{"name": "web", "image": "registry.example.com/web:1", "env": [{"name": "TOKEN", "value": "x"}]}]
        spec = {"containers": containers, "nodeSelector": {"ashiato": "nowhere"}}
        self._ask("POST", self._pods, {"metadata": {"name": name}, "spec": spec})

    def delete(self, name: str) -> None:
        self._ask("DELETE", f"{self._pods}/{name}?gracePeriodSeconds=0")

    def uids(self) -> set[str]:
        return {item["metadata"]["uid"] for item in self._ask("GET", self._pods)["items"]}

    @property
    def _pods(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"

    def _ask(self, method: str, path: str, told: Line | None = None) -> Line:
        body = json.dumps(told).encode() if told is not None else None
        request = urllib.request.Request(URL + path, data=body, method=method)
        request.add_header("Content-Type", "application/json")
        if TOKEN_FILE:
            request.add_header("Authorization", f"Bearer {Path(TOKEN_FILE).read_text().strip()}")
        context = ssl.create_default_context(cafile=CA_FILE or None) if URL.startswith("https") else None
        with urllib.request.urlopen(request, timeout=30, context=context) as answer:
            found: Line = json.loads(answer.read())
        return found


@pytest.fixture(params=["ours", "real"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    if request.param == "ours":
        with serving() as api:
            yield Ours(api)
        return
    if not URL:
        pytest.skip("ASHIATO_KUBE_URL names no API server")
    real = Real()
    try:
        yield real
    finally:
        real.close()


@pytest.fixture
def watcher(cluster: Cluster, tmp_path: Path) -> Watcher:
    return Watcher(tmp_path, resources=("pods",), **cluster.settings)


def there(watcher: Watcher, cluster: Cluster) -> set[str]:
    """Return which pods of the test's namespace are there, as the lines tell it."""
    found = set[str]()
    for line in watcher.lines("ADDED", "MODIFIED", "DELETED", resource="pods"):
        metadata = line["object"]["metadata"]
        if metadata.get("namespace") == cluster.namespace:
            (found.discard if line["type"] == "DELETED" else found.add)(metadata["uid"])
    return found


def ended(watcher: Watcher, cluster: Cluster) -> list[tuple[str, str]]:
    return [
        (line["object"]["metadata"]["name"], line["source"])
        for line in watcher.lines("DELETED")
        if line["object"]["metadata"].get("namespace") == cluster.namespace
    ]


def in_step(watcher: Watcher, cluster: Cluster) -> bool:
    return bool(watcher.lines("SYNC")) and there(watcher, cluster) == cluster.uids()


def forget_version(watcher: Watcher) -> None:
    """Put a version into the state that no API server knows any more."""
    path = watcher.root / "state" / "watch.state"
    state = msgspec.msgpack.decode(path.read_bytes())
    standing = msgspec.convert(state["resources"]["pods"], Standing)
    standing.resource_version = "1"
    state["resources"]["pods"] = standing
    path.write_bytes(msgspec.msgpack.encode(state))


def test_pods_are_followed_from_list_to_end(cluster: Cluster, watcher: Watcher) -> None:
    cluster.create("first")
    with watcher.running():
        until(lambda: in_step(watcher, cluster))
        cluster.create("second")
        cluster.delete("first")
        until(lambda: in_step(watcher, cluster) and ended(watcher, cluster))

    assert ended(watcher, cluster) == [("first", "watch")]
    assert not watcher.lines("GAP")


def test_what_came_and_went_during_a_restart_is_replayed(cluster: Cluster, watcher: Watcher) -> None:
    cluster.create("first")
    with watcher.running():
        until(lambda: in_step(watcher, cluster))
    cluster.create("brief")
    cluster.delete("brief")
    with watcher.running():
        until(lambda: ended(watcher, cluster))

    assert ended(watcher, cluster) == [("brief", "watch")]
    assert len(watcher.lines("SYNC")) == 1
    assert not watcher.lines("GAP")


@pytest.mark.parametrize("page_objects", [1, 500])
def test_a_version_that_is_forgotten_is_a_gap(cluster: Cluster, watcher: Watcher, page_objects: int) -> None:
    if isinstance(cluster, Ours):
        cluster._api.compact()
    for name in ("goes", "stays"):
        cluster.create(name)
    with watcher.running(page_objects=page_objects):
        until(lambda: in_step(watcher, cluster))
    forget_version(watcher)
    cluster.delete("goes")
    with watcher.running(page_objects=page_objects):
        until(lambda: len(watcher.lines("SYNC")) == 2)

    assert in_step(watcher, cluster)
    assert ended(watcher, cluster) == [("goes", "absence")]
    assert [gap["object"]["reason"] for gap in watcher.lines("GAP")] == ["expired"]

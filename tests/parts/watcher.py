"""A watcher for tests: the real service in threads of this process, its files read back."""

from __future__ import annotations

import contextlib
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from ashiato.adapters.clock import SystemClock
from ashiato.adapters.telemetry import Telemetry
from collector.watch.service import Watch
from collector.watch.settings import WatchSettings

DEADLINE_S: Final = 60.0
QUICK: Final = {"checkpoint_s": 0.05, "backoff_s_max": 0.05, "refused_s": 0.05, "reserve_bytes": 0}
Line = dict[str, Any]


class Watcher:
    """One watcher and its folders, which outlive its runs."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.root = root
        self.folder = root / "lines"
        self.settings = {**QUICK, "state_dir": str(root / "state"), "folder": str(self.folder), **settings}
        self.log = io.StringIO()
        self.telemetry = Telemetry("collector", stream=self.log)

    def make(self, **settings: Any) -> Watch:
        """Return a service that does not run yet."""
        told = WatchSettings(**{**self.settings, **settings})
        return Watch(told, environ={}, clock=SystemClock(), telemetry=self.telemetry)

    @contextlib.contextmanager
    def running(self, **settings: Any) -> Iterator[Watch]:
        """Run within a context; what fails in it fails here."""
        watch, stop, failed = self.make(**settings), threading.Event(), list[BaseException]()

        def run() -> None:
            try:
                watch.run(stop)
            except BaseException as error:  # noqa: BLE001 - raised again where the test waits
                failed.append(error)

        thread = threading.Thread(target=run, name="watch")
        thread.start()
        try:
            yield watch
        finally:
            stop.set()
            thread.join(DEADLINE_S)
            assert not thread.is_alive()
        if failed:
            raise failed[0]

    def content(self) -> bytes:
        """Return what all files hold, in order."""
        found = []
        for path in sorted(self.folder.glob("watch-*.jsonl")):
            with contextlib.suppress(FileNotFoundError):
                # The oldest ones go while we look.
                found.append(path.read_bytes())
        return b"".join(found)

    def lines(self, *types: str, resource: str = "") -> list[Line]:
        """Return whole lines, of some types and of a resource where these are named."""
        return [
            line
            for line in whole_lines(self.content())
            if (not types or line["type"] in types) and resource in ("", line.get("resource"))
        ]

    def standing(self, resource: str = "pods") -> dict[str, str]:
        """Return what the lines say is there: names by uid. Repeated lines change nothing."""
        found: dict[str, str] = {}
        for line in self.lines("ADDED", "MODIFIED", "DELETED", resource=resource):
            metadata = line["object"]["metadata"]
            if line["type"] == "DELETED":
                found.pop(metadata["uid"], None)
            else:
                found[metadata["uid"]] = metadata["name"]
        return found


def whole_lines(content: bytes) -> list[Line]:
    """Return the JSON lines that are whole; a crash may have torn others."""
    found = []
    for raw in content.split(b"\n")[:-1]:
        with contextlib.suppress(ValueError):
            found.append(json.loads(raw))
    return found


def until(holds: Callable[[], object], what: str = "it never happened") -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def pod(name: str, *, namespace: str = "shop", phase: str = "Running", env: str = "", node: str = "n1") -> Line:
    """Return a pod as a client sends it."""
    return {
        "metadata": {
            "name": name, "namespace": namespace, "labels": {"app": "web"},
            "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}],
        },
        "spec": {
            "nodeName": node, "serviceAccountName": "web",
            "containers": [{
                "name": "web", "image": "registry.example.com/web:1", "env": [{"name": "TOKEN", "value": env}],
                "terminationMessagePath": "/dev/termination-log",
            }],
        },
        "status": {"phase": phase, "podIP": "10.0.0.1"},
    }  # fmt: skip

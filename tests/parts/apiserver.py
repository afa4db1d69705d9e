"""An API server of our own that lists and watches as kube-apiserver 1.36 was measured to.

Objects carry resource versions of one counter, as etcd's. A watch from an older version replays what came since, the
deletions too; from one that was compacted it answers 200 and then an ERROR event of code 410 in the stream. Lists come
in pages of one version, whose token ends (410) when that version is compacted. WatchList streams the objects and then a
bookmark that says so. What a server does wrong is asked for by :class:`Faults`.
"""

from __future__ import annotations

import base64
import bisect
import contextlib
import json
import ssl
import threading
import time
import uuid
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

Object = dict[str, Any]

KINDS: Final = {
    "pods": ("Pod", "v1"),
    "namespaces": ("Namespace", "v1"),
    "nodes": ("Node", "v1"),
    "serviceaccounts": ("ServiceAccount", "v1"),
    "replicasets": ("ReplicaSet", "apps/v1"),
    "deployments": ("Deployment", "apps/v1"),
    "statefulsets": ("StatefulSet", "apps/v1"),
    "daemonsets": ("DaemonSet", "apps/v1"),
    "jobs": ("Job", "batch/v1"),
    "cronjobs": ("CronJob", "batch/v1"),
    "events": ("Event", "events.k8s.io/v1"),
}
INITIAL_END: Final = "k8s.io/initial-events-end"
POLL_S: Final = 0.005


@dataclass(slots=True, kw_only=True)
class Faults:
    """What goes wrong, from the next request or event on."""

    status: dict[str, int] = field(default_factory=dict)
    """Path below the root, or resource: every request is answered with this status."""
    retry_after_s: int = 0
    stream_error: dict[str, int] = field(default_factory=dict)
    """Resource: an ERROR event of this code ends its next watch."""
    no_watch_list: bool = False
    """Answer sendInitialEvents with the in-band 500 of an old etcd."""
    forbid_watch_list: bool = False
    """Answer sendInitialEvents with 422, as servers before 1.27."""
    ignore_watch_list: bool = False
    """Take sendInitialEvents for a plain watch, and never say that the list is over."""
    hang: bool = False
    """Send nothing more on any open watch, and close nothing."""
    gone_after_pages: int = 0
    """Compact once this many pages of a list were given."""
    status_after_pages: int = 0
    """Answer 500 for every page behind this many of a list."""
    garbage: bool = False
    """Break off the next event in its middle."""
    slow_s: float = 0.0
    """Wait before each event."""


@dataclass(frozen=True, slots=True)
class Change:
    """One step of the counter."""

    version: int
    resource: str
    type: str
    object: Object


class ApiServer:
    """Serves in threads until it is closed. All methods may be called at any time."""

    def __init__(
        self, *, tokens: set[str] | None = None, certificate: Path | None = None, key: Path | None = None,
        bookmark_s: float = 0.05,
    ) -> None:  # fmt: skip
        self.faults = Faults()
        self.tokens = tokens
        """Who is let in; None asks nobody."""
        self.bookmark_s = bookmark_s
        self.requests: list[tuple[str, dict[str, str]]] = []
        """Path and query of each."""
        self.accepts: list[str] = []
        self._lock = threading.RLock()
        self._version = 100
        self._compacted = 0
        self._objects: dict[str, dict[str, Object]] = {resource: {} for resource in KINDS}
        self._changes: list[Change] = []
        self._generation = 0
        self._certificate, self._key = certificate, key
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self.start()

    # -- life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen, on the port that it had before."""
        server = _Server(("127.0.0.1", self._port), _Handler)
        server.api = self
        if self._certificate is not None and self._key is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate, self._key)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        self._server, self._port = server, server.server_port
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True, name="apiserver").start()

    def close(self) -> None:
        """Stop listening, and break what is open off."""
        self.break_off()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def break_off(self) -> None:
        """Close every open watch, as a server does that ends."""
        self._generation += 1

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'https' if self._certificate else 'http'}://127.0.0.1:{self._port}"

    # -- the cluster -----------------------------------------------------------------------------------------

    def put(self, resource: str, told: Object) -> Object:
        """Create an object, or put another in its place."""
        with self._lock:
            metadata = dict(told.get("metadata", {}))
            key = f"{metadata.get('namespace', '')}/{metadata['name']}"
            before = self._objects[resource].get(key)
            self._version += 1
            kind, version = KINDS[resource]
            metadata.setdefault("uid", before["metadata"]["uid"] if before else str(uuid.uuid4()))
            metadata.setdefault("creationTimestamp", "2026-11-25T00:00:00Z")
            metadata["resourceVersion"] = str(self._version)
            made = {"kind": kind, "apiVersion": version, **told, "metadata": metadata}
            self._objects[resource][key] = made
            self._changes.append(Change(self._version, resource, "MODIFIED" if before else "ADDED", made))
            return made

    def delete(self, resource: str, name: str, namespace: str = "") -> None:
        """Remove an object."""
        with self._lock:
            gone = self._objects[resource].pop(f"{namespace}/{name}")
            self._version += 1
            gone = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self._version)}}
            self._changes.append(Change(self._version, resource, "DELETED", gone))

    def compact(self) -> None:
        """Forget each older version; a watch that is open keeps its place, as its events were sent before."""
        with self._lock:
            self._version += 1
            self._compacted = self._version

    def names(self, resource: str) -> set[str]:
        """Return what there is."""
        with self._lock:
            return {found["metadata"]["name"] for found in self._objects[resource].values()}

    def uids(self, resource: str) -> set[str]:
        """Return what there is, by uid."""
        with self._lock:
            return {found["metadata"]["uid"] for found in self._objects[resource].values()}

    # -- answers ---------------------------------------------------------------------------------------------

    def page(self, resource: str, query: dict[str, str]) -> tuple[int, Object]:
        """Return a list, or a page of one."""
        with self._lock:
            token = query.get("continue", "")
            begin, version = 0, self._version
            if token:
                begin, version = json.loads(base64.b64decode(token))
                if self.faults.status_after_pages and begin >= self.faults.status_after_pages * int(query["limit"]):
                    return 500, _status(500, "asked for")
                if version < self._compacted:
                    return 410, _status(410, "The provided continue parameter is too old")
            kind, api_version = KINDS[resource]
            found = [self._objects[resource][key] for key in sorted(self._objects[resource])]
            limit = int(query.get("limit", "0")) or len(found)
            items = [{k: v for k, v in one.items() if k not in ("kind", "apiVersion")} for one in found]
            metadata: Object = {"resourceVersion": str(version)}
            if begin + limit < len(items):
                more = json.dumps([begin + limit, version]).encode()
                metadata["continue"] = base64.b64encode(more).decode()
            if self.faults.gone_after_pages > 0:
                self.faults.gone_after_pages -= 1
                if self.faults.gone_after_pages == 0:
                    self.compact()
            chosen = items[begin : begin + limit]
            return 200, {"kind": f"{kind}List", "apiVersion": api_version, "metadata": metadata, "items": chosen}

    def events(self, resource: str, query: dict[str, str]) -> Generator[Object | None, None, None]:
        """Yield the events of a watch; None where nothing happens. Ends as a server ends it."""
        generation, ends = self._generation, time.monotonic() + float(query.get("timeoutSeconds", "300"))
        if (code := self.faults.stream_error.pop(resource, 0)) != 0:
            yield {"type": "ERROR", "object": _status(code, "too old resource version" if code == 410 else "broken")}
            return
        at = yield from self._begin(resource, query)
        if at is None:
            return
        bookmark_due = time.monotonic() + self.bookmark_s
        place = bisect.bisect_right(self._changes, at, key=lambda change: change.version)
        while generation == self._generation and time.monotonic() < ends:
            with self._lock:
                news, place, version = self._changes[place:], len(self._changes), self._version
            for change in news:
                if change.resource == resource:
                    yield {"type": change.type, "object": change.object}
            if time.monotonic() >= bookmark_due:
                bookmark_due = time.monotonic() + self.bookmark_s
                yield _bookmark(resource, version)
            elif not news:
                yield None
                time.sleep(POLL_S)

    def _begin(self, resource: str, query: dict[str, str]) -> Generator[Object | None, None, int | None]:
        """Yield what stands before the changes; return from where they go on, None where they do not."""
        if query.get("sendInitialEvents") == "true":
            if self.faults.no_watch_list:
                yield {"type": "ERROR", "object": _status(500, "RequestWatchProgress is disabled")}
                return None
            with self._lock:
                found, version = list(self._objects[resource].values()), self._version
            for one in found:
                yield {"type": "ADDED", "object": one}
            if not self.faults.ignore_watch_list:
                yield _bookmark(resource, version, annotations={INITIAL_END: "true"})
            return version
        version = int(query["resourceVersion"])
        if version < self._compacted:
            yield {"type": "ERROR", "object": _status(410, f"too old resource version: {version} ({self._compacted})")}
            return None
        return version


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    api: ApiServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def api(self) -> ApiServer:
        assert isinstance(self.server, _Server)
        return self.server.api

    def do_GET(self) -> None:
        api, split = self.api, urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(split.query).items()}
        api.requests.append((split.path, query))
        api.accepts.append(self.headers.get("Accept", ""))
        resource = split.path.rsplit("/", 1)[-1]
        status = api.faults.status.get(split.path) or api.faults.status.get(resource) or 0
        if api.tokens is not None and self.headers.get("Authorization", "").removeprefix("Bearer ") not in api.tokens:
            status = 401
        if query.get("sendInitialEvents") and api.faults.forbid_watch_list:
            status = 422
        if not status and (resource not in KINDS or split.path != _path(resource, split.path)):
            status = 404
        if status:
            self._answer(status, _status(status, "asked for"))
        elif query.get("watch"):
            self._watch(resource, query)
        else:
            self._answer(*api.page(resource, query))

    def _answer(self, status: int, told: Object) -> None:
        content = json.dumps(told).encode()
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", str(self.api.faults.retry_after_s))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _watch(self, resource: str, query: dict[str, str]) -> None:
        faults = self.api.faults
        self.close_connection = True
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in self.api.events(resource, query):
            while faults.hang:
                time.sleep(POLL_S)
            if event is None:
                continue
            if faults.slow_s:
                time.sleep(faults.slow_s)
            content = json.dumps(event).encode() + b"\n"
            if faults.garbage:
                faults.garbage = False
                self._chunk(content[: len(content) // 2])
                return
            self._chunk(content)
        self._chunk(b"")

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(content), content))
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing."""


def _path(resource: str, asked: str) -> str:
    """Return the path of a resource; events have two."""
    version = "v1" if asked == "/api/v1/events" else KINDS[resource][1]
    return f"/{'apis' if '/' in version else 'api'}/{version}/{resource}"


def _status(code: int, message: str) -> Object:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}


def _bookmark(resource: str, version: int, *, annotations: dict[str, str] | None = None) -> Object:
    kind, api_version = KINDS[resource]
    metadata: Object = {"resourceVersion": str(version), **({"annotations": annotations} if annotations else {})}
    return {"type": "BOOKMARK", "object": {"kind": kind, "apiVersion": api_version, "metadata": metadata}}


@contextlib.contextmanager
def serving(**told: Any) -> Iterator[ApiServer]:
    """Serve within a context."""
    server = ApiServer(**told)
    try:
        yield server
    finally:
        server.close()

"""A proxy before a real S3 server that loses what it is told to lose: a reply, a request, or a request that comes late.

It ends TLS with the server's own certificate and passes the requests on as they are; a signature covers the host that
the client named, so it stays valid.
"""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_UPSTREAM_SECONDS_MAX = 60
_OWN = {"connection", "expect", "keep-alive", "transfer-encoding"}
"""Headers that belong to one connection."""


class Loss(Enum):
    """What is lost."""

    REPLY = "reply"
    """The server did it; the client's connection is cut."""
    REQUEST = "request"
    """The server never hears of it."""
    LATE = "late"
    """The client's connection is cut, and the server hears of it when :meth:`Proxy.release` is called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as it arrived."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(slots=True, kw_only=True)
class Proxy:
    """Listens on a free port of loopback. ``decide`` says of each request whether it is lost, and how."""

    host: str
    port: int
    ca_file: Path
    certificate: Path
    key: Path
    decide: Callable[[Request], Loss | None] = lambda _: None
    lost: list[tuple[Loss, Request]] = field(default_factory=list)
    _late: list[Request] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        """Begin to listen."""
        proxy = self

        class Handler(_Handler):
            owner = proxy

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        self._server = server
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        """Stop listening."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """What a client is told instead of the server's own address."""
        assert self._server is not None
        return f"https://127.0.0.1:{self._server.server_address[1]}"

    def lose_next(self, loss: Loss, *, method: str = "PUT", path: str = "", times: int = 1) -> None:
        """Lose the next requests of a method whose path contains ``path``."""
        left = [times]

        def decide(request: Request) -> Loss | None:
            with self._lock:
                if left[0] and request.method == method and path in request.path:
                    left[0] -= 1
                    return loss
            return None

        self.decide = decide

    def fate(self, request: Request) -> Loss | None:
        """Return what is lost of a request, and remember it."""
        loss = self.decide(request)
        if loss is not None:
            with self._lock:
                self.lost.append((loss, request))
                if loss is Loss.LATE:
                    self._late.append(request)
        return loss

    def release(self) -> list[int]:
        """Let the late requests arrive; return the server's answers."""
        with self._lock:
            late, self._late = self._late, []
        return [self.forward(request)[0].status for request in late]

    def forward(self, request: Request) -> tuple[http.client.HTTPResponse, bytes]:
        """Pass a request on as it is."""
        upstream = http.client.HTTPSConnection(
            self.host, self.port, timeout=_UPSTREAM_SECONDS_MAX,
            context=ssl.create_default_context(cafile=str(self.ca_file)),
        )  # fmt: skip
        try:
            upstream.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers:
                if name.lower() not in _OWN:
                    upstream.putheader(name, value)
            upstream.endheaders(request.body or None)
            response = upstream.getresponse()
            return response, response.read()
        finally:
            upstream.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Proxy

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._pass
        raise AttributeError(name)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _pass(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        request = Request(
            method=self.command, path=self.path, headers=tuple(self.headers.items()), body=self.rfile.read(length)
        )
        loss = self.owner.fate(request)
        if loss in (Loss.REQUEST, Loss.LATE):
            self.close_connection = True
            return
        try:
            response, body = self.owner.forward(request)
        except OSError:
            # The server is away: so are we.
            self.close_connection = True
            return
        if loss is Loss.REPLY:
            self.close_connection = True
            return
        self.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if name.lower() not in _OWN | {"content-length"}:
                self.send_header(name, value)
        told = response.getheader("Content-Length") if request.method == "HEAD" else None
        self.send_header("Content-Length", told or str(len(body)))
        self.end_headers()
        self.wfile.write(body)

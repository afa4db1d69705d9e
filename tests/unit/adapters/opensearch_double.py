"""A server that answers as OpenSearch would in moments that a healthy one does not have; over TLS where asked."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    authorization: str
    body: bytes

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The body of a bulk request."""
        return [orjson.loads(line) for line in self.body.splitlines()]

    @property
    def heads(self) -> list[dict[str, Any]]:
        """What its actions say."""
        return [next(iter(line.values())) for line in self.lines[::2]]


Answer = Callable[[Asked], "tuple[int, object] | None"]
"""(status, JSON) of an answer; None hangs up instead."""


@dataclass(slots=True)
class Double:
    """Records what is asked and answers as it is told."""

    answer: Answer
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        asked = Asked(
            method=request.method,
            path=request.path,
            query=dict(request.query),
            authorization=request.headers.get("Authorization", ""),
            body=await request.read(),
        )
        self.asked.append(asked)
        told = self.answer(asked)
        if told is None:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        status, document = told
        content = document if isinstance(document, bytes) else orjson.dumps(document)
        return web.Response(status=status, body=content, content_type="application/json")

    @property
    def bulks(self) -> list[Asked]:
        """The bulk requests."""
        return [asked for asked in self.asked if asked.path == "/_bulk"]


@asynccontextmanager
async def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[Double]:
    """Serve on a free port of loopback."""
    double = Double(answer)
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", double.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port = runner.addresses[0][1]
    double.url = f"{'https' if tls else 'http'}://{'localhost' if tls else '127.0.0.1'}:{port}"
    try:
        yield double
    finally:
        await runner.cleanup()


def items(*told: tuple[int, str]) -> tuple[int, object]:
    """Return the answer to a bulk request: (status, error type) of each item."""
    return 200, {
        "items": [
            {"create": {"status": status, **({"error": {"type": kind, "reason": "secret value"}} if kind else {})}}
            for status, kind in told
        ]
    }

"""What stands before every answer: the token, the size of a body, and the line in the access log.

Nothing of an answer leaves before it is written down who asked for what.
"""

from __future__ import annotations

import asyncio
import hmac
import stat
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from ashiato.adapters.telemetry import Telemetry
from ashiato.core.errors import SettingsError, TransientError
from ashiato.core.limits import KIB
from ashiato.core.ports import Clock
from query.access import AccessLine, AccessLog
from query.events import AccessLogFailed, QuestionAnswered
from query.problems import problem, problem_of

BODY_BYTES_MAX: Final = 64 * KIB
"""A question is text that a person or a rule wrote."""
ROUTES: Final = ("/v1/search", "/v1/timeline", "/v1/logs")

_PUBLIC: Final = frozenset(("/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"))
"""These tell nothing of what is held."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def read_token(file: str) -> bytes:
    """Return the token that a file holds.

    Raises:
        SettingsError: it cannot be read, others can read it, or it is too short to be a secret.

    """
    path = Path(file)
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise SettingsError(f"token_file {file} can be read by others than its owner: chmod 600 {file}")
        token = path.read_bytes().strip()
    except OSError as error:
        raise SettingsError(f"cannot read token_file {file}: {error.strerror}") from error
    if len(token) < 16:
        raise SettingsError(f"the token in {file} is shorter than 16 characters")
    return token


class Guard:
    """ASGI middleware around the whole service."""

    def __init__(self, app: App, *, token: bytes, access: AccessLog | None, clock: Clock, telemetry: Telemetry) -> None:
        self._app = app
        self._token = token
        self._access = access
        self._clock = clock
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through to its answer, or answer it here."""
        if scope["type"] != "http" or scope["path"] in _PUBLIC:
            await self._app(scope, receive, send)
            return
        recorded = _Recorded(self, scope, send, self._clock.monotonic_nano())
        if not self._knows(scope):
            refusal = problem(
                401, "a bearer token is needed", code="unauthenticated", headers={"WWW-Authenticate": "Bearer"}
            )
            await refusal(scope, receive, recorded.send)
            return
        body = await _body(receive)
        if body is None:
            refusal = problem(413, f"a question has at most {BODY_BYTES_MAX} bytes", code="rejected")
            await refusal(scope, receive, recorded.send)
            return
        recorded.body = body
        await self._app(scope, _replayed(body, receive), recorded.send)

    def _knows(self, scope: Scope) -> bool:
        given = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                given = value
        scheme, _, token = given.partition(b" ")
        known = hmac.compare_digest(token.strip(), self._token)
        return scheme.lower() == b"bearer" and known

    async def record(self, scope: Scope, body: bytes, status: int, started_nano: int) -> None:
        """Write down who asked for what. Raises TransientError where that cannot be written."""
        route = scope["path"] if scope["path"] in ROUTES else "other"
        seconds = (self._clock.monotonic_nano() - started_nano) / 1e9
        self._telemetry.emit(QuestionAnswered(route=route, status=status, seconds=seconds))
        if self._access is None:
            return
        client = scope.get("client") or ("", 0)
        line = AccessLine(
            time_unix_nano=str(self._clock.now_unix_nano()),
            user="token" if status != 401 else "",
            address=str(client[0]),
            method=scope["method"],
            path=scope["path"],
            asked=_asked(scope, body),
            status=status,
        )
        try:
            await asyncio.to_thread(self._access.write, line)
        except TransientError as error:
            self._telemetry.emit(AccessLogFailed(error=str(error)))
            raise TransientError("the access log cannot be written: nothing is answered unrecorded") from error


class _Recorded:
    """The way out of one answer: it is written down before its first byte leaves, or it does not leave."""

    def __init__(self, guard: Guard, scope: Scope, send: Send, started_nano: int) -> None:
        self.body = b""
        self._guard = guard
        self._scope = scope
        self._send = send
        self._started_nano = started_nano
        self._refused = False

    async def send(self, message: Message) -> None:
        if self._refused:
            return
        if message["type"] == "http.response.start":
            try:
                await self._guard.record(self._scope, self.body, message["status"], self._started_nano)
            except TransientError as error:
                self._refused = True
                await problem_of(error)(self._scope, _nothing, self._send)
                return
        await self._send(message)


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


def _asked(scope: Scope, body: bytes) -> str:
    """Return a question's parameters as JSON text. A token that somebody put among them is not kept."""
    asked: dict[str, object] = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
    if body:
        try:
            decoded = msgspec.json.decode(body)
            asked |= decoded if isinstance(decoded, Mapping) else {"body": decoded}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            asked["body"] = f"{len(body)} bytes that are no JSON"
    kept = {name: value for name, value in asked.items() if "token" not in name.lower()}
    return msgspec.json.encode(kept).decode()


async def _body(receive: Receive) -> bytes | None:
    """Return a request's body, None where it is too long."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"".join(parts)
        part = message.get("body", b"")
        size += len(part)
        if size > BODY_BYTES_MAX:
            return None
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a receiver that gives the body once, and then what the connection says."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay

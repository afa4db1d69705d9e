"""Where a question is asked: a running query service, a data folder, or an archive with nothing else alive.

Each gives the same lines: records as JSON, the last line the coverage.
"""

from __future__ import annotations

import dataclasses
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ashiato.adapters.archive import parse_address
from ashiato.adapters.clock import SystemClock
from ashiato.core.errors import AshiatoError, NotHeldError, RefusedError, RejectedError, SettingsError, TransientError
from ashiato.core.query import Query
from ashiato.core.query_text import parse
from query.answer import Answer, to_ndjson
from query.engine import LogsRequest, TimelineRequest, open_engine
from query.pods_answer import PodsRequest, to_lines
from query.settings import QuerySettings

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """What ``kubectl logs`` would have printed, and what it covers."""

    content: bytes
    coverage: Mapping[str, Any]


class Place(Protocol):
    """Somewhere that answers."""

    async def search(
        self, text: str, *, start_unix_nano: int | None, end_unix_nano: int | None, limit: int, oldest_first: bool
    ) -> Sequence[bytes]:
        """Return the records that match as JSON lines, coverage last."""
        ...

    async def timeline(
        self, anchor: str, *, start_unix_nano: int | None, end_unix_nano: int | None, limit: int
    ) -> Sequence[bytes]:
        """Return the timeline of an anchor as JSON lines, coverage last."""
        ...

    async def logs(self, request: LogsRequest) -> Printed:
        """Return what a pod's container wrote."""
        ...

    async def pods(self, request: PodsRequest) -> Sequence[bytes]:
        """Return pods as JSON lines, coverage last."""
        ...

    async def close(self) -> None:
        """Let go."""
        ...


class ServerPlace:
    """A query service."""

    def __init__(self, *, url: str, token: str, ca_file: str = "") -> None:
        """Ask at ``url``; ``ca_file`` is the CA of its certificate, '' trusts the system's. Raises SettingsError."""
        import httpx  # noqa: PLC0415 - only who asks a service needs it

        if not url.startswith(("http://", "https://")):
            raise SettingsError(f"not the address of a query service: {url}; write http://HOST:PORT")
        self._client = httpx.AsyncClient(
            verify=_tls(ca_file),
            base_url=url.rstrip("/"),
            headers={"Authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(120, connect=5),
        )

    async def search(
        self, text: str, *, start_unix_nano: int | None, end_unix_nano: int | None, limit: int, oldest_first: bool
    ) -> Sequence[bytes]:
        """Ask ``/v1/search``."""
        order = "oldest_first" if oldest_first else "newest_first"
        told = {"q": text, "start": start_unix_nano, "end": end_unix_nano, "limit": limit, "order": order}
        return (await self._get("/v1/search", told)).content.splitlines()

    async def timeline(
        self, anchor: str, *, start_unix_nano: int | None, end_unix_nano: int | None, limit: int
    ) -> Sequence[bytes]:
        """Ask ``/v1/timeline``."""
        told = {"anchor": anchor, "start": start_unix_nano, "end": end_unix_nano, "limit": limit}
        return (await self._get("/v1/timeline", told)).content.splitlines()

    async def logs(self, request: LogsRequest) -> Printed:
        """Ask ``/v1/logs``."""
        told = dataclasses.asdict(request)
        told["start"] = told.pop("time_start_unix_nano")
        answer = await self._get("/v1/logs", told)
        return Printed(content=answer.content, coverage=json.loads(answer.headers["Ashiato-Coverage"]))

    async def pods(self, request: PodsRequest) -> Sequence[bytes]:
        """Ask ``/v1/pods``."""
        told = {
            "node": request.node, "namespace": request.namespace, "start": request.time_start_unix_nano,
            "end": request.time_end_unix_nano,
        }  # fmt: skip
        return (await self._get("/v1/pods", told)).content.splitlines()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _get(self, path: str, told: Mapping[str, object]) -> httpx.Response:
        import httpx  # noqa: PLC0415 - only who asks a service needs it

        wanted = {name: _text(value) for name, value in told.items() if value not in (None, "", False)}
        try:
            answer = await self._client.get(path, params=wanted)
        except httpx.HTTPError as error:
            raise TransientError(
                f"no query service answers at {self._client.base_url}: is ashiato up?", error=type(error).__name__
            ) from error
        if answer.is_error:
            raise _problem(answer)
        return answer


class ArchivePlace:
    """An archive, and the tail beside it where there is one; nothing else needs to be alive."""

    def __init__(self, address: str, *, tail: Path | None) -> None:
        self._engine = open_engine(
            QuerySettings(archive=parse_address(address), tail_dir=str(tail) if tail is not None else ""),
            clock=SystemClock(),
        )

    async def search(
        self, text: str, *, start_unix_nano: int | None, end_unix_nano: int | None, limit: int, oldest_first: bool
    ) -> Sequence[bytes]:
        """Search here."""
        query = Query(
            where=parse(text), time_start_unix_nano=start_unix_nano, time_end_unix_nano=end_unix_nano, limit=limit,
            order="oldest_first" if oldest_first else "newest_first",
        )  # fmt: skip
        return _lines(await self._engine.search(query))

    async def timeline(
        self, anchor: str, *, start_unix_nano: int | None, end_unix_nano: int | None, limit: int
    ) -> Sequence[bytes]:
        """Make the timeline here."""
        return _lines(
            await self._engine.timeline(
                TimelineRequest(
                    anchor=anchor, time_start_unix_nano=start_unix_nano, time_end_unix_nano=end_unix_nano, limit=limit
                )
            )
        )

    async def logs(self, request: LogsRequest) -> Printed:
        """Print from here."""
        answer = await self._engine.logs(request)
        return Printed(content=answer.content, coverage=answer.coverage.to_document())

    async def pods(self, request: PodsRequest) -> Sequence[bytes]:
        """List from here."""
        return list(to_lines(await self._engine.pods(request)))

    async def close(self) -> None:
        """Let go of the archive."""
        await self._engine.close()


def _tls(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"cannot read the CA file {ca_file}: {error}") from error


def _lines(answer: Answer) -> Sequence[bytes]:
    return b"".join(to_ndjson(answer)).splitlines()


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _problem(answer: httpx.Response) -> AshiatoError:
    """Return the error that a problem document (RFC 9457) tells of."""
    try:
        problem = answer.json()
        sentence = str(problem.get("detail") or problem.get("title") or answer.reason_phrase)
    except (ValueError, AttributeError):
        sentence = answer.reason_phrase
    if answer.status_code in (401, 403):
        return RefusedError(sentence, status=answer.status_code)
    if answer.status_code == 404:
        return NotHeldError(sentence)
    if answer.status_code >= 500:
        return TransientError(sentence, status=answer.status_code)
    return RejectedError(sentence)


def read_token(file: Path) -> str:
    """Return the token that a file holds.

    Raises:
        SettingsError: it cannot be read, or is something else.

    """
    try:
        token = file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise SettingsError(f"cannot read the token file {file}: {error.strerror}") from error
    except UnicodeDecodeError:
        token = ""
    if not (token.isprintable() and token) or " " in token:
        raise SettingsError(f"{file} is no token file: it holds one word of ASCII")
    return token

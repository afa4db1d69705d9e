"""One connection to OpenSearch: settings, transport and errors that say whose fault it was.

The driver never retries on its own: who calls knows what may be sent again. Nothing of a document's content ends up
in an error or a log line: of OpenSearch's answers only the type of an error is kept, because its reasons quote values.
"""

from __future__ import annotations

import io
import json
import logging
import re
import ssl
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import msgspec
import orjson
from opensearchpy import AIOHttpConnection, AsyncOpenSearch
from opensearchpy.exceptions import ConnectionError as UnreachableError
from opensearchpy.exceptions import SerializationError, TransportError
from opensearchpy.serializer import JSONSerializer

from ashiato.adapters.opensearch_settings import OpenSearchSettings
from ashiato.core.errors import (
    AlreadyExistsError,
    AshiatoError,
    NotHeldError,
    OutcomeUnknownError,
    RefusedError,
    RejectedError,
    SettingsError,
    TransientError,
)

Answer = Mapping[str, Any]
"""Decoded JSON of an answer."""

TOO_LARGE: Final = "request_too_large"
"""``facts["type"]`` of the RejectedError for a request above the server's limit (413)."""

_ERROR_TYPE: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}")

# The driver logs failed requests with their addresses, and bodies at level debug: our events say the former, and
# nobody may say the latter.
logging.getLogger("opensearch").setLevel(logging.CRITICAL)


class _Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    username: str
    password: str


class _Serializer(JSONSerializer):
    """orjson, which is exact for 64-bit integers; lone surrogates, which it refuses, are left to the standard one."""

    def loads(self, s: str) -> Any:
        try:
            return orjson.loads(s)
        except orjson.JSONDecodeError:
            return super().loads(s)


class _Connection(AIOHttpConnection):
    """Hands large bodies on as files, which the HTTP library writes piece by piece, the event loop free between."""

    async def perform_request(
        self,
        method: str,
        url: str,
        params: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the driver's
        ignore: Collection[int] = (),
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send one request."""
        content: Any = io.BytesIO(body) if body is not None else None
        return await super().perform_request(method, url, params, content, timeout, ignore, headers)


class OpenSearchClient:
    """Asks OpenSearch, once per call. The connection is opened by the first call."""

    def __init__(self, settings: OpenSearchSettings) -> None:
        """Read the settings' files.

        Raises:
            SettingsError: no or odd addresses, unreadable CA or credentials.

        """
        self._driver = AsyncOpenSearch(
            connection_class=_Connection,
            hosts=[_host(url) for url in _urls(settings)],
            http_auth=_credentials(settings.credentials_file),
            ssl_context=_tls(settings.ca_file) if any(_is_tls(url) for url in settings.urls) else None,
            timeout=settings.timeout_s,
            http_compress=False,
            max_retries=0,
            retry_on_timeout=False,
            serializers={JSONSerializer.mimetype: _Serializer()},
        )

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | Mapping[str, object] | None = None,
    ) -> Answer:
        """Send one request and return its decoded answer ({} where that is empty).

        Raises:
            TransientError: not reachable, 429 or 5xx; OutcomeUnknownError where the request may have been taken.
            RejectedError: 400 or 413 (``facts["type"]``, ``facts["status"]``).
            AlreadyExistsError: 400 for an index that exists, 409.
            NotHeldError: 404.
            RefusedError: 401 or 403.

        """
        content = orjson.dumps(body) if isinstance(body, Mapping) else body
        # The driver would take a parameter named timeout for its own.
        target = f"{path}?{urlencode(params)}" if params else path
        try:
            answer = await self._driver.transport.perform_request(method, target, body=content)
        except UnreachableError as error:
            raise _unreachable(error, method) from error
        except TransportError as error:
            raise _refused(error) from error
        except SerializationError as error:
            raise OutcomeUnknownError("opensearch gave an answer that is no json") from error
        return answer if isinstance(answer, Mapping) else {"items": answer} if isinstance(answer, list) else {}

    async def close(self) -> None:
        """Let go of the connections."""
        await self._driver.close()


def error_type(error: object) -> str:
    """Return the type in an error of OpenSearch (an object, or its JSON), without its reason, which quotes values."""
    if isinstance(error, str):
        try:
            error = json.loads(error)
        except ValueError:
            return ""
    if not isinstance(error, Mapping):
        return ""
    inner = error.get("error", error)
    found = inner.get("type", "") if isinstance(inner, Mapping) else inner
    return found if isinstance(found, str) and _ERROR_TYPE.fullmatch(found) else ""


def _unreachable(error: UnreachableError, method: str) -> TransientError:
    # The text of the inner error names addresses and system errors, never what was sent.
    detail = f"{type(error.info).__name__}: {error.error}"
    if method in ("GET", "HEAD"):
        return TransientError("opensearch does not answer", detail=detail)
    return OutcomeUnknownError("opensearch does not answer", detail=detail)


def _refused(error: TransportError) -> AshiatoError:
    status, kind = error.status_code, error_type(error.info)
    if status == 413:
        kind = TOO_LARGE
    cls, message = _judgement(status, kind)
    return cls(message, status=status, type=kind)


def _judgement(status: object, kind: str) -> tuple[type[AshiatoError], str]:
    if kind == "cluster_block_exception":
        return TransientError, "opensearch is blocked"
    if kind == "resource_already_exists_exception":
        return AlreadyExistsError, "opensearch has it already"
    if status in _JUDGEMENTS:
        return _JUDGEMENTS[status]
    if isinstance(status, int) and 400 <= status < 500:
        return RejectedError, "opensearch does not take the request"
    return TransientError, "opensearch cannot do it now"


_JUDGEMENTS: Final[Mapping[object, tuple[type[AshiatoError], str]]] = {
    401: (RefusedError, "opensearch refuses these credentials"),
    403: (RefusedError, "opensearch refuses this act to these credentials"),
    404: (NotHeldError, "opensearch does not have it"),
    408: (TransientError, "opensearch gave up waiting"),
    409: (AlreadyExistsError, "opensearch has it already"),
    429: (TransientError, "opensearch has too much to do"),
}


def _urls(settings: OpenSearchSettings) -> tuple[str, ...]:
    if not settings.urls:
        raise SettingsError("opensearch needs at least one url")
    return settings.urls


def _is_tls(url: str) -> bool:
    return urlsplit(url).scheme == "https"


def _host(url: str) -> dict[str, object]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SettingsError("opensearch url cannot be read", url=url) from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError("opensearch url must be http://host:port or https://host:port")
    if parts.username or parts.password:
        raise SettingsError("opensearch url carries credentials: put them into credentials_file")
    host: dict[str, object] = {"host": parts.hostname, "port": port or 9200, "scheme": parts.scheme}
    if parts.scheme == "https":
        host["use_ssl"] = True
    if parts.path.strip("/"):
        host["url_prefix"] = parts.path
    return host


def _tls(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"cannot read opensearch ca_file {ca_file}: {error}") from error


def _credentials(file: str) -> tuple[str, str] | None:
    if not file:
        return None
    try:
        read = msgspec.json.decode(Path(file).read_bytes(), type=_Credentials)
    except (OSError, msgspec.DecodeError) as error:
        raise SettingsError(f"cannot read opensearch credentials_file {file}: {type(error).__name__}") from error
    return read.username, read.password

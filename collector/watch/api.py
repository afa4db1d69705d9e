"""HTTP to the API server, and nothing more: one connection, one answer at a time, read as it comes.

Python's own ``http.client`` is the client: it reads chunked bodies, times out where a peer falls silent, and adds no
package to what has to be trusted. Token and CA are read again for each connection, as they are rotated.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import select
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit

import msgspec

from ashiato import __version__
from ashiato.core.errors import AshiatoError, SettingsError, TransientError
from collector.watch.journal import StoppedError
from collector.watch.settings import ACCOUNT_DIR, WatchSettings

CONNECT_S: Final = 10.0
ANSWER_S: Final = 60.0
"""How long an answer may keep silent that is no watch."""
READ_BYTES: Final = 64 * 1024
BATCH_BYTES: Final = 1024 * 1024
"""What is taken together of that which has come already, so that it is made durable together."""
LINE_BYTES_MAX: Final = 16 * 1024 * 1024
"""etcd takes no object over 1.5 MiB; a line that is longer than this is none of a watch."""
ERROR_BYTES_MAX: Final = 64 * 1024
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")


class StatusError(AshiatoError):
    """The API server says no: by the status of its answer, or by an event within a watch."""

    code = "kube_status"

    def __init__(self, status: int, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message or http.client.responses.get(status, "error"), status=status)
        self.status = status
        self.retry_after_s = retry_after_s


class SilentError(TransientError):
    """Nothing came for too long: a connection whose other end is gone looks like this."""

    code = "silent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the API server is, and how to be let in."""

    url: str
    token_file: Path | None
    ca_file: Path | None

    @classmethod
    def of(cls, settings: WatchSettings, environ: Mapping[str, str]) -> Place:
        """Return what settings say, else what a pod is told.

        Raises:
            SettingsError: neither says where the API server is.

        """
        host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
        token, ca, url = settings.token_file, settings.ca_file, settings.kube_url
        if not url:
            if not host:
                raise SettingsError("there is no cluster here: set kube_url (--kube-url) and token_file")
            url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
            token, ca = token or f"{ACCOUNT_DIR}/token", ca or f"{ACCOUNT_DIR}/ca.crt"
        split = urlsplit(url)
        if split.scheme not in ("http", "https") or not split.hostname or split.username:
            raise SettingsError(f"kube_url {url!r} is not an address: https://host:port is needed")
        if split.scheme == "http" and token:
            raise SettingsError("a token is sent over https only: change kube_url, or leave token_file out")
        return cls(url=url, token_file=Path(token) if token else None, ca_file=Path(ca) if ca else None)

    def headers(self, accept: str) -> dict[str, str]:
        """Return what every request says. Raises TransientError where the token cannot be read."""
        told = {"Accept": accept, "User-Agent": f"ashiato-collector-watch/{__version__}"}
        if self.token_file is not None:
            try:
                token = self.token_file.read_text(encoding="ascii").strip()
            except OSError as error:
                raise TransientError("cannot read the token", path=str(self.token_file), error=str(error)) from error
            except UnicodeDecodeError:
                token = ""
            if not _TOKEN.fullmatch(token):
                # Said here, for http.client would quote it.
                raise TransientError("the token file holds no token", path=str(self.token_file))
            told["Authorization"] = f"Bearer {token}"
        return told

    def connection(self) -> http.client.HTTPConnection:
        """Return a connection that is not made yet. Raises TransientError where the CA cannot be read."""
        split = urlsplit(self.url)
        assert split.hostname is not None
        if split.scheme == "http":
            return http.client.HTTPConnection(split.hostname, split.port, timeout=CONNECT_S)
        try:
            context = ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file is not None else None)
        except (OSError, ssl.SSLError) as error:
            raise TransientError("cannot read the CA file", path=str(self.ca_file), error=str(error)) from error
        # Clusters sign with certificates that lack what the strict profile asks for, such as a key identifier.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return http.client.HTTPSConnection(split.hostname, split.port, timeout=CONNECT_S, context=context)


class Answer:
    """A body that is being read."""

    def __init__(self, response: http.client.HTTPResponse, connection: socket.socket, silence_s: float) -> None:
        self._response = response
        self._socket = connection
        self._silence_s = silence_s

    def close(self) -> None:
        """Let go of it; the connection can be used again where all was read."""
        self._response.close()

    def whole(self) -> bytes:
        """Return all of it. Raises TransientError."""
        with _told():
            return self._response.read()

    def batches(self) -> Iterator[list[bytes]]:
        """Yield whole lines as they come, those that are there already together; ends where the server ends it.

        Raises:
            SilentError: nothing came for too long.
            TransientError: it broke off, or a line never ends.

        """
        rest = b""
        while True:
            with _told(self._silence_s):
                came = self._come()
            if not came:
                if rest:
                    raise TransientError("the watch broke off within an event")
                return
            whole, newline, rest = (rest + came).rpartition(b"\n")
            if newline:
                yield [line for line in whole.split(b"\n") if line]
            elif len(rest) > LINE_BYTES_MAX:
                raise TransientError("an event of the watch never ends", bytes=len(rest))

    def _come(self) -> bytes:
        """Wait for bytes; return them with what can be had without waiting."""
        came = self._response.read1(READ_BYTES)
        if not came:
            return came
        parts, size = [came], len(came)
        while size < BATCH_BYTES and self._is_readable():
            more = self._response.read1(READ_BYTES)
            if not more:
                break
            parts.append(more)
            size += len(more)
        return b"".join(parts)

    def _is_readable(self) -> bool:
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        ready = select.poll()
        ready.register(self._socket, select.POLLIN)
        return bool(ready.poll(0))


class Api:
    """Of one resource's thread. ``abort`` may be called from another one."""

    def __init__(self, place: Place, *, silence_s: float) -> None:
        self._place = place
        self._silence_s = silence_s
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None
        self._is_aborted = False

    @contextlib.contextmanager
    def get(self, path: str, query: Mapping[str, str], *, accept: str, is_watch: bool) -> Iterator[Answer]:
        """Ask, and read within the context.

        Raises:
            StatusError: the answer is not 200.
            TransientError: there is none.
            StoppedError: aborted.

        """
        try:
            with _told():
                answer = self._ask(f"{path}?{urlencode(query)}" if query else path, accept, is_watch=is_watch)
            with contextlib.closing(answer):
                yield answer
        except BaseException:
            self.close()
            raise
        if is_watch:
            self.close()

    def abort(self) -> None:
        """Let whoever waits for an answer stop waiting."""
        self._is_aborted = True
        if (held := self._socket) is not None:
            with contextlib.suppress(OSError):
                # Past TLS: what the other thread reads of it must stay as it is.
                socket.socket.shutdown(held, socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, target: str, accept: str, *, is_watch: bool) -> Answer:
        connection = self._connection or self._place.connection()
        self._connection = connection
        if connection.sock is None:
            connection.connect()
        held = connection.sock
        assert isinstance(held, socket.socket)
        self._socket = held
        if self._is_aborted:
            raise StoppedError("asked to stop")
        held.settimeout(ANSWER_S)
        connection.request("GET", self._prefix() + target, headers=self._place.headers(accept))
        response = connection.getresponse()
        if response.status != http.HTTPStatus.OK:
            self._refuse(response)
        held.settimeout(self._silence_s if is_watch else ANSWER_S)
        return Answer(response, held, self._silence_s)

    def _prefix(self) -> str:
        return urlsplit(self._place.url).path.rstrip("/")

    def _refuse(self, response: http.client.HTTPResponse) -> None:
        with contextlib.closing(response):
            said = response.read(ERROR_BYTES_MAX).decode("utf-8", "replace")
        after = response.headers.get("Retry-After", "")
        seconds = float(after) if after.isascii() and after.isdecimal() else 0.0
        raise StatusError(response.status, _message(said), retry_after_s=seconds)


@contextlib.contextmanager
def _told(silence_s: float = ANSWER_S) -> Iterator[None]:
    """Say what a connection's errors are to us."""
    try:
        yield
    except TimeoutError as error:
        raise SilentError(f"nothing came for {silence_s:g} s") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        # ValueError: http.client reads from what another thread has closed.
        raise TransientError("the API server cannot be read", error=f"{type(error).__name__}: {error}") from error


def _message(said: str) -> str:
    """Return the message of a Status, in short."""
    try:
        return msgspec.json.decode(said, type=_Status).message[:200]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


class _Status(msgspec.Struct):
    message: str = ""

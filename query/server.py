"""The service as a process: it listens first, says where once it answers, and ends when it is asked to."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import uvicorn

from ashiato import __version__
from ashiato.adapters import files
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.errors import SettingsError
from ashiato.core.events import ServiceStarted, ServiceStopped
from ashiato.core.limits import KIB
from ashiato.core.ports import Clock
from query.api import make_app
from query.engine import Engine, open_engine
from query.settings import QuerySettings

_HEADERS_BYTES_MAX: Final = 64 * KIB
_GRACE_S: Final = 10


class QueryServer:
    """``run`` returns once ``stop`` was called and what was asked before is answered.

    Made with settings that cannot work, it raises SettingsError.
    """

    def __init__(
        self, settings: QuerySettings, *, clock: Clock, telemetry: Telemetry, engine: Engine | None = None
    ) -> None:
        self._settings = settings
        self._telemetry = telemetry
        app = make_app(settings, engine or open_engine(settings, clock=clock), clock=clock, telemetry=telemetry)
        self._listening = _listen(settings)
        scheme = "https" if settings.tls_certificate_file else "http"
        self.url = f"{scheme}://{_authority(self._listening)}"
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, lifespan="on",
            timeout_graceful_shutdown=_GRACE_S, h11_max_incomplete_event_size=_HEADERS_BYTES_MAX,
            ssl_certfile=settings.tls_certificate_file or None, ssl_keyfile=settings.tls_key_file or None,
        )  # fmt: skip
        try:
            config.load()
        except (OSError, ValueError) as error:
            raise SettingsError(f"cannot serve TLS with {settings.tls_certificate_file}: {error}") from error
        self._server = _Server(config, self)

    async def run(self) -> None:
        """Serve until :meth:`stop`."""
        await self._server.serve(sockets=[self._listening])
        self._is_gone()
        self._telemetry.emit(ServiceStopped(reason="asked to"))

    def stop(self) -> None:
        """Ask it to end."""
        self._server.should_exit = True

    def answers(self) -> None:
        """Say where, now that it answers."""
        if self._settings.address_file:
            files.replace(Path(self._settings.address_file), json.dumps({"url": self.url}).encode() + b"\n")
        self._telemetry.emit(ServiceStarted(version=__version__, detail=self.url))

    def _is_gone(self) -> None:
        if self._settings.address_file:
            Path(self._settings.address_file).unlink(missing_ok=True)


class _Server(uvicorn.Server):
    """uvicorn, whose signals are ours."""

    def __init__(self, config: uvicorn.Config, owner: QueryServer) -> None:
        super().__init__(config)
        self._owner = owner

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._owner.answers()


def _listen(settings: QuerySettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as error:
        listening.close()
        raise SettingsError(f"cannot listen on {settings.host} port {settings.port}: {error.strerror}") from error
    return listening


def _authority(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

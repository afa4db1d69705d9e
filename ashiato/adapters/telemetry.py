"""Turns typed events into a structlog line and a Prometheus metric, so that the two cannot disagree."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from threading import Thread
from typing import TYPE_CHECKING, TextIO
from wsgiref.simple_server import WSGIRequestHandler, make_server

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from ashiato import __version__
from ashiato.core.events import Event, InvariantRefused, Level, LogLinesUnwritten, Metric
from ashiato.core.invariants import InvariantError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

SHUT_DOWN_S = 60.0
"""How often the server would look whether it is to end, which it is not before the process: a wake-up for nothing."""
Probe = Callable[[], str]
"""Says what is wrong; '' where all is well."""


class Telemetry:
    """One per process. ``emit`` never raises for a well-formed event and never blocks on the network.

    Events below ``level`` move their metrics and write no line.
    """

    def __init__(self, service: str, *, stream: TextIO | None = None, level: Level = Level.INFO) -> None:
        self.service = service
        self._spoken = tuple(Level)[tuple(Level).index(level) :]
        self.registry = CollectorRegistry()
        self._unwritten = 0
        info = Gauge("ashiato_build_info", "What runs here", ("service", "version"), registry=self.registry)
        info.labels(service, __version__).set(1)
        self._instruments: dict[str, Counter | Gauge] = {}
        self._log = structlog.wrap_logger(
            structlog.PrintLogger(stream or sys.stderr),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(sort_keys=False),
            ],
        )

    def emit(self, event: Event) -> None:
        """Write the event's line and move its metrics."""
        facts = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
        for metric in event.metrics:
            self._move(metric, facts)
        if event.level in self._spoken:
            self._speak(event.level, _snake(type(event).__name__), facts)

    def _speak(self, level: Level, name: str, facts: dict[str, object]) -> None:
        """Write a line. A log that cannot take it, such as one on a full disk, must not stop the service."""
        try:
            if self._unwritten:
                lost = LogLinesUnwritten(count=self._unwritten)
                self._log.warning(_snake(type(lost).__name__), service=self.service, count=lost.count)
                self._unwritten = 0
            getattr(self._log, level.value)(name, service=self.service, **facts)
        except OSError:
            self._unwritten += 1
            for metric in LogLinesUnwritten.metrics:
                self._move(metric, {"count": 1})

    def refused(self, error: InvariantError) -> None:
        """Count and log an invariant that did not hold."""
        self.emit(InvariantRefused(number=str(error.facts.get("invariant", "?")), detail=str(error)))

    def value(self, name: str, **labels: str) -> float:
        """Return a metric's present value, 0 where it never moved (for tests and status lines)."""
        return self.registry.get_sample_value(f"ashiato_{self.service}_{name}", labels) or 0.0

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def serve(self, address: str, port: int, *, probes: Mapping[str, Probe] | None = None) -> None:
        """Serve ``/metrics``, and the probes by their paths, from a thread of its own."""
        metrics, known = make_wsgi_app(self.registry), dict(probes or {})

        def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            probe = known.get(environ.get("PATH_INFO", ""))
            if probe is None:
                page: Iterable[bytes] = metrics(environ, start_response)
                return page
            why_not = probe()
            start_response("503 Service Unavailable" if why_not else "200 OK", [("Content-Type", "text/plain")])
            return [f"{why_not or 'ok'}\n".encode()]

        server = make_server(address, port, answer, ThreadingWSGIServer, handler_class=_Quiet)
        Thread(target=server.serve_forever, args=(SHUT_DOWN_S,), daemon=True, name="metrics").start()

    def _move(self, metric: Metric, facts: dict[str, object]) -> None:
        instrument = self._instruments.get(metric.name)
        if instrument is None:
            make = Counter if metric.kind == "counter" else Gauge
            instrument = make(
                f"ashiato_{self.service}_{metric.name}", metric.help, metric.labels, registry=self.registry
            )
            self._instruments[metric.name] = instrument
        target = instrument.labels(*(str(facts[name]) for name in metric.labels)) if metric.labels else instrument
        amount = float(str(facts[metric.value])) if metric.value else 1.0
        if isinstance(target, Counter):
            target.inc(amount)
        else:
            target.set(amount)


class _Quiet(WSGIRequestHandler):
    """Does not write a line for each question."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing."""


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()

"""Turns typed events into a structlog line and a Prometheus metric, so that the two cannot disagree."""

from __future__ import annotations

import dataclasses
import re
import sys
from typing import TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, start_http_server

from ashiato.core.events import Event, InvariantRefused, Level, LogLinesUnwritten, Metric
from ashiato.core.invariants import InvariantError


class Telemetry:
    """One per process. ``emit`` never raises for a well-formed event and never blocks on the network.

    Events below ``level`` move their metrics and write no line.
    """

    def __init__(self, service: str, *, stream: TextIO | None = None, level: Level = Level.INFO) -> None:
        self.service = service
        self._spoken = tuple(Level)[tuple(Level).index(level) :]
        self.registry = CollectorRegistry()
        self._unwritten = 0
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

    def serve(self, address: str, port: int) -> None:
        """Serve ``/metrics`` from a thread of its own."""
        start_http_server(port, addr=address, registry=self.registry)

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


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()

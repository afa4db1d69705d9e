"""``python -m collector watch``: its arguments, its settings, and the process around it."""

from __future__ import annotations

import argparse
import os
import signal
import threading

from ashiato.adapters.clock import SystemClock
from ashiato.adapters.settings import load
from ashiato.adapters.telemetry import Telemetry
from collector.watch.service import Watch
from collector.watch.settings import WatchSettings

_FLAGS = ("kube_url", "token_file", "ca_file", "state_dir", "folder")


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes beside ``--config``."""
    parser.add_argument("--kube-url", help="address of the API server; inside a cluster it is known")
    parser.add_argument("--token-file", help="file with the bearer token, read again when it is rotated")
    parser.add_argument("--ca-file", help="who vouches for the API server (PEM)")
    parser.add_argument("--state-dir", help="where each watch stands")
    parser.add_argument("--folder", help="where the lines go")


def run(told: argparse.Namespace) -> int:
    """Watch until SIGTERM or SIGINT."""
    overrides = {name: value for name in _FLAGS if (value := getattr(told, name)) is not None}
    settings = load(WatchSettings, service="watch", file=told.config, environ=os.environ, overrides=overrides)
    telemetry = Telemetry("collector")
    watch = Watch(settings, environ=os.environ, clock=SystemClock(), telemetry=telemetry)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if settings.metrics_port:
        probes = {"/healthz": watch.ails, "/readyz": watch.waits_for}
        telemetry.serve(settings.metrics_address, settings.metrics_port, probes=probes)
    watch.run(stop)
    return 0

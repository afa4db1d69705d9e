"""``python -m collector --config FILE``: follow the node's logs until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from ashiato.adapters.bus import open_writer
from ashiato.adapters.clock import SystemClock
from ashiato.adapters.settings import load
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.errors import AshiatoError, SettingsError
from collector.service import Collector
from collector.settings import CollectorSettings


def main() -> int:
    """Run and return the exit code: 0 asked to stop, 1 failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="collector", description="Tails log files of this node onto the bus.")
    parser.add_argument("--config", type=Path, help="TOML file with a [collector] table")
    arguments = parser.parse_args()
    try:
        settings = load(CollectorSettings, service="collector", file=arguments.config, environ=os.environ)
        return asyncio.run(_run(settings))
    except SettingsError as error:
        print(f"collector: {error}", file=sys.stderr)  # noqa: T201 - before there is a log
        return 2
    except AshiatoError as error:
        print(f"collector: {error}", file=sys.stderr)  # noqa: T201 - the last word
        return 1


async def _run(settings: CollectorSettings) -> int:
    telemetry = Telemetry("collector")
    if settings.metrics_port:
        telemetry.serve("127.0.0.1", settings.metrics_port)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    writer = await open_writer(settings.bus)
    try:
        await Collector(settings, writer=writer, clock=SystemClock(), telemetry=telemetry).run(stop)
    finally:
        await writer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())

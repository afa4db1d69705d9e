"""``python -m query --config FILE``: answer questions until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

from ashiato.adapters.clock import SystemClock
from ashiato.adapters.settings import load
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.errors import AshiatoError, SettingsError
from query.server import QueryServer
from query.settings import QuerySettings


def main() -> int:
    """Run and return the exit code: 0 asked to stop, 1 failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="query", description="Answers questions about logs, hot or years old.")
    parser.add_argument("--config", type=Path, help="TOML file with a [query] table")
    arguments = parser.parse_args()
    try:
        settings = load(QuerySettings, service="query", file=arguments.config, environ=os.environ)
        return asyncio.run(_run(settings))
    except SettingsError as error:
        print(f"query: {error}", file=sys.stderr)  # noqa: T201 - before there is a log
        return 2
    except AshiatoError as error:
        print(f"query: {error}", file=sys.stderr)  # noqa: T201 - the last word
        return 1


async def _run(settings: QuerySettings) -> int:
    telemetry = Telemetry("query")
    server = QueryServer(settings, clock=SystemClock(), telemetry=telemetry)
    if settings.metrics_port:
        telemetry.serve("127.0.0.1", settings.metrics_port)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, server.stop)
    await server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())

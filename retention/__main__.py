"""``python -m retention [run|prepare] --config FILE``: keep until SIGTERM or SIGINT, or make what must be there."""

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
from retention.service import Retention
from retention.settings import RetentionSettings


def main() -> int:
    """Run and return the exit code: 0 done or asked to stop, 1 failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="retention", description="Keeps logs as long as they must be kept, and frees what need not be."
    )
    parser.add_argument(
        "command", nargs="?", choices=("run", "prepare"), default="run",
        help="run: until asked to stop (default); prepare: make topics, indices and the journal's start, then exit",
    )  # fmt: skip
    parser.add_argument("--config", type=Path, help="TOML file with a [retention] table")
    arguments = parser.parse_args()
    try:
        settings = load(RetentionSettings, service="retention", file=arguments.config, environ=os.environ)
        return asyncio.run(_run(settings, once=arguments.command == "prepare"))
    except SettingsError as error:
        print(f"retention: {error}", file=sys.stderr)  # noqa: T201 - before there is a log
        return 2
    except AshiatoError as error:
        print(f"retention: {error}", file=sys.stderr)  # noqa: T201 - the last word
        return 1


async def _run(settings: RetentionSettings, *, once: bool) -> int:
    telemetry = Telemetry("retention")
    retention = Retention(settings=settings, clock=SystemClock(), telemetry=telemetry)
    if once:
        try:
            await retention.prepare()
        finally:
            await retention.close()
        return 0
    if settings.metrics_port:
        telemetry.serve("127.0.0.1", settings.metrics_port)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await retention.run(stop)
    return 0


if __name__ == "__main__":
    sys.exit(main())

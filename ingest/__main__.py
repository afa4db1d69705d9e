"""``python -m ingest [archive|index] --config FILE``: take in what the bus holds until SIGTERM or SIGINT.

``reparse`` takes nothing in: it says what the parsers of today make of the lines that are in quarantine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path

import msgspec

from ashiato.adapters.settings import load
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.errors import AshiatoError, SettingsError
from ashiato.core.invariants import InvariantError
from ingest.service import drain_archive, reparse_archive, run_archive, run_index
from ingest.settings import IngestSettings


def main() -> int:
    """Run and return the exit code: 0 asked to stop (or drained), 1 failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="ingest", description="Archives or indexes what the bus holds.")
    parser.add_argument("role", nargs="?", choices=("archive", "index", "reparse"), default="archive")
    parser.add_argument("--config", type=Path, help="TOML file with an [ingest] table")
    parser.add_argument(
        "--drain",
        action="store_true",
        help="archive what the bus holds now, commit it, print one JSON line of what that was, and end",
    )
    parser.add_argument(
        "--report-only",
        action="store_true",
        help="with reparse: say what would parse now, and write no derived rows to the work bucket",
    )
    arguments = parser.parse_args()
    if arguments.drain and arguments.role != "archive":
        parser.error("--drain is for the archive role")
    if arguments.report_only and arguments.role != "reparse":
        parser.error("--report-only is for the reparse role")
    telemetry = Telemetry("ingest")
    try:
        settings = load(IngestSettings, service="ingest", file=arguments.config, environ=os.environ)
        if arguments.role == "reparse":
            sys.stdout.buffer.write(reparse_archive(settings, write=not arguments.report_only) + b"\n")
            return 0
        asyncio.run(_run(settings, telemetry, role=arguments.role, drain=arguments.drain))
    except SettingsError as error:
        print(f"ingest: {error}", file=sys.stderr)  # noqa: T201 - before there is a log
        return 2
    except InvariantError as error:
        telemetry.refused(error)
        return 1
    except AshiatoError as error:
        print(f"ingest: {error}", file=sys.stderr)  # noqa: T201 - the last word
        return 1
    return 0


async def _run(settings: IngestSettings, telemetry: Telemetry, *, role: str, drain: bool) -> None:
    if settings.metrics_port:
        telemetry.serve("127.0.0.1", settings.metrics_port)
    if drain:
        sys.stdout.buffer.write(msgspec.json.encode(await drain_archive(settings, telemetry)) + b"\n")
        return
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await (run_index if role == "index" else run_archive)(settings, telemetry, stop)


if __name__ == "__main__":
    sys.exit(main())

"""``python -m ingest [archive|index] --config FILE``: take in what the bus holds until SIGTERM or SIGINT.

``reparse`` takes nothing in: it says what the parsers of today make of the lines that are in quarantine. ``fsck``
holds the archive against its journal and manifests, and ``sidecars`` makes filters and entity indexes again.
``inventory`` follows the journal and keeps the pod inventory, from archived facts alone.
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
from ingest.memory import keep_memory
from ingest.settings import IngestSettings


def main() -> int:
    """Run and return the exit code: 0 asked to stop, drained or clean, 1 failed or something found, 2 wrong usage."""
    arguments = _arguments()
    keep_memory()
    telemetry = Telemetry("ingest")
    try:
        settings = load(IngestSettings, service="ingest", file=arguments.config, environ=os.environ)
        return _perform(arguments, settings, telemetry)
    except SettingsError as error:
        print(f"ingest: {error}", file=sys.stderr)  # noqa: T201 - before there is a log
        return 2
    except InvariantError as error:
        telemetry.refused(error)
        return 1
    except AshiatoError as error:
        print(f"ingest: {error}", file=sys.stderr)  # noqa: T201 - the last word
        return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ingest", description="Archives or indexes what the bus holds.")
    parser.add_argument(
        "role", nargs="?", choices=("archive", "index", "inventory", "reparse", "fsck", "sidecars"), default="archive"
    )
    parser.add_argument("--config", type=Path, help="TOML file with an [ingest] table")
    options = {
        "--drain": (
            ("archive",),
            "archive what the bus holds now, commit it, print one JSON line of what that was, and end",
        ),
        "--report-only": (("reparse",), "say what would parse now, and write no derived rows to the work bucket"),
        "--full": (("fsck",), "read and render every row of every pack, not only sizes and footers"),
        "--json": (("fsck",), "print a line of JSON per finding, then one with the report"),
        "--again": (("sidecars", "inventory"), "make it again from packs, not only what is missing, damaged or new"),
        "--once": (("inventory",), "take in what is archived now, print one JSON line of what that is, and end"),
    }
    for option, (roles, text) in options.items():
        parser.add_argument(option, action="store_true", help=f"with {' or '.join(roles)}: {text}")
    arguments = parser.parse_args()
    for option, (roles, _) in options.items():
        if getattr(arguments, option[2:].replace("-", "_")) and arguments.role not in roles:
            parser.error(f"{option} is for the {' or '.join(roles)} role")
    return arguments


def _perform(arguments: argparse.Namespace, settings: IngestSettings, telemetry: Telemetry) -> int:
    from ingest import service  # noqa: PLC0415 - Arrow looks for its memory when it is imported

    match arguments.role:
        case "reparse":
            sys.stdout.buffer.write(service.reparse_archive(settings, write=not arguments.report_only) + b"\n")
        case "sidecars":
            sys.stdout.buffer.write(service.rebuild_sidecars(settings, again=arguments.again) + b"\n")
        case "fsck":
            return service.run_fsck(settings, full=arguments.full, as_json=arguments.json)
        case "inventory" if arguments.once or arguments.again:
            sys.stdout.buffer.write(service.make_inventory(settings, telemetry, again=arguments.again) + b"\n")
        case role:
            asyncio.run(_run(settings, telemetry, role=role, drain=arguments.drain))
    return 0


async def _run(settings: IngestSettings, telemetry: Telemetry, *, role: str, drain: bool) -> None:
    from ingest import service  # noqa: PLC0415 - as above

    if settings.metrics_port:
        telemetry.serve("127.0.0.1", settings.metrics_port)
    if drain:
        sys.stdout.buffer.write(msgspec.json.encode(await service.drain_archive(settings, telemetry)) + b"\n")
        return
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    run = {"index": service.run_index, "inventory": service.run_inventory}.get(role, service.run_archive)
    await run(settings, telemetry, stop)


if __name__ == "__main__":
    sys.exit(main())

"""``python -m collector [run|import|doctor|ledger|pin|watch] --config FILE``: follow the node's logs, and the rest."""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from ashiato.adapters.bus import open_writer
from ashiato.adapters.clock import SystemClock
from ashiato.adapters.settings import load
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.errors import AshiatoError, SettingsError
from collector.settings import CollectorSettings

# What one command needs stays out of the memory of the others: each imports its own.

SECONDS_MAX = 3600.0
COMMANDS = ("run", "import", "doctor", "ledger", "pin", "watch")


def main(arguments: list[str] | None = None) -> int:
    """Run and return the exit code.

    0 asked to stop, all read, or all well; 1 failed, nothing read, or something is or would be lost; 2 wrong usage.
    """
    words = _with_command(sys.argv[1:] if arguments is None else arguments)
    told = _parser(words[0]).parse_args(words)
    try:
        return _perform(told)
    except SettingsError as error:
        print(f"collector: {error}", file=sys.stderr)  # noqa: T201 - before there is a log
        return 2
    except AshiatoError as error:
        print(f"collector: {error}", file=sys.stderr)  # noqa: T201 - the last word
        return 1


def _perform(told: argparse.Namespace) -> int:
    if told.command == "watch":
        from collector.watch import command as watch_command  # noqa: PLC0415 - as above

        return watch_command.run(told)
    if told.command == "ledger" and told.folder is not None:
        return _ledger(None, told)
    settings = load(CollectorSettings, service="collector", file=told.config, environ=os.environ)
    return _PERFORM[told.command](settings, told)


def _with_command(words: list[str]) -> list[str]:
    """Put the default command first where none is given."""
    return words if words[:1] and words[0] in (*COMMANDS, "-h", "--help") else ["run", *words]


def _parser(command: str) -> argparse.ArgumentParser:
    """Return the parser; only ``command`` is told its own options."""
    parser = argparse.ArgumentParser(prog="collector", description="Brings log files of a node onto the bus.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="follow the node's logs until SIGTERM or SIGINT (the default)")
    once = commands.add_parser("import", help="read saved logs once, and print one JSON line of what was read")
    doctor = commands.add_parser("doctor", help="say what can be read, which rights it takes, what would be lost now")
    ledger = commands.add_parser("ledger", help="print what the node states of its files, and verify it")
    if command == "ledger":
        from collector import ledger_command  # noqa: PLC0415 - as above

        ledger_command.add_to(ledger)
    watch = commands.add_parser("watch", help="write down what the Kubernetes API says of pods (settings in [watch])")
    if command == "watch":
        from collector.watch import command as watch_command  # noqa: PLC0415 - as above

        watch_command.add_to(watch)
    pin = commands.add_parser("pin", help="hold log files that rotation would delete, while no collector runs")
    pin.add_argument("--unconfined", action="store_true", help="go on where the kernel has no Landlock")
    for one in (run, once, doctor, ledger, pin, watch):
        one.add_argument("--config", type=Path, help="TOML file with the settings")
    once.add_argument("--cluster", default="", help="cluster that the records are given; '' takes the setting")
    once.add_argument("--node", default="", help="node, where a path does not name one (<node>/var/log/...)")
    once.add_argument("--json", action="store_true", help="print JSON (it always does)")
    once.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="files and folders")
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    doctor.add_argument("--seconds", type=_seconds, default=10.0, help="how long growth is watched (10)")
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= SECONDS_MAX:
        raise ValueError(text)
    return seconds


def _open_many_files() -> None:
    """Take as many descriptors as the system lets us have: one for each file that is followed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _run(settings: CollectorSettings) -> int:
    from collector.service import Collector  # noqa: PLC0415 - as above

    _open_many_files()
    telemetry = Telemetry("collector")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    writer = await open_writer(settings.bus)
    try:
        collector = Collector(settings, writer=writer, clock=SystemClock(), telemetry=telemetry)
        if settings.metrics_port:
            probes = {"/healthz": collector.ails, "/readyz": collector.waits_for}
            telemetry.serve(settings.metrics_address, settings.metrics_port, probes=probes)
        await collector.run(stop)
    finally:
        await writer.close()
    return 0


async def _import(settings: CollectorSettings, told: argparse.Namespace) -> int:
    from collector.importer import Importer, Report  # noqa: PLC0415 - as above
    from collector.saved import NODE_DEFAULT  # noqa: PLC0415 - as above

    writer = await open_writer(settings.bus)
    try:
        importer = Importer(writer, clock=SystemClock(), telemetry=Telemetry("collector"))
        cluster, node = told.cluster or settings.cluster, told.node or NODE_DEFAULT
        report: Report = await importer.run(told.paths, cluster=cluster, node=node)
    finally:
        await writer.close()
    sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    return 0 if report.files else 1


def _pin(settings: CollectorSettings, told: argparse.Namespace) -> int:
    """Become the pinner, which is a small process of the standard library alone."""
    if not settings.pins_dir:
        raise SettingsError("there is no pins_dir: name a folder on the mount of the logs, outside /var/log/pods")
    words = [sys.executable, "-m", "collector.pin", "--pins", str(Path(settings.pins_dir).absolute())]
    for root in settings.roots:
        words += ["--root", str(Path(root).absolute())]
    words += ["--bytes-max", str(settings.pin_bytes_max), "--free-share-min", str(settings.pin_free_share_min)]
    sys.stdout.flush()
    os.execv(sys.executable, [*words, *(["--unconfined"] if told.unconfined else [])])  # noqa: S606 - it is ourselves


async def _doctor(settings: CollectorSettings, told: argparse.Namespace) -> int:
    from collector.doctor.command import examine  # noqa: PLC0415 - as above
    from collector.doctor.report import State, to_json, to_text  # noqa: PLC0415 - as above

    report = await examine(settings, seconds=told.seconds)
    sys.stdout.write(to_json(report).decode() + "\n" if told.json else to_text(report))
    return 1 if report.state is State.LOSS else 0


def _ledger(settings: CollectorSettings | None, told: argparse.Namespace) -> int:
    from collector import ledger_command  # noqa: PLC0415 - as above

    return ledger_command.run(told, settings)


_PERFORM: Final[dict[str, Callable[[CollectorSettings, argparse.Namespace], int]]] = {
    "run": lambda settings, _: asyncio.run(_run(settings)),
    "import": lambda settings, told: asyncio.run(_import(settings, told)),
    "doctor": lambda settings, told: asyncio.run(_doctor(settings, told)),
    "pin": _pin,
    "ledger": _ledger,
}


if __name__ == "__main__":
    sys.exit(main())

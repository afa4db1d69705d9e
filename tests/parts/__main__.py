"""``python -m tests.parts up|down|status``: the parts, started for as long as somebody works with them."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

from tests.parts import artifacts
from tests.parts.process import Part, PartError
from tests.parts.stack import SHARED, parts_in, stack_of


def main(arguments: list[str]) -> int:
    """Run one command; the exit code says whether it was done."""
    commands = {"up": up, "down": down, "status": status}
    if len(arguments) != 1 or arguments[0] not in commands:
        sys.stderr.write(f"usage: python -m tests.parts {'|'.join(commands)}\n")
        return 2
    try:
        with artifacts.locked(artifacts.STATE / "command.lock"):
            return commands[arguments[0]]()
    except PartError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def up() -> int:
    """Start what does not run, and say where everything is."""
    parts = parts_in(SHARED, survives=True)
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda part: part.start(), parts))
    sys.stdout.write(f"{stack_of(*parts).describe()}\n")
    return 0


def down() -> int:
    """Stop what runs. Data and ports stay for the next ``up``; remove .parts/run to begin anew."""
    parts: tuple[Part, ...] = parts_in(SHARED, survives=True)
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda part: part.stop(), parts))
    sys.stdout.write("Kafka, OpenSearch and SeaweedFS are stopped\n")
    return 0


def status() -> int:
    """Say what runs; exit code 1 unless all do."""
    parts: tuple[Part, ...] = parts_in(SHARED, survives=True)
    for part in parts:
        sys.stdout.write(f"{part.name}: {'running' if part.running else 'stopped'} ({part.folder})\n")
    return 0 if all(part.running for part in parts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

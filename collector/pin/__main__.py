"""``python -m collector.pin``: the process that ``python -m collector pin --config FILE`` becomes."""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path
from signal import SIGINT, SIGTERM, signal

from collector.pin import landlock
from collector.pin.pinner import Budget, Pinner, say, unfit

SWEEP_S = 0.2
BUDGET_SWEEPS = 25
"""The budget is looked at each 5 s."""


def main(arguments: list[str] | None = None) -> int:
    """Pin until asked to stop; return 0, 1 where it cannot be confined, 2 where the folders do not fit."""
    told = _parser().parse_args(arguments)
    roots = [root for root in told.root if Path(root).is_dir()]
    pins = Path(told.pins)
    if not pins.is_dir():
        pins.mkdir(parents=True)
        # The collector, as group 0, removes what it has closed.
        pins.chmod(0o770)
    if why := unfit(roots, told.pins):
        say("not_pinning", level="error", error=why)
        return 2
    if not _confine(roots, told.pins, unconfined=told.unconfined):
        return 1
    stop = threading.Event()
    for number in (SIGTERM, SIGINT):
        signal(number, lambda *_: stop.set())
    pinner = Pinner(roots, told.pins, Budget(bytes_max=told.bytes_max, free_share_min=told.free_share_min))
    say("pinning", roots=roots, pins=told.pins, landlock=landlock.abi())
    sweeps = 0
    while not stop.wait(SWEEP_S):
        pinner.sweep()
        sweeps += 1
        if sweeps % BUDGET_SWEEPS == 0:
            pinner.keep_budget()
    return 0


def _confine(roots: list[str], pins: str, *, unconfined: bool) -> bool:
    """Lock this process: of logs it may only read, and add names of them to the pins."""
    if landlock.abi() < landlock.ABI_NEEDED:
        if not unconfined:
            say("not_pinning", level="error", error="this kernel has no Landlock: it could remove logs; --unconfined")
            return False
        say("unconfined", level="warning", error="this kernel has no Landlock: this process could remove logs")
        return True
    read = landlock.READ_FILE | landlock.READ_DIR | landlock.REFER
    # Removing is for the budget, and only here: no right to write, not even through a pin.
    add = read | landlock.MAKE_REG | landlock.MAKE_SYM | landlock.REMOVE_FILE
    landlock.lock({**dict.fromkeys(roots, read), pins: add})
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="collector.pin", description="Holds log files that rotation would delete.")
    parser.add_argument("--root", action="append", required=True, help="folder of logs")
    parser.add_argument("--pins", required=True, help="folder of the pins, on the same mount")
    parser.add_argument("--bytes-max", type=int, required=True)
    parser.add_argument("--free-share-min", type=float, required=True)
    parser.add_argument("--unconfined", action="store_true", help="go on without Landlock")
    return parser


if __name__ == "__main__":
    sys.exit(main())

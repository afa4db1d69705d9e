"""``ashiato up``: the four processes on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from ashiato.adapters.data_folder import DataFolder
from ashiato.cli.voice import say
from ashiato.core.errors import SettingsError
from ashiato.standalone import GIB, Options, Standalone, remedy

DATA_DEFAULT: Final = Path("ashiato-data")
_SIZE: Final = re.compile(r"^(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?$", re.IGNORECASE)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}

DataOption = Annotated[Path, typer.Option("--data", help="The data folder; it is made where it does not exist.")]

_DEFAULT_ROOTS: Final = ("/var/log/pods", "/var/lib/docker/containers")


def up(
    logs: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders to follow instead of /var/log/pods and docker's.", show_default=False),
    ] = None,
    data: DataOption = DATA_DEFAULT,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port of the query service on loopback; 0 takes a free one.")
    ] = 0,
    disk_budget: Annotated[
        str, typer.Option(help="What the data folder may hold; the oldest goes first, after its minimum.")
    ] = "10G",
    cluster: Annotated[str, typer.Option(help="Name of the cluster that records carry.")] = "local",
    node: Annotated[str, typer.Option(help="Name of this node; the host's where none is given.")] = "",
) -> None:
    """Collect, keep and serve the logs of this machine. No server, no root, no configuration."""
    roots = tuple(str(path.resolve()) for path in logs or ())
    for root in roots:
        if not Path(root).is_dir():
            raise SettingsError(f"not a folder: {root}")
    if not roots and (advice := remedy(_DEFAULT_ROOTS)):
        print(advice, file=sys.stderr)  # noqa: T201 - the whole answer
        raise typer.Exit(1)
    options = Options(
        roots=roots, all_files=bool(roots), port=port, disk_budget_bytes=size_bytes(disk_budget), cluster=cluster,
        node=node,
    )  # fmt: skip
    asyncio.run(_up(DataFolder(data.resolve()), options))


async def _up(data: DataFolder, options: Options) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    say(f"data folder {data.root} (budget {options.disk_budget_bytes / GIB:g} GiB)")
    say("one user on one machine: nothing here locks the archive against whoever owns this folder")
    standalone = Standalone(data, options, say=say)
    try:
        address = await standalone.start()
        say(f"following {', '.join(options.roots) or 'the container logs of this machine'}")
        say(f"answers at {address.url} (API: {address.url}/docs)")
        say(f"token {address.token} (also in {data.token_file})")
        say(f"try: ashiato search 'error' --data {data.root}")
        say("Ctrl-C stops it; the next start continues where this one ended")
        await stop.wait()
        say("stopping")
    finally:
        await standalone.stop()


def size_bytes(text: str) -> int:
    """Return bytes of ``10G``, ``512M``, ``1.5GiB`` (powers of 1024); 0 for ``0``, which sets no budget.

    Raises:
        SettingsError: not a size.

    """
    match = _SIZE.match(text.strip())
    if match is None:
        raise SettingsError(f"not a size: {text!r}; write for example 512M or 10G")
    return int(float(match[1]) * 1024 ** _POWERS[match[2].lower()])

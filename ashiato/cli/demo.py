"""``ashiato demo``: a recorded incident, written live, through all four processes, and the dead pod's timeline."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ashiato.adapters.clock import SystemClock
from ashiato.adapters.data_folder import DEMO_MARKER, DataFolder
from ashiato.cli.voice import say
from ashiato.core.errors import AshiatoError, SettingsError, TransientError
from ashiato.standalone import Options, Standalone

if TYPE_CHECKING:
    from ashiato.cli.places import Place
    from ashiato.cli.show import Document
    from ashiato.demo.replay import Script

_SETTLED_S: Final = 30.0


def demo(
    data: Annotated[
        Path, typer.Option("--data", help="Where the demo lives; what an earlier demo left there is replaced.")
    ] = Path("ashiato-demo"),
    speed: Annotated[float, typer.Option(min=1, max=200, help="How many times faster than it happened.")] = 10.0,
    json_lines: Annotated[bool, typer.Option("--json", help="Print records as JSON lines, coverage last.")] = False,
    show_all: Annotated[bool, typer.Option("--all", help="Fold nothing.")] = False,
) -> None:
    """Replay an incident on a two-node cluster, delete the attacked pod, and print its timeline all the same."""
    folder = DataFolder(data.resolve())
    _clear(folder.root)
    complete = asyncio.run(_demo(folder, speed=speed, json_lines=json_lines, show_all=show_all))
    if not complete:
        raise TransientError("the timeline's coverage did not become complete: the answer above says what is missing")


async def _demo(data: DataFolder, *, speed: float, json_lines: bool, show_all: bool) -> bool:
    from ashiato.cli.places import ServerPlace  # noqa: PLC0415 - see the package
    from ashiato.demo.replay import replay, script  # noqa: PLC0415 - the same

    nodes = data.root / "nodes"
    nodes.mkdir()
    options = Options(
        roots=(str(nodes),), cluster="demo", node="demo", commit_age_s=8.0, beat_interval_s=1.0, sweep_interval_s=0.4,
        settle_s=3.0,
    )  # fmt: skip
    incident = script()
    standalone = Standalone(data, options, say=say)
    try:
        address = await standalone.start()
        say(f"answers at {address.url}, token in {data.token_file}")
        minutes = (incident.end_unix_nano - incident.start_unix_nano) / 60e9
        say(f"replaying {minutes:.1f} minutes of a two-node cluster {speed:g} times as fast below {nodes}")
        with _progress() as told:
            await replay(incident, nodes, speed=speed, now_unix_nano=SystemClock().now_unix_nano, progress=told)
        ended = SystemClock().now_unix_nano()
        say(_gone(incident, nodes))
        place = ServerPlace(url=address.url, token=address.token)
        try:
            documents, coverage = await _settled(place, f"pod:{incident.deleted_pod}", ended)
        finally:
            await place.close()
    finally:
        await standalone.stop()
    _print(documents, coverage, incident, json_lines=json_lines, show_all=show_all)
    say(f"ask it more: ashiato search 'rule:*' --data {data.root}")
    say(f"             ashiato timeline pod:shop/{incident.facts['evil']} --data {data.root}")
    say(f"             ashiato logs {incident.facts['web_deleted']} -n shop --data {data.root}")
    return bool(coverage.get("complete"))


async def _settled(place: Place, anchor: str, ended_unix_nano: int) -> tuple[list[Document], Mapping[str, Any]]:
    """Ask until everything that was written before the replay's end is in the answer."""
    deadline = asyncio.get_running_loop().time() + _SETTLED_S
    while True:
        late = asyncio.get_running_loop().time() > deadline
        try:
            lines = await place.timeline(anchor, start_unix_nano=None, end_unix_nano=None, limit=100_000)
            records = [json.loads(line) for line in lines]
            coverage: Mapping[str, Any] = records.pop()["coverage"]
            reached = int(coverage.get("watermark_unix_nano", 0)) >= ended_unix_nano
            if late or (coverage["complete"] and reached):
                return records, coverage
        except AshiatoError:
            # A process that is just being started again does not answer: ask again.
            if late:
                raise
        await asyncio.sleep(0.25)


def _print(
    documents: list[Document], coverage: Mapping[str, Any], incident: Script, *, json_lines: bool, show_all: bool
) -> None:
    if json_lines:
        for line in (*documents, {"coverage": coverage}):
            sys.stdout.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
        return
    from ashiato.cli.show import print_records  # noqa: PLC0415 - see the package

    title = f"timeline of pod {incident.deleted_pod}, which no longer exists"
    print_records(documents, coverage, out=sys.stdout, fold=not show_all, title=title)


def _gone(incident: Script, nodes: Path) -> str:
    """Say that the node has forgotten the pod."""
    name = str(incident.facts["web_deleted"])
    namespace, uid, node = incident.facts["pods"][name]
    folder = nodes / node / "var/log/pods" / f"{namespace}_{name}_{uid}"
    state = "are gone from" if not folder.exists() else "are STILL on"
    return f"the pod {namespace}/{name} was deleted; its log files {state} the node ({folder})"


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[float], None]]:
    """Yield what is told how far a long step is: a bar on a terminal, a few lines elsewhere."""
    from rich.console import Console  # noqa: PLC0415 - see the package
    from rich.progress import Progress  # noqa: PLC0415 - the same

    console = Console(stderr=True)
    if console.is_terminal:
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task("replaying", total=1.0)
            yield lambda done: bar.update(task, completed=min(done, 1.0))
        return
    quarters = [0.25, 0.5, 0.75]

    def tell(done: float) -> None:
        while quarters and done >= quarters[0]:
            say(f"replayed {quarters.pop(0):.0%}")

    yield tell


def _clear(root: Path) -> None:
    """Make an empty demo folder; never touch a folder that no demo made."""
    if root.exists():
        if any(root.iterdir()) and not (root / DEMO_MARKER).exists():
            raise SettingsError(f"{root} was not made by a demo: choose another folder with --data")
        shutil.rmtree(root)
    root.mkdir(parents=True, mode=0o700)
    (root / DEMO_MARKER).touch()

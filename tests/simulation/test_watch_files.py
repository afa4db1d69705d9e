"""What becomes of the watch's lines: over kills, torn ends, full disks and lost states, and on the way to the bus."""

from __future__ import annotations

import contextlib
import json
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ashiato.core.ids import Kind
from ashiato.core.ledger import Gap
from tests.parts.apiserver import ApiServer
from tests.parts.watcher import Watcher, pod, until
from tests.simulation import collector_node
from tests.simulation.collector_node import Node

KILLS = 20


def start(watcher: Watcher, **settings: object) -> subprocess.Popen[bytes]:
    """Start the command itself."""
    config = watcher.root / "watch.toml"
    told = {**watcher.settings, **settings}
    config.write_text("[watch]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in told.items()))
    arguments = [sys.executable, "-m", "collector", "watch", "--config", str(config)]
    with (watcher.root / "log").open("ab") as log:
        return subprocess.Popen(arguments, stderr=log)


@contextlib.contextmanager
def running(watcher: Watcher, **settings: object) -> Iterator[subprocess.Popen[bytes]]:
    process = start(watcher, **settings)
    with killed(process):
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@contextlib.contextmanager
def killed(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill a process behind the block, whatever it is doing."""
    try:
        yield
    finally:
        process.kill()
        process.wait(30)


def test_kills_at_any_moment_repeat_lines_and_lose_none(api: ApiServer, watcher: Watcher) -> None:
    chance, serial, alive = random.Random(11), 0, list[str]()
    for _ in range(KILLS):
        with killed(start(watcher, rotate_bytes=20_000, files_kept=1000)):
            written = len(watcher.content())
            for turn in range(chance.randrange(2, 60)):
                api.put("pods", pod(f"web-{serial}"))
                alive.append(f"web-{serial}")
                serial += 1
                if len(alive) > 10:
                    api.delete("pods", alive.pop(chance.randrange(len(alive))), "shop")
                if turn == 0:
                    until(lambda: len(watcher.content()) > written)  # noqa: B023 - within its turn
    with running(watcher, files_kept=1000):
        until(lambda: watcher.lines("SYNC") and set(watcher.standing()) == api.uids("pods"))

    created = {f"web-{number}" for number in range(serial)}
    names = {
        type_: {line["object"]["metadata"]["name"] for line in watcher.lines(type_)} for type_ in ("ADDED", "DELETED")
    }
    assert names["ADDED"] == created
    assert names["DELETED"] == created - api.names("pods")
    assert {line["source"] for line in watcher.lines("DELETED")} == {"watch"}
    assert not watcher.lines("GAP")
    assert len(watcher.lines("SYNC")) == 1


def test_behind_a_torn_end_a_new_file_begins_and_nothing_is_cut(api: ApiServer, watcher: Watcher) -> None:
    api.put("pods", pod("web-1"))
    with watcher.running():
        until(lambda: watcher.lines("SYNC"))
    path = watcher.folder / "watch-000001.jsonl"
    torn = path.read_bytes() + b'{"type":"ADDED","object":{"kind":"Pod","meta'
    path.write_bytes(torn)

    with watcher.running():
        api.put("pods", pod("web-2"))
        until(lambda: set(watcher.standing()) == api.uids("pods"))

    assert path.read_bytes() == torn
    following = [json.loads(raw) for raw in (watcher.folder / "watch-000002.jsonl").read_bytes().splitlines()]
    assert following[0]["object"] == {"kind": "File", "number": 2, "predecessor": "watch-000001.jsonl"}
    assert following[1]["object"]["metadata"]["name"] == "web-2"
    assert len(watcher.lines("SYNC")) == 1


def test_lines_behind_the_last_state_are_known_after_a_crash(api: ApiServer, watcher: Watcher) -> None:
    state = watcher.root / "state" / "watch.state"
    with watcher.running():
        until(lambda: watcher.lines("SYNC"))
    old = state.read_bytes()
    with watcher.running():
        api.put("pods", pod("web-1"))
        api.put("pods", pod("web-2"))
        api.delete("pods", "web-2", "shop")
        until(lambda: len(watcher.lines("DELETED")) == 1)
    before = watcher.content()
    state.write_bytes(old)

    with watcher.running():
        api.put("pods", pod("web-3"))
        until(lambda: set(watcher.standing()) == api.uids("pods"))

    names = [line["object"]["metadata"]["name"] for line in watcher.lines("ADDED")]
    assert watcher.content().startswith(before)
    assert names == ["web-1", "web-2", "web-3"]


@pytest.mark.parametrize("how", ["removed", "damaged"])
def test_a_lost_state_lists_everything_again_and_is_a_gap(api: ApiServer, watcher: Watcher, how: str) -> None:
    for name in ("goes", "stays"):
        api.put("pods", pod(name))
    with watcher.running():
        until(lambda: watcher.lines("SYNC"))
    state = watcher.root / "state" / "watch.state"
    if how == "removed":
        state.unlink()
    else:
        state.write_bytes(state.read_bytes()[:-9])
    api.delete("pods", "goes", "shop")

    with watcher.running():
        until(lambda: len(watcher.lines("SYNC")) == 2)

    assert [gap["object"]["reason"] for gap in watcher.lines("GAP")] == ["state_lost"]
    assert [(line["object"]["metadata"]["name"], line["source"]) for line in watcher.lines("DELETED")] == [
        ("goes", "absence")
    ]
    assert len(watcher.lines("ADDED")) == 2


def test_lost_files_do_not_bring_a_number_back(api: ApiServer, watcher: Watcher) -> None:
    with watcher.running():
        until(lambda: watcher.lines("SYNC"))
    (watcher.folder / "watch-000001.jsonl").unlink()

    with watcher.running():
        api.put("pods", pod("web-1"))
        until(lambda: watcher.lines("ADDED"))

    assert [path.name for path in watcher.folder.iterdir()] == ["watch-000002.jsonl"]


def test_a_full_disk_makes_the_watch_wait_and_nothing_is_dropped(api: ApiServer, watcher: Watcher) -> None:
    with running(watcher, rotate_bytes=1 << 30) as process:
        until(lambda: watcher.lines("SYNC"))
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (20_000, hard))
        for number in range(200):
            api.put("pods", pod(f"web-{number}"))
            if number % 3 == 0:
                api.delete("pods", f"web-{number}", "shop")
        until(lambda: b'"part": "watch_folder"' in (watcher.root / "log").read_bytes())
        assert len(watcher.lines("ADDED")) < 200
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        until(lambda: set(watcher.standing()) == api.uids("pods"))

    assert len({line["object"]["metadata"]["uid"] for line in watcher.lines("ADDED")}) == 200
    assert not watcher.lines("GAP")
    assert all(json.loads(raw) for raw in watcher.content().splitlines())


async def test_the_ordinary_tailer_ships_the_lines_and_states_their_gaps(api: ApiServer, tmp_path: Path) -> None:
    node = Node(root=tmp_path)
    watcher = Watcher(
        tmp_path / "w", kube_url=api.url, resources=("pods",), folder=str(node.logs / "ashiato" / "watch"),
        rotate_bytes=2000,
    )  # fmt: skip
    watcher.folder = node.logs / "ashiato" / "watch"
    for number in range(9):
        api.put("pods", pod(f"web-{number}"))
    async with node.collector():
        with watcher.running():
            await collector_node.until(lambda: watcher.lines("SYNC"))
        api.delete("pods", "web-0", "shop")
        api.compact()
        with watcher.running():
            await collector_node.until(lambda: len(watcher.lines("SYNC")) == 2)
        await collector_node.until(lambda: b"".join(node.contents(Kind.WATCH)) == watcher.content())
        await collector_node.until(lambda: node.stated(Gap))

    assert len(node.files(Kind.WATCH)) > 1
    assert {file.source.path for file in node.files(Kind.WATCH)} == {str(watcher.folder / "watch.jsonl").lstrip("/")}
    (gap,) = node.stated(Gap)
    (line,) = watcher.lines("GAP")
    assert gap.reason == "lost_upstream"
    assert gap.detail.startswith("the watch of pods did not see all (expired)")
    assert (gap.time_start_unix_nano, gap.time_end_unix_nano) == (
        line["object"]["from_unix_nano"], line["object"]["to_unix_nano"]
    )  # fmt: skip

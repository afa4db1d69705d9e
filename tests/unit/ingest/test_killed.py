"""``kill -9`` at any moment: the next process goes on, nothing is lost, nothing is doubled."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
from pathlib import Path

from ashiato.adapters.archive_directory import DirectoryReader
from ashiato.adapters.bus_sqlite import SqliteKeeper, SqliteWriter
from ashiato.adapters.journal import Journal
from ashiato.core import frame
from ashiato.core.chunk import Chunk
from ashiato.core.ids import TOPIC_BULK, TOPIC_PRIORITY
from ashiato.core.ports import Partition
from tests.simulation.house import read_held
from tests.unit.ingest.files import chunk, cri, file_id

KILLS = 8
STREAMS = ("stdout", "stderr")
SEND_EVERY_S = 0.02
FILES = 3
DEADLINE_S = 60.0
BULK = Partition(TOPIC_BULK, 0)


def _settings(root: Path) -> Path:
    path = root / "ashiato.toml"
    path.write_text(
        f'[ingest]\nbus = {{kind = "sqlite", path = "{root}/bus.sqlite"}}\narchive = {{directory = "{root}/archive"}}\n'
        f'scratch_dir = "{root}/scratch"\ntail_dir = "{root}/tail"\ncommit_raw_bytes = 1048576\ncommit_age_s = 0.15\n'
    )
    return path


def _start(settings: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "ingest", "archive", *arguments, "--config", str(settings)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip


class _Node:
    """Writes lines of a few files onto the bus, and now and then sends again what it sent before, cut otherwise."""

    def __init__(self, path: Path, seed: int) -> None:
        self._writer = SqliteWriter(str(path))
        self._random = random.Random(seed)
        self.content = dict.fromkeys(range(FILES), b"")

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self._writer.send(BULK, frame.encode([self._chunk(number) for number in range(FILES)]))
            await asyncio.sleep(SEND_EVERY_S)
        closing = [chunk(b"", len(content), number=number, flags=4) for number, content in self.content.items()]
        await self._writer.send(BULK, frame.encode(closing))
        await self._writer.close()

    def _chunk(self, number: int) -> Chunk:
        before = self.content[number]
        text = "x" * self._random.randrange(200)
        lines = [
            cri(f"{len(before)} {at} {text}", part=self._random.choice("FFP"), stream=self._random.choice(STREAMS))
            for at in range(self._random.randrange(1, 40))
        ]
        self.content[number] = before + b"".join(lines)
        start = len(before)
        if before and self._random.random() < 0.2:
            start = before.rfind(b"\n", 0, self._random.randrange(1, len(before) + 1)) + 1
            start = max(start, len(before) - 200_000)
            start = before.rfind(b"\n", 0, start) + 1
        return chunk(self.content[number][start:], start, number=number)


async def _commits(root: Path, at_least: int) -> int:
    """Wait until the journal has ``at_least`` commits."""
    archive = DirectoryReader(root / "archive")
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while (found := Journal(archive).refresh().next_n) < at_least:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)
    return found


async def test_nothing_is_lost_or_doubled_by_kills_at_random_moments(tmp_path: Path) -> None:
    # given a bus onto which a node writes all the time
    keeper = SqliteKeeper(str(tmp_path / "bus.sqlite"))
    settings, chance = _settings(tmp_path), random.Random(1)
    commits = 0
    stop = asyncio.Event()
    first = _start(settings)  # before there is a bus: it waits
    await keeper.create_topics({TOPIC_PRIORITY: 1, TOPIC_BULK: 1})
    node = _Node(tmp_path / "bus.sqlite", seed=2)
    writing = asyncio.create_task(node.run(stop))
    # when the archiver is killed again and again, a random while after it has begun to commit
    for number in range(KILLS):
        process = first if number == 0 else _start(settings)
        commits = await _commits(tmp_path, commits + 1)
        await asyncio.sleep(chance.random() * 0.5)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    stop.set()
    await writing
    last = _start(settings, "--drain")
    told, _ = await asyncio.to_thread(last.communicate)
    await keeper.close()
    # then every byte is in the packs once, and no file was forked
    assert last.returncode == 0
    assert json.loads(told)["forks"] == 0
    held = read_held(DirectoryReader(tmp_path / "archive"))
    assert held.state.next_n > KILLS
    for number, content in node.content.items():
        assert held.of(file_id(number)) == content
    assert set(held.bytes_by_file) == {file_id(number) for number in range(FILES)}
    assert list((tmp_path / "tail").glob("*.arrow")) == []


async def test_sigterm_commits_what_was_admitted_and_exits_0(tmp_path: Path) -> None:
    keeper = SqliteKeeper(str(tmp_path / "bus.sqlite"))
    await keeper.create_topics({TOPIC_PRIORITY: 1, TOPIC_BULK: 1})
    settings = _settings(tmp_path)
    settings.write_text(settings.read_text().replace("commit_age_s = 0.15", "commit_age_s = 600.0"))
    process = _start(settings)
    writer = SqliteWriter(str(tmp_path / "bus.sqlite"))
    content = b"".join(cri(str(at), at=at) for at in range(100))
    await writer.send(BULK, frame.encode([chunk(content)]))
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while not list((tmp_path / "tail").glob("*.arrow")):
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)
    process.terminate()
    await asyncio.to_thread(process.communicate)
    await writer.close()
    await keeper.close()
    assert process.returncode == 0
    assert read_held(DirectoryReader(tmp_path / "archive")).of(file_id()) == content
    assert list((tmp_path / "tail").iterdir()) == []


async def test_sigterm_ends_a_wait_for_a_bus_that_is_not_there(tmp_path: Path) -> None:
    process = _start(_settings(tmp_path))
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while not (tmp_path / "archive" / "evidence" / "_delta_log").exists():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)
    process.terminate()
    await asyncio.to_thread(process.communicate)
    assert process.returncode == 0


async def test_the_index_role_waits_for_an_opensearch_that_is_not_there(tmp_path: Path) -> None:
    keeper = SqliteKeeper(str(tmp_path / "bus.sqlite"))
    await keeper.create_topics({TOPIC_PRIORITY: 1, TOPIC_BULK: 1})
    await keeper.close()
    settings = _settings(tmp_path)
    settings.write_text(settings.read_text() + 'opensearch = {urls = ["http://127.0.0.1:1"], timeout_s = 1.0}\n')
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ingest", "index", "--config", str(settings), stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    async with asyncio.timeout(DEADLINE_S):
        async for line in process.stderr:
            if b"part_unavailable" in line:
                break
    process.terminate()
    _, said = await process.communicate()
    assert process.returncode == 0, said
    assert b"service_stopped" in said


def test_settings_that_cannot_work_exit_2(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    settings.write_text(settings.read_text() + "no_such = 1\n")
    process = _start(settings)
    process.communicate()
    assert process.returncode == 2
    index = subprocess.run(
        [sys.executable, "-m", "ingest", "index", "--config", str(_settings(tmp_path))],
        capture_output=True,
        check=False,
    )
    assert index.returncode == 2
    assert b"opensearch" in index.stderr

"""The SQLite bus keeps the contract, between processes and across the death of any of them."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from ashiato.adapters.bus_sqlite import SqliteKeeper, SqliteReader, SqliteWriter
from ashiato.core.errors import AshiatoError, EvidenceError, NotHeldError, SettingsError, TransientError
from tests.contract.bus_contract import FIRST, TOPIC, BusContract, House, read

WRITER = """
import asyncio, sys
from ashiato.adapters.bus_sqlite import SqliteWriter
from ashiato.core.ports import Partition

async def main(path, name):
    writer = SqliteWriter(path)
    for n in range(int(sys.argv[3])):
        value = f"{name}-{n}".encode() * 100
        print(await writer.send(Partition("ashiato.bulk", 0), value), f"{name}-{n}", flush=True)
    await writer.close()

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


class _SqliteHouse(House):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = str(path)

    async def open_writer(self) -> SqliteWriter:
        return SqliteWriter(self.path)

    async def open_reader(self) -> SqliteReader:
        return SqliteReader(self.path)

    async def open_keeper(self) -> SqliteKeeper:
        return SqliteKeeper(self.path)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[_SqliteHouse]:
    house = _SqliteHouse(tmp_path / "bus" / "bus.sqlite")
    yield house
    await house.close()


def start_writer(house: _SqliteHouse, name: str, count: int) -> subprocess.Popen[str]:
    """Start a process that sends ``count`` records and prints the position of each once it is acknowledged."""
    command = [sys.executable, "-c", WRITER, house.path, name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def acknowledged(lines: list[str]) -> dict[int, bytes]:
    """Return what a writer process was told that it is kept; a line that death cut short does not count."""
    whole = [line.split() for line in lines if line.endswith("\n")]
    return {int(position): name.encode() * 100 for position, name in whole}


class TestSqliteBus(BusContract):
    async def test_writers_in_several_processes_share_one_log(self, house: _SqliteHouse) -> None:
        await house.keeper()
        writers = [start_writer(house, name, 40) for name in ("a", "b", "c")]
        told: dict[int, bytes] = {}
        for writer in writers:
            out, _ = await asyncio.to_thread(writer.communicate, timeout=60)
            assert writer.returncode == 0
            told |= acknowledged(out.splitlines(keepends=True))
        reader = await house.reader()

        await reader.assign({FIRST: 0})
        found = await read(reader, 120)

        assert [record.position for record in found] == list(range(120))
        assert {record.position: record.value for record in found} == told

    async def test_what_was_acknowledged_survives_kill_9_and_its_position_is_not_used_again(
        self, house: _SqliteHouse
    ) -> None:
        keeper = await house.keeper()
        reader = await house.reader()
        told: dict[int, bytes] = {}
        for life in range(5):
            writer = start_writer(house, f"life{life}", 100_000)
            assert writer.stdout is not None
            lines = [await asyncio.to_thread(writer.stdout.readline) for _ in range(10 + 7 * life)]
            writer.kill()
            lines += await asyncio.to_thread(writer.stdout.readlines)
            writer.stdout.close()
            writer.wait()
            now = acknowledged(lines)
            assert len(now) >= 10
            assert not set(now) & set(told)
            told |= now

        start, end = await reader.bounds(FIRST)
        await reader.assign({FIRST: start})
        found = {record.position: record.value for record in await read(reader, end - start)}

        assert list(found) == list(range(end))
        assert told.items() <= found.items()
        assert len(found) - len(told) <= 5, "each death leaves one unacknowledged send at the most"
        await keeper.free(FIRST, end)
        assert await (await house.writer()).send(FIRST, b"next") == end

    async def test_readers_keep_up_while_another_process_writes_and_retention_frees(self, house: _SqliteHouse) -> None:
        keeper = await house.keeper()
        reader = await house.reader()
        writer = start_writer(house, "w", 300)
        await reader.assign({FIRST: 0})
        positions: list[int] = []
        async with asyncio.timeout(60):
            while len(positions) < 300:
                positions += [record.position for record in await reader.poll(bytes_max=4096, wait_ns=200_000_000)]
                await keeper.free(FIRST, len(positions) - 1)
        out, _ = await asyncio.to_thread(writer.communicate, timeout=60)

        assert writer.returncode == 0
        assert len(acknowledged(out.splitlines(keepends=True))) == 300
        assert positions == list(range(300))
        assert await reader.bounds(FIRST) == (299, 300)

    async def test_another_file_is_another_incarnation(self, house: _SqliteHouse, tmp_path: Path) -> None:
        other = _SqliteHouse(tmp_path / "other.sqlite")
        await house.keeper()
        await other.keeper()

        assert await (await house.reader()).incarnation(TOPIC) != await (await other.reader()).incarnation(TOPIC)
        await other.close()

    async def test_a_reader_cannot_write(self, house: _SqliteHouse) -> None:
        await house.keeper()
        reader = await house.reader()

        with pytest.raises(AshiatoError):
            await reader._run(lambda db: db.execute("DELETE FROM records").fetchall())  # type: ignore[attr-defined]

    async def test_a_bus_that_is_not_there_yet_is_a_bad_moment_or_not_held(self, house: _SqliteHouse) -> None:
        reader = await house.reader()
        with pytest.raises(TransientError):
            await reader.partitions(TOPIC)

        await house.writer()
        with pytest.raises((TransientError, NotHeldError)):
            await reader.partitions(TOPIC)

    async def test_a_damaged_file_is_said_and_not_read_around(self, house: _SqliteHouse) -> None:
        Path(house.path).parent.mkdir(parents=True)
        Path(house.path).write_bytes(b"this is not a database, whatever it is called" * 100)

        with pytest.raises(EvidenceError, match="damaged"):
            await (await house.reader()).partitions(TOPIC)

    async def test_the_disk_gets_its_room_back(self, house: _SqliteHouse) -> None:
        keeper = await house.keeper()
        writer = await house.writer()
        for _ in range(40):
            await writer.send(FIRST, bytes(500_000))
        full = pages(house)

        await keeper.free(FIRST, 40)

        assert pages(house) < full / 10

    async def test_a_reset_waits_for_what_is_under_way(self, house: _SqliteHouse) -> None:
        await house.keeper()
        writer, reader = await house.writer(), await house.reader()
        other = apsw.Connection(house.path)
        other.execute("BEGIN IMMEDIATE")
        under_way = asyncio.create_task(writer.send(FIRST, b"under way"))
        for _ in range(3):  # the send, then the task that takes what was sent
            await asyncio.sleep(0)
        assert not writer._waiting  # type: ignore[attr-defined]
        waiting = asyncio.create_task(writer.send(FIRST, b"waiting"))
        await asyncio.sleep(0)

        reset = asyncio.create_task(writer.reset())
        done, _ = await asyncio.wait([reset], timeout=0.2)
        assert not done
        other.execute("ROLLBACK")
        other.close()
        await reset

        assert await reader.bounds(FIRST) == (0, 1)
        assert await under_way == 0
        with pytest.raises(TransientError):
            await waiting


def pages(house: _SqliteHouse) -> int:
    connection = apsw.Connection(house.path)
    try:
        return int(str(connection.execute("PRAGMA page_count").get))
    finally:
        connection.close()


async def test_a_bus_of_another_format_is_neither_read_nor_written(tmp_path: Path) -> None:
    path = str(tmp_path / "bus.sqlite")
    keeper = SqliteKeeper(path)
    await keeper.create_topics({"t": 1})
    await keeper.close()
    with contextlib.closing(apsw.Connection(path)) as connection:
        connection.execute("UPDATE bus SET format = 2")

    for side in (SqliteReader(path), SqliteWriter(path), SqliteKeeper(path)):
        with pytest.raises(SettingsError, match="format 2"):
            await side.partitions("t")
        await side.close()

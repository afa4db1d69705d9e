"""Freeing the bus: what the archive has may go, but for the record that tells which log it was."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from ashiato.adapters.bus_memory import MemoryBroker, MemoryKeeper, MemoryWriter
from ashiato.adapters.bus_sqlite import SqliteKeeper, SqliteWriter
from ashiato.core.commit import Txn
from ashiato.core.ids import TOPIC_BULK, TOPIC_PRIORITY, Kind
from ashiato.core.ports import BusReader, Partition
from retention.freeing import Freeing
from tests.unit.retention.house import House

BULK = Partition(TOPIC_BULK, 0)
PRIORITY = Partition(TOPIC_PRIORITY, 0)


@pytest.fixture(params=["memory", "sqlite"])
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path, bus=request.param)
    await house.prepare()
    yield house
    await house.close()


async def free(house: House) -> int:
    reader: BusReader = house.reader()
    try:
        return await Freeing(keeper=house.keeper, reader=reader, archive=house.archive, telemetry=house.telemetry).free(
            house.state()
        )
    finally:
        await reader.close()


async def test_the_bus_forgets_what_is_committed_but_for_the_last_record(house: House) -> None:
    """M1."""
    for n in range(5):
        await house.write(f"line {n}", name="file")
    await house.commit()
    for n in range(3):
        await house.write(f"newer {n}", name="file")

    freed = await free(house)

    assert freed == 4
    assert await house.keeper.bounds(BULK) == (4, 8)
    assert await free(house) == 0


async def test_nothing_is_freed_before_anything_is_committed(house: House) -> None:
    await house.write("line")

    assert await free(house) == 0
    assert await house.keeper.bounds(BULK) == (0, 1)


async def test_an_archiver_that_starts_after_freeing_goes_on_in_the_same_incarnation(house: House) -> None:
    for n in range(5):
        await house.write(f"line {n}", name="file")
        await house.write(f"event {n}", kind=Kind.AUDIT, name="audit")
    await house.commit()
    before = house.state()
    await free(house)
    await house.write("newer", name="file", lines=3)

    archiver = await house.commit()

    after = archiver.journal.state
    assert {where: txn.incarnation for where, txn in after.positions.items()} == {
        where: txn.incarnation for where, txn in before.positions.items()
    }
    assert after.positions[BULK].next == 6
    assert sum(pack.rows for pack in after.packs.values()) == 5 * 20 * 2 + 3


@pytest.mark.parametrize("records", [0, 1, 5, 9])
async def test_a_bus_that_was_made_anew_is_not_freed_whatever_it_holds(tmp_path: Path, records: int) -> None:
    house = House(tmp_path, bus="sqlite")
    await house.prepare()
    for n in range(5):
        await house.write(f"line {n}", name="file")
    await house.commit()
    await house.close()
    shutil.rmtree(tmp_path / "bus")
    house.keeper, house.writer = SqliteKeeper(house.bus_path), SqliteWriter(house.bus_path)
    await house.prepare()
    house.offsets.clear()
    for n in range(records):
        await house.write(f"other {n}", name="other")

    assert await free(house) == 0
    assert await house.keeper.bounds(BULK) == (0, records)
    if records:
        assert [event["topic"] for event in house.events("bus_is_another")] == [TOPIC_BULK]
    await house.close()


async def test_a_log_that_was_restored_and_went_another_way_is_not_freed(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.prepare()
    for n in range(5):
        await house.write(f"line {n}", name="file")
    await house.commit()
    # The same bus by its id, but not the same records.
    house.broker = MemoryBroker(bus_id=house.broker.bus_id)
    house.keeper, house.writer = MemoryKeeper(house.broker), MemoryWriter(house.broker)
    await house.prepare()
    for n in range(7):
        await house.write(f"divergent {n}", name="divergent")

    assert await free(house) == 0
    assert await house.keeper.bounds(BULK) == (0, 7)
    (event,) = house.events("bus_is_another")
    assert "differs" in event["reason"]


async def test_a_topic_that_is_gone_stops_nothing(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.prepare()
    for n in range(3):
        await house.write(f"line {n}", name="file")
        await house.write(f"event {n}", kind=Kind.AUDIT, name="audit")
    await house.commit()
    del house.broker.topics[TOPIC_BULK]

    assert await free(house) == 2
    assert await house.keeper.bounds(PRIORITY) == (2, 3)
    assert [event["topic"] for event in house.events("bus_is_another")] == [TOPIC_BULK]


async def test_another_log_is_said_once_and_again_when_the_reason_changes(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.prepare()
    for n in range(3):
        await house.write(f"line {n}", name="file")
    await house.commit()
    state = house.state()
    freeing = Freeing(keeper=house.keeper, reader=house.reader(), archive=house.archive, telemetry=house.telemetry)
    txn = state.positions[BULK]

    for moved in (replace_next(txn.next + 5, txn), replace_next(txn.next + 5, txn), replace_bus(txn)):
        await freeing.free(replace(state, positions={BULK: moved}))

    assert len(house.events("bus_is_another")) == 2
    assert await house.keeper.bounds(BULK) == (0, 3)


def replace_next(next_: int, txn: Txn) -> Txn:
    return msgspec.structs.replace(txn, next=next_)


def replace_bus(txn: Txn) -> Txn:
    return msgspec.structs.replace(txn, incarnation="elsewhere#0")

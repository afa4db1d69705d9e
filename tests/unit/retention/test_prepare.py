"""Topics and daily indices are there before what they are for; an index goes once its rows are proven archived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ashiato.core.ids import CLASSES, TOPIC_BULK, TOPIC_PRIORITY
from ashiato.core.ports import IndexKeeper
from retention.policy import DAY_NS
from retention.prepare import Prepare, topics_of
from tests.unit.retention.house import House

TODAY = "2026-11-18"


@dataclass(slots=True)
class Days:
    """Daily indices as names alone: what is asked of an index keeper, held in memory."""

    standing: set[tuple[str, str]] = field(default_factory=set)

    async def prepare(self, days: Sequence[str], classes: Sequence[str]) -> None:
        self.standing |= {(day, name) for day in days for name in classes}

    async def days(self) -> Sequence[tuple[str, str]]:
        return sorted(self.standing)

    async def drop(self, day: str, retention_class: str) -> None:
        self.standing.discard((day, retention_class))

    async def close(self) -> None:
        pass


@pytest.fixture
async def house(tmp_path: Path) -> House:
    house = House(tmp_path)
    await house.prepare()
    return house


def prepare_of(house: House, index: IndexKeeper | None) -> Prepare:
    return Prepare(
        keeper=house.keeper,
        reader=house.reader(),
        index=index,
        topics=topics_of(priority_partitions=1, bulk_partitions=1),
        hot_days=3,
        days_ahead=2,
        clock=house.clock,
        telemetry=house.telemetry,
    )


async def test_topics_are_made_and_those_that_stand_are_left_as_they_are(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.keeper.create_topics({TOPIC_BULK: 5})

    await prepare_of(house, None).prepare(house.state())

    reader = house.reader()
    assert await reader.partitions(TOPIC_BULK) == 5
    assert await reader.partitions(TOPIC_PRIORITY) == 1


async def test_indices_stand_from_yesterday_to_some_days_ahead_and_for_hot_days_with_packs(house: House) -> None:
    await house.packed("hot")
    house.clock.advance(2 * DAY_NS)
    await house.packed("yesterday's neighbour")
    house.clock.advance(DAY_NS)
    index = Days()

    await prepare_of(house, index).prepare(house.state())

    assert {name for _, name in index.standing} == set(CLASSES)
    assert sorted({day for day, _ in index.standing}) == [
        TODAY, "2026-11-20", "2026-11-21", "2026-11-22", "2026-11-23",
    ]  # fmt: skip


async def test_an_old_index_goes_only_when_what_was_on_the_bus_after_its_day_is_committed(house: House) -> None:
    index = Days({(TODAY, "container")})
    prepare = prepare_of(house, index)
    await house.write("one")
    house.clock.advance(10 * DAY_NS)

    await prepare.prepare(house.state())
    assert (TODAY, "container") in index.standing
    assert [event["day"] for event in house.events("index_kept")] == [TODAY]

    await house.commit()
    # What came after that moment says nothing about the day.
    await house.write("later, not committed")
    await prepare.prepare(house.state())

    assert (TODAY, "container") not in index.standing
    assert [event["day"] for event in house.events("index_dropped")] == [TODAY]


async def test_a_hot_day_is_never_dropped(house: House) -> None:
    index = Days({(TODAY, "container")})
    house.clock.advance(3 * DAY_NS)
    prepare = prepare_of(house, index)
    for _ in range(3):
        await prepare.prepare(house.state())
    assert (TODAY, "container") in index.standing

    house.clock.advance(DAY_NS)
    await prepare.prepare(house.state())

    assert (TODAY, "container") not in index.standing


async def test_positions_of_another_bus_prove_nothing(house: House) -> None:
    await house.write("one")
    await house.commit()
    house.broker.bus_id = "made anew"
    index = Days({(TODAY, "container")})
    house.clock.advance(10 * DAY_NS)
    prepare = prepare_of(house, index)

    for _ in range(3):
        await prepare.prepare(house.state())

    assert (TODAY, "container") in index.standing

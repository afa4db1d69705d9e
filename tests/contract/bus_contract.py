"""What every bus does, whichever it is. A subclass gives the fixture ``house``; its tests are these."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable

import pytest

from ashiato.core.errors import NotHeldError, RejectedError
from ashiato.core.limits import FRAME_BYTES_MAX
from ashiato.core.ports import BusKeeper, BusReader, BusRecord, BusWriter, Partition

TOPIC = "ashiato.bulk"
FIRST = Partition(TOPIC, 0)
SECOND = Partition(TOPIC, 1)
NOWHERE = Partition("ashiato.nowhere", 0)
WAIT_NS = 200_000_000
DEADLINE_S = 30.0


class House(ABC):
    """One bus without topics, and its sides; all that it opened is closed by :meth:`close`."""

    def __init__(self) -> None:
        self._opened: list[Callable[[], Awaitable[None]]] = []

    @abstractmethod
    async def open_writer(self) -> BusWriter: ...

    @abstractmethod
    async def open_reader(self) -> BusReader: ...

    @abstractmethod
    async def open_keeper(self) -> BusKeeper: ...

    async def writer(self) -> BusWriter:
        writer = await self.open_writer()
        self._opened.append(writer.close)
        return writer

    async def reader(self) -> BusReader:
        reader = await self.open_reader()
        self._opened.append(reader.close)
        return reader

    async def keeper(self, topics: dict[str, int] | None = None) -> BusKeeper:
        keeper = await self.open_keeper()
        self._opened.append(keeper.close)
        await keeper.create_topics({TOPIC: 2} if topics is None else topics)
        return keeper

    async def close(self) -> None:
        for close in reversed(self._opened):
            await close()


async def read(reader: BusReader, count: int, *, bytes_max: int = 1 << 20) -> list[BusRecord]:
    """Poll until there are ``count`` records."""
    found: list[BusRecord] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(found) < count:
            found += await reader.poll(bytes_max=bytes_max, wait_ns=WAIT_NS)
    return found


def values(records: Iterable[BusRecord], partition: Partition = FIRST) -> list[bytes]:
    return [record.value for record in records if record.partition == partition]


class BusContract:
    """The suite of the port."""

    async def test_what_was_sent_is_read_at_the_position_that_was_returned(self, house: House) -> None:
        await house.keeper()
        writer, reader = await house.writer(), await house.reader()

        position = await writer.send(FIRST, b"one")

        await reader.assign({FIRST: position})
        assert await read(reader, 1) == [BusRecord(partition=FIRST, position=position, value=b"one")]

    async def test_positions_of_a_partition_count_up_by_one_from_zero(self, house: House) -> None:
        await house.keeper()
        writer = await house.writer()

        positions = [await writer.send(FIRST, b"%d" % n) for n in range(5)]

        assert positions == [0, 1, 2, 3, 4]
        assert await writer.send(SECOND, b"another log") == 0

    async def test_records_are_read_in_the_order_in_which_they_were_sent(self, house: House) -> None:
        await house.keeper()
        writer, reader = await house.writer(), await house.reader()
        sent = [b"%d" % n for n in range(50)]
        for value in sent:
            await writer.send(FIRST, value)

        await reader.assign({FIRST: 0})

        assert values(await read(reader, 50)) == sent

    async def test_a_reader_starts_where_it_is_told(self, house: House) -> None:
        await house.keeper()
        writer, reader = await house.writer(), await house.reader()
        for n in range(5):
            await writer.send(FIRST, b"%d" % n)

        await reader.assign({FIRST: 3})

        assert values(await read(reader, 2)) == [b"3", b"4"]

    async def test_assigning_again_reads_again_and_nothing_else(self, house: House) -> None:
        await house.keeper()
        writer, reader = await house.writer(), await house.reader()
        for n in range(3):
            await writer.send(FIRST, b"%d" % n)
            await writer.send(SECOND, b"other")
        await reader.assign({FIRST: 0, SECOND: 0})
        await read(reader, 6)

        await reader.assign({FIRST: 1})

        found = await read(reader, 2) + await reader.poll(bytes_max=1 << 20, wait_ns=WAIT_NS)
        assert [(record.partition, record.value) for record in found] == [(FIRST, b"1"), (FIRST, b"2")]

    async def test_two_readers_do_not_disturb_each_other(self, house: House) -> None:
        await house.keeper()
        writer = await house.writer()
        for n in range(4):
            await writer.send(FIRST, b"%d" % n)
        archive, index = await house.reader(), await house.reader()
        await archive.assign({FIRST: 0})
        await index.assign({FIRST: 2})

        assert values(await read(archive, 4)) == [b"0", b"1", b"2", b"3"]
        assert values(await read(index, 2)) == [b"2", b"3"]

    async def test_a_poll_of_an_empty_log_comes_back(self, house: House) -> None:
        await house.keeper()
        reader = await house.reader()
        await reader.assign({FIRST: 0})

        assert await reader.poll(bytes_max=1 << 20, wait_ns=1_000_000) == []

    async def test_a_waiting_poll_sees_what_arrives(self, house: House) -> None:
        await house.keeper()
        writer, reader = await house.writer(), await house.reader()
        await reader.assign({FIRST: 0})

        waiting = asyncio.create_task(read(reader, 1))
        await writer.send(FIRST, b"late")

        assert values(await waiting) == [b"late"]

    async def test_a_poll_is_bounded_and_gives_one_record_at_the_least(self, house: House) -> None:
        await house.keeper()
        writer, reader = await house.writer(), await house.reader()
        for _ in range(4):
            await writer.send(FIRST, b"x" * 1000)
        await reader.assign({FIRST: 0})

        sizes: list[int] = []
        async with asyncio.timeout(DEADLINE_S):
            while sum(sizes) < 4:
                sizes.append(len(await reader.poll(bytes_max=1, wait_ns=WAIT_NS)))

        assert max(sizes) == 1

    async def test_the_largest_frame_travels(self, house: House) -> None:
        await house.keeper()
        writer, reader = await house.writer(), await house.reader()
        largest = bytes(range(256)) * (FRAME_BYTES_MAX // 256)

        await writer.send(FIRST, largest)

        await reader.assign({FIRST: 0})
        assert values(await read(reader, 1)) == [largest]

    async def test_a_larger_one_is_rejected_and_the_next_one_travels(self, house: House) -> None:
        await house.keeper()
        writer = await house.writer()

        with pytest.raises(RejectedError):
            await writer.send(FIRST, b"x" * (FRAME_BYTES_MAX + 1))

        assert await writer.send(FIRST, b"small") == 0

    async def test_sends_that_are_made_at_once_get_a_position_each(self, house: House) -> None:
        await house.keeper()
        writer, reader = await house.writer(), await house.reader()

        positions = await asyncio.gather(*(writer.send(FIRST, b"%d" % n) for n in range(20)))

        await reader.assign({FIRST: 0})
        found = {record.position: record.value for record in await read(reader, 20)}
        assert found == {position: b"%d" % n for n, position in enumerate(positions)}

    async def test_after_a_reset_the_writer_goes_on_behind_what_is_kept(self, house: House) -> None:
        await house.keeper()
        writer = await house.writer()
        await writer.send(FIRST, b"before")

        await writer.reset()

        assert await writer.send(FIRST, b"after") == 1

    async def test_a_writer_says_how_many_partitions_a_topic_has(self, house: House) -> None:
        await house.keeper({TOPIC: 3})
        writer, reader = await house.writer(), await house.reader()

        assert await writer.partitions(TOPIC) == 3
        assert await reader.partitions(TOPIC) == 3

    async def test_a_topic_that_is_not_there_is_not_held(self, house: House) -> None:
        await house.keeper()
        writer, reader = await house.writer(), await house.reader()

        with pytest.raises(NotHeldError):
            await writer.partitions(NOWHERE.topic)
        with pytest.raises(NotHeldError):
            await writer.send(NOWHERE, b"lost")
        with pytest.raises(NotHeldError):
            await reader.partitions(NOWHERE.topic)
        with pytest.raises(NotHeldError):
            await reader.incarnation(NOWHERE.topic)
        with pytest.raises(NotHeldError):
            await writer.incarnation(NOWHERE.topic)
        with pytest.raises(NotHeldError):
            await reader.bounds(NOWHERE)

    async def test_a_partition_that_is_not_there_is_not_held(self, house: House) -> None:
        await house.keeper({TOPIC: 1})
        writer, reader = await house.writer(), await house.reader()

        with pytest.raises(NotHeldError):
            await writer.send(SECOND, b"lost")
        with pytest.raises(NotHeldError):
            await reader.bounds(SECOND)

    async def test_making_topics_again_leaves_them_as_they_are(self, house: House) -> None:
        keeper = await house.keeper({TOPIC: 2})
        writer, reader = await house.writer(), await house.reader()
        await writer.send(FIRST, b"kept")
        before = await reader.incarnation(TOPIC)

        await keeper.create_topics({TOPIC: 5, "ashiato.priority": 1})

        assert await reader.partitions(TOPIC) == 2
        assert await reader.partitions("ashiato.priority") == 1
        assert await reader.bounds(FIRST) == (0, 1)
        assert await reader.incarnation(TOPIC) == before

    async def test_bounds_are_the_first_readable_and_the_next_position(self, house: House) -> None:
        keeper = await house.keeper()
        writer, reader = await house.writer(), await house.reader()
        assert await reader.bounds(FIRST) == (0, 0)

        for n in range(3):
            await writer.send(FIRST, b"%d" % n)

        assert await reader.bounds(FIRST) == (0, 3)
        assert await keeper.bounds(FIRST) == (0, 3)
        assert await reader.bounds(SECOND) == (0, 0)

    async def test_freeing_forgets_what_lies_below_and_nothing_else(self, house: House) -> None:
        keeper = await house.keeper()
        writer, reader = await house.writer(), await house.reader()
        for n in range(5):
            await writer.send(FIRST, b"%d" % n)
            await writer.send(SECOND, b"%d" % n)

        await keeper.free(FIRST, 3)

        assert await reader.bounds(FIRST) == (3, 5)
        assert await reader.bounds(SECOND) == (0, 5)
        await reader.assign({FIRST: 3})
        assert values(await read(reader, 2)) == [b"3", b"4"]

    async def test_freeing_twice_backwards_or_beyond_the_end_is_harmless(self, house: House) -> None:
        keeper = await house.keeper()
        writer, reader = await house.writer(), await house.reader()
        for n in range(3):
            await writer.send(FIRST, b"%d" % n)

        await keeper.free(FIRST, 2)
        await keeper.free(FIRST, 2)
        await keeper.free(FIRST, 1)
        assert await reader.bounds(FIRST) == (2, 3)

        await keeper.free(FIRST, 99)
        assert await reader.bounds(FIRST) == (3, 3)

    async def test_positions_are_not_used_again_after_everything_was_freed(self, house: House) -> None:
        keeper = await house.keeper()
        writer, reader = await house.writer(), await house.reader()
        for n in range(3):
            await writer.send(FIRST, b"%d" % n)
        await keeper.free(FIRST, 3)

        assert await writer.send(FIRST, b"next") == 3
        assert await reader.bounds(FIRST) == (3, 4)

    async def test_reading_below_the_bounds_says_where(self, house: House) -> None:
        keeper = await house.keeper()
        writer, reader = await house.writer(), await house.reader()
        for n in range(3):
            await writer.send(FIRST, b"%d" % n)
        await keeper.free(FIRST, 2)
        await reader.assign({FIRST: 1})

        with pytest.raises(NotHeldError) as caught:
            await read(reader, 1)

        assert caught.value.facts == {"topic": TOPIC, "partition": 0, "position": 1}

    async def test_reading_beyond_the_bounds_says_where(self, house: House) -> None:
        await house.keeper()
        writer, reader = await house.writer(), await house.reader()
        await writer.send(FIRST, b"0")
        await reader.assign({FIRST: 7})

        with pytest.raises(NotHeldError) as caught:
            await read(reader, 1)

        assert caught.value.facts == {"topic": TOPIC, "partition": 0, "position": 7}

    async def test_a_reader_that_was_overtaken_by_freeing_is_told(self, house: House) -> None:
        keeper = await house.keeper()
        writer, reader = await house.writer(), await house.reader()
        await writer.send(FIRST, b"0")
        await reader.assign({FIRST: 0})
        await read(reader, 1)
        for n in range(3):
            await writer.send(FIRST, b"%d" % n)

        await keeper.free(FIRST, 3)

        # What had been fetched before it was freed may still come; then it must be said, and nothing be skipped.
        found: list[BusRecord] = []
        said = False
        while not said and len(found) < 3:
            try:
                found += await reader.poll(bytes_max=1 << 20, wait_ns=WAIT_NS)
            except NotHeldError:
                said = True
        assert [record.position for record in found] == list(range(1, 1 + len(found)))

    async def test_one_record_is_read_without_disturbing_the_reading(self, house: House) -> None:
        await house.keeper()
        writer, reader = await house.writer(), await house.reader()
        for n in range(4):
            await writer.send(FIRST, b"%d" % n)
        await reader.assign({FIRST: 2})

        assert await reader.read_one(FIRST, 1) == BusRecord(partition=FIRST, position=1, value=b"1")
        assert await reader.read_one(FIRST, 3) == BusRecord(partition=FIRST, position=3, value=b"3")
        assert values(await read(reader, 2)) == [b"2", b"3"]

    async def test_one_record_outside_of_the_bounds_is_none(self, house: House) -> None:
        keeper = await house.keeper()
        writer, reader = await house.writer(), await house.reader()
        for n in range(3):
            await writer.send(FIRST, b"%d" % n)
        await keeper.free(FIRST, 2)

        assert await reader.read_one(FIRST, 1) is None
        assert await reader.read_one(FIRST, 3) is None
        kept = await reader.read_one(FIRST, 2)
        assert kept is not None
        assert kept.value == b"2"

    async def test_the_incarnation_is_the_same_for_every_side_and_differs_between_topics(self, house: House) -> None:
        await house.keeper({TOPIC: 1, "ashiato.priority": 1})
        one, two, writer = await house.reader(), await house.reader(), await house.writer()

        assert await one.incarnation(TOPIC) == await two.incarnation(TOPIC) == await writer.incarnation(TOPIC)
        assert await one.incarnation(TOPIC) != await one.incarnation("ashiato.priority")

    async def test_values_are_bytes_whatever_they_hold(self, house: House) -> None:
        await house.keeper()
        writer, reader = await house.writer(), await house.reader()
        sent = [b"\x00", bytes(range(256)), b"\xff\xfe", "足跡".encode()]
        for value in sent:
            await writer.send(FIRST, value)

        await reader.assign({FIRST: 0})

        assert values(await read(reader, len(sent))) == sent

    async def test_a_full_partition_starves_no_other(self, house: House) -> None:
        await house.keeper()
        writer, reader = await house.writer(), await house.reader()
        for _ in range(30):
            await writer.send(FIRST, b"flood")
            await writer.send(SECOND, b"other")
        await reader.assign({FIRST: 0, SECOND: 0})

        found = await read(reader, 40, bytes_max=1)

        assert {record.partition for record in found} == {FIRST, SECOND}

    async def test_a_send_to_nowhere_does_no_harm_to_those_beside_it(self, house: House) -> None:
        await house.keeper()
        writer = await house.writer()

        outcomes = await asyncio.gather(
            writer.send(FIRST, b"one"), writer.send(NOWHERE, b"lost"), writer.send(SECOND, b"two"),
            return_exceptions=True,
        )  # fmt: skip

        assert [outcomes[0], outcomes[2]] == [0, 0]
        assert isinstance(outcomes[1], NotHeldError)

"""The indexer: what the bus and the packs hold can be searched, once, and a position never promises too much."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from ashiato.adapters.archive_directory import DirectoryReader
from ashiato.adapters.index_memory import MemoryIndexWriter
from ashiato.core.chunk import Chunk, ChunkFlags
from ashiato.core.errors import TransientError
from ashiato.core.ids import Kind, Source
from ashiato.core.ports import ArchiveReader, Bucket, Document, IndexOutcome, ObjectRef, Partition
from ashiato.core.record import RowFlags
from ashiato.core.table import uids
from ingest.index_writes import FOLLOWED
from ingest.indexer import StartAgainError
from tests.contract.index_rows import NOON, QUERIES, chunk, incident_chunks
from tests.unit.ingest.index_line import BULK, PRIORITY, Line


@pytest.fixture
async def line(tmp_path: Path) -> Line:
    made = Line(tmp_path)
    await made.prepare()
    return made


def cri(*bodies: str, part: str = "F") -> bytes:
    return b"".join(b"2026-11-24T11:00:00.123456789Z stdout %b %b\n" % (part.encode(), b.encode()) for b in bodies)


FIRST, SECOND, THIRD = cri("one"), cri("two"), cri("three")


def at(offset: int, payload: bytes, *, more: int = 0, observed: int = NOON) -> Chunk:
    flags = int(ChunkFlags.STARTS_AT_LINE | ChunkFlags.ENDS_AT_LINE) | more
    return chunk(payload, offset=offset, flags=flags, observed=observed)


async def test_what_is_on_the_bus_is_searched_as_the_packs_are(line: Line) -> None:
    for one in incident_chunks():
        await line.send(one)
    await line.index()
    await line.commit()
    await line.index()
    packed = await line.packed()
    assert packed.num_rows > 1000
    assert (await line.hot()).equals(packed)
    for node in QUERIES:
        assert (await line.hot(node)).equals(await line.packed(node)), node


async def test_a_lost_position_makes_a_replay_that_doubles_nothing(line: Line) -> None:
    await line.send(at(0, FIRST))
    await line.commit()
    await line.send(at(len(FIRST), SECOND))
    await line.index()
    line.indices.positions.clear()
    await line.index()
    assert await line.bodies() == ["one", "two"]
    assert line.telemetry.value("index_rows_created_total") == 2
    assert line.telemetry.value("index_rows_already_there_total") >= 2


async def test_a_restart_reads_from_the_newest_commit_below_its_position(line: Line) -> None:
    """I5."""
    for number in range(5):
        await line.send(at(number * len(FIRST), FIRST))
    await line.commit()
    await line.send(at(5 * len(FIRST), FIRST))
    await line.index()
    await line.send(at(6 * len(FIRST), FIRST))
    await line.index()
    assert len(await line.bodies()) == 7
    assert line.published == 7
    # The sixth record stands behind the commit and is read again, the five below it are not.
    assert line.telemetry.value("index_rows_already_there_total") == 1


async def test_a_commit_above_the_position_is_not_started_from(line: Line) -> None:
    await line.send(at(0, FIRST))
    await line.index()
    await line.send(at(len(FIRST), SECOND))
    await line.send(at(len(FIRST) + len(SECOND), THIRD))
    await line.commit()
    await line.free(2)
    await line.index()
    assert await line.bodies() == ["one", "two", "three"]
    assert line.telemetry.value("index_rows_from_packs_total", reason="behind_the_bus") == 3


async def test_what_the_bus_forgot_is_taken_from_packs(line: Line) -> None:
    await line.send(at(0, FIRST), at(len(FIRST), SECOND))
    await line.send(at(len(FIRST) + len(SECOND), THIRD))
    await line.commit()
    await line.free(1)
    await line.index()
    assert (await line.hot()).equals(await line.packed())
    assert line.published == 2


async def test_packs_older_than_the_index_looks_back_stay_in_the_archive(line: Line) -> None:
    await line.send(at(0, FIRST))
    await line.commit()
    await line.free(1)
    line.clock.advance(30 * 86_400_000_000_000)
    await line.index()
    assert await line.bodies() == []
    assert line.published == 1


async def test_bytes_that_come_again_are_trimmed_whether_the_bus_or_a_pack_holds_them(line: Line) -> None:
    await line.send(at(0, FIRST))
    await line.commit()
    await line.index()
    await line.send(at(len(FIRST), SECOND))
    await line.send(at(0, FIRST + SECOND + THIRD))
    await line.index()
    assert await line.bodies() == ["one", "two", "three"]
    await line.commit()
    await line.index()
    assert (await line.hot()).equals(await line.packed())


async def test_a_fork_is_indexed_from_its_pack_and_the_position_waits_for_it(line: Line) -> None:
    await line.send(at(0, FIRST))
    forged = await line.send(at(0, cri("ONE")))
    await line.send(at(len(FIRST), SECOND))
    await line.index()
    assert await line.bodies() == ["one"]
    assert line.published == forged
    await line.commit()
    await line.index()
    assert (await line.hot()).equals(await line.packed())
    assert sorted(map(str, await line.bodies())) == ["ONE", "one", "two"]
    assert line.published == 3


async def test_an_indexer_that_goes_on_beside_a_fork_finds_what_the_archiver_decided(line: Line) -> None:
    indexer = line.indexer()
    await indexer.open()
    await line.send(at(0, FIRST))
    await line.send(at(0, cri("ONE")))
    await indexer.step()
    await line.commit()
    with pytest.raises(StartAgainError):
        await indexer.step()
    assert line.published == 2
    await indexer.open()
    await line.send(at(len(FIRST), SECOND))
    await indexer.step()
    assert line.published == 2
    await line.commit()
    await indexer.step()
    assert (await line.hot()).equals(await line.packed())
    assert line.telemetry.value("index_rows_from_packs_total", reason="named_by_the_archiver") == 3
    assert line.published == 3


async def test_bytes_that_only_the_archiver_can_compare_are_taken_from_its_packs(line: Line) -> None:
    indexer = line.indexer()
    await line.send(at(0, FIRST))
    await indexer.open()
    await indexer.step()
    # The archiver compares what comes again, the bus forgets it, and the indexer has not heard of any pack.
    await line.send(at(0, FIRST))
    await line.send(at(len(FIRST), SECOND))
    await line.commit()
    await line.free(1)
    with pytest.raises(StartAgainError):
        await indexer.step()
    assert (await line.hot()).equals(await line.packed())
    assert await line.bodies() == ["one", "two"]
    await indexer.open()
    await line.send(at(len(FIRST) + len(SECOND), THIRD))
    await indexer.drain()
    assert await line.bodies() == ["one", "two", "three"]
    assert line.published == 4


async def test_what_the_archiver_could_not_compare_is_taken_as_it_decided(line: Line) -> None:
    await line.send(at(0, FIRST))
    await line.commit()
    indexer = line.indexer()
    await indexer.open()
    await line.send(at(0, FIRST + SECOND))
    await indexer.step()
    pack = next((line.root / "archive/evidence").rglob("*.parquet"))
    hidden = pack.rename(pack.with_suffix(".hidden"))
    await line.commit()
    hidden.rename(pack)
    with pytest.raises(StartAgainError):
        await indexer.step()
    await indexer.open()
    await line.send(at(len(FIRST) + len(SECOND), THIRD))
    await indexer.step()
    await line.commit()
    await indexer.step()
    packed = await line.packed()
    assert sorted(map(str, packed["body"].to_pylist())) == ["one", "one", "three", "two"]
    assert set(uids(packed)) < set(uids(await line.hot()))


async def test_a_damaged_record_is_indexed_from_its_pack_and_the_position_waits_for_it(line: Line) -> None:
    damaged = await line.send_raw(b"no frame \xff at all\n")
    await line.send(at(0, FIRST))
    await line.index()
    assert await line.bodies() == ["one"]
    assert line.published == damaged
    await line.commit()
    await line.index()
    assert (await line.hot()).equals(await line.packed())
    flags = [row for row in (await line.hot())["flags"].to_pylist() if int(str(row)) & RowFlags.QUARANTINED]
    assert len(flags) == 1
    assert line.published == 2


async def test_a_join_that_was_open_at_the_start_closes(line: Line) -> None:
    part, rest = cri("half ", part="P"), cri("whole")
    await line.send(at(0, part))
    await line.commit()
    await line.index()
    await line.send(at(len(part), rest))
    await line.index()
    await line.commit()
    assert "half whole" in await line.bodies()
    assert (await line.hot()).equals(await line.packed())


async def test_bytes_that_come_early_are_indexed_as_the_archiver_archives_them(line: Line) -> None:
    await line.send(at(len(FIRST), SECOND))
    await line.index()
    await line.send(at(0, FIRST))
    await line.index()
    await line.commit()
    assert await line.bodies() == ["one", "two"]
    assert (await line.hot()).equals(await line.packed())


async def test_another_bus_is_read_from_its_start_and_nothing_is_doubled(line: Line) -> None:
    await line.send(at(0, FIRST))
    await line.send(at(len(FIRST), SECOND))
    await line.commit()
    await line.index()
    await line.new_bus("another")
    await line.send(at(0, FIRST + SECOND + THIRD))
    await line.index()
    assert line.published == 1
    await line.commit()
    await line.index()
    assert await line.bodies() == ["one", "two", "three"]
    assert (await line.hot()).equals(await line.packed())


async def test_each_source_goes_to_its_class(line: Line) -> None:
    falco = Source(kind=Kind.FALCO, cluster="c", node="n1", path="var/log/falco/events.json")
    await line.send(chunk(b"not an alert\n", source=falco, file_id="01J00000000000000000000002"))
    await line.send(at(0, FIRST))
    await line.index()
    assert {home for home, index in line.indices.by_day.items() if index.rows} == {
        ("2026-11-24", "security"),
        ("2026-11-24", "container"),
    }
    assert line.indices.positions[PRIORITY] == 1


# -- when a part is away -------------------------------------------------------------------------------------


class Flaky(MemoryIndexWriter):
    """Fails every other call, sometimes after the act was done."""

    calls = 0

    async def write(self, documents: Sequence[Document]) -> IndexOutcome:
        self.calls += 1
        if self.calls % 3 == 1:
            raise TransientError("away")
        outcome = await super().write(documents)
        if self.calls % 3 == 2:
            raise TransientError("answer lost")
        return outcome

    async def publish_position(self, positions: Mapping[Partition, int]) -> None:
        self.calls += 1
        if self.calls % 2:
            raise TransientError("away")
        await super().publish_position(positions)


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


async def test_an_index_that_fails_now_and_then_loses_and_doubles_nothing(line: Line) -> None:
    for number in range(3):
        await line.send(at(number * len(FIRST), FIRST))
    stop = asyncio.Event()
    running = asyncio.create_task(line.indexer(writer=Flaky(line.indices)).run(stop))
    await _until(lambda: line.published == 3)
    stop.set()
    await running
    assert await line.bodies() == ["one"] * 3
    assert line.telemetry.value("part_unavailable_total", part="index") > 0


async def test_an_index_that_is_away_is_waited_for_and_caught_up_with(line: Line) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(line.indexer().run(stop))
    await line.send(at(0, FIRST))
    await _until(lambda: line.published == 1)
    line.indices.away = True
    await line.send(at(len(FIRST), SECOND))
    await _until(lambda: line.telemetry.value("part_unavailable_total", part="index") > 1)
    assert line.published == 1
    line.indices.away = False
    await _until(lambda: line.published == 2)
    stop.set()
    await running
    assert await line.bodies() == ["one", "two"]


async def test_a_stop_is_heeded_while_the_index_is_away(line: Line) -> None:
    line.indices.away = True
    stop = asyncio.Event()
    running = asyncio.create_task(line.indexer().run(stop))
    await _until(lambda: line.telemetry.value("part_unavailable_total", part="start") > 0)
    stop.set()
    async with asyncio.timeout(30):
        await running


class Away(DirectoryReader):
    """An archive that can be away."""

    away = False

    def list(self, bucket: Bucket, prefix: str, *, start_after: str = "") -> Iterator[ObjectRef]:
        if self.away:
            raise TransientError("the archive does not answer")
        return super().list(bucket, prefix, start_after=start_after)


async def test_an_archive_that_is_away_does_not_delay_the_index(line: Line) -> None:
    archive = Away(line.root / "archive")
    indexer = line.indexer(archive=archive)
    await indexer.open()
    archive.away = True
    await line.send(at(0, FIRST))
    await indexer.step()
    assert await line.bodies() == ["one"]
    assert line.published == 1
    assert line.telemetry.value("part_unavailable_total", part="archive") == 1


class Refuses(MemoryIndexWriter):
    """Takes one row of a batch in no form."""

    async def write(self, documents: Sequence[Document]) -> IndexOutcome:
        outcome = await super().write(documents[1:])
        refused = ((str(documents[0]["log.record.uid"]), "mapper_parsing_exception"),)
        return IndexOutcome(created=outcome.created, already_there=outcome.already_there, refused=refused)


async def test_a_row_that_the_index_refuses_is_counted_and_named(line: Line) -> None:
    await line.send(at(0, FIRST + SECOND))
    await line.commit()
    await line.indexer(writer=Refuses(line.indices)).drain()
    assert await line.bodies() == ["two"]
    assert line.telemetry.value("index_rows_refused_total", reason="mapper_parsing_exception") == 1
    assert uids(await line.packed())[0] in line.log()


async def test_how_far_the_journal_was_followed_is_published(line: Line) -> None:
    """I4."""
    await line.send(at(0, FIRST))
    await line.commit()
    await line.index()
    assert line.indices.positions[FOLLOWED] == 2


async def test_an_archive_reader_is_enough(line: Line) -> None:
    reader: ArchiveReader = DirectoryReader(line.root / "archive")
    assert not hasattr(reader, "put")
    await line.send(at(0, FIRST))
    await line.indexer(archive=reader).drain()
    assert await line.bodies() == ["one"]


async def test_a_position_that_was_published_of_another_bus_promises_nothing_of_this_one(line: Line) -> None:
    """An index outlives a bus: what it had of the one before must not pass for what it has of the one that follows."""
    for number in range(3):
        await line.send(chunk(cri(f"before {number}"), file_id=f"01J0000000000000000000B{number:03}"))
    await line.index()
    # when: another bus, and no archive yet, holds more than the index had of the one before
    await line.new_bus("made anew")
    for number in range(6):
        await line.send(chunk(cri(f"anew {number}"), file_id=f"01J0000000000000000000A{number:03}"))
    place = Partition(f"made anew/{BULK.topic}#0", BULK.number)
    indexer = line.indexer()
    await indexer.open()
    # then: nothing is promised of it before it is read, and all of it afterwards
    assert place not in line.indices.positions
    await indexer.drain()
    assert line.indices.positions[place] == line.published == 6
    assert len(await line.bodies()) == 9

"""The archiver over a bus in memory and an archive in a folder: hostile bytes, resends, growth, and the tail."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ashiato.adapters.archive_directory import DirectoryReader, DirectoryWriter
from ashiato.adapters.bus_memory import MemoryBroker, MemoryKeeper, MemoryReader, MemoryWriter
from ashiato.adapters.clock import FixedClock
from ashiato.adapters.frontiers import held_files
from ashiato.adapters.journal import Journal
from ashiato.adapters.telemetry import Telemetry
from ashiato.core import frame, frontier
from ashiato.core.chunk import Chunk, ChunkFlags
from ashiato.core.errors import TransientError
from ashiato.core.frontier import FileState
from ashiato.core.ids import TOPIC_BULK, TOPIC_PRIORITY
from ashiato.core.limits import LINE_CUT_BYTES, MIB, TAIL_SEGMENT_AGE_NS
from ashiato.core.ports import BusRecord, Partition
from ashiato.core.table import SCHEMA, conform, uids
from ingest.archiver import Archiver, ArchiverSettings, BatchLostError
from ingest.tail import TailFolder
from tests.simulation.house import Held, read_held
from tests.unit.ingest.files import NOON, PLAIN, chunk, chunks, cri, file_id

BULK = Partition(TOPIC_BULK, 0)


class AwayReader(MemoryReader):
    """A bus that is away for as many polls as it is told."""

    polls_failed = 0

    async def poll(self, *, bytes_max: int, wait_ns: int) -> list[BusRecord]:
        if self.polls_failed:
            self.polls_failed -= 1
            raise TransientError("the bus is away")
        return await super().poll(bytes_max=bytes_max, wait_ns=wait_ns)


class House:
    """A bus, an archive, a tail, and the archiver of the moment."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.broker = MemoryBroker(bus_id="bus")
        self.clock = FixedClock(unix_nano=NOON)
        self.tail = TailFolder(root / "tail")

    async def start(self, **changes: Any) -> Archiver:
        await MemoryKeeper(self.broker).create_topics({TOPIC_PRIORITY: 1, TOPIC_BULK: 1})
        settings = {"actor": "ingest", "commit_raw_bytes": 1 << 40, "commit_age_ns": 1 << 62, "poll_wait_ns": 0}
        self.telemetry = Telemetry("ingest", stream=StringIO())
        (self.root / "scratch").mkdir(exist_ok=True)
        self.reader = AwayReader(self.broker)
        archiver = Archiver(
            ArchiverSettings(**{**settings, **changes}),
            reader=self.reader,
            archive=DirectoryWriter(self.root / "archive"),
            clock=self.clock,
            telemetry=self.telemetry,
            scratch=self.root / "scratch",
            tail=self.tail,
        )
        await archiver.open()
        return archiver

    async def send(self, *arriving: Chunk) -> None:
        for one in arriving:
            await MemoryWriter(self.broker).send(BULK, frame.encode([one]))

    def held(self) -> Held:
        return read_held(DirectoryReader(self.root / "archive"))

    def frontier(self) -> dict[str, FileState]:
        archive = DirectoryReader(self.root / "archive")
        return held_files(archive, Journal(archive).refresh())

    def tail_rows(self) -> list[pa.Table]:
        tables = []
        for path in sorted((self.root / "tail").iterdir()):
            with pa.memory_map(str(path)) as source:
                tables.append(pa.ipc.open_file(source).read_all())
        return tables


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


async def _archived(house: House, arriving: Sequence[Chunk]) -> Held:
    archiver = await house.start()
    await house.send(*arriving)
    await archiver.drain()
    return house.held()


WIDE = msgspec.json.encode({f"field_{number}": number for number in range(10_000)})
DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    ("content", "quarantined"),
    [
        (cri(WIDE.decode()), 0),
        (WIDE + b"\n", 1),
        (DEEP + b"\n", 1),
        (cri(DEEP.decode()), 0),
        (b"2026-11-25T12:00:00.5Z std\n2026-11-25T12\n\n \n\0\n", 5),
        (b"2026-11-25T12:00:00.5Z stdout F half", 0),
        (b"\xff\xfe\x00" * 1000 + b"\n", 1),
        (b'{"log":"' + b"\\u0000" * 1000 + b'\\n","stream":"stdout","time":"2026-11-25T12:00:00Z"}\n', 0),
        (b'{"log":' + b"9" * 400 + b"}\n", 1),
        (b"\n" * 5000, 5000),
    ],
    ids=["wide", "wide bare", "deep bare", "deep", "half headers", "unterminated", "binary", "nul", "number", "empty"],
)
async def test_hostile_lines_are_archived_as_they_are(house: House, content: bytes, quarantined: int) -> None:
    held = await _archived(house, chunks(content, closed=True))
    assert held.of(file_id()) == content
    assert house.telemetry.value("quarantined_rows_total") == quarantined


async def test_a_line_of_ten_megabytes_comes_back(house: House) -> None:
    content = cri("x" * (10 * MIB)) + cri("next")
    held = await _archived(house, chunks(content, range(0, len(content), LINE_CUT_BYTES)))
    assert held.of(file_id()) == content


async def test_parts_of_ten_megabytes_are_joined_a_mebibyte_at_a_time(house: House) -> None:
    content = b"".join(cri("y" * 16_384, part="P", at=at) for at in range(640)) + cri("end")
    held = await _archived(house, chunks(content, range(0, len(content), 25 * len(cri("y" * 16_384, part="P")))))
    assert held.of(file_id()) == content


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"ASHF",
        frame.encode([chunk(bytes(LINE_CUT_BYTES), at * LINE_CUT_BYTES, starts_at_line=False) for at in range(129)]),
        b"no frame at all\nwith two lines\n",
        frame.encode([chunk(b"x\n", source=PLAIN)])[:-3],
        frame.encode([msgspec.structs.replace(chunk(b"x\n"), offset_start=(1 << 63) - 1)]),
        frame.encode([msgspec.structs.replace(chunk(b"x\n"), observed_time_unix_nano=1 << 63)]),
        frame.encode(
            [msgspec.structs.replace(chunk(b"x\n"), file=msgspec.structs.replace(chunk(b"").file, source="moon/c/n/x"))]
        ),
        frame.encode(
            [msgspec.structs.replace(chunk(b"x\n"), file=msgspec.structs.replace(chunk(b"").file, file_id="A~1"))]
        ),
        frame.encode(
            [
                msgspec.structs.replace(
                    chunk(b"x\n"), file=msgspec.structs.replace(chunk(b"").file, restart_count=1 << 40)
                )
            ]
        ),
    ],
    ids=["empty", "magic", "bomb", "text", "cut", "offset", "time", "kind", "fork", "restarts"],
)
async def test_a_record_that_is_no_frame_is_kept_as_it_is(house: House, record: bytes) -> None:
    archiver = await house.start()
    await MemoryWriter(house.broker).send(BULK, record)
    await house.send(chunk(cri("after")))
    await archiver.drain()
    held = house.held()
    assert held.of(file_id()) == cri("after")
    assert b"".join(held.of(name) for name in held.bytes_by_file if name != file_id()) == record
    assert house.telemetry.value("frames_damaged_total") == 1


async def test_bytes_sent_again_after_a_restart_are_trimmed(house: House) -> None:
    content = b"".join(cri(str(at), part="FP"[at % 3 == 1], at=at) for at in range(300))
    await _archived(house, chunks(content[: content.rfind(b"\n", 0, 9000) + 1]))
    # when the collector sends all of it again with other borders
    cuts = [at + 1 for at in range(0, len(content), 1) if content[at] == 10 and at % 7 == 0]
    held = await _archived(house, chunks(content, cuts, closed=True))
    assert held.of(file_id()) == content
    assert held.doubles() == []
    assert list(held.bytes_by_file) == [file_id()]
    assert house.telemetry.value("trimmed_bytes_total") > 8000


async def test_bytes_that_contradict_a_pack_are_kept_under_a_fork(house: House) -> None:
    await _archived(house, [chunk(cri("truth"))])
    held = await _archived(house, [chunk(cri("fraud")), chunk(cri("later"), len(cri("fraud")))])
    assert held.of(file_id()) == cri("truth")
    assert held.of(f"{file_id()}~1") == cri("fraud") + cri("later")
    assert house.telemetry.value("files_forked_total", reason="differs") == 1


async def test_a_closed_file_that_grows_is_taken_further(house: House) -> None:
    await _archived(house, chunks(cri("a", part="P", at=1), closed=True))
    assert house.frontier()[file_id()].closed
    grown = cri("a", part="P", at=1) + cri("b", at=2)
    held = await _archived(house, [chunk(grown)])
    assert held.of(file_id()) == grown
    assert not house.frontier()[file_id()].closed
    await _archived(house, [chunk(b"", len(grown), flags=ChunkFlags.FILE_CLOSED)])
    assert house.frontier()[file_id()].closed


@pytest.mark.parametrize("restart", [False, True])
async def test_files_that_moved_to_pages_are_found_again(
    house: House, monkeypatch: pytest.MonkeyPatch, *, restart: bool
) -> None:
    monkeypatch.setattr(frontier, "FRONTIER_ACTIVE_FILES_MAX", 3)
    monkeypatch.setattr(frontier, "PAGE_FILES_MAX", 4)
    archiver = await house.start()
    files = {number: cri(f"file {number}", at=number) for number in range(12)}
    for number, content in files.items():
        await house.send(chunk(content, number=number, flags=ChunkFlags.FILE_CLOSED))
        await archiver.step()
        assert await archiver.flush()
    # when all of them are sent once more
    if restart:
        archiver = await house.start()
    await house.send(*(chunk(content + cri("more"), number=number) for number, content in files.items()))
    await archiver.drain()
    held = house.held()
    assert held.doubles() == []
    assert {number: held.of(file_id(number)) for number in files} == {
        number: content + cri("more") for number, content in files.items()
    }
    assert house.telemetry.value("trimmed_bytes_total") == sum(map(len, files.values()))


@pytest.mark.parametrize("restart", [False, True])
async def test_lines_of_an_idle_file_go_on_where_they_stood_although_it_moved_to_a_page(
    house: House, monkeypatch: pytest.MonkeyPatch, *, restart: bool
) -> None:
    monkeypatch.setattr(frontier, "FRONTIER_ACTIVE_FILES_MAX", 1)
    monkeypatch.setattr(frontier, "FRONTIER_IDLE_NS", 0)
    archiver = await house.start()
    first, half = cri("one ", part="P", at=1), cri("half a line", at=2).removesuffix(b"\n")
    await house.send(chunk(first, number=1), chunk(half, number=2, flags=ChunkFlags.UNTERMINATED))
    await house.send(chunk(cri("later"), number=3, observed=NOON + 1))
    await archiver.step()
    assert await archiver.flush()
    where = Journal(DirectoryReader(house.root / "archive")).refresh().positions[BULK]
    content, _ = DirectoryReader(house.root / "archive").get("work", where.frontier.path)
    assert [file.file_id for file in frontier.decode(content, where.frontier.sha256).files] == [file_id(3)]
    # when: both go on
    if restart:
        archiver = await house.start()
    await house.send(
        chunk(cri("two", at=3), len(first), number=1),
        chunk(b" and its end\n", len(half), number=2, starts_at_line=False),
    )
    await archiver.step()
    assert await archiver.flush()
    # then: the join closes over both parts, and what follows a cut is a piece of that line
    rows = {row["offset_start"]: row for row in _rows_of_packs(house)}
    assert (rows[len(first)]["join_offset"], rows[len(first)]["body"]) == (0, "one two")
    assert (rows[len(half)]["part"], rows[len(half)]["log_iostream"]) == ("C", "stdout")


def _rows_of_packs(house: House) -> list[dict[str, Any]]:
    folder = house.root / "archive" / "evidence"
    return [row for path in folder.rglob("*.parquet") for row in conform(pq.read_table(path)).to_pylist()]


async def test_a_join_goes_on_after_a_restart(house: House) -> None:
    one, two = cri("one ", part="P", at=1), cri("two", at=2)
    await _archived(house, [chunk(one)])
    await _archived(house, [chunk(two, len(one))])
    archive = DirectoryReader(house.root / "archive")
    state = Journal(archive).refresh()
    packs = sorted(state.packs.values(), key=lambda pack: pack.commit)
    assert len(packs) == 2
    rows = [pa.parquet.read_table(house.root / "archive" / "evidence" / pack.path) for pack in packs]
    assert rows[1]["body"].to_pylist() == ["one two"]
    assert rows[1]["join_offset"].to_pylist() == [0]


async def test_a_batch_that_fills_its_memory_is_committed_early(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """I2: chunks of their own block stay compressed; small ones count with all their bytes."""
    monkeypatch.setattr("ingest.archiver.BATCH_HELD_BYTES_MAX", 2000)
    archiver = await house.start()
    large = b"".join(cri("x" * 100, at=at) for at in range(1000))
    await house.send(chunk(large, number=1))
    await archiver.step()
    assert archiver.journal.state.positions == {}
    await house.send(chunk(cri("y" * 2000), number=2))
    await archiver.step()
    while not archiver.journal.state.positions:
        await archiver.step()
    assert house.held().of(file_id(1)) == large


# -- the tail ------------------------------------------------------------------------------------------------


async def test_rows_are_published_at_once_and_removed_after_their_commit(house: House) -> None:
    archiver = await house.start()
    await house.send(chunk(cri("a ", part="P", at=1)))
    await archiver.step()
    assert [path.name for path in (house.root / "tail").iterdir()] == ["ashiato.bulk-0-0-1.arrow"]
    await house.send(chunk(cri("b", at=2), len(cri("a ", part="P", at=1))))
    await archiver.step()
    assert len(house.tail_rows()) == 1, "no more than one segment each half a second"
    house.clock.advance(TAIL_SEGMENT_AGE_NS)
    await archiver.step()
    first, second = house.tail_rows()
    assert first.schema == second.schema == SCHEMA
    assert second["body"].to_pylist() == ["a b"]
    assert len({*uids(first), *uids(second)}) == 2
    # when it is committed
    assert await archiver.flush()
    assert house.tail_rows() == []


async def test_much_at_once_is_published_in_segments_of_a_few_mebibytes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.archive_lane.TAIL_SEGMENT_RAW_BYTES", 200)
    archiver = await house.start()
    lines = [cri(f"{at} {'x' * 60}", at=at) for at in range(7)]
    await house.send(*(chunk(line, sum(map(len, lines[:at]))) for at, line in enumerate(lines)))
    await archiver.step()
    segments = house.tail.segments()
    assert [(segment.start, segment.end) for segment in segments] == [
        (0, 1),
        (1, 2),
        (2, 3),
        (3, 4),
        (4, 5),
        (5, 6),
        (6, 7),
    ]
    assert [str(body).split()[0] for rows in house.tail_rows() for body in rows["body"].to_pylist()] == list("0123456")


async def test_a_segment_whose_commit_did_not_happen_stays_until_it_does(house: House) -> None:
    archiver = await house.start()
    await house.send(chunk(cri("a", at=1)))
    await archiver.step()
    assert await archiver.flush()
    await house.send(chunk(cri("b", at=2), len(cri("a", at=1))))
    await archiver.step()
    house.clock.advance(TAIL_SEGMENT_AGE_NS)
    await archiver.step()
    assert len(house.tail_rows()) == 1
    # when the process dies and another begins
    archiver = await house.start()
    assert len(house.tail_rows()) == 1
    await archiver.drain()
    assert house.tail_rows() == []


async def test_segments_of_another_bus_are_not_shown(house: House) -> None:
    archiver = await house.start()
    await house.send(chunk(cri("a", at=1)))
    await archiver.step()
    assert await archiver.flush()
    await house.send(chunk(cri("b", at=2), len(cri("a", at=1))))
    house.clock.advance(TAIL_SEGMENT_AGE_NS)
    await archiver.step()
    house.broker = MemoryBroker(bus_id="another")
    await house.start()
    assert house.tail_rows() == []


async def test_far_behind_the_writers_rows_are_left_to_the_next_commit(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.archiver.POLL_BYTES", 1)
    archiver = await house.start()
    lines = [cri(str(at), at=at) for at in range(4)]
    starts = [sum(map(len, lines[:at])) for at in range(4)]
    long_ago = NOON - 60_000_000_000
    await house.send(*(chunk(line, at, observed=long_ago) for line, at in zip(lines, starts, strict=True)))
    for _ in range(3):
        house.clock.advance(TAIL_SEGMENT_AGE_NS)
        await archiver.step()
    assert house.tail_rows() == []
    # when it has caught up, what no commit holds is published
    assert await archiver.flush()
    for _ in range(2):
        house.clock.advance(TAIL_SEGMENT_AGE_NS)
        await archiver.step()
    assert [rows["body"].to_pylist() for rows in house.tail_rows()] == [["3"]]
    await archiver.drain()
    assert house.held().of(file_id()) == b"".join(lines)


def test_an_unfinished_segment_of_a_dead_process_is_swept_away(house: House) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    for pid in (child.pid, os.getppid()):
        (house.root / "tail" / f"ashiato.bulk-0-0-1.arrow.{pid}.unfinished").write_bytes(b"half")
    house.tail = TailFolder(house.root / "tail")
    # then what a living process is at is left alone
    assert [path.name for path in (house.root / "tail").iterdir()] == [
        f"ashiato.bulk-0-0-1.arrow.{os.getppid()}.unfinished"
    ]


async def test_a_full_disk_under_the_tail_delays_it_and_nothing_else(house: House) -> None:
    archiver = await house.start()
    (house.root / "tail").rmdir()
    (house.root / "tail").write_bytes(b"a file, where the folder should be")
    await house.send(chunk(cri("a", at=1)))
    await archiver.step()
    assert house.telemetry.value("part_unavailable_total", part="tail") == 1
    # when there is room again
    (house.root / "tail").unlink()
    (house.root / "tail").mkdir()
    house.clock.advance(TAIL_SEGMENT_AGE_NS)
    await archiver.step()
    assert [rows["body"].to_pylist() for rows in house.tail_rows()] == [["a"]]


async def test_no_room_for_packs_is_waited_for(house: House) -> None:
    archiver = await house.start(retry_wait_ns=1_000_000)
    await house.send(chunk(cri("a", at=1)))
    await archiver.step()
    (house.root / "scratch").rmdir()
    flushing = asyncio.create_task(archiver.flush())
    deadline = asyncio.get_running_loop().time() + 30
    while not house.telemetry.value("part_unavailable_total", part="scratch"):
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.001)
    (house.root / "scratch").mkdir()
    assert await flushing
    assert house.held().of(file_id()) == cri("a", at=1)
    assert list((house.root / "scratch").iterdir()) == []


@pytest.mark.parametrize("bus_id", ["bus", "bus made anew"], ids=["restored", "made anew"])
async def test_j5_a_log_that_was_replaced_while_the_bus_was_away_is_not_read_on_in_its_middle(
    house: House, bus_id: str
) -> None:
    # given: an archiver that has read two records and committed none
    archiver = await house.start(retry_wait_ns=0)
    await house.send(chunk(cri("one"), number=1), chunk(cri("two"), number=2))
    await archiver.step()
    # when: the bus goes away, and comes back as another log, longer than what was read
    house.reader.polls_failed = 1
    house.broker.topics.clear()
    house.broker.bus_id = bus_id
    await MemoryKeeper(house.broker).create_topics({TOPIC_PRIORITY: 1, TOPIC_BULK: 1})
    others = [chunk(cri(f"other {number}"), number=number) for number in range(10, 15)]
    await house.send(*others)
    for _ in range(4):
        try:
            await archiver.step()
        except BatchLostError:
            await archiver.open()
    assert await archiver.flush()
    # then: not one of its records was passed over
    assert [house.held().of(other.file.file_id) for other in others] == [other.payload for other in others]

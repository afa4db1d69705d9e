"""Which file is which: by inode and generation, guarded by head and end; equal bytes never merge two files."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ashiato.core.chunk import ChunkFlags
from ashiato.core.ids import Kind
from ashiato.core.ledger import Beat, Born, Closed, Gap
from collector import bookmark
from collector.bookmark import Acked, Known, Remembered, Stated, Topics
from collector.followed import digest
from collector.planner import COPY_STILL_NS
from tests.simulation.collector_node import Node, chunks_of, lines, until

BANNER = b"starting the same program with the same words\n" * 100
QUICK_COPY_NS = 300_000_000


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(root=tmp_path, settings={"all_files": True})


def inode(path: Path) -> int:
    return path.stat().st_ino


def reuse(path: Path, number: int, content: bytes) -> None:
    """Write ``content`` under ``path``, as another file with the inode ``number``; skip where there is no such luck."""
    spare = []
    for turn in range(64):
        made = path.with_name(f".spare-{turn}")
        made.write_bytes(content)
        if inode(made) == number:
            made.rename(path)
            break
        spare.append(made)
    for made in spare:
        made.unlink()
    if not path.exists():
        pytest.skip("this file system does not use an inode's number again soon")


def write_bookmark_anew(node: Node, tell: Callable[[Remembered], tuple[Known, Acked]]) -> None:
    """Let the bookmark say of each of its files what ``tell`` says."""
    path = node.state / "bookmark"
    contents = bookmark.remembered(path)
    entries: list[Any] = [contents.owner, Topics(partitions=contents.partitions), Stated(n=contents.stated)]
    for file in contents.files.values():
        known, acked = tell(file)
        entries += [known, file.head, acked]
    path.write_bytes(b"".join(map(bookmark._encode, entries)))


async def test_an_inode_that_is_used_again_while_it_was_down_is_another_file_however_alike(node: Node) -> None:
    # given: a file read to its end, and one of the same words and more under its inode and name
    log = node.logs / "app.log"
    node.write(log, BANNER)
    async with node.collector():
        await until(lambda: node.contents(Kind.FILE) == [BANNER])
    number = inode(log)
    log.unlink()
    reuse(log, number, BANNER + b"second run\n")
    # when
    async with node.collector():
        await until(lambda: len(node.contents(Kind.FILE)) == 2 and node.contents(Kind.FILE)[1])
        await until(lambda: node.contents(Kind.FILE)[1] == BANNER + b"second run\n")
    # then: both are held whole, and the first one's end is a gap without an end
    assert node.contents(Kind.FILE)[0] == BANNER
    births = [born for born in node.stated(Born) if born.path == str(log)]
    assert len({born.inode for born in births}) == 1
    assert len({born.generation for born in births} - {""}) == 2
    assert [(gap.file_id, gap.offset_start) for gap in node.stated(Gap)] == [(births[0].file_id, str(len(BANNER)))]


async def test_the_generation_travels_with_every_chunk(node: Node) -> None:
    node.write(node.logs / "app.log", b"x\n")
    async with node.collector():
        await until(lambda: node.contents(Kind.FILE) == [b"x\n"])
    (birth,) = [born for born in node.stated(Born) if born.path.endswith("app.log")]
    told = {str(chunk.file.generation) for chunk in chunks_of(node.broker) if chunk.file.file_id == birth.file_id}
    assert told == {birth.generation}
    assert birth.generation


async def test_a_bookmark_of_the_release_before_goes_on(node: Node) -> None:
    # given: a bookmark without generations, with guards of 64 bytes
    log = node.logs / "app.log"
    node.write(log, lines(0, 100))
    async with node.collector():
        await until(lambda: node.contents(Kind.FILE) == [lines(0, 100)])

    def as_before(file: Remembered) -> tuple[Known, Acked]:
        content = (node.state / "ledger/ledger-000001.jsonl" if "ledger" in file.path else log).read_bytes()
        return msgspec.structs.replace(file.known, generation=0), Acked(
            file_id=file.known.file_id, offset=file.offset, position=file.position,
            guard=digest(content[: file.offset][-64:], 8),
        )  # fmt: skip

    write_bookmark_anew(node, as_before)
    # when
    node.write(log, lines(100, 5))
    async with node.collector():
        await until(lambda: node.contents(Kind.FILE) == [lines(0, 105)])
    assert not node.stated(Gap)
    (held,) = node.files(Kind.FILE)
    assert held.bytes_sent == len(lines(0, 105))


async def test_a_device_that_has_another_number_after_a_restart_is_the_same(node: Node) -> None:
    log = node.logs / "app.log"
    node.write(log, lines(0, 10))
    async with node.collector():
        await until(lambda: node.contents(Kind.FILE) == [lines(0, 10)])

    def moved(file: Remembered) -> tuple[Known, Acked]:
        return msgspec.structs.replace(file.known, device=12345), Acked(
            file_id=file.known.file_id, offset=file.offset, position=0, guard=file.guard, guard_bytes=file.guard_bytes
        )

    write_bookmark_anew(node, moved)
    node.write(log, lines(10, 5))
    async with node.collector():
        await until(lambda: node.contents(Kind.FILE) == [lines(0, 15)])
    assert not node.stated(Gap)


async def test_a_file_system_without_generations_is_named_once(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")

    monkeypatch.setattr("collector.generation.fcntl.ioctl", refuse)
    for number in range(3):
        node.write(node.logs / f"app-{number}.log", lines(number, 3))
    async with node.collector():
        await until(lambda: len(node.contents(Kind.FILE)) == 3)
    assert len(node.events("generation_unknown")) == 1
    assert {born.generation for born in node.stated(Born)} == {""}


async def test_a_copy_that_is_truncated_next_goes_on_in_its_copy(node: Node) -> None:
    """``copytruncate``: what was not shipped before the truncation is read from the copy, under the same id."""
    log = node.logs / "app.log"
    async with node.cut_off(log, kind=Kind.FILE) as writer:
        node.write(log, lines(10, 10))
        shutil.copyfile(log, log.with_name("app.log.1"))
        os.truncate(log, 0)
        node.write(log, b"after\n")
        writer.away = False
        await until(lambda: node.contents(Kind.FILE) == [lines(0, 20), b"after\n"])
        await until(lambda: [closed.reason for closed in node.stated(Closed)] == ["copied"])
    assert not node.stated(Gap)
    assert [file.bytes_sent for file in node.files(Kind.FILE)] == [len(lines(0, 20)), len(b"after\n")]


async def test_copytruncate_while_it_was_down_loses_and_doubles_nothing(node: Node) -> None:
    log = node.logs / "app.log"
    node.write(log, lines(0, 10))
    async with node.collector():
        await until(lambda: node.contents(Kind.FILE) == [lines(0, 10)])
    node.write(log, lines(10, 10))
    shutil.copyfile(log, log.with_name("app.log.1"))
    os.truncate(log, 0)
    node.write(log, b"after\n")
    for _ in range(2):  # and a later start knows the copy again, whatever it is called
        async with node.collector():
            await until(lambda: node.contents(Kind.FILE) == [lines(0, 20), b"after\n"])
            await until(lambda: "copied" in [closed.reason for closed in node.stated(Closed)])
        if log.with_name("app.log.1").exists():
            log.with_name("app.log.1").rename(log.with_name("app.log.2"))
    assert not node.stated(Gap)
    assert len([born for born in node.stated(Born) if "app.log" in born.path]) == 2
    assert sum(file.bytes_sent for file in node.files(Kind.FILE)) == len(lines(0, 20)) + len(b"after\n")


async def test_bytes_seen_and_lost_between_copy_and_truncation_are_a_gap(node: Node) -> None:
    log = node.logs / "app.log"
    async with node.cut_off(log, kind=Kind.FILE) as writer:
        shutil.copyfile(log, log.with_name("app.log.1"))
        node.write(log, lines(10, 10))
        await until(lambda: writer.refused and node.telemetry and node.telemetry.value("backlog_bytes") > 0)
        os.truncate(log, 0)
        writer.away = False
        await until(lambda: "copied" in [closed.reason for closed in node.stated(Closed)])
    (gap,) = node.stated(Gap)
    assert (gap.reason, int(gap.offset_start), int(gap.offset_end)) == (
        "truncated", len(lines(0, 10)), len(lines(0, 20)),
    )  # fmt: skip


async def test_a_copy_that_stays_beside_its_original_is_a_shadow(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    assert QUICK_COPY_NS < COPY_STILL_NS
    monkeypatch.setattr("collector.planner.COPY_STILL_NS", QUICK_COPY_NS)
    log = node.logs / "app.log"
    node.write(log, lines(0, 10))
    async with node.collector():
        await until(lambda: node.contents(Kind.FILE) == [lines(0, 10)])
        shutil.copyfile(log, log.with_name("app.log.1"))
        node.write(log, lines(10, 1))
        await until(lambda: node.contents(Kind.FILE) == [lines(0, 11), lines(0, 10)])
    original, copy = node.files(Kind.FILE)
    assert not original.flags & ChunkFlags.SHADOW
    assert copy.flags & ChunkFlags.SHADOW


async def test_two_runs_with_the_same_words_are_two_files(node: Node) -> None:
    # given: a rotation that was read; and while it was down, another run whose rotation begins and ends like it
    log = node.logs / "app.log"
    node.write(log, BANNER)
    async with node.collector():
        await until(lambda: node.contents(Kind.FILE) == [BANNER])
    log.rename(log.with_name("app.log.2"))
    node.write(log.with_name("app.log.1"), BANNER)
    node.write(log, BANNER)
    async with node.collector():
        await until(lambda: node.contents(Kind.FILE) == [BANNER] * 3)
    assert len({born.inode for born in node.stated(Born) if "app.log" in born.path}) == 3
    assert not node.stated(Gap)


async def test_two_compressions_of_equal_files_are_not_one(node: Node) -> None:
    log = node.logs / "app.log"
    node.write(log, BANNER)
    async with node.collector():
        await until(lambda: node.contents(Kind.FILE) == [BANNER])
    log.unlink()
    for number in (1, 2):
        log.with_name(f"app.log.{number}.gz").write_bytes(gzip.compress(BANNER))
    async with node.collector():
        await until(lambda: len(node.contents(Kind.FILE)) == 2)
        await until(lambda: node.contents(Kind.FILE) == [BANNER] * 2)
    assert not node.stated(Gap)


async def test_a_file_whose_head_alone_was_rewritten_is_another_one(node: Node) -> None:
    log = node.logs / "app.log"
    same_end = b"tick\n" * 200
    node.write(log, b"run 1\n" + same_end)
    async with node.collector():
        await until(lambda: node.contents(Kind.FILE) == [b"run 1\n" + same_end])
        with log.open("r+b") as file:  # never shorter, and the same before the offset
            file.write(b"run 2\n")
        node.write(log, b"tick\n")
        await until(lambda: b"run 2\n" + same_end + b"tick\n" in node.contents(Kind.FILE))
    assert [gap.reason for gap in node.stated(Gap)] == ["truncated"]


async def test_a_file_of_one_byte_is_known_again(node: Node) -> None:
    log = node.logs / "app.log"
    node.write(log, b"\n")
    async with node.collector():
        await until(lambda: node.contents(Kind.FILE) == [b"\n"])
    log.rename(log.with_name("app.log.1"))
    node.write(log, b"\n")
    async with node.collector():
        await until(lambda: node.contents(Kind.FILE) == [b"\n", b"\n"])
        await until(lambda: node.stated(Beat))
    assert not node.stated(Gap)

"""What a collector remembers and states: bookmark, ledger, beats, whatever happens to its state folder."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import Any

import pytest

from ashiato.adapters.bus_memory import MemoryBroker, MemoryWriter
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.chunk import ChunkFlags
from ashiato.core.errors import SettingsError, TransientError
from ashiato.core.ledger import Beat, Born, Closed, Config, Gap
from collector.beat import MOVED_MAX
from collector.bookmark import Bookmark
from collector.importer import Importer
from tests.simulation.collector_node import FlakyWriter, Node, lines, until


async def test_a_torn_bookmark_is_mended_and_said(node: Node) -> None:
    log = node.pod_log()
    node.write(log, lines(0, 10))
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 10)])
    with (node.state / "bookmark").open("ab") as file:
        file.write(b"\x40\0\0\0torn")
    node.write(log, lines(10, 10))
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 20)])
    assert [event["bytes_cut"] for event in node.events("bookmark_torn")] == [8]


async def test_a_lost_bookmark_is_a_new_incarnation_and_what_it_sends_again_is_flagged(node: Node) -> None:
    """C5."""
    log = node.pod_log()
    node.write(log, lines(0, 10))
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 10)])
    (node.state / "bookmark").unlink()
    async with node.collector():
        await until(lambda: len(node.contents()) == 2)
        node.write(node.pod_log(pod="later"), b"new\n")
        await until(lambda: len(node.contents()) == 3)
    before, after, later = node.files()
    assert before.content == after.content == lines(0, 10)
    assert not before.flags & ChunkFlags.RESENT
    assert after.flags & ChunkFlags.RESENT
    assert not later.flags & ChunkFlags.RESENT
    assert len({config.incarnation for config in node.stated(Config)}) == 2
    assert len(node.events("bookmark_begun")) == 2


async def test_a_bookmark_of_another_node_is_not_used(node: Node) -> None:
    node.write(node.pod_log(), lines(0, 10))
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 10)])
    async with node.collector(node="n2"):
        await until(lambda: len(node.contents()) == 2)
    assert [file.source.node for file in node.files()] == ["n1", "n2"]
    assert node.files()[1].flags & ChunkFlags.RESENT


async def test_a_birth_that_only_the_ledger_has_keeps_its_id(node: Node) -> None:
    """C7."""
    # given: a crash between the ledger's append and the bookmark's
    log = node.pod_log()
    node.write(log, lines(0, 10))
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 10)])
    before = (node.state / "bookmark").read_bytes()
    node.write(node.pod_log(pod="second"), lines(50, 5))
    async with node.collector():
        await until(lambda: len(node.contents()) == 2)
    (node.state / "bookmark").write_bytes(before)
    # when
    async with node.collector():
        await until(lambda: len(node.stated(Config)) == 3 and node.stated(Beat))
    # then: no file was born twice
    births = [birth.path for birth in node.stated(Born)]
    assert len(births) == len(set(births)) == 3
    assert node.contents() == [lines(0, 10), lines(50, 5)]


async def test_a_full_disk_under_the_state_folder_loses_nothing(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """C3."""
    log = node.pod_log()
    node.write(log, lines(0, 10))
    really_write, full = os.write, False

    def write(descriptor: int, data: Any) -> int:
        if full:
            really_write(descriptor, bytes(data)[: len(data) // 2])  # what a full disk does: half of it
            raise OSError(errno.ENOSPC, "No space left on device")
        return really_write(descriptor, data)

    monkeypatch.setattr("collector.append_file.os.write", write)
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 10)])
        full = True
        node.write(log, lines(10, 10))
        node.write(node.pod_log(pod="waits"), lines(90, 3))
        # known files go on, new births wait
        await until(lambda: node.contents() == [lines(0, 20)])
        await until(lambda: len(node.events("part_unavailable")) > 5)
        full = False
        await until(lambda: node.contents() == [lines(0, 20), lines(90, 3)])
    births = [birth.path for birth in node.stated(Born)]
    assert len(births) == len(set(births)) == 3
    assert not node.stated(Gap)


async def test_a_truncation_is_stated_although_the_bookmark_cannot_be_compacted(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise TransientError("no room on the disk")

    log = node.pod_log()
    async with node.cut_off(log) as writer:
        node.write(log, lines(10, 10))
        await until(lambda: writer.refused and node.telemetry and node.telemetry.value("backlog_bytes") > 0)
        with monkeypatch.context() as full:
            full.setattr(Bookmark, "is_large", property(lambda _: True))
            full.setattr(Bookmark, "compact", refuse)
            log.write_bytes(b"anew\n")
            await until(lambda: node.stated(Gap))
        writer.away = False
        await until(lambda: b"anew\n" in node.contents())
        await until(lambda: node.files()[0].closed)
    assert [(gap.reason, gap.offset_end) for gap in node.stated(Gap)] == [("truncated", str(len(lines(0, 20))))]
    assert node.events("part_unavailable")


async def test_a_beat_soon_says_that_everything_written_is_acknowledged(node: Node) -> None:
    log = node.pod_log()
    async with node.collector():
        await until(lambda: node.stated(Beat))
        node.write(log, lines(0, 10))
        written_ns = log.stat().st_mtime_ns
        await until(lambda: int(node.stated(Beat)[-1].watermark_unix_nano) > written_ns)
        birth = next(birth for birth in node.stated(Born) if birth.path == str(log))
        offsets = [
            int(moved.offset) for beat in node.stated(Beat) for moved in beat.moved if moved.file_id == birth.file_id
        ]
    assert offsets[-1] == len(lines(0, 10))


async def test_the_watermark_waits_for_what_the_bus_does_not_keep(node: Node) -> None:
    log, writer = node.pod_log(), FlakyWriter(node.broker)
    async with node.collector(writer):
        await until(lambda: node.stated(Beat))
        writer.away = True
        node.write(log, lines(0, 10))
        written_ns = log.stat().st_mtime_ns
        await until(lambda: writer.refused > 0)
        await until(lambda: len(node.events("part_unavailable")) >= 3)
        assert all(int(beat.watermark_unix_nano) <= written_ns for beat in node.stated(Beat))
        writer.away = False
        await until(lambda: int(node.stated(Beat)[-1].watermark_unix_nano) > written_ns)


async def test_a_quiet_node_beats_only_at_the_long_interval(node: Node) -> None:
    node.write(node.pod_log(), lines(0, 10))
    async with node.collector(idle_beat_interval_s=600, beat_interval_s=0.01) as collector:
        await until(lambda: node.contents() == [lines(0, 10)])
        # given: a beat whose watermark has passed the last movement
        await until(lambda: collector._pulse._stated_watermark > collector._pulse._moved_unix_nano)
        beats = len(node.stated(Beat))
        # when: the ledger's own bytes are shipped, and many sweeps pass
        seen = collector._pulse._watermark
        await until(lambda: collector._pulse._watermark > seen + 500_000_000)
        # then: that was no movement
        assert len(node.stated(Beat)) == beats


async def test_the_live_ledger_is_not_closed_although_its_name_has_a_number(node: Node) -> None:
    async with node.collector(settle_s=0.05, idle_beat_interval_s=600):
        await until(lambda: node.stated(Beat))
        quiet = asyncio.get_running_loop().time() + 0.5
        await until(lambda: asyncio.get_running_loop().time() > quiet)
        assert not node.stated(Closed)


async def test_a_beat_speaks_of_no_more_files_than_a_line_may_hold(node: Node) -> None:
    for number in range(MOVED_MAX + 10):
        node.write(node.pod_log(pod=f"p{number}"), b"x\n")
    async with node.collector():
        await until(lambda: len(node.contents()) == MOVED_MAX + 10)
    beats = node.stated(Beat)
    assert max(len(beat.moved) for beat in beats) <= MOVED_MAX
    assert {moved.file_id for beat in beats for moved in beat.moved} == {
        birth.file_id for birth in node.stated(Born) if birth.source.startswith("container/")
    }
    assert max(map(len, (node.state / "ledger/ledger-000001.jsonl").read_bytes().splitlines())) < 128 * 1024


async def test_the_first_beat_after_a_restart_states_every_file_again(node: Node) -> None:
    node.write(node.pod_log(), lines(0, 10))
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 10)])
    async with node.collector():
        await until(lambda: node.stated(Config)[1:] and isinstance(node.statements()[-1], Beat))
        statements = node.statements()
        begun = max(at for at, statement in enumerate(statements) if isinstance(statement, Config))
        moved = [m for statement in statements[begun:] if isinstance(statement, Beat) for m in statement.moved]
    assert [int(m.offset) for m in moved] == [len(lines(0, 10))]


async def test_a_second_collector_on_the_same_state_folder_is_refused(node: Node) -> None:
    async with node.collector():
        await until(lambda: node.stated(Beat))
        with pytest.raises(SettingsError, match="another collector"):
            async with node.collector():
                pass


async def test_births_go_on_while_the_bus_is_away_at_the_start(node: Node) -> None:
    async with node.collector():
        await until(lambda: node.stated(Beat))
    writer = FlakyWriter(node.broker)

    async def no_answer(topic: str) -> int:
        raise TransientError("away", topic=topic)

    writer.partitions, writer.away = no_answer, True  # type: ignore[method-assign]
    async with node.collector(writer):
        log = node.pod_log()
        node.write(log, lines(0, 10))
        await until(lambda: any(birth.path == str(log) for birth in node.stated(Born)))
        log.unlink()  # too late to hurt
        writer.away = False
        await until(lambda: node.contents() == [lines(0, 10)])


@pytest.mark.parametrize("name", ["arn:aws:eks:eu-west-1:1:cluster/prod", "", "a\nb"])
async def test_a_cluster_that_cannot_stand_in_a_source_is_refused_at_once(node: Node, name: str) -> None:
    """No frame of it could be read by anybody: all of its lines would arrive as damage."""
    with pytest.raises(SettingsError, match="cluster cannot be called"):
        async with node.collector(cluster=name):
            pass
    importer = Importer(MemoryWriter(node.broker), clock=node.clock, telemetry=Telemetry("collector", stream=node.log))
    with pytest.raises(SettingsError, match="cluster cannot be called"):
        await importer.run([node.root], cluster=name, node="n1")


async def test_file_order_is_birth_order_although_the_clock_was_put_back_between_two_starts(node: Node) -> None:
    """The ledger's own files are told apart by it: a chain in the wrong order looks broken."""
    node.write(node.pod_log(), lines(0, 10))
    async with node.collector():
        await until(lambda: len(node.contents()) == 1)
    first = max(birth.file_id for birth in node.stated(Born))
    node.write(node.pod_log(pod="second"), lines(50, 5))
    node.clock.behind_ns = 3_600_000_000_000
    async with node.collector():
        await until(lambda: len(node.contents()) == 2)
    assert max(birth.file_id for birth in node.stated(Born) if "second" in birth.path) > first


async def test_beats_say_on_which_bus_their_positions_are_and_keep_to_it(node: Node) -> None:
    """C6: a position is one of a log; after a restart over another bus it is still one of the log before."""
    node.write(node.pod_log(), lines(0, 10))
    async with node.collector():
        await until(lambda: any(beat.moved for beat in node.stated(Beat)))
    (first,) = {moved.incarnation for beat in node.stated(Beat) for moved in beat.moved}
    assert first == f"{node.broker.bus_id}/ashiato.bulk"
    # when: another bus stands there, and one more file is written
    node.broker = MemoryBroker(bus_id="made anew")
    node.write(node.pod_log(pod="second"), lines(50, 5))
    before = len(node.stated(Beat))
    async with node.collector():
        await until(lambda: sum(len(beat.moved) for beat in node.stated(Beat)[before:]) >= 2)
    # then: each file's position is of the bus that acknowledged it
    told = {moved.file_id: moved.incarnation for beat in node.stated(Beat) for moved in beat.moved}
    names = {birth.file_id: birth.path for birth in node.stated(Born)}
    assert {("second" in names[file_id]): incarnation for file_id, incarnation in told.items()} == {
        False: first, True: "made anew/ashiato.bulk",
    }  # fmt: skip

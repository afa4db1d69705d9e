"""The collector against real files that rotate, shrink, vanish and cannot be read, and a bus that fails."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
from typing import Any

import pytest

from ashiato.adapters.clock import SystemClock
from ashiato.core.chunk import ChunkFlags
from ashiato.core.ids import Kind
from ashiato.core.ledger import Beat, Born, Closed, Config, Gap
from ashiato.core.limits import FRAME_RAW_BYTES_TARGET
from collector.content import Gzipped
from collector.planner import GZIPPED_OPEN_MAX
from tests.simulation.collector_node import (
    FlakyWriter,
    Node,
    chunks_of,
    lines,
    reassemble,
    unreadable,
    until,
    until_born,
)


async def test_every_kind_of_file_below_a_folder_arrives_byte_for_byte(node: Node) -> None:
    # given: container output in both layouts, and every other kind of source
    docker = node.root / "docker/containers" / ("ab" * 32) / f"{'ab' * 32}-json.log"
    written = {
        node.pod_log(): (Kind.CONTAINER, lines(0, 100)),
        docker: (Kind.CONTAINER, b'{"log":"hello\\n","stream":"stdout","time":"2026-11-24T10:00:00Z"}\n'),
        node.logs / "kubernetes/audit/audit.log": (Kind.AUDIT, b'{"auditID":"1","stage":"ResponseComplete"}\n'),
        node.logs / "audit/audit.log": (Kind.AUDITD, b"type=SYSCALL msg=audit(1.1:1): x\n"),
        node.logs / "falco/events.json": (Kind.FALCO, b'{"rule":"r","priority":"Error","output":"o"}\n'),
        node.logs / "pods.watch.jsonl": (Kind.WATCH, b'{"type":"ADDED","object":{}}\n'),
        node.root / "access/access-000001.jsonl": (Kind.ACCESS, b'{"who":"alice"}\n'),
    }
    for path, (_, content_) in written.items():
        node.write(path, content_)
    # when
    roots = (str(node.logs), str(node.root / "docker"))
    async with node.collector(roots=roots, access_dir=str(node.root / "access")):
        await until(lambda: len(reassemble(chunks_of(node.broker))) == len(written) + 1)
    # then: every byte is there under its kind, and our own ledger too
    held = reassemble(chunks_of(node.broker)).values()
    assert {(f.path, f.source.kind, f.content) for f in held if f.source.kind is not Kind.LEDGER} == {
        (str(path), kind, content_) for path, (kind, content_) in written.items()
    }
    assert node.contents(Kind.LEDGER) == [(node.state / "ledger/ledger-000001.jsonl").read_bytes()]


async def test_rotations_while_it_runs_keep_every_byte_and_one_id_for_each_file(node: Node) -> None:
    """C1."""
    log = node.pod_log()
    written = []
    async with node.collector():
        for turn in range(6):
            written.append(lines(turn * 100, 50))
            node.write(log, written[-1])
            if turn % 2:  # half of the rotations come before the bytes were seen
                await until(lambda: sum(map(len, node.contents())) == sum(map(len, written)))
            late = lines(turn * 100 + 50, 1)
            log.rename(rotated := log.with_name(f"0.log.20261124-10000{turn}"))
            node.write(rotated, late)  # the writer has the old file open for a while
            written[-1] += late
        node.write(log, b"last\n")
        written.append(b"last\n")
        await until(lambda: sum(file.closed for file in node.files()) == 6)
    assert node.contents() == written
    assert {file.restart_count for file in node.files()} == {0}
    assert not node.stated(Gap)


async def test_several_rotations_while_the_bus_is_away_lose_nothing(node: Node) -> None:
    log = node.pod_log()
    async with node.cut_off(log) as writer:
        node.write(log, lines(10, 10))
        for turn in range(3):
            log.rename(log.with_name(f"0.log.20261124-10000{turn}"))
            node.write(log, lines(100 * turn, 20_000))
            await until_born(node, 3 + turn)
        await until(lambda: writer.refused > 0)
        writer.away = False
        await until(lambda: sum(map(len, node.contents())) == len(lines(0, 20)) + 3 * len(lines(0, 20_000)))
    assert node.contents() == [lines(0, 20), *(lines(100 * turn, 20_000) for turn in range(3))]


async def test_a_failed_frame_is_sent_again_before_anything_behind_it(node: Node) -> None:
    """C4."""
    # given: a bus that keeps frames and loses the replies
    log, writer = node.pod_log(), FlakyWriter(node.broker)
    writer.lose_replies = 5
    node.write(log, lines(0, 30_000))
    # when
    async with node.collector(writer):
        await until(lambda: node.contents() == [lines(0, 30_000)] and writer.lose_replies == 0)
    # then: some bytes came twice, never out of order (reassemble refuses holes)
    assert writer.resets > 0
    assert sum(file.bytes_sent for file in node.files()) + sum(f.bytes_sent for f in node.files(Kind.LEDGER)) > sum(
        map(len, node.contents() + node.contents(Kind.LEDGER))
    )


async def test_a_right_that_is_withdrawn_for_a_while_is_waited_for(node: Node) -> None:
    writer = FlakyWriter(node.broker)
    writer.forbids = True
    node.write(node.pod_log(), lines(0, 10))
    async with node.collector(writer):
        await until(lambda: writer.refused > 0)
        writer.forbids = False
        await until(lambda: node.contents() == [lines(0, 10)])


async def test_a_restart_sends_only_what_was_not_acknowledged(node: Node) -> None:
    """C2."""
    log, writer = node.pod_log(), FlakyWriter(node.broker)
    node.write(log, lines(0, 100))
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 100)])
    node.write(log, lines(100, 100))
    async with node.collector(writer):
        await until(lambda: node.contents() == [lines(0, 200)])
    (file,) = node.files()
    assert file.bytes_sent == len(lines(0, 200))


async def test_a_file_that_rotated_while_it_was_down_goes_on_at_the_right_byte(node: Node) -> None:
    log = node.pod_log()
    node.write(log, lines(0, 100))
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 100)])
    # when: it grows, rotates twice, and the first rotation is gzipped
    node.write(log, lines(100, 100))
    log.rename(log.with_name("0.log.20261124-100000"))
    node.write(log, lines(200, 100))
    log.rename(log.with_name("0.log.20261124-100001"))
    node.write(log, lines(300, 100))
    plain = log.with_name("0.log.20261124-100000")
    plain.with_name(plain.name + ".gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    async with node.collector():
        await until(lambda: sum(map(len, node.contents())) == len(lines(0, 400)))
    # then: three files, each held once
    assert node.contents() == [lines(0, 200), lines(200, 100), lines(300, 100)]
    assert sum(file.bytes_sent for file in node.files()) == len(lines(0, 400))
    assert not node.stated(Gap)


async def test_a_gzipped_rotation_that_was_never_seen_plain_is_read_whole(node: Node) -> None:
    packed = node.pod_log("0.log.20261124-100000.gz")
    packed.write_bytes(gzip.compress(lines(0, 20_000)) + gzip.compress(lines(20_000, 10)))
    async with node.collector():
        await until(lambda: node.files() and node.files()[0].closed)
    assert node.contents() == [lines(0, 20_010)]


async def test_a_gzipped_rotation_that_was_read_plain_is_not_sent_again(node: Node) -> None:
    log = node.pod_log()
    node.write(log, lines(0, 100))
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 100)])
        log.rename(rotated := log.with_name("0.log.20261124-100000"))
        rotated.with_name(rotated.name + ".gz").write_bytes(gzip.compress(rotated.read_bytes()))
        rotated.unlink()
        await until(lambda: node.files()[0].closed)
    async with node.collector():  # nor after a restart, under another name
        rotated.with_name(rotated.name + ".gz").rename(rotated.with_name("0.log.1.gz"))
        node.write(log, b"new\n")
        await until(lambda: len(node.contents()) == 2)
    assert node.contents() == [lines(0, 100), b"new\n"]


async def test_a_damaged_gzip_is_read_up_to_the_damage_and_the_rest_is_a_gap(node: Node) -> None:
    whole = gzip.compress(os.urandom(200_000).hex().encode())
    node.pod_log("0.log.20261124-100000.gz").write_bytes(whole[: len(whole) // 2])
    async with node.collector():
        await until(lambda: node.files() and node.files()[0].closed)
    (held,) = node.contents()
    assert gzip.decompress(whole).startswith(held)
    (gap,) = node.stated(Gap)
    assert (gap.reason, gap.offset_start) == ("unreadable", str(len(held)))
    assert len(held) > 0


async def test_a_file_that_is_unlinked_while_open_is_drained_and_closed(node: Node) -> None:
    log, writer = node.pod_log(), FlakyWriter(node.broker)
    async with node.collector(writer):
        await until(lambda: node.stated(Born))
        writer.away = True
        node.write(log, lines(0, 30_000) + b"half a line")
        await until(lambda: len(node.stated(Born)) == 2)
        shutil.rmtree(log.parent.parent)
        writer.away = False
        await until(lambda: node.files() and node.files()[0].closed)
        await until(lambda: node.stated(Closed))
    assert node.contents() == [lines(0, 30_000) + b"half a line"]
    assert [(closed.reason, closed.size) for closed in node.stated(Closed)] == [
        ("unlinked", str(len(node.contents()[0])))
    ]
    assert not node.stated(Gap)


async def test_a_file_that_shrinks_leaves_a_gap_and_is_another_file(node: Node) -> None:
    log = node.pod_log()
    async with node.cut_off(log) as writer:
        node.write(log, lines(10, 10))
        await until(lambda: writer.refused and node.telemetry and node.telemetry.value("backlog_bytes") > 0)
        log.write_bytes(b"anew\n")
        await until(lambda: node.stated(Gap))
        writer.away = False
        await until(lambda: b"anew\n" in node.contents())
        await until(lambda: node.files()[0].closed)
    (gap,) = node.stated(Gap)
    first = node.stated(Born)[0]
    assert (gap.reason, gap.file_id) == ("truncated", first.file_id)
    assert (int(gap.offset_start), int(gap.offset_end)) == (len(lines(0, 10)), len(lines(0, 20)))
    assert [closed.reason for closed in node.stated(Closed)] == ["truncated"]
    assert node.contents()[1] == b"anew\n"
    assert node.telemetry is not None
    assert node.telemetry.value("bytes_lost_total", reason="truncated") == len(lines(0, 10))


async def test_a_file_written_anew_and_longer_is_told_by_the_bytes_before_the_offset(node: Node) -> None:
    log, writer = node.pod_log(), FlakyWriter(node.broker)
    node.write(log, lines(0, 10))
    async with node.collector(writer):
        await until(lambda: node.contents() == [lines(0, 10)])
        with log.open("r+b") as file:  # same inode, never shorter in between
            file.write(lines(500, 30))
        await until(lambda: len(node.contents()) == 2 and node.contents()[1] == lines(500, 30))
    assert node.contents()[0] == lines(0, 10)
    assert [gap.reason for gap in node.stated(Gap)] == ["truncated"]


async def test_a_file_that_vanished_while_it_was_down_is_a_gap(node: Node) -> None:
    log = node.pod_log()
    node.write(log, lines(0, 10))
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 10)])
    log.unlink()
    async with node.collector():
        await until(lambda: node.files()[0].closed)
    (gap,) = node.stated(Gap)
    assert (gap.reason, int(gap.offset_start), gap.offset_end) == ("rotated_away", len(lines(0, 10)), "")


async def test_a_folder_that_is_missing_for_a_while_is_waited_for(node: Node) -> None:
    log = node.pod_log()
    node.write(log, lines(0, 10))
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 10)])
    node.logs.rename(node.root / "unmounted")
    async with node.collector():
        await until(lambda: len(node.stated(Config)) == 2 and node.stated(Beat))
        (node.root / "unmounted").rename(node.logs)
        node.write(log, lines(10, 10))
        await until(lambda: node.contents() == [lines(0, 20)])
    assert not node.stated(Gap)


async def test_an_unreadable_file_is_named_counted_and_read_when_it_opens(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: a file that refuses to open (root would read it, so the refusal is injected where it is opened)
    log = node.pod_log()
    node.write(log, lines(0, 10))
    really_open, locked = os.open, True

    def refuse(path: Any, *rest: Any, **more: Any) -> int:
        if locked and str(path) == str(log):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return really_open(path, *rest, **more)

    monkeypatch.setattr("collector.content.os.open", refuse)
    # when
    async with node.collector():
        await until(lambda: node.stated(Gap) and len(node.stated(Beat)) > 1)
        assert node.contents() == []
        assert node.telemetry is not None
        assert node.telemetry.value("files_found_unreadable_total") == 1
        locked = False
        await until(lambda: node.contents() == [lines(0, 10)])
    # then: one birth, and the gap is of the same file, so that the held bytes win over it
    (gap,) = node.stated(Gap)
    born = [birth for birth in node.stated(Born) if birth.path == str(log)]
    assert [birth.file_id for birth in born] == [gap.file_id]
    assert (gap.reason, gap.offset_start, gap.offset_end) == ("unreadable", "0", "")


async def test_a_folder_that_cannot_be_listed_is_named(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.write(node.pod_log(), b"x\n")
    really_list = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("secret"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return really_list(path)

    (node.logs / "secret").mkdir()
    monkeypatch.setattr("collector.discovery.os.scandir", refuse)
    async with node.collector():
        await until(lambda: node.contents() == [b"x\n"] and node.stated(Gap))
    (gap,) = node.stated(Gap)
    assert gap.reason == "unreadable"
    assert gap.source.endswith("/secret")


async def test_a_folder_is_unreadable_as_long_as_it_is(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    log, secret = node.pod_log(), node.logs / "pods/shop_secret_uid-secret"
    really_list, locked = os.scandir, False

    def refuse(path: Any) -> Any:
        if locked and str(path) == str(secret):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return really_list(path)

    monkeypatch.setattr("collector.discovery.os.scandir", refuse)
    node.write(log, b"x\n")
    (secret / "c").mkdir(parents=True)
    async with node.collector():
        await until(lambda: node.contents() == [b"x\n"])
        assert node.telemetry is not None
        for turn in (1, 2):
            locked = True
            (secret / f"new-{turn}").mkdir()
            await until(lambda: len(node.stated(Gap)) == turn)  # noqa: B023
            await until(lambda: node.telemetry.value("files_unreadable") == 1)  # type: ignore[union-attr]
            locked = False
            await until(lambda: node.telemetry.value("files_unreadable") == 0)  # type: ignore[union-attr]


async def test_a_read_that_fails_is_named_once_and_tried_again(node: Node) -> None:
    log = node.pod_log()
    node.write(log, lines(0, 10))
    with unreadable(log) as broken:
        async with node.collector():
            await until(lambda: node.stated(Gap) and len(node.stated(Beat)) > 1)
            broken.clear()
            await until(lambda: node.contents() == [lines(0, 10)])
    assert [gap.reason for gap in node.stated(Gap)] == ["unreadable"]


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"\xff\xfe\x80 not UTF-8\n", id="invalid UTF-8"),
        pytest.param(b"\0\0\0\n\0\0", id="NUL bytes"),
        pytest.param(b"x" * 10_000_000 + b"\n", id="a 10 MB line"),
        pytest.param(b"2026-11-24T10:00:00.0Z stdo", id="half a CRI line"),
        pytest.param(b"\n" * 5000, id="empty lines"),
        pytest.param(b"\r\n\r\n", id="carriage returns"),
    ],
)
async def test_garbage_is_kept_byte_for_byte(node: Node, garbage: bytes) -> None:
    node.write(node.pod_log(), garbage)
    node.write(node.pod_log(pod="other"), lines(0, 10))
    async with node.collector(unterminated_idle_s=0.1):
        await until(lambda: sorted(node.contents()) == sorted([garbage, lines(0, 10)]))
    (held,) = [file for file in node.files() if file.content == garbage]
    assert bool(held.flags & ChunkFlags.UNTERMINATED) == (not garbage.endswith(b"\n"))


async def test_an_empty_file_is_born_and_closed(node: Node) -> None:
    log = node.pod_log()
    node.write(log, b"")
    async with node.collector():
        await until(lambda: len(node.stated(Born)) == 2)
        log.unlink()
        await until(lambda: node.stated(Closed))
    (held,) = node.files()
    assert (held.content, held.closed) == (b"", True)


async def test_an_unterminated_end_waits_and_what_follows_is_shipped_behind_it(node: Node) -> None:
    log = node.pod_log()
    node.write(log, b"whole\nhal")
    async with node.collector():
        await until(lambda: node.contents() == [b"whole\n"])
        node.write(log, b"f\n")
        await until(lambda: node.contents() == [b"whole\nhalf\n"])
    assert not node.files()[0].flags & ChunkFlags.UNTERMINATED


async def test_a_stopping_collector_does_not_wait_for_the_end_of_an_unterminated_line(node: Node) -> None:
    node.write(node.pod_log(), b"whole\nhal")
    began = SystemClock().monotonic_nano()
    async with node.collector(drain_s=600):
        await until(lambda: node.contents() == [b"whole\n"])
    assert SystemClock().monotonic_nano() - began < 300_000_000_000
    assert node.contents() == [b"whole\n"]


async def test_a_flood_starves_nobody(node: Node) -> None:
    # given: both files in one partition
    node.bulk_partitions = 1
    node.write(node.pod_log(pod="flood"), lines(0, 100_000))
    node.write(node.pod_log(pod="quiet"), b"here\n")
    async with node.collector():
        await until(lambda: sum(map(len, node.contents())) == len(lines(0, 100_000)) + 5)
    # then: the quiet one is in the first or second frame
    before = 0
    for chunk in chunks_of(node.broker):
        if chunk.payload == b"here\n":
            break
        before += len(chunk.payload) if "flood" in chunk.file.source else 0
    assert before <= 2 * FRAME_RAW_BYTES_TARGET


async def test_many_gzipped_rotations_are_read_a_few_at_a_time_and_none_is_lost(node: Node) -> None:
    count = 3 * GZIPPED_OPEN_MAX
    for number in range(count):
        node.pod_log("0.log.20261124-100000.gz", pod=f"p{number}").write_bytes(gzip.compress(lines(number, 50)))
    most = 0

    async with node.collector() as collector:

        def look() -> bool:
            nonlocal most
            files = collector.registry.files.values() if hasattr(collector, "registry") else []
            most = max(most, sum(isinstance(file.content, Gzipped) for file in files))
            return sum(file.closed for file in node.files()) == count

        await until(look)
    assert 0 < most <= GZIPPED_OPEN_MAX
    assert sorted(node.contents()) == sorted(lines(number, 50) for number in range(count))


async def test_too_many_open_files_is_no_loss(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        node.write(node.pod_log(pod=f"p{number}"), lines(number, 5))
    really_open, full = os.open, True

    def refuse(path: Any, *rest: Any, **more: Any) -> int:
        if full and "shop_p3" in str(path):
            raise OSError(errno.EMFILE, "Too many open files", str(path))
        return really_open(path, *rest, **more)

    monkeypatch.setattr("collector.content.os.open", refuse)
    async with node.collector():
        await until(lambda: len(node.contents()) == 4)
        # what was not opened is awaited: no watermark says that everything was seen
        await until(lambda: node.stated(Beat))
        assert [beat.watermark_unix_nano for beat in node.stated(Beat)] == ["0"] * len(node.stated(Beat))
        full = False
        await until(lambda: len(node.contents()) == 5)
    assert not node.stated(Gap)


async def test_excluded_folders_are_stated_and_files_that_look_like_ours_speak_for_nobody(node: Node) -> None:
    node.write(node.logs / "ours/archive/0.json", b"{}\n")
    node.write(node.logs / "app/ledger-000009.jsonl", b'{"n":0}\n')
    async with node.collector(all_files=True, exclude=(str(node.logs / "ours"),)):
        await until(lambda: node.contents(Kind.FILE) == [b'{"n":0}\n'])
        await until(lambda: len(node.stated(Beat)) > 1)
    assert len(node.files(Kind.LEDGER)) == 1
    assert node.stated(Config)[0].exclusions == (str(node.logs / "ours"),)


async def test_a_link_out_of_the_roots_is_not_followed_and_one_within_is_read_once(node: Node) -> None:
    node.write(node.root / "secret.log", b"secret\n")
    node.pod_log().symlink_to(node.root / "secret.log")
    real = node.logs / "docker/containers" / ("cd" * 32) / f"{'cd' * 32}-json.log"
    node.write(real, b'{"log":"x\\n"}\n')
    node.pod_log(pod="linked").symlink_to(real)
    async with node.collector():
        await until(node.contents)
        await until(lambda: len(node.stated(Beat)) > 2)
    (held,) = node.files()
    assert (held.source.pod, held.content) == ("linked", b'{"log":"x\\n"}\n')

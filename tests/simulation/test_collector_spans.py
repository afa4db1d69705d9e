"""Spans of a running collector: every acknowledged byte is stated, and verifies against what the bus got."""

from __future__ import annotations

import asyncio
import errno
import gzip
import os
from dataclasses import replace
from typing import Any

import pytest

from ashiato.core.ids import TOPIC_BULK, Kind
from ashiato.core.invariants import C9
from ashiato.core.ledger import Beat, Closed, Config, Gap, Span, Unattested
from ashiato.core.limits import SPAN_BYTES_MAX
from ashiato.core.ports import Partition
from collector.bookmark import Acked, Bookmark
from collector.followed import Followed
from collector.service import Collector
from collector.spans import Spans
from tests.simulation.collector_node import FlakyWriter, Node, chunks_of, lines, until
from tests.simulation.spans_held import check_spans, lengths, verified


def attested(node: Node) -> int:
    """Verify ledger and spans; return how many bytes they state."""
    return check_spans(verified(node.state), chunks_of(node.broker))


async def test_every_byte_is_stated_when_the_collector_stops(node: Node) -> None:
    for pod in range(5):
        node.write(node.pod_log(pod=f"p{pod}"), lines(pod * 100, 20 + pod))
    node.write(node.logs / "audit/audit.log", b"type=SYSCALL msg=audit(1.000:1): x\n" * 50)
    async with node.collector():
        await until(lambda: len(node.contents()) == 5 and node.contents(Kind.AUDITD))
    assert attested(node) == sum(map(len, node.contents() + node.contents(Kind.AUDITD)))
    # and: the bookmark stands there, so that nothing goes again
    async with node.collector():
        await until(lambda: len(node.stated(Config)) == 2 and len(node.stated(Beat)) > 1)
    assert all(file.bytes_sent == len(file.content) for file in node.files() + node.files(Kind.AUDITD))


async def test_no_spans_are_stated_of_the_ledger_itself(node: Node) -> None:
    node.write(node.pod_log(), lines(0, 10))
    async with node.collector(span_interval_s=0.05):
        await until(lambda: len(node.stated(Span)) == 1 and len(node.stated(Beat)) > 3)
    of_ledger = {chunk.file.file_id for chunk in chunks_of(node.broker) if chunk.file.source.startswith("ledger/")}
    assert of_ledger
    assert not of_ledger & {span.file_id for span in node.stated(Span)}
    assert not any(chunk.file.salts for chunk in chunks_of(node.broker) if chunk.file.file_id in of_ledger)


async def test_spans_are_stated_at_intervals_and_never_longer_than_they_may_be(node: Node) -> None:
    log = node.pod_log()
    node.write(log, lines(0, 90_000, width=100))
    async with node.collector(span_interval_s=0.2):
        await until(lambda: node.contents() == [lines(0, 90_000, width=100)])
        for turn in range(3):
            node.write(log, lines(turn, 1))
            await until(lambda: sum(lengths(node.stated(Span))) == len(log.read_bytes()))
    spans = node.stated(Span)
    assert len(spans) >= 6
    assert max(lengths(spans)) <= SPAN_BYTES_MAX
    assert attested(node) == len(log.read_bytes())


async def test_a_span_says_where_on_the_bus_its_last_byte_lies(node: Node) -> None:
    node.write(node.pod_log(), lines(0, 10))
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 10)])
    (span,) = node.stated(Span)
    incarnation = await FlakyWriter(node.broker).incarnation("ashiato.bulk")
    assert (span.incarnation, int(span.position)) == (incarnation, 0)
    assert 0 <= span.partition < node.bulk_partitions


async def test_a_closed_file_is_stated_to_its_end_before_it_is_closed(node: Node) -> None:
    log = node.pod_log()
    node.write(log, lines(0, 10))
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 10)])
        log.unlink()
        await until(lambda: node.stated(Closed))
        statements = node.statements()
    (closed,) = [at for at, statement in enumerate(statements) if isinstance(statement, Closed)]
    assert any(isinstance(statement, Span) for statement in statements[:closed])
    assert attested(node) == len(lines(0, 10))


async def test_c9_a_truncated_file_is_stated_up_to_its_gap(node: Node) -> None:
    log = node.pod_log()
    async with node.cut_off(log) as writer:
        node.write(log, lines(10, 10))
        await until(lambda: writer.refused)
        log.write_bytes(b"")
        await until(lambda: node.stated(Gap))
        writer.away = False
        node.write(log, lines(50, 3))
        await until(lambda: lines(50, 3) in node.contents())
    (gap,) = node.stated(Gap)
    assert int(gap.offset_start) == len(lines(0, 10))
    statements = node.statements()
    first = next(at for at, statement in enumerate(statements) if isinstance(statement, Span))
    assert first < statements.index(gap)
    assert attested(node) == len(lines(0, 10)) + len(lines(50, 3))


async def test_what_may_have_been_kept_is_not_cut_from_its_span(node: Node) -> None:
    """A frame whose reply was lost carries the salt of the span that was open: so that span must hold its bytes."""
    log, writer = node.pod_log(), FlakyWriter(node.broker)
    node.write(log, lines(0, 10))
    async with node.collector(writer, span_interval_s=600) as collector:
        await until(lambda: [file.cursor.offset for file in shipped(collector)] == [len(lines(0, 10))])
        # given: an open span, and a frame behind it that the bus keeps in silence
        writer.lose_replies = 2
        node.write(log, lines(10, 10))
        await until(lambda: writer.lose_replies < 2)
        # when: everything is to be stated now
        collector._spans.conclude(collector.registry.files.values())
        assert node.stated(Span) == []
        await until(lambda: [file.cursor.offset for file in shipped(collector)] == [len(lines(0, 20))])
    assert lengths(node.stated(Span)) == [len(lines(0, 20))]
    assert attested(node) == len(lines(0, 20))


async def test_what_may_have_been_sent_before_a_crash_lies_in_the_span_that_is_begun_again(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, length = node.pod_log(), len(lines(0, 13_000, width=100))
    node.write(log, lines(0, 13_000, width=100))
    # given: a collector that dies when the bus keeps all and nothing of it is stated
    with monkeypatch.context() as dies:
        dies.setattr(Spans, "conclude", lambda *_: True)
        async with node.collector(span_interval_s=600) as collector:
            await until(lambda: [file.cursor.offset for file in shipped(collector)] == [length])
    assert node.stated(Span) == []
    writer = OneFrame(node.broker)
    for crash in range(3):
        # when: the next one comes as far as one frame, and everything is to be stated
        writer.away, writer.refused = False, 0
        with monkeypatch.context() as dies:
            async with node.collector(writer, span_interval_s=0.001, drain_s=0) as collector:
                await until(lambda: writer.refused)
                assert 0 < next(iter(shipped(collector))).cursor.offset < length
                # then: nothing is cut before all that may lie on the bus
                assert node.stated(Span) == [], crash
                dies.setattr(Spans, "conclude", lambda *_: True)
    async with node.collector() as collector:
        await until(lambda: [file.cursor.offset for file in shipped(collector)] == [length])
    assert attested(node) == length


class OneFrame(FlakyWriter):
    """A bus that goes away behind the first frame of a log."""

    async def send(self, partition: Partition, value: bytes) -> int:
        position = await super().send(partition, value)
        self.away = partition.topic == TOPIC_BULK
        return position


def shipped(collector: Collector) -> list[Followed]:
    registry = getattr(collector, "registry", None)
    return [file for file in registry.files.values() if not file.is_ledger] if registry is not None else []


async def test_c9_a_span_that_does_not_add_up_is_said_and_its_bytes_are_unattested(node: Node) -> None:
    log = node.pod_log()
    node.write(log, lines(0, 10))
    async with node.collector() as collector:
        await until(lambda: node.contents() == [lines(0, 10)])
        # given: a bug of ours, that loses the open span
        (file,) = shipped(collector)
        file.cursor = replace(file.cursor, span=None)
        node.write(log, lines(10, 10))
        await until(lambda: node.contents() == [lines(0, 20)])
    assert node.telemetry is not None
    assert node.telemetry.value("invariant_refused_total", number=C9.number) == 1
    assert [event["number"] for event in node.events("invariant_refused")] == [C9.number]
    (range_,) = node.stated(Unattested)
    assert (int(range_.offset_start), int(range_.offset_end)) == (0, len(lines(0, 10)))
    assert node.telemetry.value("unattested_bytes_total") == len(lines(0, 10))
    # and: what came behind it is stated as ever
    assert attested(node) == len(lines(10, 10))


async def test_bytes_that_an_earlier_release_sent_are_said_to_be_unattested(node: Node) -> None:
    log = node.pod_log()
    node.write(log, lines(0, 10))
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 10)])
    # given: the bookmark as a release without spans wrote it
    bookmark = Bookmark(node.state / "bookmark")
    for file_id, file in bookmark.contents.files.items():
        bookmark.note(Acked(file_id=file_id, offset=file.offset, position=file.position, guard=file.guard,
                            guard_bytes=file.guard_bytes))  # fmt: skip
    bookmark.flush()
    bookmark.close()
    node.write(log, lines(10, 10))
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 20)])
    (range_,) = node.stated(Unattested)
    assert (int(range_.offset_start), int(range_.offset_end)) == (0, len(lines(0, 10)))
    assert not node.events("invariant_refused")


# -- crashes between ledger and bookmark -----------------------------------------------------------------------------


async def test_c3_a_span_that_only_the_ledger_has_is_not_stated_again(node: Node) -> None:
    log = node.pod_log()
    node.write(log, lines(0, 10))
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 10)])
    before = (node.state / "bookmark").read_bytes()
    node.write(log, lines(10, 10))
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 20)])
    (node.state / "bookmark").write_bytes(before)
    node.write(log, lines(20, 10))
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 30)])
    assert attested(node) == len(lines(0, 30))
    assert len(node.files()) == 1


async def test_a_file_that_differs_from_a_span_that_only_the_ledger_has_is_another_file(node: Node) -> None:
    log = node.pod_log()
    node.write(log, lines(0, 100))
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 100)])
    before = (node.state / "bookmark").read_bytes()
    node.write(log, lines(100, 100))
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 200)])
    (node.state / "bookmark").write_bytes(before)
    # given: the same beginning and length, and other bytes where the ledger alone knows what there was
    content = log.read_bytes()
    log.write_bytes(content[: len(lines(0, 110))] + b"x" + content[len(lines(0, 110)) + 1 :])
    async with node.collector():
        await until(lambda: len(node.contents()) == 2)
    assert node.contents()[0] == lines(0, 200)
    assert [gap.reason for gap in node.stated(Gap)] == ["truncated"]
    assert attested(node) == 2 * len(content)


async def test_c5_a_lost_secret_is_a_new_incarnation(node: Node) -> None:
    log = node.pod_log()
    node.write(log, lines(0, 10))
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 10)])
    (node.state / "secret").unlink()
    async with node.collector():
        await until(lambda: len(node.contents()) == 2)
    assert len({config.incarnation for config in node.stated(Config)}) == 2
    assert "secret" in node.events("bookmark_begun")[-1]["reason"]
    assert attested(node) == 2 * len(lines(0, 10))


async def test_c5_a_ledger_that_lacks_lines_is_a_new_incarnation(node: Node) -> None:
    node.write(node.pod_log(), lines(0, 10))
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 10)])
    for path in (node.state / "ledger").iterdir():
        path.unlink()
    async with node.collector():
        await until(lambda: len(node.contents()) == 2)
    assert "lacks lines" in node.events("bookmark_begun")[-1]["reason"]
    assert verified(node.state).files


async def test_a_lost_key_is_another_key_and_no_new_incarnation(node: Node) -> None:
    async with node.collector():
        await until(lambda: node.stated(Beat))
    (node.state / "node.key").unlink()
    async with node.collector():
        await until(lambda: len(node.stated(Config)) == 2)
    first, second = node.stated(Config)
    assert first.incarnation == second.incarnation
    assert first.key_id != second.key_id
    with pytest.raises(Exception, match="no key that was given"):
        verified(node.state)


async def test_key_and_secret_are_their_owners_alone(node: Node) -> None:
    async with node.collector():
        await until(lambda: node.stated(Beat))
    for name in ("node.key", "secret"):
        assert (node.state / name).stat().st_mode & 0o777 == 0o600
    assert {beat.clock for beat in node.stated(Beat)} <= {"synchronised", "unsynchronised", "unknown"}


# -- a full disk -----------------------------------------------------------------------------------------------------


async def test_c8_on_a_full_disk_files_go_on_and_all_of_them_is_stated_when_there_is_room(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = node.pod_log()
    node.write(log, lines(0, 10))
    really_write, full = os.write, False

    def write(descriptor: int, data: Any) -> int:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return really_write(descriptor, data)

    monkeypatch.setattr("collector.append_file.os.write", write)
    async with node.collector(span_interval_s=0.05) as collector:
        await until(lambda: sum(lengths(node.stated(Span))) == len(lines(0, 10)))
        full = True
        node.write(log, lines(10, 10))
        node.write(node.pod_log(pod="waits"), lines(90, 3))
        await until(lambda: node.contents() == [lines(0, 20)])
        await until(lambda: node.events("spans_late"))
        assert node.telemetry is not None
        assert node.telemetry.value("attestation_late_bytes") == len(lines(10, 10))
        # a file that is unlinked meanwhile holds no room on the disk
        log.unlink()
        await until(lambda: all(f.content is None for f in collector.registry.files.values() if f.path == str(log)))
        assert not node.stated(Closed)
        full = False
        await until(lambda: node.stated(Closed) and node.contents() == [lines(0, 20), lines(90, 3)])
    assert node.telemetry.value("attestation_late_bytes") == 0
    assert attested(node) == len(lines(0, 20)) + len(lines(90, 3))
    assert not node.stated(Gap)
    assert not node.stated(Unattested)


async def test_c8_the_reserve_is_told_and_its_use_is_an_error(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    log = node.pod_log()
    async with node.collector(reserve_bytes=64 * 1024, span_interval_s=0.02, beat_interval_s=0.01):
        await until(lambda: node.stated(Beat))
        assert node.telemetry is not None
        if node.telemetry.value("ledger_reserve_bytes") == 0:
            pytest.skip("the file system gives no room beforehand")
        monkeypatch.setattr("collector.append_file._allocate", lambda *_: errno.ENOSPC)
        for turn in range(10**6):
            node.write(log, lines(turn, 1))
            await asyncio.sleep(0.005)
            if node.events("spans_late") or node.events("part_unavailable"):
                break
        assert node.events("state_reserve_used")
        monkeypatch.undo()
        await until(lambda: sum(lengths(node.stated(Span))) == len(log.read_bytes()))
    assert attested(node) == len(log.read_bytes())
    assert not node.stated(Unattested)


async def test_c3_a_file_that_only_the_ledger_closed_is_known_again_when_it_is_compressed(node: Node) -> None:
    log = node.pod_log()
    node.write(log, lines(0, 100))
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 100)])
    before = (node.state / "bookmark").read_bytes()
    rotated = log.rename(log.with_name("0.log.20261124-100000"))
    with rotated.open("ab") as file:
        file.write(lines(100, 100))
    async with node.collector():
        await until(lambda: [closed.size for closed in node.stated(Closed)] == [str(len(lines(0, 200)))])
    # given: the crash kept the end from the bookmark, and meanwhile it was compressed under another name
    (node.state / "bookmark").write_bytes(before)
    packed = log.with_name("0.log.20261124-100001.gz")
    packed.write_bytes(gzip.compress(rotated.read_bytes()))
    rotated.unlink()
    node.write(log, lines(500, 3))
    async with node.collector():
        await until(lambda: lines(500, 3) in node.contents())
    assert node.contents() == [lines(0, 200), lines(500, 3)]
    assert not node.stated(Gap)
    assert attested(node) == len(lines(0, 200)) + len(lines(500, 3))

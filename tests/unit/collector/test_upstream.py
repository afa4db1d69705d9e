"""What auditd's numbers, the kernel and Falco tell of their own losses, on real logs and on hostile ones."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.upstream import NOTICES_MAX, RANGES_MAX, AuditdLog, Hole, falco_notices

SECOND = 1_000_000_000
NOW = 1_000 * SECOND
DATA = Path(os.environ.get("ASHIATO_DATA", "")) / "auditd/go-libaudit"


def record(serial: int, *, at_ms: int = 0, type_: str = "SYSCALL", host: str = "") -> bytes:
    ms = 1_700_000_000_000 + at_ms
    node = f"node={host} " if host else ""
    return f"{node}type={type_} msg=audit({ms // 1000}.{ms % 1000:03d}:{serial}): arch=c000003e\n".encode()


def holes(log: AuditdLog) -> list[tuple[int, int]]:
    return [(hole.first, hole.last) for hole in log.settle(NOW)]


def taken(*records: bytes) -> AuditdLog:
    log = AuditdLog()
    assert log.passed(0, b"".join(records), 0) == []
    return log


def test_a_number_that_never_comes_is_told_with_the_times_around_it() -> None:
    log = taken(record(7), record(8, at_ms=10), record(12, at_ms=500), record(13, at_ms=510))
    base = 1_700_000_000_000_000_000
    assert log.settle(NOW) == [Hole(9, 11, base + 10_000_000, base + 500_000_000, "")]
    assert log.settle(NOW) == []


def test_records_of_one_event_and_events_out_of_order_are_no_loss() -> None:
    log = taken(
        record(58), record(58, type_="SOCKADDR"), record(60, at_ms=30), record(61, at_ms=40),
        record(59, at_ms=20), record(60, at_ms=30, type_="PATH"), record(62, at_ms=50),
    )  # fmt: skip
    assert holes(log) == []


@given(order=st.randoms(use_true_random=False), missing=st.sets(st.integers(1, 198), max_size=20))
def test_two_files_of_one_log_may_be_read_side_by_side_in_any_order(order: random.Random, missing: set[int]) -> None:
    # given: two rotations, each read in its order, the pieces of both mixed
    left = [[n for n in range(100) if n not in missing], [n for n in range(100, 200) if n not in missing]]
    log = AuditdLog()
    while any(left):
        file = order.choice([one for one in left if one])
        piece, file[:] = file[:5], file[5:]
        log.passed(0, b"".join(record(n, at_ms=n * 900) for n in piece), 0)
    # then: what is missing, and nothing else, is told
    assert {n for first, last in holes(log) for n in range(first, last + 1)} == missing


def test_a_hole_is_not_told_before_it_has_settled() -> None:
    log = AuditdLog()
    log.passed(0, record(1) + record(3, at_ms=5), 50)
    assert log.settle(50) == []
    log.passed(100, record(2, at_ms=3), 60)
    assert log.settle(NOW) == []


def test_a_machine_that_starts_anew_counts_from_the_beginning_and_loses_nothing() -> None:
    log = taken(record(900), record(901, at_ms=5), record(3, at_ms=90_000), record(4, at_ms=90_001))
    assert holes(log) == []
    log.passed(0, record(5, at_ms=90_010) + record(8, at_ms=90_011), 0)
    assert holes(log) == [(6, 7)]


def test_a_start_anew_whose_numbers_fall_into_those_before_is_told_by_its_time() -> None:
    log = taken(*(record(n, at_ms=n) for n in range(1, 500)))
    log.passed(0, b"".join(record(n, at_ms=600_000 + n) for n in range(40, 60)) + record(62, at_ms=600_070), 0)
    assert holes(log) == [(60, 61)]


def test_the_daemons_own_events_are_counted_apart() -> None:
    log = taken(
        record(10), record(4711, at_ms=10, type_="DAEMON_ROTATE"), record(4712, at_ms=11, type_="DAEMON_START"),
        record(11, at_ms=20),
    )  # fmt: skip
    assert holes(log) == []


def test_numbers_wrap_at_32_bits_without_a_loss() -> None:
    last = (1 << 32) - 1
    log = taken(record(last - 1), record(last, at_ms=1), record(0, at_ms=2), record(1, at_ms=3))
    assert holes(log) == []


def test_hosts_that_write_into_one_log_are_counted_apart() -> None:
    log = taken(record(5, host="a"), record(900, host="b"), record(7, host="a", at_ms=1), record(901, host="b"))
    assert [(hole.first, hole.last, hole.host) for hole in log.settle(NOW)] == [(6, 6, "a")]


def test_a_log_full_of_holes_takes_bounded_memory_and_tells_each() -> None:
    log = taken(*(record(n, at_ms=n) for n in range(0, 4 * RANGES_MAX, 2)))
    told = [hole for _ in range(3) for hole in log.settle(-1)]
    assert [(hole.first, hole.last) for hole in told] == [(n, n) for n in range(1, 2 * len(told), 2)]
    assert sum(len(count.ranges) for count in log.counts) <= RANGES_MAX


def test_what_the_kernel_lost_is_told_by_how_much_more_it_is_than_before() -> None:
    line = b"Oct 25 14:42:34 h kernel: [68883272.06] audit: audit_lost=%d audit_rate_limit=0 audit_backlog_limit=64\n"
    log = AuditdLog()
    first = log.passed(1000, line % 40, 0)
    again = log.passed(2000, line % 40 + line % 43, 0)
    assert [n.detail for n in first] == ["the kernel lost 40 audit records"]
    assert [(n.detail, n.at_byte) for n in again] == [("the kernel lost 3 audit records", 2000 + len(line % 40))]
    said = log.passed(0, b"kernel: audit: backlog limit exceeded\n", 0)
    assert [n.detail for n in said] == ["the kernel says: backlog limit exceeded"]


def test_falcos_drop_notice_is_told_as_json_as_text_and_within_a_containers_line() -> None:
    said = "Falco internal: syscall event drop. 621240 system calls dropped in last second."
    json_ = (
        f'{{"output":"{said}","output_fields":{{"n_drops":"621240","n_drops_buffer":"621240","n_evts":"1113206"}},'
        '"priority":"Critical","rule":"Falco internal: syscall event drop","time":"2020-09-24T07:42:45.946068858Z"}\n'
    )
    text = f"12:55:58.461500387: Critical {said}(ebpf_enabled=0 n_drops=621240 n_evts=1113206)\n"
    for line in (json_, text, f"2020-09-24T07:42:45.9Z stdout F {json_}"):
        (notice,) = falco_notices(500, b"start-up text\n" + line.encode())
        assert (notice.detail, notice.at_byte) == ("Falco dropped 621240 system calls", 514)
    (dated,) = falco_notices(0, json_.encode())
    assert dated.time_end_unix_nano == 1_600_933_366 * SECOND
    assert dated.time_start_unix_nano == 1_600_933_365 * SECOND


def test_many_notices_are_told_as_a_bounded_number() -> None:
    notices = falco_notices(0, b"Falco internal: syscall event drop. 1 system calls dropped in last second.\n" * 500)
    assert len(notices) == NOTICES_MAX
    assert notices[-1].detail.endswith(f"and {500 - NOTICES_MAX} further notices")


@given(payload=st.binary(max_size=4096))
def test_bytes_of_any_kind_stop_nothing(payload: bytes) -> None:
    pieces = (b"type=", b"SYSCALL msg=audit(", b"9" * 11, b".", b":", b"audit: audit_lost=", b"Falco internal: ", b"\n")
    mixed = b"".join(pieces[byte % 8] if byte < 160 else bytes([byte]) for byte in payload)
    for one in (payload, mixed):
        log = AuditdLog()
        log.passed(0, one, 0)
        log.settle(NOW)
        falco_notices(0, one)


@pytest.mark.skipif(not DATA.is_dir(), reason="ASHIATO_DATA names no folder of real logs")
@pytest.mark.parametrize(
    ("name", "missing"), [("lost_messages", [(50, 58)]), ("normal", []), ("out_of_order", []), ("rollover", [])]
)
def test_real_auditd_logs_tell_what_their_publisher_says_is_missing(name: str, missing: list[tuple[int, int]]) -> None:
    log = AuditdLog()
    log.passed(0, (DATA / f"testdata__{name}.log").read_bytes(), 0)
    assert holes(log) == missing

"""What ``kubectl logs`` would have printed, line by line as the kubelet's own reader does it."""

from __future__ import annotations

import pytest

from ashiato.core.render import docker_line, log_lines, render_file, render_rows
from ingest.rows import build_rows
from tests.unit.ingest.files import admitted, chunks

T = "2026-11-25T12:00:00"


def _printed(content: bytes, *, timestamps: bool = False, closed: bool = False) -> bytes:
    rows, _, _ = build_rows(admitted(chunks(content, closed=closed)), {})
    assert render_file(rows) == content
    return b"".join(log_lines(rows.sort_by("offset_start"), timestamps=timestamps))


def _log(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def test_stream_and_time_are_stripped() -> None:
    assert _printed(_log(f"{T}.1Z stdout F out", f"{T}.2Z stderr F err", f"{T}.3Z stdout F  two  blanks ")) == (
        b"out\nerr\n two  blanks \n"
    )


def test_parts_are_printed_in_file_order_with_a_newline_after_the_last_only() -> None:
    log = _log(f"{T}.1Z stdout P one ", f"{T}.2Z stderr F between", f"{T}.3Z stdout P two ", f"{T}.4Z stdout F three")
    assert _printed(log) == b"one between\ntwo three\n"


@pytest.mark.parametrize("closed", [False, True])
def test_a_part_without_an_end_is_printed_without_a_newline(*, closed: bool) -> None:
    assert _printed(_log(f"{T}.1Z stdout F a", f"{T}.2Z stdout P b"), closed=closed) == b"a\nb"


def test_an_empty_line_is_an_empty_line() -> None:
    assert _printed(_log(f"{T}.1Z stdout F ", f"{T}.2Z stdout P ", f"{T}.3Z stdout F x")) == b"\nx\n"


def test_times_have_nine_digits_and_their_own_zone() -> None:
    log = _log(f"{T}.12Z stdout F a", f"{T}Z stdout F b", f"{T}.123456789+09:00 stdout F c", f"{T}.5+00:00 stderr F d")
    assert _printed(log, timestamps=True) == (
        f"{T}.120000000Z a\n{T}.000000000Z b\n{T}.123456789+09:00 c\n{T}.500000000Z d\n".encode()
    )


def test_a_time_stands_where_a_line_begins_and_not_before_its_further_parts() -> None:
    log = _log(f"{T}.1Z stdout P one ", f"{T}.2Z stdout P two ", f"{T}.3Z stdout F three", f"{T}.4Z stdout F four")
    assert _printed(log, timestamps=True) == f"{T}.100000000Z one two three\n{T}.400000000Z four\n".encode()


def test_after_a_part_of_nothing_the_kubelet_writes_a_time_again() -> None:
    log = _log(f"{T}.1Z stdout P ", f"{T}.2Z stdout F x")
    assert _printed(log, timestamps=True) == f"{T}.100000000Z {T}.200000000Z x\n".encode()


def test_docker_lines_are_printed_as_written() -> None:
    log = _log(
        '{"log":"a \\u003cb\\u003e\\n","stream":"stdout","time":"2026-11-25T12:00:00.5Z"}',
        '{"log":"half ","stream":"stderr","time":"2026-11-25T12:00:01Z"}',
        '{"log":"whole\\n","stream":"stderr","time":"2026-11-25T12:00:02Z"}',
    )
    assert _printed(log) == b"a <b>\nhalf whole\n"
    assert _printed(log, timestamps=True) == (
        b"2026-11-25T12:00:00.500000000Z a <b>\n2026-11-25T12:00:01.000000000Z half whole\n"
    )


def test_lines_that_no_parser_took_are_printed_as_they_are() -> None:
    log = _log(f"{T}.1Z stdout", "garbage \\xff", f"{T}.1Z stdlog F x", f"{T}.2Z stdout F ok")
    assert _printed(log) == log.replace(f"{T}.2Z stdout F ok".encode(), b"ok")


def test_an_end_without_newline_is_printed_without_one() -> None:
    assert _printed(f"{T}.1Z stdout F a\n{T}.2Z stdout F b".encode()) == b"a\nb"


def test_a_long_line_that_came_in_pieces_is_one_line() -> None:
    log = f"{T}.1Z stdout F {'x' * 50}{'y' * 50}\n{T}.2Z stdout F z\n".encode()
    rows, _, _ = build_rows(admitted(chunks(log, [60])), {})
    assert b"".join(log_lines(rows, timestamps=True)) == (
        f"{T}.100000000Z {'x' * 50}{'y' * 50}\n{T}.200000000Z z\n".encode()
    )


def test_canonical_lines_need_no_raw_bytes() -> None:
    log = _log(
        f"{T}.123456789Z stdout F a", f"{T}.5+09:00 stderr P b ", f"{T}.6+09:00 stderr F c", f"{T}.7Z stdout F 認証",
        '{"log":"\\u003ca\\u003e\\n","stream":"stdout","time":"2026-11-25T12:00:00.5Z"}',
    )  # fmt: skip
    rows, _, _ = build_rows(admitted(chunks(log)), {})
    assert rows["raw"].null_count == rows.num_rows


@pytest.mark.parametrize(
    "line",
    [
        f"{T}.1234567891Z stdout F ten digits",
        f"{T}.120Z stdout F a zero that the profile would not write",
        f"{T}Z stdout F:tag x",
        "2026-02-30T12:00:00.1Z stdout F no such day",
        "9999-12-31T23:59:59.1Z stdout F behind int64",
        f"{T},5z stdout F comma",
    ],
)
def test_odd_headers_keep_their_bytes_and_are_not_refused(line: str) -> None:
    rows, _, quarantined = build_rows(admitted(chunks(_log(line))), {})
    assert not quarantined
    assert rows["raw"].to_pylist() == [_log(line)]
    assert rows["log_iostream"].to_pylist() == ["stdout"]
    assert rows["part"].to_pylist() == ["F"]


def test_rows_in_any_order_render_the_same() -> None:
    log = _log(f"{T}.1Z stdout P one ", f"{T}.2Z stderr P other ", f"{T}.3Z stdout F two", f"{T}.4Z stderr F end")
    rows, _, _ = build_rows(admitted(chunks(log)), {})
    backwards = rows.take([3, 2, 1, 0])
    assert render_rows(backwards).to_pylist() == render_rows(rows).to_pylist()[::-1]


def test_docker_writes_as_go_does() -> None:
    assert docker_line("a<&>\u2028", "stdout", 1_500_000_000, "F") == (
        b'{"log":"a\\u003c\\u0026\\u003e\\u2028\\n","stream":"stdout","time":"1970-01-01T00:00:01.5Z"}'
    )

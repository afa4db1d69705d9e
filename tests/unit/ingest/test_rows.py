"""Rows: joins, pieces of long lines, flags, and what belongs to which column."""

from __future__ import annotations

from typing import Any

import pytest

from ashiato.core.chunk import ChunkFlags
from ashiato.core.ids import Kind, Source, join_uid
from ashiato.core.limits import JOIN_BODY_BYTES_MAX
from ashiato.core.record import RowFlags
from ashiato.core.render import render_file
from ashiato.core.table import uids
from ingest.contracts import LineState, Piece
from ingest.rows import build_rows
from tests.unit.ingest.files import admitted, chunk, chunks, cri, file_id, new_admission


def _rows(pieces: list[Piece], states: dict[str, LineState] | None = None) -> list[dict[str, Any]]:
    rows, _, _ = build_rows(pieces, states or {})
    return rows.to_pylist()


def test_a_join_goes_on_across_batches_and_its_parts_keep_their_bytes() -> None:
    log = cri("one ", part="P", at=1) + cri("two ", part="P", at=2) + cri("three", at=3)
    pieces = admitted(chunks(log, [len(cri("one ", part="P", at=1)), len(log) - len(cri("three", at=3))]))
    states: dict[str, LineState] = {}
    found = []
    for piece in pieces:
        rows, after, _ = build_rows([piece], states)
        states.update(after)
        found += rows.to_pylist()
    assert [row["body"] for row in found] == ["", "", "one two three"]
    assert found[2]["join_offset"] == 0
    assert found[0]["raw"] == cri("one ", part="P", at=1)
    assert found[2]["raw"] is None
    assert states[file_id()] == LineState()


def test_a_join_that_the_file_leaves_open_is_closed_by_an_empty_row() -> None:
    log = cri("a", part="P", stream="stderr", at=1)
    rows, states, _ = build_rows(admitted(chunks(log, closed=True)), {})
    assert uids(rows) == [f"{file_id()}-{0:016x}", join_uid(file_id(), 0)]
    part, closing = rows.to_pylist()
    assert (closing["length"], closing["body"], closing["join_offset"], closing["part"]) == (0, "a", 0, "F")
    assert closing["k8s_pod_name"] == part["k8s_pod_name"]
    assert part["raw"] is None
    assert states[file_id()] == LineState()


def test_a_join_closes_at_the_part_where_it_passes_a_mebibyte() -> None:
    part = cri("x" * (JOIN_BODY_BYTES_MAX // 4), part="P", at=1)
    log = part * 5 + cri("end", at=2)
    rows = _rows(admitted(chunks(log, [len(part) * n for n in range(1, 6)])))
    assert [row["join_offset"] for row in rows] == [None, None, None, None, 0, None]
    assert rows[4]["part"] == "P"
    assert len(rows[4]["body"]) == JOIN_BODY_BYTES_MAX // 4 * 5
    assert rows[5]["body"] == "end"


def test_streams_are_joined_apart() -> None:
    log = (
        cri("out ", part="P", at=1)
        + cri("err ", part="P", stream="stderr", at=2)
        + cri("OUT", at=3)
        + cri("ERR", stream="stderr", at=4)
    )
    rows = _rows(admitted(chunks(log)))
    assert [row["body"] for row in rows] == ["", "", "out OUT", "err ERR"]
    assert [row["raw"] for row in rows] == [None] * 4


def test_early_rows_stand_alone_and_close_the_join_before_them() -> None:
    first, hole, early, after = (
        cri("first", at=1), cri("half ", part="P", at=2), cri("end", at=3), cri("after", at=4)
    )  # fmt: skip
    arriving = [
        chunk(first),
        chunk(early, len(first + hole)),
        chunk(hole, len(first)),
        chunk(after, len(first + hole + early)),
    ]
    pieces = admitted(arriving)
    rows, states, _ = build_rows(pieces, {})
    said = {(row["offset_start"], row["length"] > 0): row for row in rows.to_pylist()}
    closing = said[len(first + hole), False]
    assert (closing["body"], closing["join_offset"]) == ("half ", len(first))
    assert said[len(first + hole), True]["body"] == "end"
    assert said[len(first + hole), True]["flags"] == RowFlags.EARLY
    assert said[len(first + hole + early), True]["flags"] == 0
    assert render_file(rows) == first + hole + early + after
    assert states[file_id()] == LineState()


def test_an_early_part_that_nothing_closes_keeps_its_text() -> None:
    early = cri("half ", part="P", at=2)
    rows = _rows(admitted([chunk(early, 1000)]))
    assert rows[0]["body"] == "half "


def test_a_long_line_comes_in_pieces_with_stream_and_time_of_its_beginning() -> None:
    log = cri("x" * 100, stream="stderr", at=7) + cri("next", at=8)
    rows = _rows(admitted(chunks(log, [60, 90])))
    assert [row["part"] for row in rows] == ["F", "C", "C", "F"]
    assert [row["log_iostream"] for row in rows] == ["stderr"] * 3 + ["stdout"]
    assert len({row["time_unix_nano"] for row in rows[:3]}) == 1


def test_what_follows_an_unterminated_end_is_a_piece_even_after_the_file_was_closed() -> None:
    admission = new_admission()
    line = cri("no newline", at=1)[:-1]
    closed = chunk(line, flags=ChunkFlags.UNTERMINATED | ChunkFlags.FILE_CLOSED)
    _, states, _ = build_rows(admitted([closed], admission), {})
    grown = chunk(b" yet\n" + cri("next", at=2), len(line), starts_at_line=False)
    rows = _rows(admitted([grown], admission), states)
    assert [row["part"] for row in rows] == ["C", "F"]
    assert [row["flags"] for row in rows] == [0, 0]


def test_an_unterminated_end_is_flagged() -> None:
    rows = _rows(admitted(chunks(b"a\nb", source=Source.parse("file/c1/node-1/x"))))
    assert [row["flags"] for row in rows] == [0, RowFlags.UNTERMINATED]


def test_lines_that_the_parser_of_their_kind_refuses_are_quarantined() -> None:
    pieces = admitted(chunks(b"garbage\n" + cri("ok")))
    rows, _, refused = build_rows(pieces, {})
    assert refused == {("container", "no_header"): 1}
    assert rows["flags"].to_pylist() == [RowFlags.QUARANTINED, 0]
    assert rows["body"].to_pylist() == ["garbage", "ok"]
    assert rows["parser"].to_pylist()[0] == "text/2"


@pytest.mark.parametrize("kind", [Kind.AUDIT, Kind.FALCO, Kind.AUDITD, Kind.WATCH, Kind.LEDGER])
def test_every_kind_quarantines_what_is_none_of_it(kind: Kind) -> None:
    source = Source(kind=kind, cluster="c1", node="node-1", path="x")
    _, _, refused = build_rows(admitted(chunks(b"nonsense\n{}\n\n", source=source)), {})
    assert refused.total() == 3
    assert refused[str(kind), "empty"] == 1


def test_invalid_utf8_is_mended_in_the_body_and_kept_in_raw() -> None:
    log = b"2026-11-25T12:00:00.5Z stdout F \xff\xfe ok\n"
    (row,) = _rows(admitted(chunks(log)))
    assert row["body"] == "\ufffd\ufffd ok"
    assert row["raw"] == log


def test_files_of_one_batch_are_parsed_from_their_own_states() -> None:
    one = [chunk(cri("a ", part="P", at=1), number=1), chunk(cri("b ", part="P", at=1), number=2)]
    _, states, _ = build_rows(admitted(one), {})
    start = len(one[0].payload)
    two = [chunk(cri("B", at=2), start, number=2), chunk(cri("A", at=2), start, number=1)]
    admission = new_admission()
    admitted(one, admission)
    rows = _rows(admitted(two, admission), states)
    assert [row["body"] for row in rows] == ["b B", "a A"]


def test_severity_and_trace_come_from_the_message() -> None:
    log = cri('{"level":"error","trace_id":"0123456789ABCDEF0123456789abcdef"}') + cri(
        "W1125 12:00:00.000000       1 main.go:1] careful"
    )
    rows = _rows(admitted(chunks(log)))
    assert [row["severity_number"] for row in rows] == [17, 13]
    assert rows[0]["trace_id"] == "0123456789abcdef0123456789abcdef"

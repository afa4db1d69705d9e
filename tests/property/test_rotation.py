"""A join ends with its file: what a rotation cut in two keeps its text on both sides, and is put together for view."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from ashiato.core.record import uid_of
from ashiato.core.render import log_lines, render_file
from ashiato.core.rotated_joins import continued
from ashiato.core.table import uids
from ingest.contracts import LineState, Piece
from ingest.rows import build_rows
from tests.property.content import some_of
from tests.unit.ingest.files import admitted, chunks, cri, file_id

_LINE = st.tuples(
    st.sampled_from(["stdout", "stderr"]),
    st.sampled_from("PPF"),
    st.text("abc ", max_size=4),
)


def _bytes(lines: list[tuple[str, str, str]]) -> bytes:
    return b"".join(cri(text, part=part, stream=stream, at=at) for at, (stream, part, text) in enumerate(lines, 1))


def _built(data: st.DataObject, files: list[bytes]) -> tuple[pa.Table, dict[str, LineState]]:
    """Return the rows of files that were rotated one into the next, cut into chunks and batches anywhere."""
    pieces: list[Piece] = []
    for number, content in enumerate(files, 1):
        borders = [at + 1 for at, octet in enumerate(content) if octet == ord("\n")]
        pieces += admitted(chunks(content, data.draw(some_of(borders)), number=number, closed=True))
    states: dict[str, LineState] = {}
    tables = []
    for first, end in pairwise(sorted({0, len(pieces), *data.draw(some_of(range(len(pieces))))})):
        rows, after, _ = build_rows(pieces[first:end], states)
        states.update(after)
        tables.append(rows)
    return pa.concat_tables(tables), states


@given(data=st.data(), files=st.lists(st.lists(_LINE, min_size=1, max_size=6), min_size=2, max_size=4))
@settings(deadline=None, max_examples=300)
def test_every_join_ends_with_its_file_and_is_put_together_for_view(
    data: st.DataObject, files: list[list[tuple[str, str, str]]]
) -> None:
    contents = [_bytes(lines) for lines in files]
    rows, states = _built(data, contents)
    own = rows.to_pylist()

    # no join is open behind a file, and every file renders from its own rows alone
    assert all(state == LineState() for state in states.values())
    for number, content in enumerate(contents, 1):
        of_file = rows.filter(pa.array([row["file_id"] == file_id(number) for row in own]))
        assert render_file(of_file) == content

    # what a stream said, joined over rotations, is what its writer wrote
    text_of = {uid_of(row): row["body"] for row in own}
    goes_on = dict(zip(uids(rows), continued(rows), strict=True))
    for stream in ("stdout", "stderr"):
        said = "".join(
            text + ("\n" if part == "F" else "") for lines in files for of, part, text in lines if of == stream
        ).split("\n")
        assert _joined(own, stream, text_of, goes_on) == [line for line in said if line]


def _joined(
    own: list[dict[str, Any]], stream: str, text_of: dict[str, str], goes_on: dict[str, str | None]
) -> list[str]:
    """Return the lines of a stream as a view shows them."""
    told = sorted(
        (row for row in own if row["log_iostream"] == stream and row["part"] == "F"),
        key=lambda row: (row["file_id"], row["offset_start"], row["length"]),
    )
    shown: dict[str, str] = {}
    for uid in map(uid_of, told):
        before = goes_on[uid]
        shown[uid] = shown.pop(before, "") + text_of[uid] if before else text_of[uid]
    return [text for text in shown.values() if text]


def test_logs_print_a_line_that_a_rotation_cut_as_one() -> None:
    old = cri("one ", part="P", at=1) + cri("other", stream="stderr", at=2)
    new = cri("line", at=3)
    pieces = [*admitted(chunks(old, number=1, closed=True)), *admitted(chunks(new, number=2))]
    rows, _, _ = build_rows(pieces, {})
    by_file = [rows.filter(pa.array([name == file_id(n) for name in rows["file_id"].to_pylist()])) for n in (1, 2)]
    assert b"".join(line for of_file in by_file for line in log_lines(of_file)) == b"one other\nline\n"


def test_a_restarted_container_and_an_unseen_beginning_go_on_with_nothing() -> None:
    old, new = cri("half ", part="P", at=1), cri("line", at=2)
    pieces = [*admitted(chunks(old, number=1, closed=True)), *admitted(chunks(new, number=2))]
    rows = build_rows(pieces, {})[0].sort_by("file_id")
    assert [uid for uid in continued(rows) if uid] == [f"{file_id(1)}-{0:016x}-j"]
    at = rows.schema.get_field_index("k8s_container_restart_count")
    restarted = rows.set_column(at, rows.schema.field(at), pa.array([0, 0, 1], pa.int32()))
    assert continued(restarted) == [None] * 3
    longer = chunks(new + new, [len(new)], number=2)
    later, _, _ = build_rows(admitted(longer), {})
    unseen = pa.concat_tables([rows.slice(0, 2), later.slice(1, 1)])
    assert continued(unseen) == [None] * 3

"""Rows give every byte back, and do not depend on where bytes were cut on their way."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute
from hypothesis import given, settings
from hypothesis import strategies as st

from ashiato.core.chunk import Chunk
from ashiato.core.render import render_file
from ashiato.core.table import empty, uids
from ingest.contracts import LineState, Piece
from ingest.rows import build_rows, reopen
from tests.property.content import SOURCES, contents, cuts_of, some_of
from tests.unit.ingest.files import WEB, admitted, chunk, chunks, cri, file_id

pc: Final[Any] = pyarrow.compute


def _built(pieces: list[Piece], borders: list[int]) -> tuple[pa.Table, LineState]:
    """Return the rows of ``pieces`` built in batches that end at ``borders``, each from the state behind the last."""
    states: dict[str, LineState] = {}
    tables = [empty()]
    for first, end in pairwise(sorted({0, len(pieces), *borders})):
        rows, after, _ = build_rows(pieces[first:end], states)
        states.update(after)
        tables.append(rows)
    return pa.concat_tables(tables), next(iter(states.values()), LineState())


def _in_batches(data: st.DataObject, arriving: list[Chunk]) -> tuple[pa.Table, LineState]:
    pieces = admitted(arriving)
    return _built(pieces, data.draw(some_of(range(len(pieces)))))


def _without_raw(rows: pa.Table) -> list[dict[str, Any]]:
    # A part whose join closes in a later batch keeps its bytes: that, and only that, may differ.
    return rows.drop_columns(["raw"]).to_pylist()


@given(data=st.data(), content=contents(), source=st.sampled_from(SOURCES), closed=st.booleans())
@settings(deadline=None, max_examples=400)
def test_bytes_cut_anywhere_come_back(data: st.DataObject, content: bytes, source: Any, *, closed: bool) -> None:
    cuts = data.draw(cuts_of(content, anywhere=True))
    rows, _ = _in_batches(data, chunks(content, cuts, source=source, closed=closed))
    assert render_file(rows) == content
    assert (pc.sum(rows["length"]).as_py() or 0) == len(content)
    assert len(set(uids(rows))) == rows.num_rows


@given(data=st.data(), content=contents(), source=st.sampled_from(SOURCES), closed=st.booleans())
@settings(deadline=None, max_examples=400)
def test_rows_do_not_depend_on_chunks_and_batches(
    data: st.DataObject, content: bytes, source: Any, *, closed: bool
) -> None:
    cuts = data.draw(cuts_of(content, anywhere=False))
    whole, state = _built(admitted(chunks(content, source=source, closed=closed)), [])
    cut, cut_state = _in_batches(data, chunks(content, cuts, source=source, closed=closed))
    assert _without_raw(cut) == _without_raw(whole)
    assert cut_state == state


def test_a_cut_part_that_says_nothing_opens_no_join_again() -> None:
    line = b'{"log":"","stream":"stdout","time":"2026-11-25T12:00:00.5Z"}'
    rows, states, _ = build_rows(admitted(chunks(line + b"\n" + line)), {})
    name = rows["file_id"][0].as_py()
    assert reopen(name, rows).open_parts == states[name].open_parts


def test_an_early_join_behind_a_hole_closes_none_before_it() -> None:
    part, hole, early = cri("half ", part="P", at=1), cri("lost", at=2), cri("a ", part="P", at=3) + cri("b", at=4)
    rows, states, _ = build_rows(admitted([chunk(part), chunk(early, len(part + hole))]), {})
    assert len(states[file_id()].open_parts) == 1
    assert reopen(file_id(), rows).open_parts == states[file_id()].open_parts


@given(data=st.data(), content=contents())
@settings(deadline=None, max_examples=200)
def test_open_joins_are_found_again_in_the_rows(data: st.DataObject, content: bytes) -> None:
    cuts = data.draw(cuts_of(content, anywhere=False))
    rows, state = _in_batches(data, chunks(content, cuts))
    first = min((part.first_offset for part in state.open_parts), default=len(content))
    since = rows.filter(pc.greater_equal(rows["offset_start"], first))
    if state.open_parts:
        found = reopen(rows["file_id"][0].as_py(), since).open_parts
        assert sorted(found, key=lambda part: part.iostream) == sorted(state.open_parts, key=lambda part: part.iostream)


@given(
    texts=st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.sampled_from("PF"), st.text(max_size=8))),
    data=st.data(),
)
@settings(deadline=None, max_examples=200)
def test_a_closing_row_carries_the_text_of_all_its_parts(
    texts: list[tuple[str, str, str]], data: st.DataObject
) -> None:
    texts = [(stream, part, text.replace("\n", "")) for stream, part, text in texts]
    content = b"".join(
        f"2026-11-25T12:00:00.{at:09}Z {stream} {part} {text}\n".encode()
        for at, (stream, part, text) in enumerate(texts, 1)
    )
    cuts = data.draw(cuts_of(content, anywhere=False))
    rows, _ = _in_batches(data, chunks(content, cuts, closed=True))
    said: dict[str, list[str]] = {"stdout": [""], "stderr": [""]}
    for stream, part, text in texts:
        said[stream][-1] += text
        if part == "F":
            said[stream].append("")
    for stream, expected in said.items():
        own = rows.filter(pc.and_(pc.equal(rows["log_iostream"], stream), pc.equal(rows["part"], "F")))
        assert [body for body in own["body"].to_pylist() if body] == [text for text in expected if text]


@given(content=contents(max_lines=20), data=st.data())
@settings(deadline=None, max_examples=200)
def test_early_bytes_and_their_filled_hole_come_back(content: bytes, data: st.DataObject) -> None:
    cuts = data.draw(cuts_of(content, anywhere=False))
    arriving = data.draw(st.permutations(chunks(content, cuts, closed=True)))
    rows, _ = _in_batches(data, arriving)
    assert render_file(rows) == content
    assert str(WEB) in set(rows["source"].to_pylist()) or not content

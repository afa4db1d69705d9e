"""A chain of any statements reads back, verifies from any point, and goes on from its last line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashiato.core import ledger
from ashiato.core.errors import EvidenceError
from ashiato.core.ledger import Beat, Born, Closed, Gap, Head, Statement

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
STATEMENTS: st.SearchStrategy[Statement] = st.one_of(
    st.builds(Born, file_id=TEXT, source=TEXT, path=TEXT, partition=st.integers(0, 2**31), topic=TEXT),
    st.builds(Gap, source=TEXT, reason=TEXT, offset_start=TEXT, detail=TEXT),
    st.builds(Closed, file_id=TEXT, source=TEXT, size=TEXT, reason=TEXT),
    st.builds(Beat, watermark_unix_nano=TEXT, files_open=st.integers(0, 2**31)),
)


def chain(statements: list[Statement]) -> list[bytes]:
    head, lines = Head(), []
    for statement in statements:
        line, head = ledger.append(head, statement, node="n", time_unix_nano=2**62, boot_nano=1)
        lines.append(line)
    return lines


@given(st.lists(STATEMENTS, min_size=1, max_size=8), st.data())
def test_a_chain_verifies_in_parts_as_it_does_whole(statements: list[Statement], data: st.DataObject) -> None:
    lines = chain(statements)
    at = data.draw(st.integers(0, len(lines)))
    assert [ledger.decode(line).statement for line in lines] == statements
    assert ledger.verify_chain(lines[at:], ledger.verify_chain(lines[:at])) == ledger.verify_chain(lines)


@given(st.lists(STATEMENTS, min_size=2, max_size=6), st.data())
def test_two_lines_that_change_places_break_the_chain(statements: list[Statement], data: st.DataObject) -> None:
    lines = chain(statements)
    at = data.draw(st.integers(0, len(lines) - 2))
    lines[at], lines[at + 1] = lines[at + 1], lines[at]
    with pytest.raises(EvidenceError):
        ledger.verify_chain(lines)

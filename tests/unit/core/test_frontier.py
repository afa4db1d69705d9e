"""The frontier: what is held of every file, and what becomes of an arriving range."""

from __future__ import annotations

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ashiato.core import frontier
from ashiato.core.errors import EvidenceError, RejectedError
from ashiato.core.frontier import Cut, Does, FileState, Frontier, HeldRange, OpenJoin, Page, extend, plan, settle
from ashiato.core.limits import FRONTIER_IDLE_NS


def _file(number: int = 1, **known: object) -> FileState:
    return msgspec.structs.replace(FileState(file_id=f"F{number:03}", source="file/c/n/x"), **known)


def _frontier(*files: FileState) -> Frontier:
    page = Page(path="frontier/p", version_id="v", sha256="00", file_id_min="A", file_id_max="B", files=2)
    return Frontier(
        topic="ashiato.bulk", partition=3, incarnation="bus#1", next=7, record_sha256="ab", files=files, pages=(page,)
    )


def test_what_follows_is_taken_and_what_is_held_is_compared() -> None:
    state = _file(offset=10)
    assert plan(state, 5, 15) == [
        Cut(start=5, end=10, does=Does.COMPARE),
        Cut(start=10, end=15, does=Does.TAKE),
    ]


def test_what_lies_behind_a_hole_is_early_and_joins_the_rest_once_the_hole_is_filled() -> None:
    state = _file(offset=10)
    (early,) = plan(state, 20, 30)
    assert early.does is Does.TAKE_EARLY
    state = extend(state, early, observed_time_unix_nano=1)
    assert (state.offset, state.early) == (10, (HeldRange(start=20, end=30),))
    cuts = plan(state, 5, 35)
    assert [(cut.start, cut.end, cut.does) for cut in cuts] == [
        (5, 10, Does.COMPARE),
        (10, 20, Does.TAKE),
        (20, 30, Does.COMPARE),
        (30, 35, Does.TAKE),
    ]
    for cut in cuts:
        if cut.does is not Does.COMPARE:
            state = extend(state, cut, observed_time_unix_nano=2)
    assert (state.offset, state.early, state.observed_time_unix_nano) == (35, (), 2)


_RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)).map(sorted), max_size=12)


@given(ranges=_RANGES)
def test_cuts_are_adjacent_and_give_the_range_back(ranges: list[list[int]]) -> None:
    state, held = _file(), set[int]()
    for start, end in ranges:
        cuts = plan(state, start, end)
        assert [at for cut in cuts for at in range(cut.start, cut.end)] == list(range(start, end))
        for cut in cuts:
            new = set(range(cut.start, cut.end))
            assert new <= held if cut.does is Does.COMPARE else new.isdisjoint(held)
            if cut.does is not Does.COMPARE:
                state = extend(state, cut, observed_time_unix_nano=0)
                held |= new
    assert {*range(state.offset), *(at for r in state.early for at in range(r.start, r.end))} == held


def test_only_the_newest_ranges_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontier, "FRONTIER_RANGES_MAX", 2)
    ranges = [HeldRange(start=at, end=at + 1, pack=f"p{at}") for at in range(3)]
    assert settle(_file(), ranges).ranges == tuple(ranges[1:])


def test_a_frontier_reads_back_only_under_its_own_hash() -> None:
    join = OpenJoin(iostream="stdout", first_offset=5, last_offset=9)
    known = _frontier(_file(1, offset=9, open_joins=(join,)), _file(2, closed=True, forks=1))
    content = frontier.encode(known)
    sha256 = frontier.digest(content)
    assert frontier.decode(content, sha256) == known
    assert frontier.encode(known) == content
    with pytest.raises(EvidenceError):
        frontier.decode(content, frontier.digest(b"another"))
    with pytest.raises(EvidenceError):
        frontier.decode(content[:-1], sha256)


def test_a_frontier_of_another_version_is_not_read() -> None:
    content = frontier.encode(msgspec.structs.replace(_frontier(), v=99))
    with pytest.raises(RejectedError, match="version"):
        frontier.decode(content, frontier.digest(content))


def test_closed_files_move_to_a_page_oldest_first_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontier, "FRONTIER_ACTIVE_FILES_MAX", 3)
    monkeypatch.setattr(frontier, "PAGE_FILES_MAX", 2)
    files = {f"F{n:03}": _file(n, closed=n % 2 == 0) for n in range(8)}
    assert frontier.overflow(dict(list(files.items())[:3])) == []
    moved = frontier.overflow(files)
    assert [file.file_id for file in moved] == ["F000", "F002"]
    content = frontier.encode_page(moved)
    assert frontier.decode_page(content, frontier.digest(content)) == tuple(moved)
    with pytest.raises(EvidenceError):
        frontier.decode_page(content, "00")


def test_a_file_that_nothing_came_of_for_long_moves_like_a_closed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that is gone never closes what it had open."""
    monkeypatch.setattr(frontier, "FRONTIER_ACTIVE_FILES_MAX", 3)
    now, idle = 10 * FRONTIER_IDLE_NS, FRONTIER_IDLE_NS
    ages = {0: 2 * idle, 1: 0, 2: idle, 3: idle + 9, 4: 5}
    files = {f"F{n:03}": _file(n, observed_time_unix_nano=now - age) for n, age in ages.items()}
    assert [file.file_id for file in frontier.overflow(files)] == ["F000", "F003"]
    # and a node whose clock runs years ahead makes none of the others idle
    ahead = {"F009": _file(9, observed_time_unix_nano=1 << 62)}
    assert [file.file_id for file in frontier.overflow(files | ahead)] == ["F000", "F003"]


def test_a_page_of_another_version_is_not_read() -> None:
    page = msgspec.json.decode(zstandard.ZstdDecompressor().decompress(frontier.encode_page([_file()])))
    content = zstandard.ZstdCompressor().compress(msgspec.json.encode({**page, "v": 99}))
    with pytest.raises(RejectedError, match="version"):
        frontier.decode_page(content, frontier.digest(content))

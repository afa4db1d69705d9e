"""Cutting: every byte once, at line ends, and the same pieces of a long line whenever it was read."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from ashiato.core.chunk import ChunkFlags
from ashiato.core.limits import CHUNK_BYTES_TARGET, LINE_CUT_BYTES
from collector.tail import READ_BYTES, cut

LINES = st.lists(
    st.one_of(
        st.integers(0, 300),
        st.sampled_from([CHUNK_BYTES_TARGET - 1, CHUNK_BYTES_TARGET, LINE_CUT_BYTES - 1, LINE_CUT_BYTES]),
        st.integers(LINE_CUT_BYTES, 3 * LINE_CUT_BYTES),
    ),
    max_size=6,
).map(lambda lengths: b"".join(b"x" * length + b"\n" for length in lengths))


def read_in_steps(content: bytes, steps: list[int]) -> list[tuple[bytes, ChunkFlags]]:
    """Cut as the file grows by ``steps``, then to its end."""
    chunks: list[tuple[bytes, ChunkFlags]] = []
    offset, size, at_line = 0, 0, True
    for step in [*steps, len(content)]:
        size = min(len(content), size + step)
        while (
            where := cut(content[offset : min(size, offset + READ_BYTES)], at_line=at_line, ended=False)
        ) is not None:
            chunks.append((content[offset : offset + where.length], where.flags))
            offset += where.length
            at_line = bool(where.flags & ChunkFlags.ENDS_AT_LINE)
    last = cut(content[offset:], at_line=at_line, ended=True)
    return chunks if last is None else [*chunks, (content[offset:], last.flags)]


@given(LINES, st.binary(max_size=20), st.lists(st.integers(1, 2 * LINE_CUT_BYTES), max_size=6))
def test_every_byte_comes_once_and_only_long_lines_are_cut(lines: bytes, end: bytes, steps: list[int]) -> None:
    content = lines + end.replace(b"\n", b"")
    chunks = read_in_steps(content, steps)
    assert b"".join(payload for payload, _ in chunks) == content
    for payload, flags in chunks:
        assert 0 < len(payload) <= LINE_CUT_BYTES
        assert bool(flags & ChunkFlags.ENDS_AT_LINE) == payload.endswith(b"\n")
        if not payload.endswith(b"\n"):
            assert len(payload) == LINE_CUT_BYTES or flags & ChunkFlags.UNTERMINATED


@given(LINES, st.lists(st.integers(1, LINE_CUT_BYTES), max_size=8))
@example(b"x" * (2 * LINE_CUT_BYTES) + b"\n", [1, LINE_CUT_BYTES - 1, LINE_CUT_BYTES])
def test_long_lines_are_cut_at_the_same_places_however_the_file_grew(lines: bytes, steps: list[int]) -> None:
    def cuts_within_lines(chunks: list[tuple[bytes, ChunkFlags]]) -> set[int]:
        places, at = set(), 0
        for payload, flags in chunks:
            at += len(payload)
            if not flags & ChunkFlags.ENDS_AT_LINE:
                places.add(at)
        return places

    assert cuts_within_lines(read_in_steps(lines, steps)) == cuts_within_lines(read_in_steps(lines, [len(lines)]))


@given(data=st.binary(max_size=200), at_line=st.booleans())
def test_nothing_is_cut_from_a_line_that_may_go_on(*, data: bytes, at_line: bool) -> None:
    where = cut(data, at_line=at_line, ended=False)
    assert (where is not None) == (b"\n" in data)

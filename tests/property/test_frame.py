"""Whatever chunks go into a frame come out of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ashiato.core import frame
from ashiato.core.chunk import Chunk, FileFacts
from ashiato.core.errors import RejectedError
from ashiato.core.limits import CHUNK_OWN_BLOCK_BYTES

FILES = st.builds(
    FileFacts, file_id=st.text(min_size=1, max_size=28), source=st.text(max_size=40), path=st.text(max_size=40),
    restart_count=st.integers(-1, 10**6),
)  # fmt: skip
PAYLOADS = st.one_of(
    st.binary(max_size=200),
    st.integers(CHUNK_OWN_BLOCK_BYTES - 1, CHUNK_OWN_BLOCK_BYTES + 2).map(lambda size: b"x" * size),
)
CHUNKS = st.builds(
    Chunk, file=FILES, offset_start=st.integers(0, 2**62), observed_time_unix_nano=st.integers(0, 2**62),
    flags=st.integers(0, 255), payload=PAYLOADS,
)  # fmt: skip


@given(st.lists(CHUNKS, max_size=12))
def test_decode_after_encode_gives_the_chunks(chunks: list[Chunk]) -> None:
    assert frame.decode(frame.encode(chunks)) == chunks


@given(st.lists(CHUNKS, max_size=6))
def test_equal_chunks_give_equal_bytes(chunks: list[Chunk]) -> None:
    assert frame.encode(chunks) == frame.encode(list(chunks))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_frame_or_refused(garbage: bytes) -> None:
    for value in (garbage, b"ASHF\1\1\0\0" + garbage):
        try:
            frame.decode(value)
        except RejectedError:
            continue

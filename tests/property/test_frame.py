"""Whatever chunks go into a frame come out of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from ashiato.core import frame
from ashiato.core.chunk import Chunk, FileFacts
from ashiato.core.errors import RejectedError
from ashiato.core.limits import CHUNK_OWN_BLOCK_BYTES

FILES = st.builds(
    FileFacts, file_id=st.text(min_size=1, max_size=28), source=st.text(max_size=40), path=st.text(max_size=40),
    restart_count=st.integers(-1, 10**6),
)  # fmt: skip
SALTS = st.lists(st.tuples(st.integers(0, 2**62), st.binary(min_size=32, max_size=32)), max_size=3).map(tuple)
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


@given(st.lists(st.tuples(CHUNKS, SALTS), max_size=12))
def test_salts_never_make_two_files_of_one(salted: list[tuple[Chunk, tuple[tuple[int, bytes], ...]]]) -> None:
    chunks = [structs.replace(one, file=structs.replace(one.file, salts=salts)) for one, salts in salted]
    decoded = frame.decode(frame.encode(chunks))
    assert [one.file.without_salts() for one in decoded] == [one.file.without_salts() for one in chunks]
    assert len({one.file for one in decoded}) == len({one.file.without_salts() for one in chunks})
    for told, sent in zip(decoded, chunks, strict=True):
        assert set(sent.file.salts) <= set(told.file.salts)
        alike = [one.file.salts for one in chunks if one.file.without_salts() == sent.file.without_salts()]
        assert set(told.file.salts) == {salt for salts in alike for salt in salts}


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

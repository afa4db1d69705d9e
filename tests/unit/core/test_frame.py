"""Frames that were damaged, cut or forged are refused, never half read."""

from __future__ import annotations

import os
import struct

import msgspec
import pytest

from ashiato.core import frame
from ashiato.core.chunk import Chunk, ChunkFlags, FileFacts
from ashiato.core.errors import RejectedError
from ashiato.core.limits import CHUNK_BYTES_MAX, CHUNK_OWN_BLOCK_BYTES, FRAME_BYTES_MAX

FILE = FileFacts(file_id="F" * 26, source="container/c/n/ns/p/u/c", path="/x", restart_count=1)


def chunk(payload: bytes, offset: int = 0) -> Chunk:
    flags = int(ChunkFlags.STARTS_AT_LINE | ChunkFlags.ENDS_AT_LINE)
    return Chunk(file=FILE, offset_start=offset, observed_time_unix_nano=1, flags=flags, payload=payload)


CHUNKS = [chunk(b"small\n"), chunk(os.urandom(CHUNK_OWN_BLOCK_BYTES + 1), 6), chunk(b""), chunk(b"also small\n", 99)]


def test_chunks_come_back_in_order_and_the_held_form_opens_to_the_same() -> None:
    encoded = frame.encode(CHUNKS)
    assert frame.decode(encoded) == CHUNKS
    assert [held.open() if held.length else None for held in frame.decode_held(encoded)] == [
        CHUNKS[0], CHUNKS[1], None, CHUNKS[3],
    ]  # fmt: skip


def test_the_longest_chunk_of_random_bytes_fits_a_broker_s_default() -> None:
    assert len(frame.encode([chunk(os.urandom(CHUNK_BYTES_MAX))])) < FRAME_BYTES_MAX


def test_a_frame_that_is_cut_anywhere_is_refused() -> None:
    encoded = frame.encode(CHUNKS[:1] + CHUNKS[2:])
    for length in range(len(encoded)):
        with pytest.raises(RejectedError):
            frame.decode(encoded[:length])
    with pytest.raises(RejectedError):
        frame.decode(encoded + b"\0")


def test_a_flipped_bit_in_the_bytes_is_refused_by_the_checksum() -> None:
    encoded = bytearray(frame.encode(CHUNKS))
    encoded[-1000] ^= 1
    with pytest.raises(RejectedError):
        frame.decode(bytes(encoded))


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param([5, 0, 3, 0, 0, 0], id="a file that is not in the table"),
        pytest.param([0, 0, 3, 0, 0, 9], id="a block that is not there"),
        pytest.param([-1, 0, 3, 0, 0, 0], id="a negative file"),
        pytest.param([0, -1, 3, 0, 0, 0], id="a negative offset"),
        pytest.param([0, 0, -3, 0, 0, 0], id="a negative length"),
        pytest.param([0, 0, CHUNK_BYTES_MAX + 1, 0, 0, 0], id="longer than any chunk"),
        pytest.param([0, 0, 4, 0, 0, 0], id="longer than its block"),
    ],
)
def test_a_forged_address_is_refused(entry: list[int]) -> None:
    honest = frame.encode([chunk(b"abc")])
    _, _, _, _, length = struct.unpack_from("<4sBBHI", honest)
    block = honest[12 + length :]
    header = msgspec.msgpack.encode([[FILE], [entry], [len(block)]])
    with pytest.raises(RejectedError):
        frame.decode(struct.pack("<4sBBHI", b"ASHF", 1, 1, 0, len(header)) + header + block)


def test_another_version_or_codec_is_refused() -> None:
    encoded = frame.encode(CHUNKS)
    for at in (0, 4, 5):
        changed = bytearray(encoded)
        changed[at] += 1
        with pytest.raises(RejectedError):
            frame.decode(bytes(changed))

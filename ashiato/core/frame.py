"""Frames: how chunks travel on the bus (CONTRACTS section 2).

A frame is::

    magic "ASHF" | version u8 | codec u8 | reserved u16 | header length u32 | header | blocks

all integers little endian. The header is msgpack: file table, chunk entries, block lengths. Every block is one
zstd frame with its content checksum. Chunks above ``CHUNK_OWN_BLOCK_BYTES`` have a block of their own, so that
a receiver may hold them compressed; all smaller ones share the first block.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
import zstandard

from ashiato.core import limits
from ashiato.core.chunk import FRAME_VERSION, Chunk, FileFacts
from ashiato.core.errors import RejectedError

MAGIC: Final = b"ASHF"
CODEC_ZSTD: Final = 1
_PREFIX: Final = struct.Struct("<4sBBHI")
_SHARED: Final = 0


class _Entry(msgspec.Struct, frozen=True, array_like=True):
    file: int
    offset_start: int
    length: int
    observed_time_unix_nano: int
    flags: int
    block: int
    """Index into the blocks; block 0 is shared by all small chunks, in order."""


class _Header(msgspec.Struct, frozen=True, array_like=True):
    files: tuple[FileFacts, ...]
    chunks: tuple[_Entry, ...]
    blocks: tuple[int, ...]
    """Compressed length of each block; block 0 (shared) has length 0 where no chunk is small."""


class HeldChunk(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk whose bytes are still compressed: ``open()`` gives the :class:`Chunk`."""

    file: FileFacts
    offset_start: int
    length: int
    observed_time_unix_nano: int
    flags: int
    block: bytes
    """One zstd frame that decompresses to ``payload`` at ``[skip, skip + length)``."""
    skip: int

    @property
    def offset_end(self) -> int:
        """One past the last byte."""
        return self.offset_start + self.length

    def open(self) -> Chunk:
        """Decompress.

        Raises:
            RejectedError: the block is damaged (zstd's checksum) or shorter than its entry says.

        """
        return _chunk(self, _decompress(self.block))


def encode(chunks: Iterable[Chunk], *, level: int = 1) -> bytes:
    """Return the frame of ``chunks`` (all of one partition), in the given order.

    Each comes out with the salts of all chunks of its file.
    Equal input gives equal bytes for one version of zstd; readers depend on the content only.
    """
    files: dict[FileFacts, int] = {}
    salts: list[set[tuple[int, bytes]]] = []
    entries: list[_Entry] = []
    small: list[bytes] = []
    blocks: list[bytes] = [b""]
    compressor = zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=True)
    for chunk in chunks:
        # One file is one entry of the table, whichever of its spans a chunk lies in.
        index = files.setdefault(chunk.file.without_salts(), len(files))
        if index == len(salts):
            salts.append(set())
        salts[index].update(chunk.file.salts)
        block = _SHARED
        if len(chunk.payload) > limits.CHUNK_OWN_BLOCK_BYTES:
            block = len(blocks)
            blocks.append(compressor.compress(chunk.payload))
        else:
            small.append(chunk.payload)
        entries.append(
            _Entry(
                index,
                chunk.offset_start,
                len(chunk.payload),
                chunk.observed_time_unix_nano,
                chunk.flags,
                block,
            )
        )
    shared = b"".join(small)
    if shared:
        blocks[_SHARED] = compressor.compress(shared)
    table = tuple(_with_salts(facts, told) for facts, told in zip(files, salts, strict=True))
    header = msgspec.msgpack.encode(_Header(table, tuple(entries), tuple(len(b) for b in blocks)))
    return b"".join((_PREFIX.pack(MAGIC, FRAME_VERSION, CODEC_ZSTD, 0, len(header)), header, *blocks))


def decode_held(frame: bytes) -> Iterator[HeldChunk]:
    """Yield a frame's chunks in order, still compressed.

    Raises:
        RejectedError: not a frame, of an unknown version, or its lengths do not add up.

    """
    header, start = _header(frame)
    bounds = [start]
    for length in header.blocks:
        bounds.append(bounds[-1] + length)
    if bounds[-1] != len(frame):
        raise RejectedError("frame is cut or has bytes behind it", expected=bounds[-1], length=len(frame))
    blocks = [frame[begin:end] for begin, end in itertools.pairwise(bounds)]
    skip = 0
    for entry in header.chunks:
        if not 0 <= entry.file < len(header.files) or not 0 <= entry.block < len(blocks):
            raise RejectedError("frame entry points outside its tables", file=entry.file, block=entry.block)
        if entry.length < 0 or entry.offset_start < 0 or entry.length > limits.CHUNK_BYTES_MAX:
            raise RejectedError("chunk has an impossible address", offset=entry.offset_start, length=entry.length)
        yield HeldChunk(
            file=header.files[entry.file],
            offset_start=entry.offset_start,
            length=entry.length,
            observed_time_unix_nano=entry.observed_time_unix_nano,
            flags=entry.flags,
            block=blocks[entry.block],
            skip=skip if entry.block == _SHARED else 0,
        )
        if entry.block == _SHARED:
            skip += entry.length


def decode(frame: bytes) -> list[Chunk]:
    """Return a frame's chunks, decompressed; the shared block is decompressed once.

    Raises:
        RejectedError: as :func:`decode_held`, or a block is damaged.

    """
    shared: bytes | None = None
    chunks = []
    for held in decode_held(frame):
        if held.length == 0:
            chunks.append(_chunk(held, b""))
        elif held.length <= limits.CHUNK_OWN_BLOCK_BYTES:
            shared = _decompress(held.block) if shared is None else shared
            chunks.append(_chunk(held, shared))
        else:
            chunks.append(held.open())
    return chunks


def _with_salts(facts: FileFacts, salts: set[tuple[int, bytes]]) -> FileFacts:
    return msgspec.structs.replace(facts, salts=tuple(sorted(salts))) if salts else facts


def _header(frame: bytes) -> tuple[_Header, int]:
    if len(frame) < _PREFIX.size:
        raise RejectedError("frame is shorter than its prefix", length=len(frame))
    magic, version, codec, _, header_length = _PREFIX.unpack_from(frame)
    if magic != MAGIC or version != FRAME_VERSION or codec != CODEC_ZSTD:
        raise RejectedError("not a frame that this version reads", version=version, codec=codec)
    start = _PREFIX.size + header_length
    try:
        header = msgspec.msgpack.decode(frame[_PREFIX.size : start], type=_Header)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RejectedError("frame header is damaged") from error
    if not header.blocks or len(header.chunks) > limits.FRAME_CHUNKS_MAX:
        raise RejectedError("frame has no block or too many chunks", chunks=len(header.chunks))
    return header, start


def _decompress(block: bytes) -> bytes:
    bound = limits.FRAME_CHUNKS_MAX * limits.CHUNK_OWN_BLOCK_BYTES
    try:
        if zstandard.frame_content_size(block) > bound:
            raise RejectedError("block claims to be larger than any chunk", bytes_max=bound)
        return zstandard.ZstdDecompressor().decompress(block)
    except zstandard.ZstdError as error:
        raise RejectedError("block is damaged") from error


def _chunk(held: HeldChunk, block: bytes) -> Chunk:
    payload = block[held.skip : held.skip + held.length]
    if len(payload) != held.length:
        raise RejectedError("block is shorter than its entries", length=held.length, got=len(payload))
    return Chunk(
        file=held.file,
        offset_start=held.offset_start,
        observed_time_unix_nano=held.observed_time_unix_nano,
        flags=held.flags,
        payload=payload,
    )

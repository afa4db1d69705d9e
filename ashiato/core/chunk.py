"""A chunk: shipped bytes with their address. The chunk is identity; the frame that carries it is not."""

from __future__ import annotations

from enum import IntFlag

import msgspec

FRAME_VERSION = 1


class ChunkFlags(IntFlag):
    """What a chunk's borders are."""

    STARTS_AT_LINE = 1
    """The chunk's first byte is the first of a line."""
    ENDS_AT_LINE = 2
    """The chunk's last byte is a newline."""
    FILE_CLOSED = 4
    """The file ends here: nothing will ever follow. Such a chunk may be empty."""
    UNTERMINATED = 8
    """The last line has no newline and was shipped because the file closed or stood still (60 s)."""
    IMPORTED = 16
    """Read once from a saved folder, not followed on a node."""
    RESENT = 32
    """Sent by a collector that lost its bookmark folder (C5)."""
    SHADOW = 64
    """Read from a copy whose original may be held under another file id."""


class FileFacts(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One entry of a frame's file table: everything that ingest needs to know of a file, from its path alone."""

    file_id: str
    source: str
    """``str(Source)``; its kind and path facts are parsed from it."""
    path: str
    """Where the node saw the file first."""
    restart_count: int = -1
    """The container's restart number (the ``N`` of ``N.log``), -1 where there is none."""
    generation: int = 0
    """The inode's generation where the file system tells it."""
    salts: tuple[tuple[int, bytes], ...] = ()
    """(span start, salt) of the spans that this frame touches; no part of what the file is."""

    def without_salts(self) -> FileFacts:
        """Return what tells one file from another."""
        return msgspec.structs.replace(self, salts=()) if self.salts else self


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes ``[offset_start, offset_start + len(payload))`` of one file, offsets of the decompressed bytes."""

    file: FileFacts
    offset_start: int
    observed_time_unix_nano: int
    """When the node read the chunk."""
    flags: int
    """:class:`ChunkFlags`."""
    payload: bytes

    @property
    def offset_end(self) -> int:
        """One past the last byte."""
        return self.offset_start + len(self.payload)

"""The manifest of a pack: which bytes of which files it holds, row group by row group.

It lies beside its pack as ``<sha256>.manifest.json``: canonical JSON (sorted keys, no spaces) of this struct.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from ashiato.core.errors import RejectedError

MANIFEST_VERSION: Final = 1


class RangeHeld(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Bytes ``[start, end)`` of a file."""

    start: int
    end: int


class FileHeld(msgspec.Struct, frozen=True, kw_only=True):
    """What the pack holds of one file."""

    file_id: str
    source: str
    path: str
    ranges: tuple[RangeHeld, ...]
    rows: int
    row_groups: tuple[int, ...]
    salts: tuple[tuple[int, bytes], ...] = ()
    """(span start, salt) of the spans that these ranges touch; none of others."""


class RowGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one row group; times are the ordering time (event, else reading)."""

    rows: int
    raw_bytes: int
    time_min_unix_nano: int
    time_max_unix_nano: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """One pack."""

    path: str
    sha256: str
    size: int
    rows: int
    raw_bytes: int
    retention_class: str
    day: str
    time_min_unix_nano: int
    time_max_unix_nano: int
    observed_min_unix_nano: int
    observed_max_unix_nano: int
    files: tuple[FileHeld, ...]
    row_groups: tuple[RowGroup, ...]
    v: int = MANIFEST_VERSION


_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_DECODER: Final = msgspec.json.Decoder(Manifest)


def encode(manifest: Manifest) -> bytes:
    """Return the canonical bytes."""
    return _ENCODER.encode(manifest)


def decode(content: bytes) -> Manifest:
    """Read a manifest back.

    Raises:
        RejectedError: damaged, or of a version that is not read.

    """
    try:
        manifest = _DECODER.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RejectedError("manifest is damaged") from error
    if manifest.v != MANIFEST_VERSION:
        raise RejectedError("manifest of an unknown version", version=manifest.v)
    return manifest


def sha256(content: bytes) -> str:
    """Return the hex digest under which a commit pins the manifest."""
    return hashlib.sha256(content).hexdigest()


def path_of(pack_path: str) -> str:
    """Return where the manifest of the pack at ``pack_path`` lies."""
    return pack_path.removesuffix(".parquet") + ".manifest.json"

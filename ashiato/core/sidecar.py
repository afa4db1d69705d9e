"""Sidecars: what is derived from a pack, beside it in ``work``, to be made again from the pack alone.

``filters/`` holds one token filter per row group of each pack, ``entities/`` what the pack names (their paths:
``core/sidecar_names.py``). An object begins with a magic number, the length and the digest of its header, and the
header: JSON that says of which pack it is and where each part lies under which digest, so that one row group's filter
is read by its range.
Nothing hangs on a sidecar: one that is missing, damaged or of another version is not used, and the pack is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from ashiato.core.errors import RejectedError
from ashiato.core.fuse import Fuse
from ashiato.core.sidecar_names import SIDECAR_VERSION, SidecarKind
from ashiato.core.token_hashes import TOKENISER_VERSION

PREAMBLE_BYTES: Final = 28
_MAGIC: Final = b"ASHSIDE\n"
_DIGEST_BYTES: Final = 16


class Part(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Bytes ``[offset, offset + size)`` behind the header; of a filter also the numbers that it is asked with."""

    offset: int
    size: int
    digest: bytes
    """The first half of their SHA-256."""
    seed: int = 0
    segment_length: int = 0
    segments_length: int = 0


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a sidecar says of itself."""

    kind: SidecarKind
    pack: str
    """SHA-256 of the pack, hex."""
    parts: tuple[Part, ...]
    """Of filters, one for each row group, in order; of entities, one Parquet table."""
    dense: tuple[str, ...] = ()
    """Kinds of entities that are not listed: there are too many in this pack."""
    tokeniser: int = TOKENISER_VERSION
    v: int = SIDECAR_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """One object to be put."""

    kind: SidecarKind
    content: bytes


_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_DECODER: Final = msgspec.json.Decoder(Header)


def encode_filters(pack_sha256: str, filters: Sequence[Fuse]) -> bytes:
    """Return the bytes of a pack's filters, in the order of its row groups."""
    bodies = [one.fingerprints for one in filters]
    parts = tuple(
        msgspec.structs.replace(
            part, seed=one.seed, segment_length=one.segment_length, segments_length=one.segments_length
        )
        for part, one in zip(_parts(bodies), filters, strict=True)
    )
    return _encode(Header(kind="filters", pack=pack_sha256, parts=parts), bodies)


def encode_entities(pack_sha256: str, table: bytes, dense: tuple[str, ...]) -> bytes:
    """Return the bytes of a pack's entities, listed in a Parquet table."""
    return _encode(Header(kind="entities", pack=pack_sha256, parts=_parts([table]), dense=dense), [table])


def header_size(preamble: bytes) -> int:
    """Return how many bytes from the object's first on hold preamble and header.

    Raises:
        RejectedError: not a sidecar.

    """
    if len(preamble) < PREAMBLE_BYTES or not preamble.startswith(_MAGIC):
        raise RejectedError("not a sidecar")
    return PREAMBLE_BYTES + int.from_bytes(preamble[len(_MAGIC) : len(_MAGIC) + 4], "little")


def decode_header(content: bytes, kind: SidecarKind, pack_sha256: str) -> Header:
    """Read the header at the beginning of ``content``.

    Raises:
        RejectedError: damaged, cut, of another pack or of a version that is not read.

    """
    end = header_size(content[:PREAMBLE_BYTES])
    stated = content[PREAMBLE_BYTES:end]
    if len(content) < end or _digest(stated) != content[PREAMBLE_BYTES - _DIGEST_BYTES : PREAMBLE_BYTES]:
        raise RejectedError("sidecar is damaged")
    try:
        header = _DECODER.decode(stated)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RejectedError("sidecar is damaged") from error
    if (header.kind, header.pack) != (kind, pack_sha256):
        raise RejectedError("sidecar of another pack", kind=header.kind, pack=header.pack)
    if header.v != SIDECAR_VERSION or header.tokeniser != TOKENISER_VERSION:
        raise RejectedError("sidecar of an unknown version", version=header.v, tokeniser=header.tokeniser)
    return header


def part_of(part: Part, content: bytes) -> bytes:
    """Return ``content`` where it is the part's own.

    Raises:
        RejectedError: damaged.

    """
    if len(content) != part.size or _digest(content) != part.digest:
        raise RejectedError("part of a sidecar is damaged")
    return content


def filter_of(part: Part, content: bytes) -> Fuse:
    """Return the filter that a part is. Raises as :func:`part_of`."""
    found = Fuse(
        seed=part.seed, segment_length=part.segment_length, segments_length=part.segments_length,
        fingerprints=part_of(part, content),
    )  # fmt: skip
    if not found.is_sound:
        raise RejectedError("numbers of a filter do not fit each other")
    return found


def _parts(bodies: Sequence[bytes]) -> tuple[Part, ...]:
    parts: list[Part] = []
    offset = 0
    for body in bodies:
        parts.append(Part(offset=offset, size=len(body), digest=_digest(body)))
        offset += len(body)
    return tuple(parts)


def _encode(header: Header, bodies: Sequence[bytes]) -> bytes:
    stated = _ENCODER.encode(header)
    return b"".join([_MAGIC, len(stated).to_bytes(4, "little"), _digest(stated), stated, *bodies])


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:_DIGEST_BYTES]

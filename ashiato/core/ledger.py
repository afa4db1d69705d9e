"""The node's ledger: numbered, chained statements about the node's files (CONTRACTS section 3).

One line per statement, RFC 8785 canonical JSON and a newline. ``n`` counts from 0 over the node's whole life;
``prev`` is the SHA-256 of the line before (without its newline), 64 zeros for the first. 64-bit integers travel
as strings, because RFC 8785 numbers are IEEE doubles. A beat is signed over its own line, which names the chain's
head: so one signature stands for every line before it, and the price does not grow with the bytes.

Version 2 is written; 1 and 2 are read.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import rfc8785

from ashiato.core.errors import EvidenceError, RejectedError
from ashiato.core.ports import Signer

LEDGER_VERSION: Final = 2
VERSIONS_READ: Final = (1, 2)
FIRST_PREV: Final = "0" * 64
SIGNED_PREFIX: Final = b"ashiato ledger beat/1\n"


class Born(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="born"):
    """A file was seen for the first time."""

    file_id: str
    source: str
    path: str
    partition: int
    topic: str
    restart_count: int = -1
    device: str = ""
    inode: str = ""
    generation: str = ""
    flags: int = 0


class Span(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="span"):
    """The digest of a contiguous range: SHA-256(salt, offset_start as 8 bytes big endian, bytes)."""

    file_id: str
    offset_start: str
    offset_end: str
    sha256: str
    incarnation: str = ""
    """Of the bus that ``position`` is a place on."""
    partition: int = -1
    position: str = ""
    """Where on the bus the last of these bytes went: once the archive has passed it, a hole is a loss (C6)."""


class Unattested(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="unattested"):
    """Bytes that the bus keeps and of which no digest is stated, and why. Nothing of them is missing."""

    file_id: str
    source: str
    offset_start: str
    offset_end: str
    reason: str


class Gap(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="gap"):
    """Bytes (or, where the offsets are empty, time) known missing. An upper bound: held bytes win."""

    source: str
    reason: str
    """One of :data:`GAP_REASONS`."""
    file_id: str = ""
    offset_start: str = ""
    offset_end: str = ""
    time_start_unix_nano: str = ""
    time_end_unix_nano: str = ""
    detail: str = ""


class Closed(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="closed"):
    """A file will never grow again."""

    file_id: str
    source: str
    size: str
    reason: str
    """``unlinked``, ``rotated``, ``replaced`` (moved out of sight), ``copied`` (its end was read from a
    copy that was made before it was truncated), or the reason of the gap that ended it."""


class Config(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="config"):
    """What the collector was told; exclusions are stated because they are gaps by intention."""

    sha256: str
    exclusions: tuple[str, ...] = ()
    incarnation: str = ""
    """Random id of this bookmark folder; another one is a new incarnation of the collector (C5)."""
    key_id: str = ""
    public_key: str = ""
    """Ed25519, base64: what an enrolment pins. A line that states it proves nothing about whose it is."""


class Acknowledged(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A moved file's acknowledged offset and where on the bus its last chunk went."""

    file_id: str
    offset: str
    incarnation: str
    topic: str
    partition: int
    position: str


class Beat(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="beat"):
    """Every 30 s, empty or not: silence is evidence too.

    ``watermark_unix_nano``: every byte that the collector had seen before this moment is acknowledged up to the
    stated offsets or named in a gap.
    """

    watermark_unix_nano: str
    clock: str = "unknown"
    """``synchronised``, ``unsynchronised`` or ``unknown``."""
    moved: tuple[Acknowledged, ...] = ()
    files_open: int = 0
    bytes_acknowledged: str = "0"
    bytes_lost: str = "0"
    key_id: str = ""
    signature: str = ""
    """Ed25519, base64, over :func:`signed_bytes` of the line, which name the chain's head."""


class Rotated(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="rotated"):
    """The first line of each ledger file: the file before it."""

    predecessor: str


Statement = Born | Span | Unattested | Gap | Closed | Config | Beat | Rotated

GAP_REASONS: Final = (
    "rotated_away",
    "truncated",
    "disk_full",
    "over_budget",
    "unreadable",
    "excluded",
    "no_collector",
    "drain_cut_short",
    "lost_on_bus",
    "no_inode",
    "lost_upstream",
    "unknown",
)


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A statement in its place in the chain."""

    n: int
    prev: str
    time_unix_nano: str
    boot_nano: str
    """The node's boot clock, which does not step."""
    node: str
    statement: Statement
    v: int = LEDGER_VERSION


_DECODER: Final = msgspec.json.Decoder(Line)


def encode(line: Line) -> bytes:
    """Return the canonical bytes of ``line``, newline included."""
    return rfc8785.dumps(msgspec.to_builtins(line)) + b"\n"


def decode(line: bytes) -> Line:
    """Read one line back.

    Raises:
        RejectedError: not a ledger line of a version that is read.

    """
    try:
        decoded = _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RejectedError("not a ledger line") from error
    if decoded.v not in VERSIONS_READ:
        raise RejectedError("ledger line of an unknown version", version=decoded.v)
    return decoded


def digest(line: bytes) -> str:
    """Return what the next line must carry as ``prev``."""
    return hashlib.sha256(line.removesuffix(b"\n")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Where a chain stands: the next number and the digest that the next line must name."""

    n: int = 0
    prev: str = FIRST_PREV


def append(
    head: Head,
    statement: Statement,
    *,
    node: str,
    time_unix_nano: int,
    boot_nano: int,
    signer: Signer | None = None,
) -> tuple[bytes, Head]:
    """Return the next line's bytes and the head behind it. Beats are signed where there is a ``signer``."""
    if signer is not None and isinstance(statement, Beat):
        statement = msgspec.structs.replace(statement, key_id=signer.key_id, signature="")
    line = Line(
        n=head.n,
        prev=head.prev,
        time_unix_nano=str(time_unix_nano),
        boot_nano=str(boot_nano),
        node=node,
        statement=statement,
    )
    if signer is not None and isinstance(statement, Beat):
        signature = base64.b64encode(signer.sign(signed_bytes(encode(line)))).decode()
        line = msgspec.structs.replace(line, statement=msgspec.structs.replace(statement, signature=signature))
    written = encode(line)
    return written, Head(n=head.n + 1, prev=digest(written))


def signed_bytes(line: bytes) -> bytes:
    """Return what a beat's signature is over: the canonical line with an empty signature, in a domain of its own.

    Raises:
        RejectedError: the line is not a beat.

    """
    told = parse(line)
    statement = told.get("statement")
    if not isinstance(statement, dict) or statement.get("type") != "beat":
        raise RejectedError("not a beat")
    return SIGNED_PREFIX + rfc8785.dumps({**told, "statement": {**statement, "signature": ""}})


def parse(line: bytes) -> dict[str, Any]:
    """Return a line as plain JSON: with every member, also those of another version.

    Raises:
        RejectedError: not a JSON object.

    """
    try:
        told = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RejectedError("not a ledger line") from error
    if not isinstance(told, dict):
        raise RejectedError("not a ledger line")
    return told


def is_canonical(line: bytes) -> bool:
    """Tell whether a line is written as RFC 8785 wants it, whatever its version."""
    try:
        return rfc8785.dumps(parse(line)) == line.removesuffix(b"\n")
    except (RejectedError, ValueError):
        return False


def verify_chain(lines: Iterable[bytes], head: Head = Head()) -> Head:
    """Check numbers and links of consecutive lines and return the head behind them.

    Raises:
        EvidenceError: a number is missing or used twice, a link does not fit, or a line is not canonical.

    """
    for raw in lines:
        line = decode(raw)
        if line.n != head.n or line.prev != head.prev:
            raise EvidenceError("ledger chain is broken", expected=head.n, found=line.n)
        if not is_canonical(raw):
            raise EvidenceError("ledger line is not canonical", n=line.n)
        head = Head(n=line.n + 1, prev=digest(raw))
    return head


def facts_of(statement: Statement) -> Mapping[str, str]:
    """Return the source and file that a statement speaks of, '' where it speaks of the node."""
    return {"source": getattr(statement, "source", ""), "file_id": getattr(statement, "file_id", "")}

"""Rows to bytes: every physical line as it was written, and what ``kubectl logs`` would have printed.

``render_rows`` is the other half of the parsers: a row either carries its bytes in ``raw``, or its columns give them
back exactly. Ingest checks that before a pack counts (I1); query and verification use the same code.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from ashiato.core.table import binary_array, offsets_of

pc: Final[Any] = pyarrow.compute


CRI_PARSER: Final = "cri/1"
DOCKER_PARSER: Final = "docker/1"

_CRI_HEADER: Final = re.compile(rb"(\S+) \S+ [^ \n]+ ?")
_CRI_TIME: Final = re.compile(rb"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:[.,](\d+))?(Z|z|[+-]\d\d:\d\d)$")

_Ints = npt.NDArray[np.int64]
_WIDTH: Final = 45
"""Date and time 19, fraction 10, zone 6, stream 8, tag 2."""


def render_rows(rows: pa.Table) -> pa.BinaryArray:
    """Return the bytes of each row's physical line, newline included, in the order of ``rows``.

    A part whose ``raw`` is null needs the row that closes its join in the same table.
    """
    count = rows.num_rows
    rows = rows.combine_chunks()
    lengths = _ints(rows, "length")
    raw = _binary(rows, "raw")
    header = _headers(rows)
    header_lengths = np.diff(offsets_of(header))
    content = _contents(rows, lengths, header_lengths)
    content = pc.replace_with_mask(content, _docker_mask(rows), _docker(rows))
    content_lengths = np.diff(offsets_of(content))
    newline = lengths - header_lengths - content_lengths == 1
    ends = pc.if_else(pa.array(newline), pa.scalar(b"\n", pa.binary()), pa.scalar(b"", pa.binary()))
    rendered = pc.binary_join_element_wise(header, content, ends, pa.scalar(b"", pa.binary()))
    whole = pc.if_else(pc.is_valid(raw), raw, rendered)
    lines: pa.BinaryArray = _one(pc.if_else(pa.array(lengths == 0), pa.scalar(b"", pa.binary()), whole), count)
    return lines


def render_file(rows: pa.Table) -> bytes:
    """Return the bytes of one file's rows, in offset order."""
    return b"".join(line or b"" for line in render_rows(rows.sort_by("offset_start")).to_pylist())


def log_lines(rows: pa.Table, *, timestamps: bool = False) -> list[bytes]:
    """Return what ``kubectl logs`` prints of one file's rows, which are given in file order (CONTRACTS section 10).

    Stream and time are stripped; a newline stands after a whole line or the last part only. ``timestamps`` puts the
    line's time, with nine digits, before what begins a line. Lines that no parser took are printed as they are.
    """
    printed: list[bytes] = []
    names = ("parser", "part", "time_unix_nano")
    at_line = True
    partial = False
    for line, parser, part, time in zip(
        render_rows(rows).to_pylist(), *(rows[name].to_pylist() for name in names), strict=True
    ):
        if not line:
            continue
        if part != "C":
            partial = part == "P"
        text, written_time = _message(line, parser or "", part or "")
        if partial and text.endswith(b"\n"):
            text = text[:-1]
        printed.append(_stamp(written_time, time) + text if timestamps and at_line and part != "C" else text)
        at_line = not text or text.endswith(b"\n")
    return printed


def _message(line: bytes, parser: str, part: str) -> tuple[bytes, bytes]:
    """Return what a container wrote in this line, and the time as it stands in a CRI header."""
    if parser.startswith(CRI_PARSER) and part in ("P", "F"):
        header = _CRI_HEADER.match(line)
        return (line[header.end() :], header[1]) if header else (line, b"")
    if parser.startswith(DOCKER_PARSER):
        return _docker_text(line), b""
    return line, b""


def _stamp(written_time: bytes, time: int | None) -> bytes:
    """Return a time as the kubelet prints it: in the zone that it was written in, always with nine digits."""
    if match := _CRI_TIME.match(written_time):
        zone = b"Z" if match[3] in (b"Z", b"z", b"+00:00", b"-00:00") else match[3]
        return b"%s.%s%s " % (match[1], (match[2] or b"").ljust(9, b"0")[:9], zone)
    if time is None:
        return b""
    seconds, fraction = divmod(time, 1_000_000_000)
    return f"{_minute(seconds // 60)}:{seconds % 60:02}.{fraction:09d}Z ".encode()


@lru_cache(maxsize=4096)
def _minute(minutes_since_1970: int) -> str:
    return str(np.datetime_as_string(np.datetime64(minutes_since_1970, "m")))


def _docker_text(line: bytes) -> bytes:
    try:
        return str(msgspec.json.decode(line)["log"]).encode("utf-8", "replace")
    except (msgspec.DecodeError, KeyError, TypeError, UnicodeDecodeError):
        return line


# -- columns as arrays ---------------------------------------------------------------------------------------


def _ints(rows: pa.Table, name: str) -> _Ints:
    return np.asarray(pc.fill_null(_one(rows[name], rows.num_rows), 0).to_numpy(zero_copy_only=False), dtype=np.int64)


def _true(values: Any) -> npt.NDArray[np.bool_]:
    """Return booleans with nulls as False."""
    return np.asarray(pc.fill_null(values, False), dtype=np.bool_)


def _valid(column: Any) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.is_valid(column), dtype=np.bool_)


def _binary(rows: pa.Table, name: str) -> Any:
    return _one(rows[name], rows.num_rows).cast(pa.binary())


def _one(column: Any, count: int) -> Any:
    if isinstance(column, pa.ChunkedArray):
        if column.num_chunks == 1:
            return column.chunk(0)
        return pa.concat_arrays(column.chunks) if count else pa.array([], column.type)
    return column


# -- CRI headers ---------------------------------------------------------------------------------------------


def _headers(rows: pa.Table) -> Any:
    """Return the canonical CRI header of each row that has one and whose bytes are not in ``raw``, else b''."""
    count = rows.num_rows
    parser = _one(rows["parser"], count).dictionary_encode()
    codes = np.asarray(pc.fill_null(parser.indices, -1).to_numpy(zero_copy_only=False), dtype=np.int32)
    part = _one(rows["part"], count)
    whole, partial = _true(pc.equal(part, "F")), _true(pc.equal(part, "P"))
    headed = (whole | partial) & (_ints(rows, "length") > 0) & _valid(_one(rows["time_unix_nano"], count))
    err = _true(pc.equal(_one(rows["log_iostream"], count), "stderr"))
    times = _ints(rows, "time_unix_nano")
    matrix = np.zeros((count, _WIDTH), np.uint8)
    widths = np.zeros(count, np.int32)
    for code, name in enumerate(parser.dictionary.to_pylist()):
        kind, zone, form = (*(name or "").split(";"), "", "")[:3]
        if kind == CRI_PARSER and zone:
            at = np.flatnonzero((codes == code) & headed)
            block, own = _header_block(times[at], err[at], whole[at], zone.encode(), trim=form == "trim")
            matrix[at if len(at) < count else slice(None)], widths[at] = block, own
    # Every header stands at the beginning of its row of the matrix: of its spans, every second one is a header.
    offsets = np.empty(2 * count + 1, np.int32)
    offsets[0::2] = np.arange(count + 1, dtype=np.int32) * _WIDTH
    offsets[1::2] = offsets[:-1:2] + widths
    return binary_array(offsets, matrix.ravel()).take(np.arange(0, 2 * count, 2))


def _header_block(
    times: _Ints, err: npt.NDArray[np.bool_], whole: npt.NDArray[np.bool_], zone: bytes, *, trim: bool
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Return headers of one profile, each at the beginning of its row, and their lengths."""
    shift = 0
    if zone != b"Z":
        shift = (-1 if zone[:1] == b"-" else 1) * (int(zone[1:3]) * 3600 + int(zone[4:6]) * 60)
    seconds, fraction = np.divmod(times, 1_000_000_000)
    minutes, second = np.divmod(seconds + shift, 60)
    block = np.zeros((len(times), _WIDTH), np.uint8)
    block[:, :17] = _written_minutes(minutes)
    block[:, 17] = 48 + second // 10
    block[:, 18] = 48 + second % 10
    rest = fraction.astype(np.uint32)
    for column in range(28, 19, -1):
        tens = rest // 10
        block[:, column] = 48 + (rest - tens * 10)
        rest = tens
    digits = np.full(len(times), 9, np.int32)
    if trim:
        is_zero = block[:, 28:19:-1] == 48
        digits -= np.where(is_zero.all(axis=1), 9, np.argmin(is_zero, axis=1)).astype(np.int32)
    for count in np.flatnonzero(np.bincount(digits, minlength=10)).tolist() if len(times) else ():
        own = np.flatnonzero(digits == count) if trim else slice(None)
        behind = 20 + count if count else 19
        # What stands behind the fraction moves to its end.
        block[own, behind : behind + len(zone)] = np.frombuffer(zone, np.uint8)
        if count:
            block[own, 19] = ord(".")
        tail = np.zeros((len(err[own]), 10), np.uint8)
        tail[:] = np.frombuffer(b" stdout P ", np.uint8)
        tail[err[own], 4:7] = np.frombuffer(b"err", np.uint8)
        tail[whole[own], 8] = ord("F")
        block[own, behind + len(zone) : behind + len(zone) + 10] = tail
    return block, np.where(digits > 0, 20 + digits, 19).astype(np.int32) + len(zone) + 10


def _written_minutes(minutes: _Ints) -> npt.NDArray[np.uint8]:
    """Return ``2026-11-25T12:00:`` of each minute since 1970. Neighbours mostly share theirs."""
    if not len(minutes):
        return np.zeros((0, 17), np.uint8)
    changes = np.concatenate((np.ones(1, np.bool_), minutes[1:] != minutes[:-1]))
    unique, place = np.unique(minutes[changes], return_inverse=True)
    texts = np.datetime_as_string((unique * 60).astype("datetime64[s]")).astype("S19")
    written = np.ascontiguousarray(texts.view(np.uint8).reshape(-1, 19)[:, :17]).view("V17").ravel()
    found: npt.NDArray[np.uint8] = written[place][np.cumsum(changes) - 1].view(np.uint8).reshape(-1, 17)
    return found


# -- contents ------------------------------------------------------------------------------------------------


def _contents(rows: pa.Table, lengths: _Ints, header_lengths: npt.NDArray[np.int32]) -> Any:
    """Return each row's own message: its body, or its slice of the joined body."""
    body = _one(pc.fill_null(_binary(rows, "body"), b""), rows.num_rows)
    joined = _valid(rows["join_offset"])
    if not joined.any():
        return body
    slices = _slices(rows, joined, np.maximum(lengths - header_lengths - 1, 0), body)
    mask = np.zeros(rows.num_rows, np.bool_)
    mask[list(slices)] = True
    values = pa.array([slices[row] for row in sorted(slices)], pa.binary())
    return _one(pc.replace_with_mask(body, pa.array(mask), values), rows.num_rows)


def _slices(rows: pa.Table, joined: npt.NDArray[np.bool_], content_lengths: _Ints, body: Any) -> dict[int, bytes]:
    """Cut each joined body back into its parts, from its end: parts of earlier packs stand at its beginning.

    A part whose join is open has no body of its own; one that stands for itself has.
    """
    lengths, offsets, first = _ints(rows, "length"), _ints(rows, "offset_start"), _ints(rows, "join_offset")
    waits = _true(pc.equal(rows["part"], "P")) & ~joined & (lengths > 0) & (np.diff(offsets_of(body)) == 0)
    concerned = np.flatnonzero(joined | waits)
    names = rows.select(["file_id", "log_iostream"]).take(concerned).to_pydict()
    order = sorted(
        range(len(concerned)),
        # An empty row that closes a join stands at the offset of the line behind it, and before it.
        key=lambda at: (
            names["file_id"][at],
            names["log_iostream"][at] or "",
            offsets[concerned[at]],
            lengths[concerned[at]],
        ),
    )
    slices: dict[int, bytes] = {}
    parts: list[int] = []
    before: tuple[str, str] | None = None
    for at in order:
        row, owner = int(concerned[at]), (names["file_id"][at], names["log_iostream"][at])
        if owner != before:
            parts, before = [], owner
        parts.append(row)
        if joined[row]:
            text = body[row].as_py()
            end = len(text)
            for member in reversed(parts):
                own = int(content_lengths[member]) if lengths[member] and offsets[member] >= first[row] else 0
                slices[member] = text[max(end - own, 0) : end]
                end = max(end - own, 0)
            parts = []
    return slices


def _docker_mask(rows: pa.Table) -> Any:
    count = rows.num_rows
    docker = pc.starts_with(_one(rows["parser"], count), DOCKER_PARSER)
    return pc.and_(pc.fill_null(docker, False), pc.is_null(_one(rows["raw"], count)))


def _docker(rows: pa.Table) -> pa.BinaryArray:
    """Return the canonical json-file line (without newline) of each docker row that keeps no bytes."""
    chosen = rows.filter(_docker_mask(rows))
    columns = (chosen[name].to_pylist() for name in ("body", "log_iostream", "time_unix_nano", "part"))
    return pa.array(
        [
            docker_line(body or "", stream or "", time, part or "F")
            for body, stream, time, part in zip(*columns, strict=True)
        ],
        pa.binary(),
    )


def docker_line(body: str, stream: str, time_unix_nano: int | None, part: str) -> bytes:
    """Return a json-file line as Docker writes it (Go's escapes, RFC 3339 with trimmed nanoseconds), no newline."""
    text = msgspec.json.encode(body + ("\n" if part == "F" else ""))
    for plain, escaped in _GO_ESCAPES:
        text = text.replace(plain, escaped)
    time = b""
    if time_unix_nano is not None:
        seconds, fraction = divmod(time_unix_nano, 1_000_000_000)
        tail = f".{fraction:09d}".rstrip("0") if fraction else ""
        time = f"{_minute(seconds // 60)}:{seconds % 60:02}{tail}Z".encode()
    return b'{"log":' + text + b',"stream":"' + stream.encode() + b'","time":"' + time + b'"}'


_GO_ESCAPES: Final = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)

"""Rows to bytes: every physical line as it was written, and what ``kubectl logs`` would have printed.

``render_rows`` is the other half of the parsers: a row either carries its bytes in ``raw``, or its columns give them
back exactly. Ingest checks that before a pack counts (I1); query and verification use the same code.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

CRI_PARSER: Final = "cri/1"
DOCKER_PARSER: Final = "docker/1"

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
    header_lengths = np.diff(_offsets(header))
    content = _contents(rows, lengths, header_lengths)
    content = pc.replace_with_mask(content, _docker_mask(rows), _docker(rows))
    content_lengths = np.diff(_offsets(content))
    newline = lengths - header_lengths - content_lengths == 1
    ends = pc.if_else(pa.array(newline), pa.scalar(b"\n", pa.binary()), pa.scalar(b"", pa.binary()))
    rendered = pc.binary_join_element_wise(header, content, ends, pa.scalar(b"", pa.binary()))
    whole = pc.if_else(pc.is_valid(raw), raw, rendered)
    return _one(pc.if_else(pa.array(lengths == 0), pa.scalar(b"", pa.binary()), whole), count)


def render_file(rows: pa.Table) -> bytes:
    """Return the bytes of one file's rows, in offset order."""
    return b"".join(render_rows(rows.sort_by("offset_start")).to_pylist())


def log_lines(rows: pa.Table, *, timestamps: bool = False) -> list[bytes]:
    """Return what ``kubectl logs`` prints of one file's rows, which are given in file order (CONTRACTS section 10).

    Stream and time are stripped; a newline stands after a whole line or the last part only. Lines that no parser
    took are printed as they are.
    """
    printed: list[bytes] = []
    lines = render_rows(rows).to_pylist()
    header_lengths = np.diff(_offsets(_headers(rows.combine_chunks()))).tolist()
    columns = (rows[name].to_pylist() for name in ("parser", "part", "body", "time_unix_nano", "length"))
    between = True
    for line, header_length, parser, part, body, time, length in zip(lines, header_lengths, *columns, strict=True):
        if length == 0:
            continue
        name = (parser or "").partition(";")[0]
        own_header = header_length or (_written_header(line) if name == CRI_PARSER else 0)
        if name == CRI_PARSER and part in ("P", "F"):
            text = line[own_header:]
        elif name == DOCKER_PARSER:
            text = _docker_text(line)
        else:
            text = line
        del body
        stamp = _stamp(line, time, own_header) if timestamps and between and part != "C" else b""
        ended = text.endswith(b"\n")
        if part == "P" and name == CRI_PARSER:
            printed.append(stamp + text.removesuffix(b"\n"))
            between = False
        else:
            printed.append(stamp + text)
            between = ended or part == "F"
    return printed


def _written_header(line: bytes) -> int:
    """Return the length of a CRI header that is not canonical: up to the blank behind its tag."""
    at = -1
    for _ in range(3):
        at = line.find(b" ", at + 1)
        if at < 0:
            return 0
    return at + 1


def _stamp(line: bytes, time: int | None, header_length: int) -> bytes:
    if header_length:
        return line[: line.find(b" ") + 1]
    if time is None:
        return b""
    seconds, fraction = divmod(time, 1_000_000_000)
    return f"{np.datetime_as_string(np.datetime64(seconds, 's'))}.{fraction:09d}Z ".encode()


def _docker_text(line: bytes) -> bytes:
    try:
        return str(msgspec.json.decode(line)["log"]).encode("utf-8", "replace")
    except (msgspec.DecodeError, KeyError, TypeError, UnicodeDecodeError):
        return line


# -- columns as arrays ---------------------------------------------------------------------------------------


def _ints(rows: pa.Table, name: str) -> _Ints:
    return np.asarray(pc.fill_null(_one(rows[name], rows.num_rows), 0).to_numpy(zero_copy_only=False), dtype=np.int64)


def _binary(rows: pa.Table, name: str) -> pa.BinaryArray:
    return _one(rows[name], rows.num_rows).cast(pa.binary())


def _one(column: pa.ChunkedArray | pa.Array, count: int) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        if column.num_chunks == 1:
            return column.chunk(0)
        return pa.concat_arrays(column.chunks) if count else pa.array([], column.type)
    return column


def _offsets(array: pa.Array) -> npt.NDArray[np.int32]:
    buffer = array.buffers()[1]
    if buffer is None:
        return np.zeros(len(array) + 1, np.int32)
    return np.frombuffer(buffer, np.int32)[array.offset : array.offset + len(array) + 1]


# -- CRI headers ---------------------------------------------------------------------------------------------


def _headers(rows: pa.Table) -> pa.BinaryArray:
    """Return the canonical CRI header of each row that has one and whose bytes are not in ``raw``, else b''."""
    count = rows.num_rows
    parser = _one(rows["parser"], count).dictionary_encode()
    names = [name or "" for name in parser.dictionary.to_pylist()]
    codes = np.asarray(pc.fill_null(parser.indices, -1).to_numpy(zero_copy_only=False), dtype=np.int64)
    matrix = np.zeros((count, _WIDTH), np.uint8)
    keep = np.zeros((count, _WIDTH), np.bool_)
    part = _one(rows["part"], count)
    headed = np.asarray(pc.fill_null(pc.is_in(part, pa.array(["P", "F"])), False).to_numpy(zero_copy_only=False))
    headed = headed & (_ints(rows, "length") > 0)
    times = _ints(rows, "time_unix_nano")
    timed = np.asarray(pc.is_valid(rows["time_unix_nano"]).to_numpy())
    for code, name in enumerate(names):
        kind, zone, form = (*name.split(";"), "", "")[:3]
        if kind == CRI_PARSER and zone:
            at = np.flatnonzero((codes == code) & headed & timed)
            _header_block(matrix, keep, at, times[at], zone.encode(), trim=form == "trim")
    stream = _one(rows["log_iostream"], count)
    err = np.asarray(pc.fill_null(pc.equal(stream, "stderr"), False).to_numpy(zero_copy_only=False))
    matrix[err, 35:43] = np.frombuffer(b" stderr ", np.uint8)
    whole = np.asarray(pc.fill_null(pc.equal(part, "F"), False).to_numpy(zero_copy_only=False))
    matrix[:, 43] = np.where(whole, ord("F"), ord("P"))
    matrix[:, 44] = ord(" ")
    offsets = np.zeros(count + 1, np.int32)
    np.cumsum(keep.sum(axis=1), out=offsets[1:])
    return pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(matrix[keep])])


def _header_block(
    matrix: npt.NDArray[np.uint8],
    keep: npt.NDArray[np.bool_],
    at: npt.NDArray[np.intp],
    times: _Ints,
    zone: bytes,
    *,
    trim: bool,
) -> None:
    if not len(at):
        return
    shift = 0
    if zone != b"Z":
        shift = (-1 if zone[:1] == b"-" else 1) * (int(zone[1:3]) * 3600 + int(zone[4:6]) * 60)
    seconds, fraction = np.divmod(times, 1_000_000_000)
    minutes, second = np.divmod(seconds + shift, 60)
    unique, inverse = np.unique(minutes, return_inverse=True)
    texts = np.datetime_as_string((unique * 60).astype("datetime64[s]")).astype("S19")
    block = np.zeros((len(at), _WIDTH), np.uint8)
    block[:, :19] = texts.view(np.uint8).reshape(-1, 19)[inverse]
    block[:, 17] = 48 + second // 10
    block[:, 18] = 48 + second % 10
    block[:, 19] = ord(".")
    digits = fraction[:, None] // 10 ** np.arange(8, -1, -1) % 10
    block[:, 20:29] = 48 + digits
    block[:, 29 : 29 + len(zone)] = np.frombuffer(zone, np.uint8)
    block[:, 35:43] = np.frombuffer(b" stdout ", np.uint8)
    kept = np.ones((len(at), _WIDTH), np.bool_)
    kept[:, 29 + len(zone) : 35] = False
    if trim:
        trailing = np.where(digits.any(axis=1), np.argmax(digits[:, ::-1] != 0, axis=1), 9)
        kept[:, 20:29] = np.arange(9) < (9 - trailing)[:, None]
        kept[:, 19] = trailing < 9
    matrix[at] = block
    keep[at] = kept


# -- contents ------------------------------------------------------------------------------------------------


def _contents(rows: pa.Table, lengths: _Ints, header_lengths: npt.NDArray[np.int32]) -> pa.BinaryArray:
    """Return each row's own message: its body, or its slice of the joined body."""
    body = pc.fill_null(_binary(rows, "body"), b"")
    joined = np.flatnonzero(np.asarray(pc.is_valid(rows["join_offset"]).to_numpy()))
    if not len(joined):
        return _one(body, rows.num_rows)
    slices = _slices(rows, joined, lengths, header_lengths, body)
    mask = np.zeros(rows.num_rows, np.bool_)
    mask[list(slices)] = True
    values = pa.array([slices[row] for row in sorted(slices)], pa.binary())
    return _one(pc.replace_with_mask(_one(body, rows.num_rows), pa.array(mask), values), rows.num_rows)


def _slices(
    rows: pa.Table, joined: npt.NDArray[np.intp], lengths: _Ints, header_lengths: npt.NDArray[np.int32], body: pa.Array
) -> dict[int, bytes]:
    """Cut each joined body back into its parts, from its end: parts of earlier packs stand at its beginning."""
    offsets, first = _ints(rows, "offset_start"), _ints(rows, "join_offset")
    part_rows: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    files, streams = rows["file_id"], rows["log_iostream"]
    partial = pc.and_(pc.equal(rows["part"], "P"), pc.is_null(rows["join_offset"]))
    for row in np.flatnonzero(np.asarray(pc.fill_null(partial, False).to_numpy())).tolist():
        part_rows[files[row].as_py(), streams[row].as_py()].append(row)
    slices: dict[int, bytes] = {}
    for row in joined.tolist():
        text = body[row].as_py()
        members = [
            member
            for member in part_rows[files[row].as_py(), streams[row].as_py()]
            if first[row] <= offsets[member] < offsets[row] or (lengths[row] == 0 and first[row] <= offsets[member])
        ]
        end = len(text)
        for member in [row, *sorted(members, key=lambda at: -offsets[at])]:
            own = 0 if lengths[member] == 0 else int(lengths[member] - header_lengths[member] - 1)
            begin = max(end - max(own, 0), 0)
            slices[member] = text[begin:end]
            end = begin
    return slices


def _docker_mask(rows: pa.Table) -> pa.BooleanArray:
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
        tail = f".{fraction:09d}".rstrip("0").removesuffix(".") if fraction else ""
        time = f"{np.datetime_as_string(np.datetime64(seconds, 's'))}{tail}Z".encode()
    return b'{"log":' + text + b',"stream":"' + stream.encode() + b'","time":"' + time + b'"}'


_GO_ESCAPES: Final = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)

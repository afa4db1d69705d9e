"""What bodies say of themselves: severity, trace id, time and the facts of access lines, in vectors where it pays.

The first bytes decide what a body is: JSON, klog, an access line, logfmt, or text. JSON is decoded line by line by a
typed decoder; everything else is seen in arrays, and only lines that have something to tell meet Python.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from ingest.parse import json_lines
from ingest.parse.cri import PAD, windows
from ingest.parse.severity import IN_TEXT, KLOG
from ingest.parse.times import Time, common_log, of_bytes

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
Octets = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]

ACCESS_EVENT: Final = "http.access"

_COLUMNS: Final = np.arange(64, dtype=np.uint8)
_HEAD: Final = 64
"""Bytes at the beginning of a body in which a level is looked for; as many as :data:`PAD` has."""
_ADDRESS: Final = 46
"""The longest address is 45 characters (an IPv4 address written as IPv6), and a space stands behind it."""
_TRACE: Final = re.compile(rb"\btrace[_.]?[iI][dD]=\"?([0-9a-fA-F]{32})\b")
_USER: Final = re.compile(rb"\S+ \S+ (\S+) \[")
_STAMP: Final = re.compile(rb"\[?(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})? ?(?:Z|UTC|[+-]\d\d:?\d\d))(?!\d)")
_LOGFMT_TIME: Final = re.compile(rb"\b(?:ts|time|timestamp)=\"?([^ \"]{20,40})")
_WRITTEN: Final = re.compile(rb"[^\[\n]{1,200}\[([^\]\n]{26})\]")


def _letters(*characters: bytes) -> Bools:
    table = np.zeros(256, np.bool_)
    table[np.frombuffer(b"".join(characters), np.uint8)] = True
    return table


_BEFORE_WORD: Final = _letters(b" [|<\t(")
_BEFORE_LEVEL: Final = _letters(b'[="')
_BEHIND_WORD: Final = _letters(b" ]:|>\t,)\n\r\0.-")
_QUOTED_LEVELS: Final = (b"level=", b"lvl=", b"severity=")


def _eight(word: bytes) -> int:
    return int.from_bytes(word.ljust(8, b"\0"), "little")


_WORDS: Final = np.array(sorted(_eight(word.encode()) for word in IN_TEXT), np.uint64)
_WORD_NUMBERS: Final = np.array(
    [IN_TEXT[int(word).to_bytes(8, "little").rstrip(b"\0").decode()] for word in _WORDS], np.int32
)
_HTTP: Final = np.uint64(_eight(b" HTTP/"))
_LOWER: Final = np.uint64(0x2020202020202020)
"""The bits that small letters have and capitals have not."""
_KEEP: Final = np.array([(1 << 8 * length) - 1 for length in range(9)], np.uint64)
"""Masks that keep the first n bytes."""


@dataclass(slots=True, kw_only=True)
class Told:
    """What n bodies say; a zero and an absent entry say nothing."""

    severity: Codes
    status: Codes
    """Of an access line: the status of the answer."""
    address_end: Ints
    """Behind the address that begins an access line; where it does not, its beginning."""
    access: Bools
    trace_id: dict[int, str] = field(default_factory=dict)
    user: dict[int, str] = field(default_factory=dict)
    time: dict[int, Time] = field(default_factory=dict)


def read(buffer: bytes, starts: Ints, ends: Ints, rows: Rows, *, timed: bool) -> Told:
    """Read the bodies ``[starts[i], ends[i])`` of ``rows``; ``buffer`` ends with :data:`PAD`.

    ``timed`` asks for the time that a body says it was written at.
    """
    count = len(starts)
    told = Told(
        severity=np.zeros(count, np.int32),
        status=np.zeros(count, np.int32),
        address_end=starts.copy(),
        access=np.zeros(count, np.bool_),
    )
    rows = rows[ends[rows] > starts[rows]]
    if not len(rows):
        return told
    first = np.frombuffer(buffer, np.uint8)[starts[rows]]
    is_json = first == ord("{")
    _read_json(buffer, starts, ends, rows[is_json], told, timed=timed)
    rest = rows[~is_json]
    rest = rest[~_read_klog(buffer, starts, ends, rest, told)]
    rest = rest[~_read_access(buffer, starts, ends, rest, told)]
    _read_levels(buffer, starts, ends, rest, told)
    _read_traces(buffer, starts, ends, rest, told)
    if timed:
        _read_times(buffer, starts, ends, rows[~is_json], told)
    return told


def severity_and_trace(body: bytes) -> tuple[int | None, str | None]:
    """Return what a single body says."""
    told = read(body + PAD, np.zeros(1, np.int64), np.array([len(body)]), np.zeros(1, np.intp), timed=False)
    return int(told.severity[0]) or None, told.trace_id.get(0)


def _read_json(buffer: bytes, starts: Ints, ends: Ints, rows: Rows, told: Told, *, timed: bool) -> None:
    severities: list[int] = []
    traces, read_one = told.trace_id, json_lines.severity_and_trace
    for row, start, end in zip(rows.tolist(), starts[rows].tolist(), ends[rows].tolist(), strict=True):
        body = buffer[start:end]
        severity, trace_id = read_one(body)
        severities.append(severity or 0)
        if trace_id is not None:
            traces[row] = trace_id
        if timed and (time := json_lines.time_of(body)) is not None:
            told.time[row] = time
    told.severity[rows] = severities


def _read_klog(buffer: bytes, starts: Ints, ends: Ints, rows: Rows, told: Told) -> Bools:
    """Read ``I1121 21:08:56.089641 ...``; return which rows are such lines."""
    head = windows(buffer, starts[rows], 22)
    severity = np.zeros(256, np.int32)
    severity[list(KLOG)] = list(KLOG.values())
    found = severity[head[:, 0]]
    digits = head[:, [1, 2, 3, 4, 6, 7, 9, 10, 12, 13]] - np.uint8(ord("0"))
    is_klog: Bools = (found > 0) & (digits <= 9).all(axis=1) & (head[:, 5] == ord(" ")) & (head[:, 8] == ord(":"))
    is_klog &= (head[:, 11] == ord(":")) & (ends[rows] - starts[rows] > 20)
    told.severity[rows[is_klog]] = found[is_klog]
    return is_klog


def _read_access(buffer: bytes, starts: Ints, ends: Ints, rows: Rows, told: Told) -> Bools:
    """Read lines with ``"GET / HTTP/1.1" 200`` in them: common, combined, nginx, envoy. Return which rows are such."""
    is_access: Bools = np.zeros(len(rows), np.bool_)
    quotes = np.flatnonzero(np.frombuffer(buffer, np.uint8) == ord('"')) if len(rows) else np.zeros(0, np.intp)
    if len(quotes) < 2:
        return is_access
    at = np.searchsorted(quotes, starts[rows])
    opening = quotes[np.minimum(at, len(quotes) - 1)]
    closing = quotes[np.minimum(at + 1, len(quotes) - 1)]
    inside = (at + 1 < len(quotes)) & (closing + 5 <= ends[rows]) & (closing - opening >= 10)
    # (protocol) HTTP/1.1 or HTTP/2, with eight or six characters, behind a space, just before the closing quote
    from_space = np.where(inside, closing - 9, 0)
    around = windows(buffer, from_space, 17)
    words = np.ndarray((len(buffer) - 7,), "<u8", buffer, strides=(1,))
    is_access = inside & (((words[from_space] & _KEEP[6]) == _HTTP) | ((words[from_space + 2] & _KEEP[6]) == _HTTP))
    # (status) three digits behind it
    digits = around[:, 11:14].astype(np.int32) - ord("0")
    is_access &= (around[:, 10] == ord(" ")) & ((digits >= 0) & (digits <= 9)).all(axis=1)
    ending = np.where(closing + 5 >= ends[rows], ord(" "), around[:, 14])
    is_access &= (ending == ord(" ")) | (ending == ord("\n")) | (ending == ord("\r"))
    found = rows[is_access]
    told.access[found] = True
    told.status[found] = digits[is_access] @ np.array([100, 10, 1], np.int32)
    _read_address(buffer, starts, ends, found, told)
    return is_access


def _read_address(buffer: bytes, starts: Ints, ends: Ints, rows: Rows, told: Told) -> None:
    """Note the address that begins each access line, and the user behind it."""
    head = windows(buffer, starts[rows], _ADDRESS)
    # Hexadecimal digits, dots, and the colon, which stands behind the 9.
    of_address = ((head | 0x20) - np.uint8(ord("a")) < 6) | (head - np.uint8(ord("0")) <= 10) | (head == ord("."))
    length = np.where(of_address.all(axis=1), _ADDRESS, np.argmin(of_address, axis=1))
    behind = head[np.arange(len(rows)), np.minimum(length, _ADDRESS - 1)]
    dotted = ((head == ord(".")) | (head == ord(":"))) & (_COLUMNS[:_ADDRESS] < length.astype(np.uint8)[:, None])
    good = (length >= 3) & (length < _ADDRESS) & (behind == ord(" ")) & dotted.any(axis=1)
    told.address_end[rows[good]] = (starts[rows] + length)[good]
    # ``- frank [`` where others have ``- - [``
    rest = windows(buffer, np.minimum(starts[rows] + length, ends[rows]), 5)
    unnamed = (rest[:, 1:5] == np.frombuffer(b"- - ", np.uint8)).all(axis=1)
    for row in rows[good & ~unnamed].tolist():
        match = _USER.match(buffer, int(starts[row]), int(ends[row]))
        if match and match[1] != b"-":
            told.user[row] = match[1].decode("utf-8", "replace")


def _read_levels(buffer: bytes, starts: Ints, ends: Ints, rows: Rows, told: Told) -> None:
    """Find the first word at the head of each line that tells a severity.

    A word counts in capitals, in brackets, or behind ``level=``; ``error`` in a sentence tells nothing.
    """
    if not len(rows):
        return
    head = windows(buffer, starts[rows], _HEAD)
    lengths = np.minimum(ends[rows] - starts[rows], _HEAD).astype(np.uint8)
    letter = np.zeros((len(rows), _HEAD + 2), np.bool_)
    np.less((head | 0x20) - np.uint8(ord("a")), 26, out=letter[:, 1:-1])
    letter[:, 1:-1] &= lengths[:, None] > _COLUMNS
    edges = np.flatnonzero(letter.ravel()[1:] != letter.ravel()[:-1])
    begin, length = edges[0::2], edges[1::2] - edges[0::2]
    possible = (length >= 3) & (length <= 8)
    begin, length = begin[possible], length[possible]
    line, column = np.divmod(begin, _HEAD + 2)
    at = starts[rows][line] + column
    words = np.ndarray((len(buffer) - 7,), "<u8", buffer, strides=(1,))[at]
    octets = np.frombuffer(buffer, np.uint8)
    before = np.where(column == 0, np.uint8(ord(" ")), octets[np.maximum(at - 1, 0)])
    capital = ((words & _LOWER & _KEEP[length]) == 0) & _BEFORE_WORD[before]
    # Few words stand where a level may; they alone are looked up.
    some = np.flatnonzero(capital | _BEFORE_LEVEL[before])
    folded = (words[some] | _LOWER) & _KEEP[length[some]]
    place = np.minimum(np.searchsorted(_WORDS, folded), len(_WORDS) - 1)
    is_word = _WORDS[place] == folded
    some, place = some[is_word], place[is_word]
    line, at, length, before, capital = line[some], at[some], length[some], before[some], capital[some]
    behind = np.where(at + length >= ends[rows][line], np.uint8(ord(" ")), octets[at + length])
    bracketed = (before == ord("[")) & (behind == ord("]"))
    keyed = (before == ord("=")) | (before == ord('"'))
    keyed[keyed] = [
        _is_level(buffer[max(end - 10, start) : end])
        for start, end in zip(starts[rows][line[keyed]].tolist(), at[keyed].tolist(), strict=True)
    ]
    good = (capital & _BEHIND_WORD[behind]) | bracketed | keyed
    # The first of a line wins: the words stand in their order.
    line, place = line[good], place[good]
    is_first = np.concatenate((np.ones(1, np.bool_), line[1:] != line[:-1]))[: len(line)]
    told.severity[rows[line[is_first]]] = _WORD_NUMBERS[place[is_first]]


def _is_level(before: bytes) -> bool:
    return before.removesuffix(b'"').endswith(_QUOTED_LEVELS)


def _read_traces(buffer: bytes, starts: Ints, ends: Ints, rows: Rows, told: Told) -> None:
    """Find the trace ids of logfmt lines."""
    if buffer.find(b"trace") < 0:
        return
    for row, start, end in zip(rows.tolist(), starts[rows].tolist(), ends[rows].tolist(), strict=True):
        if buffer.find(b"trace", start, end) >= 0 and (match := _TRACE.search(buffer[start:end])):
            told.trace_id[row] = match[1].decode().lower()


def _read_times(buffer: bytes, starts: Ints, ends: Ints, rows: Rows, told: Told) -> None:
    """Read the times of lines that begin with one, of access lines and of logfmt."""
    for row, start, end in zip(rows.tolist(), starts[rows].tolist(), ends[rows].tolist(), strict=True):
        if stamp := _STAMP.match(buffer, start, end):
            time = of_bytes(stamp[1].replace(b",", b"."))
        elif told.access[row]:
            written = _WRITTEN.match(buffer, start, end)
            time = common_log(written[1]) if written else None
        else:
            keyed = _LOGFMT_TIME.search(buffer[start : min(end, start + 256)])
            time = of_bytes(keyed[1]) if keyed else None
        if time is not None:
            told.time[row] = time


assert len(PAD) >= _HEAD, "a window at the last line must end in the pad"

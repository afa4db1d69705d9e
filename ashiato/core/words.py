"""The tokeniser over whole columns: where each word of each text stands, without a Python object per word.

What :func:`ashiato.core.tokens.tokens` says of one text, this says of many, in the same order: rows of ASCII by
classes of bytes, other rows by classes of code points. Texts are taken in blocks that stay in the processor's cache.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ashiato.core.limits import KIB
from ashiato.core.table import offsets_of
from ashiato.core.tokens import CJK, TOKEN_CHARS_MAX, fold

Ints = npt.NDArray[np.int64]
Octets = npt.NDArray[np.uint8]

BLOCK_BYTES: Final = 384 * KIB
"""Bytes of text worked on at once: with its arrays it fits a cache of some MiB."""
PADDING: Final = bytes(32)
"""Behind every text, so that whole machine words can be read at its end."""

_FOLDED: Final = bytes(
    ord(chr(octet).lower()) if octet < 0x80 and (chr(octet).isalnum() or octet == ord("_")) else 0
    for octet in range(256)
)
"""An ASCII byte of a word in lower case; everything else is zero, which is in no word."""
_ASCII_END: Final = 0x80
_UTF8_STEPS: Final = (0x80, 0x800, 0x10000)
_OTHER, _WORD, _CJK = 0, 1, 2
_CODE_POINTS: Final = 0x110000


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The words of some texts, in order."""

    text: Octets
    """Folded, all that is in no word zeroed where it is ASCII; a multiple of eight bytes, padded."""
    source: bytes
    """The same places before folding; b'' for texts that are not ASCII: their letters stand in ``text`` itself."""
    starts: Ints
    lengths: Ints
    row_starts: Ints
    """Where each text begins in ``text``."""
    rows: Ints
    """The number of each of these texts in its column."""

    def row_at(self, places: Ints) -> Ints:
        """Return which of these texts holds each place."""
        found: Ints = np.searchsorted(self.row_starts, places, side="right") - 1
        return found


def words_of(texts: pa.Array[Any] | pa.ChunkedArray[Any]) -> Iterator[Words]:
    """Yield the words of a column of strings, block by block; a null has none."""
    array: Any = texts
    if isinstance(texts, pa.ChunkedArray):
        array = texts.combine_chunks() if texts.num_chunks != 1 else texts.chunk(0)
    if not len(array):
        return
    array = array.cast(pa.string())
    offsets = offsets_of(array).astype(np.int64)
    buffer = array.buffers()[2]
    content = memoryview(buffer if buffer is not None else b"")
    first = 0
    while first < len(array):
        end = int(np.searchsorted(offsets, offsets[first] + BLOCK_BYTES, side="right")) - 1
        end = min(max(end, first + 1), len(array))
        start, stop = int(offsets[first]), int(offsets[end])
        yield from _of_block(content[start:stop].tobytes(), offsets[first : end + 1] - start, first)
        first = end


def words_of_texts(texts: Sequence[str]) -> Iterator[Words]:
    """As :func:`words_of`, for some texts at hand."""
    return words_of(pa.array(texts, pa.string()))


def _of_block(content: bytes, offsets: Ints, first: int) -> Iterator[Words]:
    folded = np.frombuffer(bytearray(content.translate(_FOLDED) + PADDING[len(content) % 8 :]), np.uint8)
    rows = np.arange(first, first + len(offsets) - 1)
    if not content.isascii():
        at = np.flatnonzero(np.frombuffer(content, np.uint8) >= _ASCII_END)
        odd = np.zeros(len(offsets) - 1, np.bool_)
        odd[np.searchsorted(offsets, at, side="right") - 1] = True
        others = np.flatnonzero(odd)
        yield _beyond_ascii([content[offsets[row] : offsets[row + 1]].decode() for row in others], rows[others])
        if odd.all():
            return
        blanked = bytearray(content)
        for start, end in zip(offsets.take(others).tolist(), offsets.take(others + 1).tolist(), strict=True):
            folded[start:end] = 0
            blanked[start:end] = bytes(end - start)
        content = bytes(blanked)
    starts, ends = _runs(folded[: len(content)] != 0, offsets[1:-1])
    starts, ends = _in_pieces(starts, ends)
    yield Words(
        text=folded, source=content, starts=starts, lengths=ends - starts, row_starts=offsets[:-1], rows=rows
    )  # fmt: skip


def _runs(inside: npt.NDArray[np.bool_], borders: Ints) -> tuple[Ints, Ints]:
    """Return where runs begin and end; one that crosses a border between texts is two."""
    changes = np.empty(len(inside) + 1, np.bool_)
    changes[0], changes[-1] = inside[:1].any(), inside[-1:].any()
    np.not_equal(inside[1:], inside[:-1], out=changes[1:-1])
    edges = np.flatnonzero(changes)
    starts, ends = edges[0::2].copy(), edges[1::2].copy()
    within = borders[(borders > 0) & (borders < len(inside))]
    crossed = within[inside[within] & inside[within - 1] & (np.diff(within, prepend=0) != 0)]
    if len(crossed):
        starts, ends = np.sort(np.concatenate((starts, crossed))), np.sort(np.concatenate((ends, crossed)))
    return starts, ends


def _in_pieces(starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """Cut runs longer than a token may be, in order."""
    lengths = ends - starts
    if not len(lengths) or lengths.max() <= TOKEN_CHARS_MAX:
        return starts, ends
    counts = -(-lengths // TOKEN_CHARS_MAX)
    run = np.repeat(np.arange(len(starts)), counts)
    nth = np.arange(len(run)) - np.repeat(np.cumsum(counts) - counts, counts)
    cut = starts[run] + nth * TOKEN_CHARS_MAX
    return cut, np.minimum(cut + TOKEN_CHARS_MAX, ends[run])


def _beyond_ascii(texts: Sequence[str], rows: Ints) -> Words:
    """Return the words of texts by code point: runs of letters in pieces, runs of CJK characters in pairs."""
    folded = [fold(text) for text in texts]
    joined = "\n".join(folded) + "\n"
    points = np.frombuffer(joined.encode("utf-32-le"), np.uint32)
    classes = _classes()[points]
    widths = np.ones(len(points), np.int64)
    for step in _UTF8_STEPS:
        widths += points >= step
    places = np.concatenate((np.zeros(1, np.int64), np.cumsum(widths)))
    lengths = np.fromiter(map(len, folded), np.int64, len(folded)) + 1
    row_starts = np.cumsum(lengths) - lengths
    starts, ends = _in_pieces(*_runs(classes == _WORD, row_starts[:0]))
    pair_starts, pair_ends = _pairs(*_runs(classes == _CJK, row_starts[:0]))
    starts, ends = np.concatenate((starts, pair_starts)), np.concatenate((ends, pair_ends))
    order = np.argsort(starts, kind="stable")
    starts, ends = places[starts[order]], places[ends[order]]
    content = joined.encode()
    text = np.frombuffer(content + PADDING[len(content) % 8 :], np.uint8)
    return Words(
        text=text, source=b"", starts=starts, lengths=ends - starts, row_starts=places[row_starts], rows=rows
    )  # fmt: skip


def _pairs(starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """Return each two neighbours of each run; of a run of one, that one."""
    counts = np.maximum(ends - starts - 1, 1)
    run = np.repeat(np.arange(len(starts)), counts)
    at = starts[run] + np.arange(len(run)) - np.repeat(np.cumsum(counts) - counts, counts)
    return at, np.minimum(at + 2, ends[run])


@cache
def _classes() -> Octets:
    """Return the class of every code point: in no word, in a word, in a word as a CJK character."""
    every = np.arange(_CODE_POINTS, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    classes = np.zeros(_CODE_POINTS, np.uint8)
    for found in re.finditer(r"\w+", every):
        classes[found.start() : found.end()] = _WORD
    for found in re.finditer(f"[{CJK}]+", every):
        classes[found.start() : found.end()] *= _CJK
    return classes

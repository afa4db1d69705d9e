"""Tokens as 64-bit hashes: what a filter is asked for, and what it is built from.

Both sides use the same functions over the same words, so a filter that lacks a hash lacks the token. Beside each
token stands each *window*: four tokens next to each other that are short hexadecimal numbers, as in an IPv4 or IPv6
address, hashed as one. A window is a fact of four tokens and of nothing around them, as the predicate asks for tokens
that stand next to each other whatever separates them: in ``10.2.3.4-10.2.3.9`` both addresses are found.

Tokens that tell nothing are left out, on both sides, by their own letters alone: see :func:`_is_telling`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ashiato.core.words import Ints, Words, words_of_texts

TOKENISER_VERSION: Final = 1
"""Raised whenever a text gives other hashes than before: filters of another version prune nothing."""

Hashes = npt.NDArray[np.uint64]
U64 = np.uint64

_SHORT: Final = 8
"""Bytes of a token that is its own key."""
_WINDOW: Final = 4
_PART_BYTES: Final = 4
"""Digits of one part of an address."""
_FACTORS: Final = tuple(
    map(U64, (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5, 0x85EBCA77C2B2AE63))
)
_MIXER: Final = U64(0xD6E8FEB86659FD93)
_WINDOW_SALT: Final = U64(0x51A7E5C9B3D1F087)
_MASKS: Final = np.array([(1 << (8 * count)) - 1 for count in range(_SHORT + 1)], U64)
_HIGH: Final = U64(32)

_DIGIT, _HEX_LETTER = 1, 2
_KIND: Final = np.zeros(256, np.uint8)
_KIND[ord("0") : ord("9") + 1] = _DIGIT
_KIND[ord("a") : ord("f") + 1] = _HEX_LETTER
_HEX, _DECIMAL_OCTET, _LETTER = 1, 2, 4
"""Shapes of a token that may be part of an address."""


def hashes_of_text(texts: Sequence[str]) -> Hashes:
    """Return the hashes of all words of some texts, sorted, each once."""
    return gathered(found for words in words_of_texts(texts) for found in hashes_in(words))


def gathered(parts: Iterable[Hashes]) -> Hashes:
    """Return hashes in order, each once."""
    return _once(np.concatenate([np.zeros(0, U64), *parts]))


def hashes_in(words: Words, windows: Windows | None = None) -> tuple[Hashes, ...]:
    """Return the hashes of a block's words and windows; windows found before need not be found again."""
    text, lengths = _Text(words.text), words.lengths
    short = np.flatnonzero(lengths <= _SHORT)
    keys = text.keys(words.starts.take(short), lengths.take(short))
    long = np.flatnonzero(lengths > _SHORT)
    keys = _once(keys)
    told = keys[_is_telling(keys)]
    others = _of_long(text, words.starts.take(long), lengths.take(long))
    return _of_keys(told), _once(others), _of_windows(windows or windows_of(words))


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Where four neighbours of one text are parts of an address."""

    at: Ints
    """The number of the first word."""
    parts: tuple[Hashes, ...]
    """The four words, each as its bytes."""
    is_decimal: npt.NDArray[np.bool_]
    """Whether all four are whole numbers up to 255, as in an IPv4 address."""


def windows_of(words: Words) -> Windows:
    """Return the windows of a block, in order."""
    brief = words.lengths <= _PART_BYTES
    within = brief[:-3] & brief[1:-2] & brief[2:-1] & brief[3:]
    at = np.flatnonzero(within)
    # Windows overlap, so each word in one is looked at once.
    marked = np.zeros(len(brief), np.bool_)
    for nth in range(_WINDOW if len(at) else 0):
        marked[nth : len(brief) - _WINDOW + 1 + nth] |= within
    parts = np.flatnonzero(marked)
    place = np.cumsum(marked, dtype=np.int32).take(at) - 1
    keys = keys_of(words, parts)
    shapes = _shapes(keys)
    several = [shapes.take(place + nth) for nth in range(_WINDOW)]
    every, some = np.bitwise_and.reduce(several), np.bitwise_or.reduce(several)
    is_decimal = every & _DECIMAL_OCTET != 0
    good = np.flatnonzero(is_decimal | ((every & _HEX != 0) & (some & _LETTER != 0)))
    first, last = words.starts.take(at.take(good)), words.starts.take(at.take(good) + _WINDOW - 1)
    good = good[words.row_at(first) == words.row_at(last)]
    return Windows(
        at=at.take(good),
        parts=tuple(keys.take(place.take(good) + nth) for nth in range(_WINDOW)),
        is_decimal=is_decimal.take(good),
    )


def keys_of(words: Words, at: Ints) -> Hashes:
    """Return the bytes of words of at most eight, the first lowest."""
    return _Text(words.text).keys(words.starts.take(at), words.lengths.take(at))


def _once(values: Hashes) -> Hashes:
    if len(values) < 2:
        return values
    values = np.sort(values)
    kept = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=kept[1:])
    return values[kept]


class _Text:
    """Machine words at any place of a text."""

    def __init__(self, octets: npt.NDArray[np.uint8]) -> None:
        self._aligned = octets.view(U64)

    def word(self, places: Ints) -> Hashes:
        return _word(self._aligned, places)

    def keys(self, places: Ints, lengths: Ints) -> Hashes:
        return bytes_at(self._aligned, places, lengths)


def bytes_at(aligned: Hashes, places: Ints, lengths: Ints) -> Hashes:
    """Return up to eight bytes at each place of a padded text, the first lowest."""
    found: Hashes = _word(aligned, places) & _MASKS.take(lengths)
    return found


def _word(aligned: Hashes, places: Ints) -> Hashes:
    """Read at any place by two aligned reads, five times as fast as one unaligned gather."""
    shifts = ((places & 7) << 3).view(U64)
    at = places >> 3
    low = aligned.take(at) >> shifts
    # Shifted by 64 in two steps: one such shift is not defined.
    high = (aligned.take(at + 1) << U64(1)) << (U64(63) - shifts)
    found: Hashes = low | high
    return found


def mixed(values: Hashes) -> Hashes:
    """Return each value with its bits spread over all of it."""
    values = (values ^ (values >> _HIGH)) * _MIXER
    found: Hashes = values ^ (values >> _HIGH)
    return found


def _of_keys(keys: Hashes) -> Hashes:
    return mixed(keys * _FACTORS[0])


def _of_long(text: _Text, starts: Ints, lengths: Ints) -> Hashes:
    """Hash the first, second, middle and last eight bytes: two long words that agree there are one, which is safe."""
    value = text.word(starts) * _FACTORS[0]
    value += text.keys(starts + _SHORT, np.minimum(lengths - _SHORT, _SHORT)) * _FACTORS[2]
    value ^= text.word(starts + lengths - _SHORT) * _FACTORS[3]
    value += text.word(starts + (lengths >> 1) - _SHORT // 2) * _FACTORS[4]
    return mixed(value + lengths.view(U64) * _FACTORS[1])


def _is_telling(keys: Hashes) -> npt.NDArray[np.bool_]:
    """Tell which short tokens are worth a place: not the middle of a UUID.

    Four hexadecimal digits of both kinds (``4b7d``) are the most frequent distinct tokens of logs and among the least
    sought; the other parts of a UUID still tell it, and a part of an address stands in windows.
    """
    telling = np.ones(len(keys), np.bool_)
    four = np.flatnonzero((keys > U64(0xFFFFFF)) & (keys <= U64(0xFFFFFFFF)))
    kinds = _KIND.take(keys.take(four).view(np.uint8).reshape(-1, _SHORT)[:, :_PART_BYTES])
    telling[four] = (kinds == 0).any(1) | (kinds == _DIGIT).all(1) | (kinds == _HEX_LETTER).all(1)
    return telling


def _of_windows(windows: Windows) -> Hashes:
    value = np.full(len(windows.at), _WINDOW_SALT, U64)
    for part in windows.parts:
        value = mixed((value + part) * _FACTORS[1])
    return _once(value)


def _shapes(keys: Hashes) -> npt.NDArray[np.uint8]:
    """Return what tokens of at most four bytes may be parts of."""
    pairs = keys.view(np.uint16)
    first, second = pairs[0::4], pairs[1::4]
    hexadecimal = _HEX_PAIRS.take(first) & _HEX_PAIRS.take(second)
    letter = (_LETTER_PAIRS.take(first) | _LETTER_PAIRS.take(second)) & _LETTER
    octet = ((_OCTET_THIRDS.take(first) >> _THIRDS.take(second)) & 1) * np.uint8(_DECIMAL_OCTET)
    found: npt.NDArray[np.uint8] = hexadecimal | letter | octet.astype(np.uint8)
    return found


def _pair_tables() -> tuple[npt.NDArray[Any], ...]:
    """Return, for two bytes of a token, zero behind its end: hexadecimal, with a letter, and what octets go on so."""
    octets = np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
    kinds = _KIND.take(octets)
    hexadecimal = ((kinds != 0) | (octets == 0)).all(1) * np.uint8(_HEX)
    letters = (kinds == _HEX_LETTER).any(1) * np.uint8(_LETTER)
    thirds = np.full(1 << 16, 31, np.uint32)
    thirds[0] = 10
    thirds[ord("0") : ord("9") + 1] = np.arange(10)
    allowed = np.zeros(1 << 16, np.uint32)
    for octet in range(256):
        digits = str(octet).encode()
        allowed[int.from_bytes(digits[:2], "little")] |= 1 << int(thirds[int.from_bytes(digits[2:], "little")])
    return hexadecimal, letters, allowed, thirds


_HEX_PAIRS, _LETTER_PAIRS, _OCTET_THIRDS, _THIRDS = _pair_tables()

"""Tests of the body's words: a cheap superset over whole columns first, the exact test of tokens on what is left.

Plain rows (ASCII, no run of letters longer than a token) are decided by one expression. In other rows what it finds is
found, and what it does not find is for the tokeniser to say.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ashiato.core.errors import RejectedError
from ashiato.core.string_match import ANY_ONE, ANY_RUN, Mask, StringTest, Values, escaped, is_true, regex, wild
from ashiato.core.tokens import CJK, TOKEN_CHARS_MAX, fold, tokens

_WORD: Final = "[0-9A-Za-z_]"
_GAP: Final = r"[^0-9A-Za-z_\x{80}-\x{10ffff}]"
"""Between two words, whatever else a text holds: only ASCII that is in no word."""
_LONG: Final = f"{_WORD}{{{TOKEN_CHARS_MAX + 1}}}"
_CJK_CHARACTER: Final = re.compile(f"[{CJK}]")
_CJK_RUN: Final = re.compile(rf"\W*([{CJK}]{{2,}})\W*")

UNEQUAL_FOLDS: Final = "".join(
    character
    for character in map(
        chr, itertools.chain(range(0xDF, 0x250), range(0x370, 0x590), range(0x1E00, 0x2000), range(0xFB00, 0xFB18))
    )
    if len(fold(character)) > 1
)
"""Characters that fold to several, as ß to ss: all whose case RE2 does not fold as the tokeniser does."""


def term(value: str) -> StringTest:
    """Return the test that the tokens of ``value`` stand next to each other in a text.

    Raises:
        RejectedError: there is no token in ``value``.

    """
    words = list(tokens(value))
    if not words:
        raise RejectedError("there is no word in it; give letters or digits, or a regular expression", value=value)
    if all(map(str.isascii, words)):
        middle = f"{_GAP}+".join(map(escaped, words))
        surely = regex(rf"(?i)(?:\A|{_GAP}){middle}(?:\z|{_GAP})")
    else:
        surely = _run(value, words)
    wanted = "\n" + "\n".join(words) + "\n"

    def exact(texts: Sequence[str]) -> Mask:
        return np.fromiter((wanted in f"\n{chr(10).join(tokens(text))}\n" for text in texts), np.bool_, len(texts))

    return _matcher(list(dict.fromkeys(words)), surely, exact)


def wildcard(pattern: str) -> StringTest:
    """Return the test that ``pattern`` matches any one token of a text.

    Raises:
        RejectedError: no token can match it.

    """
    parts = _parts(pattern)
    if parts == [ANY_RUN]:
        parts = [ANY_ONE, ANY_RUN]  # a word has a character at least
    body = "".join(f"{_WORD}*" if p == ANY_RUN else _WORD if p == ANY_ONE else escaped(p[1:]) for p in parts)
    surely = regex(rf"(?i)(?:\A|{_GAP}){body}(?:\z|{_GAP})")
    line = "".join("[^\n]*" if p == ANY_RUN else "[^\n]" if p == ANY_ONE else escaped(p[1:]) for p in parts)
    over_lines = regex(rf"(?m)^{line}$")

    def exact(texts: Sequence[str]) -> Mask:
        lines = pa.array(["\n".join(dict.fromkeys(tokens(text))) for text in texts], pa.string())
        return over_lines(pa.chunked_array([lines]))

    return _matcher(list(filter(None, _literals(parts))) or [""], surely, exact)


def _parts(pattern: str) -> list[str]:
    parts = [part if part in (ANY_RUN, ANY_ONE) else f"={letter}" for part in wild(pattern) for letter in _folded(part)]
    for part in parts:
        if part not in (ANY_RUN, ANY_ONE) and not re.fullmatch(r"\w", part[1:]):
            raise RejectedError(
                "a wildcard in text is held against one word, and this stands in none; use a regular expression",
                pattern=pattern, character=part[1:],
            )  # fmt: skip
    if _CJK_CHARACTER.search(pattern) and max(map(len, _literals(parts))) > 2:
        raise RejectedError("text without spaces is searched by two characters: leave the wildcard out", value=pattern)
    if not parts:
        raise RejectedError("an empty pattern matches no word")
    return parts


def _folded(part: str) -> str:
    return part if part in (ANY_RUN, ANY_ONE) else fold(part[1:])


def _literals(parts: Sequence[str]) -> list[str]:
    """Return the runs of literal characters between the wildcards; never an empty list."""
    text = "".join(" " if part in (ANY_RUN, ANY_ONE) else part[1:] for part in parts)
    return text.split(" ")


def _run(value: str, words: Sequence[str]) -> StringTest:
    """Return the test that a text holds the one run of CJK characters that ``value`` is; else a test of nothing."""
    match = _CJK_RUN.fullmatch(value)
    if match is None or words[0] + "".join(word[1:] for word in words[1:]) != match[1]:
        return _nowhere
    return _holds(match[1])


def _matcher(needles: Sequence[str], surely: StringTest, exact: Callable[[Sequence[str]], Mask]) -> StringTest:
    """Return the test in steps: all ``needles`` must stand in a text in some case, then ``surely``, then ``exact``."""
    first, *others = sorted(needles, key=len, reverse=True)

    def evaluate(texts: Values) -> Mask:
        # (1) rows that hold the longest needle; what RE2 folds otherwise stays in
        found = _holds(first)(texts)
        is_ascii = is_true(pc.string_is_ascii)(texts)
        if not is_ascii.all():
            found |= _odd_folds(texts)
        at = np.flatnonzero(found)
        if not len(at):
            return found
        # (2) rows in which the expression is sure
        left = texts.take(at)
        is_short = ~_has_long_run(left)
        found[at] = surely(left) & is_short
        # (3) rows that it cannot judge, unless another needle is missing
        at = at[~found[at] & ~(is_ascii[at] & is_short)]
        for needle in others:
            left = texts.take(at)
            at = at[_holds(needle)(left) | _odd_folds(left)]
        if len(at):
            found[at] = exact([str(text) for text in texts.take(at).to_pylist()])
        return found

    return evaluate


def _holds(needle: str) -> StringTest:
    return is_true(lambda texts: pc.match_substring(texts, needle, ignore_case=True))


def _has_long_run(texts: Values) -> Mask:
    if int(pc.max(pc.binary_length(texts)).as_py() or 0) <= TOKEN_CHARS_MAX:
        return _nowhere(texts)
    return _long_run(texts)


_long_run: Final = regex(_LONG)
_odd_folds: Final = regex(f"[{UNEQUAL_FOLDS}]")


def _nowhere(texts: Values) -> Mask:
    return np.zeros(len(texts), np.bool_)

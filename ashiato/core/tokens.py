"""The one tokeniser: what a word is, for searching, for filters and for every index.

A token is a run of letters, digits and underscores, case folded. A run of Chinese, Japanese or Korean characters
gives its bigrams, so that ``認証`` is found in ``利用者認証に失敗``; a single such character stays itself. A run longer
than :data:`TOKEN_CHARS_MAX` gives pieces of that length, so nothing of a text is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

TOKEN_CHARS_MAX: Final = 256
"""Characters of one token: far more than any name, and far less than Lucene's 32,766 bytes."""

CJK: Final = (
    "\u1100-\u11ff\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3041-\u3096\u309d-\u309f\u30a1-\u30fa"
    "\u30fc-\u30ff\u3105-\u312f\u3131-\u318e\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97c"
    "\uac00-\ud7a3\ud7b0-\ud7fb\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
"""Inside a character class: the scripts that are written without spaces and are cut into bigrams."""

_ASCII_WORD: Final = re.compile(r"[0-9a-z_]+")
_WORD: Final = re.compile(r"\w+")
_PART: Final = re.compile(f"[{CJK}]+|[^{CJK}]+")
_CJK_CHARACTER: Final = re.compile(f"[{CJK}]")


def fold(text: str) -> str:
    """Return ``text`` without differences of case."""
    return text.casefold()


def tokens(text: str) -> Iterator[str]:
    """Yield the tokens of ``text`` in order, doubles included.

    >>> list(tokens("GET /api/v1 利用者認証"))
    ['get', 'api', 'v1', '利用', '用者', '者認', '認証']
    """
    if text.isascii():
        for word in _ASCII_WORD.findall(text.lower()):
            if len(word) <= TOKEN_CHARS_MAX:
                yield word
            else:
                yield from _pieces(word)
        return
    folded = fold(text)
    for word in _WORD.findall(folded):
        if word.isascii() or not _CJK_CHARACTER.search(word):
            yield from _pieces(word)
        else:
            yield from _mixed(word)


def _mixed(word: str) -> Iterator[str]:
    for part in _PART.findall(word):
        if not _CJK_CHARACTER.match(part):
            yield from _pieces(part)
        elif len(part) == 1:
            yield part
        else:
            for at in range(len(part) - 1):
                yield part[at : at + 2]


def _pieces(word: str) -> Iterator[str]:
    for at in range(0, len(word), TOKEN_CHARS_MAX):
        yield word[at : at + TOKEN_CHARS_MAX]

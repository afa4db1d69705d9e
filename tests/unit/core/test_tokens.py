"""What a word is."""

from __future__ import annotations

import sys

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ashiato.core.text_match import UNEQUAL_FOLDS
from ashiato.core.tokens import TOKEN_CHARS_MAX, fold, tokens


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GET /api/v1/Cart_items 200", ["get", "api", "v1", "cart_items", "200"]),
        ("", []),
        (" -- !", []),
        ("利用者認証に失敗", ["利用", "用者", "者認", "認証", "証に", "に失", "失敗"]),
        ("猫", ["猫"]),
        ("ERROR認証abc猫7", ["error", "認証", "abc", "猫", "7"]),
        ("Straße ΑΒΓ", ["strasse", "αβγ"]),
        ("로그인 실패", ["로그", "그인", "실패"]),
        ("ﾛｸﾞｲﾝ", ["ﾛｸ", "ｸﾞ", "ﾞｲ", "ｲﾝ"]),
        ("a" * (TOKEN_CHARS_MAX + 3), ["a" * TOKEN_CHARS_MAX, "aaa"]),
        ("é" * (TOKEN_CHARS_MAX + 3), ["é" * TOKEN_CHARS_MAX, "ééé"]),
    ],
)
def test_a_text_is_cut_into_words(text: str, expected: list[str]) -> None:
    assert list(tokens(text)) == expected


def test_every_character_folds_as_the_vectorised_search_folds_it_or_is_named() -> None:
    # given every character whose case folds at all
    characters = [chr(n) for n in range(sys.maxunicode + 1) if not 0xD800 <= n < 0xE000]
    folding = [c for c in characters if fold(c) != c]
    # then all that fold to several are known, and RE2 finds every other one under its fold
    assert {c for c in folding if len(fold(c)) > 1} == set(UNEQUAL_FOLDS)
    by_fold: dict[str, list[str]] = {}
    for character in folding:
        by_fold.setdefault(fold(character), []).append(character)
    for folded, group in by_fold.items():
        if len(folded) == 1:
            assert pc.all(pc.match_substring(pa.array(group), folded, ignore_case=True)).as_py(), group

"""Tests of whole strings: what a node means on a column of text that is not the body, and on attributes' values.

Masks are NumPy arrays without nulls: a null, and an empty string, matches nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal, TypeAlias, assert_never

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ashiato.core.errors import RejectedError
from ashiato.core.query import Exists, Phrase, Range, Regex, Term, Wildcard

Mask = npt.NDArray[np.bool_]
Values: TypeAlias = "pa.ChunkedArray[Any]"
StringTest: TypeAlias = "Callable[[Values], Mask]"
Comparison = Literal["equal", "not_equal", "less", "less_equal", "greater", "greater_equal"]

PATTERN_CHARS_MAX: Final = 1000
"""Characters of a regular expression or wildcard: RE2's memory is bounded, a person's patience too."""

_SPECIAL: Final = re.compile(r"[^0-9A-Za-z_\u0080-\U0010ffff]")
ANY_RUN: Final = "*"
ANY_ONE: Final = "?"


def string_test(node: Term | Phrase | Wildcard | Regex | Range | Exists) -> StringTest:
    """Return the test of ``node`` on whole strings.

    Raises:
        RejectedError: it cannot be evaluated.

    """
    match node:
        case Term(value=value) | Phrase(value=value):
            return compared("equal", pa.scalar(value)) if value else _nowhere
        case Wildcard(pattern=pattern):
            return regex(whole(pattern))
        case Regex(pattern=pattern):
            return regex(pattern)
        case Range():
            return _between(node)
        case Exists():
            return exists
        case _:
            assert_never(node)


def regex(pattern: str) -> StringTest:
    """Return the test that RE2 finds ``pattern`` anywhere.

    Raises:
        RejectedError: not a pattern that RE2 takes.

    """
    if len(pattern) > PATTERN_CHARS_MAX * 8:
        raise RejectedError("the pattern is too long", chars_max=PATTERN_CHARS_MAX)
    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except (pa.ArrowInvalid, UnicodeEncodeError) as error:
        raise RejectedError("not a regular expression that RE2 takes", pattern=pattern, reason=str(error)) from error
    found = is_true(lambda texts: pc.match_substring_regex(texts, pattern))
    return lambda texts: found(texts) & exists(texts)


def exists(values: Values) -> Mask:
    """Return where there is a value."""
    if pa.types.is_string(values.type):
        return _is_not_empty(values)
    return is_true(pc.is_valid)(values)


def compared(comparison: Comparison, bound: pa.Scalar[Any]) -> StringTest:
    """Return the test of values against ``bound``, which is of their type."""
    return is_true(lambda values: pc.call_function(comparison, [values, bound]))


def is_true(compute: Callable[[Values], Any]) -> StringTest:
    """Return ``compute``'s result as a mask; null is false."""

    def evaluate(values: Values) -> Mask:
        result = pc.fill_null(compute(values), False)
        found: Mask = np.asarray(result.to_numpy(), np.bool_)
        return found if found.flags.writeable else found.copy()

    return evaluate


def all_hold(tests: Sequence[StringTest]) -> StringTest:
    """Return the test that every one of ``tests`` holds; of none: always."""

    def evaluate(values: Values) -> Mask:
        found = np.ones(len(values), np.bool_)
        for test in tests:
            found &= test(values)
        return found

    return evaluate


def whole(pattern: str) -> str:
    """Return the regular expression of a wildcard over a whole value."""
    parts = (".*" if part == ANY_RUN else "." if part == ANY_ONE else escaped(part[1:]) for part in wild(pattern))
    return rf"(?s)\A{''.join(parts)}\z"


def wild(pattern: str) -> Iterator[str]:
    r"""Yield the parts of a wildcard: ``*``, ``?``, or ``=`` and one literal character. A backslash takes the next."""
    if len(pattern) > PATTERN_CHARS_MAX:
        raise RejectedError("the pattern is too long", chars_max=PATTERN_CHARS_MAX)
    characters = iter(pattern)
    before = ""
    for character in characters:
        if character in (ANY_RUN, ANY_ONE):
            if character != before or character == ANY_ONE:
                yield character
            before = character
        else:
            before = ""
            yield "=" + (next(characters, "\\") if character == "\\" else character)


def escaped(literal: str) -> str:
    """Return a literal for RE2."""
    return _SPECIAL.sub(lambda found: rf"\x{{{ord(found[0]):x}}}", literal)


def _between(node: Range) -> StringTest:
    tests: list[StringTest] = [exists]
    if node.low:
        tests.append(compared("greater_equal" if node.low_inclusive else "greater", pa.scalar(node.low)))
    if node.high:
        tests.append(compared("less_equal" if node.high_inclusive else "less", pa.scalar(node.high)))

    return all_hold(tests)


def _nowhere(values: Values) -> Mask:
    return np.zeros(len(values), np.bool_)


_is_not_empty: Final = compared("not_equal", pa.scalar(""))

"""Tests of derived attributes: which bodies can hold one at all is seen in the column, the others are decoded.

Strings compare to the letter, numbers and truth values as :func:`ashiato.core.attributes.text_of` writes them; a
range with bounds that are numbers holds for numbers, any range holds for strings by code point.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final, assert_never

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ashiato.core.attributes import Scalar, attribute_of, has_attribute, path_of, text_of
from ashiato.core.errors import RejectedError
from ashiato.core.query import Exists, Phrase, Range, Regex, Term, Wildcard
from ashiato.core.string_match import Mask, StringTest, Values, is_true, regex, whole

PATH_CHARS_MAX: Final = 512
"""Characters of a path: keys of objects are short."""

_SAFE: Final = re.compile(r"[0-9A-Za-z_-]+")
"""What JSON writes as it is, or else with an escape that begins with a backslash and a ``u``."""


def test(node: Term | Phrase | Wildcard | Regex | Range | Exists) -> StringTest:
    """Return the test of ``node`` on a column of bodies.

    Raises:
        RejectedError: it cannot be evaluated.

    """
    path = path_of(node.field)
    if len(path) > PATH_CHARS_MAX:
        raise RejectedError("the field's name is too long", chars_max=PATH_CHARS_MAX)
    needles = [_needle(path)]
    match node:
        case Exists():
            return _matcher(needles, lambda bodies: _marks(has_attribute(body, path) for body in bodies))
        case Term(value=value) | Phrase(value=value):
            if only_string(value):
                needles.append(_needle(value))
            return _matcher(needles, lambda bodies: _marks(_has_text(body, path, value) for body in bodies))
        case Wildcard(pattern=pattern):
            return _matcher(needles, _over_texts(path, regex(whole(pattern))))
        case Regex(pattern=pattern):
            return _matcher(needles, _over_texts(path, regex(pattern)))
        case Range():
            within = _within(node)
            return _matcher(needles, lambda bodies: _marks(any(map(within, attribute_of(b, path))) for b in bodies))
        case _:
            assert_never(node)


def _matcher(needles: Sequence[str], exact: Callable[[Sequence[str]], Mask]) -> StringTest:
    def evaluate(bodies: Values) -> Mask:
        found = _holds(bodies, "{") | _holds(bodies, "=")
        # An auditd record may hold its values in hex, and its serial under no name.
        escapes = _holds(bodies, "\\u") | _holds(bodies, "msg=audit(")
        for needle in filter(None, needles):
            found &= escapes | _holds(bodies, needle)
        at = np.flatnonzero(found)
        if len(at):
            found[at] = exact([str(body) for body in bodies.take(at).to_pylist()])
        return found

    return evaluate


def _holds(bodies: Values, needle: str) -> Mask:
    return is_true(lambda values: pc.match_substring(values, needle))(bodies)


def _needle(text: str) -> str:
    """Return the longest run of ``text`` that a body must hold, unless it holds escapes; '' where there is none.

    A path is cut at its dots, for these may lie between keys.
    """
    return max(_SAFE.findall(text), key=len, default="")


def only_string(value: str) -> bool:
    """Tell whether no number is written as ``value``: the text of a number differs from what stands in the body."""
    if value.startswith(("0x", "-0x")):
        return False
    try:
        float(value)
    except ValueError:
        return True
    return False


def _has_text(body: str, path: str, value: str) -> bool:
    return any(text_of(found) == value for found in attribute_of(body, path))


def _over_texts(path: str, strings: StringTest) -> Callable[[Sequence[str]], Mask]:
    def exact(bodies: Sequence[str]) -> Mask:
        values = [(at, text_of(value)) for at, body in enumerate(bodies) for value in attribute_of(body, path)]
        marks = strings(pa.chunked_array([pa.array([text for _, text in values], pa.string())]))
        found = np.zeros(len(bodies), np.bool_)
        found[[at for (at, _), mark in zip(values, marks.tolist(), strict=True) if mark]] = True
        return found

    return exact


def _within(node: Range) -> Callable[[Scalar], bool]:
    low, high = _number(node.low), _number(node.high)

    def within(value: Scalar) -> bool:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            above = not node.low or (low is not None and (value >= low if node.low_inclusive else value > low))
            below = not node.high or (high is not None and (value <= high if node.high_inclusive else value < high))
            return above and below
        text = text_of(value)
        above = not node.low or (text >= node.low if node.low_inclusive else text > node.low)
        below = not node.high or (text <= node.high if node.high_inclusive else text < node.high)
        return above and below

    return within


def _number(text: str) -> int | float | None:
    if re.fullmatch(r"-?[0-9]{1,400}", text):
        return int(text)
    try:
        number = float(text)
    except ValueError:
        return None
    return None if math.isnan(number) else number


def _marks(marks: Iterable[bool]) -> Mask:
    return np.fromiter(marks, np.bool_)

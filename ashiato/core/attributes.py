"""Derived attributes: what a body says by name, read when it is asked for.

A body that is a JSON object has one attribute for each of its leaves. The path is the keys joined with dots; a key
may hold dots itself, and an array adds nothing to the path: each of its elements is a value of the same attribute.
A null is no value. The leaves of audit events inside an envelope (``core.envelopes``) are attributes of the line
beside the envelope's own, so that one rule means all clouds. A body that is text has the pairs ``key=value`` in it
(logfmt, klog); an auditd record its fields, decoded (``core.auditd_text``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Final

import msgspec

from ashiato.core import auditd_text
from ashiato.core.envelopes import events_in
from ashiato.core.errors import RejectedError

Scalar = str | int | float | bool
"""A value of an attribute, as JSON has it."""

_WHITESPACE: Final = " \t\r\n"
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_DECODER: Final = msgspec.json.Decoder()
_DIGITS_MAX: Final = 4000
PAIRS_MAX: Final = 1024
"""Pairs of one line of text that are looked at."""
_PAIR: Final = re.compile(r'(?:^|(?<=[\s,\[(]))([A-Za-z_@][\w.@/-]{0,127})=("(?:[^"\\]|\\.)*"|[^\s",]*)')


def path_of(field: str) -> str:
    """Return the path that a field of a query means: ``body.user`` is ``user`` where a column has that name."""
    return field.removeprefix("body.") or field


def leaves(body: str) -> Iterator[tuple[str, Scalar]]:
    """Yield (path, value) of every leaf of ``body`` in the order of the text; of what is no JSON object, nothing."""
    stack: list[tuple[str, object]] = [item for root in reversed(_roots(body)) for item in reversed(root.items())]
    while stack:
        path, value = stack.pop()
        if isinstance(value, dict):
            stack.extend((f"{path}.{key}", child) for key, child in reversed(value.items()))
        elif isinstance(value, list):
            stack.extend((path, child) for child in reversed(value))
        elif isinstance(value, (str, int, float)):
            yield path, value


def attribute_of(body: str, path: str) -> list[Scalar]:
    """Return the values of one attribute, [] where the body has none.

    >>> attribute_of('{"user": {"groups": ["a", "b"]}}', "user.groups")
    ['a', 'b']
    """
    found: list[Scalar] = []
    stack: list[tuple[str | None, object]] = [(path, _roots(body))]
    while stack:
        rest, value = stack.pop()
        if isinstance(value, list):
            stack.extend((rest, child) for child in reversed(value))
        elif isinstance(value, dict):
            if rest is not None:
                stack.extend(_below(rest, value))
        elif rest is None and isinstance(value, (str, int, float)):
            found.append(value)
    return found


def has_attribute(body: str, path: str) -> bool:
    """Tell whether the body has a value at ``path``, or below it."""
    stack: list[tuple[str | None, object]] = [(path, _roots(body))]
    while stack:
        rest, value = stack.pop()
        if isinstance(value, list):
            stack.extend((rest, child) for child in value)
        elif isinstance(value, dict):
            inside = ((None, child) for child in value.values())
            stack.extend(_below(rest, value, beneath=True) if rest is not None else inside)
        elif rest is None and value is not None:
            return True
    return False


def text_of(value: Scalar) -> str:
    """Return a value as text, as a query holds it against a term: 'true', '200', '1.5', and a string as it is."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    try:
        return str(value)
    except ValueError:
        # Python refuses to write integers of thousands of digits in decimal.
        assert isinstance(value, int)
        return hex(value)


def _below(rest: str, value: dict[str, object], *, beneath: bool = False) -> Iterator[tuple[str | None, object]]:
    """Yield what lies on the way to ``rest``, or ``beneath`` it, with what is left of the way; None at its end."""
    for key, child in reversed(value.items()):
        if key == rest or (beneath and key.startswith(f"{rest}.")):
            yield None, child
        elif rest.startswith(f"{key}."):
            yield rest[len(key) + 1 :], child


def _roots(body: str) -> list[dict[str, object]]:
    """Return the objects whose keys are attributes of ``body``."""
    if body.lstrip(_WHITESPACE).startswith("{"):
        outer = _object(body)
        return [outer, *events_in(outer)]
    if "=" not in body:
        return []
    said: dict[str, object] = {}
    for name, value in auditd_text.pairs(body) if auditd_text.is_record(body) else _pairs(body):
        known = said.setdefault(name, [])
        assert isinstance(known, list)
        known.append(value)
    return [said]


def _pairs(body: str) -> Iterator[tuple[str, str]]:
    for match in islice(_PAIR.finditer(body), PAIRS_MAX):
        name, value = match.groups()
        yield name, _unquoted(value) if value[:1] == '"' else value


def _unquoted(value: str) -> str:
    try:
        return str(_DECODER.decode(value)) if "\\" in value else value[1:-1]
    except (msgspec.DecodeError, UnicodeEncodeError):
        return value[1:-1]


def _object(body: str) -> dict[str, object]:
    try:
        decoded = _DECODER.decode(body)
    except RecursionError:
        return {}
    except (msgspec.DecodeError, UnicodeEncodeError):
        decoded = _leniently(body)
    return decoded if isinstance(decoded, dict) else {}


def _leniently(body: str) -> object:
    """Decode what RFC 8259 allows and the fast decoder does not: lone surrogates, numbers beyond a double.

    Nobody shall hide an attribute from a rule by writing half a surrogate pair beside it.
    """
    try:
        decoded: object = json.loads(body, parse_constant=_no_constant, parse_int=_integer)
        return json.loads(_SURROGATE.sub("\ufffd", json.dumps(decoded, ensure_ascii=False)))
    except (ValueError, RecursionError, RejectedError):
        return {}


def _integer(digits: str) -> int | str:
    # Python refuses to read thousands of digits; as text they are at least found.
    return int(digits) if len(digits) <= _DIGITS_MAX else digits


def _no_constant(name: str) -> object:
    raise RejectedError("not a JSON value", value=name)

"""The slow way into JSON, for what RFC 8259 allows (or a hostile writer wrote) and the fast decoder refuses.

Bytes that are no UTF-8 and lone surrogates become U+FFFD; nobody shall hide an event by half a character beside it.
Bounded: a line is bounded by its chunk, nesting by the interpreter, digits by :data:`_DIGITS_MAX`.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, TypeVar

import msgspec

from ashiato.core.ids import Kind

T = TypeVar("T")

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_DIGITS_MAX: Final = 1000
"""Digits of a number that is looked at; a longer one is no number of a log."""


class Refusal(StrEnum):
    """Why the parser of its kind refused a line: the labels of a counter, so there are few."""

    EMPTY = "empty"
    NO_HEADER = "no_header"
    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    NESTED_TOO_DEEP = "nested_too_deep"
    NOT_OF_ITS_KIND = "not_of_its_kind"
    """A JSON object that lacks a field that makes it one of its kind, or holds something else in it."""


def convert(line: bytes, type_: type[T]) -> T | None:
    """Return what the JSON object of ``line`` says as ``type_``, None where it cannot be one."""
    decoded = _decode(line)
    if isinstance(decoded, Refusal):
        return None
    try:
        return msgspec.convert(decoded, type_)
    except (msgspec.ValidationError, RecursionError):
        return None


def reason_of(kind: Kind, line: bytes) -> Refusal:
    """Return why a line was refused by the parser of ``kind``."""
    if not line.strip(b" \t\r\n\0"):
        return Refusal.EMPTY
    if kind is Kind.AUDITD or (kind is Kind.CONTAINER and line[:1] != b"{"):
        return Refusal.NO_HEADER
    decoded = _decode(line)
    return decoded if isinstance(decoded, Refusal) else Refusal.NOT_OF_ITS_KIND


def _decode(line: bytes) -> dict[str, Any] | Refusal:
    text = line.decode("utf-8", "replace").strip(" \t\r\n\0")
    if not text.startswith(("{", "[")):
        return Refusal.NOT_JSON
    try:
        decoded: Any = json.loads(text, parse_constant=_refuse, parse_int=_integer, parse_float=Decimal)
        return _mended(decoded) if isinstance(decoded, dict) else Refusal.NOT_AN_OBJECT
    except RecursionError:
        return Refusal.NESTED_TOO_DEEP
    except (ValueError, ArithmeticError):
        return Refusal.NOT_JSON


def _integer(digits: str) -> int | Decimal:
    # int() refuses thousands of digits, and what is done with such a number takes time.
    return int(digits) if len(digits) <= _DIGITS_MAX else Decimal(digits[:_DIGITS_MAX])


def _refuse(name: str) -> None:
    raise ValueError(name)


def _mended(value: Any) -> Any:
    """Return ``value`` with its lone surrogates replaced."""
    if isinstance(value, str):
        return value if value.isascii() else _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_mended(key): _mended(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_mended(child) for child in value]
    return value

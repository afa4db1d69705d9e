"""The query: one abstract syntax for search, timeline, rules and exports.

The text syntax (``core/query_text.py``) parses to this and prints from it. What a node *means* is decided by one
Arrow predicate (``core/predicate.py``); indexes and filters only narrow.

A field is a column in any of its names (``core.record.column_of``), ``log.record.uid``, or else a derived attribute of
a JSON body (``core/attributes.py``); before a path, ``body.`` says that no column is meant. A null or an empty string
in a column is no value.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ashiato.core.limits import QUERY_BYTES_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class All:
    """Every row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """``field:value``.

    On text (``field`` '' or ``body``): the value's tokens stand next to each other in the body. On any other column:
    equal, to the letter. On a derived attribute: its JSON value, as text, equals. On ``flags``: the row carries the
    flag of that name.
    """

    field: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """``"several words"``: on text as Term; on other fields equality."""

    field: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wildcard:
    r"""``field:ab*c?``: ``*`` any run, ``?`` one character, over the whole value (text: over any one token).

    A backslash takes the character behind it as it is.
    """

    field: str
    pattern: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Regex:
    """``field:/re/``: RE2, found anywhere in the value."""

    field: str
    pattern: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """``field:[a TO b}``: '' is unbounded. Numbers compare as numbers, strings by code point.

    The bounds of a time are RFC 3339 or ns since 1970.
    """

    field: str
    low: str = ""
    high: str = ""
    low_inclusive: bool = True
    high_inclusive: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Exists:
    """``_exists_:field``."""

    field: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Not:
    """Rows that ``node`` does not match; a null never matches, so its negation does."""

    node: Node


@dataclass(frozen=True, slots=True, kw_only=True)
class And:
    """All of ``nodes``; of none: every row."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Or:
    """Any of ``nodes``; of none: no row."""

    nodes: tuple[Node, ...]


Node = All | Term | Phrase | Wildcard | Regex | Range | Exists | Not | And | Or


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A predicate, a half-open time range over the ordering time, an order, and a limit in rows and in bytes."""

    where: Node = field(default_factory=All)
    time_start_unix_nano: int | None = None
    time_end_unix_nano: int | None = None
    limit: int = 1000
    order: Literal["oldest_first", "newest_first"] = "newest_first"
    bytes_max: int = QUERY_BYTES_MAX
    """Row data of the answer (``core.table.row_bytes``); one row is answered whatever its size."""

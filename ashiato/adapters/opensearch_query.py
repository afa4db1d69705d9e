"""What OpenSearch is asked: a query that every matching row matches, and others may. Pure.

OpenSearch narrows and the one predicate decides, so each node has two translations: *upper*, which no matching row
fails, and *lower*, which only matching rows pass. A negation turns them round: what surely matches is taken out, and
nothing else. Rows of which a value is not indexed in full are in every upper and in no lower.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, assert_never

from ashiato.adapters import opensearch_mapping as mapping
from ashiato.core.attributes import path_of
from ashiato.core.instant import parse_instant
from ashiato.core.query import All, And, Exists, Node, Not, Or, Phrase, Range, Regex, Term, Wildcard
from ashiato.core.record import UID_FIELD, Column, column_of
from ashiato.core.string_match import ANY_ONE, ANY_RUN, wild
from ashiato.core.tokens import fold, tokens

Dsl: TypeAlias = "dict[str, Any]"
Leaf = Term | Phrase | Wildcard | Regex | Range | Exists

LEAVES_MAX: Final = 40
TOKENS_PER_LEAF_MAX: Final = 8
"""Each is asked for in two fields; together below OpenSearch's 1,024 clauses of one query; a larger predicate is
decided by the rows alone."""
DEEP_MAX: Final = 6
"""Nodes inside nodes that are translated; OpenSearch takes 20 of its own."""
ANY_RUNS_MAX: Final = 4
"""``*`` in one pattern: with more, the automaton that OpenSearch makes of it passes its limit of states."""

_ALL: Final[Dsl] = {"match_all": {}}
_NONE: Final[Dsl] = {"match_none": {}}
_BITS: Final = {"int32": 31, "int64": 63}
_TIMES: Final = ("time_unix_nano", "observed_time_unix_nano")


def narrow(node: Node) -> Dsl:
    """Return a query that every row matches which ``node`` matches. ``node`` is one that can be evaluated."""
    return _bounds(node, 0).upper if _leaves(node) <= LEAVES_MAX else _ALL


@dataclass(frozen=True, slots=True)
class _Bounds:
    """A node from both sides."""

    upper: Dsl
    lower: Dsl


_UNKNOWN: Final = _Bounds(_ALL, _NONE)


def _leaves(node: Node) -> int:
    """Count leaves, breadth by breadth: predicates may be nested deeper than Python's stack."""
    count, layer = 0, [node]
    while layer:
        below: list[Node] = []
        for one in layer:
            match one:
                case And(nodes=nodes) | Or(nodes=nodes):
                    below.extend(nodes)
                case Not(node=inner):
                    below.append(inner)
                case _:
                    count += 1
        layer = below
    return count


def _bounds(node: Node, deep: int) -> _Bounds:
    if deep > DEEP_MAX:
        return _UNKNOWN
    match node:
        case All():
            return _Bounds(_ALL, _ALL)
        case And(nodes=nodes):
            parts = [_bounds(inner, deep + 1) for inner in nodes]
            return _Bounds(_every([part.upper for part in parts]), _every([part.lower for part in parts]))
        case Or(nodes=nodes):
            parts = [_bounds(inner, deep + 1) for inner in nodes]
            return _Bounds(_any([part.upper for part in parts]), _any([part.lower for part in parts]))
        case Not(node=inner):
            part = _bounds(inner, deep + 1)
            return _Bounds(_not(part.lower), _not(part.upper))
        case Term() | Phrase() | Wildcard() | Regex() | Range() | Exists():
            return _leaf(node)
        case _:
            assert_never(node)


def _leaf(node: Leaf) -> _Bounds:
    if node.field == UID_FIELD:
        return _exactly({"ids": {"values": [node.value]}}) if isinstance(node, (Term, Phrase)) else _UNKNOWN
    column = column_of(node.field or "body")
    if column is None:
        return _Bounds(_or_unindexed(_attribute(node), mapping.ATTRIBUTES), _NONE)
    if column.name == "body":
        return _text(node)
    if column.name == "flags":
        flagged = _every([_exists("flags"), _not({"term": {"flags": 0}})])
        return _Bounds(_or_unindexed(flagged, "flags"), flagged if isinstance(node, Exists) else _NONE)
    if column.type == "binary":
        return _UNKNOWN
    found = _string(node, column.name) if column.type == "string" else _number(node, column)
    return _Bounds(_or_unindexed(found.upper, column.name), found.lower)


# -- leaves --------------------------------------------------------------------------------------------------


def _text(node: Leaf) -> _Bounds:
    match node:
        case Term(value=value) | Phrase(value=value):
            words = sorted(set(tokens(value)), key=lambda word: (-len(word), word))
            together = _every([_token(word) for word in words[:TOKENS_PER_LEAF_MAX]])
            # Of several words OpenSearch does not know whether they stand next to each other.
            return _Bounds(_or_unindexed(together, "body"), together if len(words) == 1 else _NONE)
        case Wildcard(pattern=pattern):
            found = [_wildcard(name, pattern, fold) for name in (mapping.BODY, mapping.BODY_TOKENS)]
            return _Bounds(_or_unindexed(_any(found), mapping.BODY), _NONE)
        case Regex() | Range() | Exists():
            return _UNKNOWN
        case _:
            assert_never(node)


def _token(word: str) -> Dsl:
    """Ask for a word where it can stand: a body of ASCII holds no other words."""
    apart: Dsl = {"term": {mapping.BODY_TOKENS: word}}
    return _any([{"term": {mapping.BODY: word}}, apart]) if word.isascii() else apart


def _string(node: Leaf, name: str) -> _Bounds:
    match node:
        case Term(value=value) | Phrase(value=value):
            # A value that is too long stands in the rows that are not indexed in full; an empty one matches nothing.
            if not value or mapping.is_long(value):
                return _exactly(_NONE)
            return _exactly({"term": {name: value}})
        case Exists():
            return _Bounds(_exists(name), _every([_exists(name), _not({"term": {name: ""}})]))
        case Wildcard(pattern=pattern):
            return _Bounds(_wildcard(name, pattern, str), _NONE)
        case Range():
            return _Bounds(_every([_exists(name), _between(node, name)]), _NONE)
        case Regex():
            return _Bounds(_exists(name), _NONE)
        case _:
            assert_never(node)


def _between(node: Range, name: str) -> Dsl:
    bounds: dict[str, str] = {}
    if node.low and not mapping.is_long(node.low):
        bounds["gte" if node.low_inclusive else "gt"] = node.low
    if node.high and not mapping.is_long(node.high):
        bounds["lte" if node.high_inclusive else "lt"] = node.high
    return {"range": {name: bounds}} if bounds else _ALL


def _number(node: Leaf, column: Column) -> _Bounds:
    read: Callable[[str], int] = parse_instant if column.name in _TIMES else int
    most = (1 << _BITS[column.type]) - 1
    match node:
        case Term(value=value) | Phrase(value=value):
            wanted = read(value)
            term = {"term": {column.name: wanted}} if -most - 1 <= wanted <= most else _NONE
            return _Bounds(term, term if wanted > -most else _NONE)
        case Range():
            low = read(node.low) + (not node.low_inclusive) if node.low else -most
            high = read(node.high) - (not node.high_inclusive) if node.high else most
            # The smallest value of its type is the predicate's infinity: it is taken in with what lies next to it.
            low, high = -most - 1 if low <= 1 - most else low, min(high, most)
            upper = {"range": {column.name: {"gte": low, "lte": high}}} if low <= high else _NONE
            return _Bounds(upper, upper if low > -most else _NONE)
        case Exists():
            return _exactly(_exists(column.name))
        case Wildcard() | Regex():
            return _UNKNOWN
        case _:
            assert_never(node)


def _attribute(node: Leaf) -> Dsl:
    name = path_of(node.field)
    match node:
        case Term(value=value) | Phrase(value=value):
            term = mapping.attribute_term(name, value)
            return {"term": {mapping.ATTRIBUTES: term}} if mapping.is_indexed(name, value) else _NONE
        case Exists():
            # It also holds for what lies below the path.
            return _any([_begins(name, mapping.attribute_term(name, "")), _begins(name, f"{name}.")])
        case Wildcard() | Regex() | Range():
            return _begins(name, mapping.attribute_term(name, ""))
        case _:
            assert_never(node)


def _begins(name: str, term: str) -> Dsl:
    return {"prefix": {mapping.ATTRIBUTES: term}} if mapping.is_indexed(name, "") else _NONE


def _wildcard(name: str, pattern: str, folded: Callable[[str], str]) -> Dsl:
    parts = list(wild(pattern))
    if parts.count(ANY_RUN) > ANY_RUNS_MAX or mapping.is_long(pattern):
        return _ALL
    text = "".join(part if part in (ANY_RUN, ANY_ONE) else _literal(folded(part[1:])) for part in parts)
    return {"wildcard": {name: {"value": text}}}


def _literal(text: str) -> str:
    return "".join(f"\\{character}" if character in "*?\\" else character for character in text)


# -- joining -------------------------------------------------------------------------------------------------


def _exactly(query: Dsl) -> _Bounds:
    return _Bounds(query, query)


def _exists(name: str) -> Dsl:
    return {"exists": {"field": name}}


def _or_unindexed(query: Dsl, name: str) -> Dsl:
    """Take rows in of which ``name`` is not indexed in full."""
    return _any([query, {"terms": {mapping.UNINDEXED: [name, mapping.EVERYTHING]}}])


def _every(queries: Sequence[Dsl]) -> Dsl:
    wanted = [query for query in queries if query != _ALL]
    if not wanted:
        return _ALL
    if _NONE in wanted:
        return _NONE
    return wanted[0] if len(wanted) == 1 else {"bool": {"filter": wanted}}


def _any(queries: Sequence[Dsl]) -> Dsl:
    wanted = [query for query in queries if query != _NONE]
    if not wanted:
        return _NONE
    if _ALL in wanted:
        return _ALL
    return wanted[0] if len(wanted) == 1 else {"bool": {"should": wanted, "minimum_should_match": 1}}


def _not(query: Dsl) -> Dsl:
    if query == _ALL:
        return _NONE
    if query == _NONE:
        return _ALL
    match query:
        case {"bool": {"must_not": [inner], **rest}} if not rest:
            return dict(inner)
        case _:
            return {"bool": {"must_not": [query]}}

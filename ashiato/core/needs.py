"""What a query needs of a row group's tokens: if the filter lacks it, no row there can match (Q3).

A need is the predicate's shadow: and, or, and sets of tokens that must all be there. It is a tree and no normal form,
because clauses of many alternatives would multiply. Whatever cannot be told from whole tokens (a negation, a range, a
regular expression, a word cut by a wildcard) needs nothing, and nothing is pruned by it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, assert_never

from ashiato.core.attribute_match import only_string
from ashiato.core.attributes import path_of
from ashiato.core.query import All, And, Exists, Node, Not, Or, Phrase, Range, Regex, Term, Wildcard
from ashiato.core.record import UID_FIELD, Column, column_of
from ashiato.core.string_match import ANY_ONE, ANY_RUN, wild
from ashiato.core.token_hashes import hashes_of_text
from ashiato.core.tokens import fold

_WORD: Final = re.compile(r"\w+")
_INTEGER: Final = re.compile(r"-?[0-9]+")


@dataclass(frozen=True, slots=True)
class Tokens:
    """All of these hashes must be there; of none: nothing is needed."""

    hashes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Every:
    """Each of these needs must be met."""

    needs: tuple[Need, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """One of these needs must be met; of none: it never is."""

    needs: tuple[Need, ...]


Need = Tokens | Every | Some

NOTHING: Final = Tokens()


def needed(node: Node) -> Need:
    """Return what a row group must hold so that one of its rows can match ``node``."""
    match node:
        case All() | Not():
            return NOTHING
        case And(nodes=nodes):
            needs = [need for need in map(needed, nodes) if need != NOTHING]
            return Every(tuple(needs)) if len(needs) > 1 else needs[0] if needs else NOTHING
        case Or(nodes=nodes):
            some = tuple(map(needed, nodes))
            return NOTHING if NOTHING in some else Some(some)
        case Term() | Phrase() | Wildcard() | Regex() | Range() | Exists():
            return Tokens(tuple(sorted({*map(int, hashes_of_text(list(_texts(node))))})))
        case _:
            assert_never(node)


def met(need: Need, holds: Callable[[int], bool]) -> bool:
    """Tell whether what ``holds`` says of single hashes meets the need; it asks no further than it must."""
    match need:
        case Tokens(hashes=hashes):
            return all(map(holds, hashes))
        case Every(needs=needs):
            return all(met(inner, holds) for inner in needs)
        case Some(needs=needs):
            return any(met(inner, holds) for inner in needs)
        case _:
            assert_never(need)


def _texts(node: Term | Phrase | Wildcard | Regex | Range | Exists) -> Iterator[str]:
    """Yield texts all of whose words stand, in that order, in a row that matches."""
    if node.field == UID_FIELD:
        return
    column = column_of(node.field or "body")
    if column is None:
        yield path_of(node.field)
        if isinstance(node, (Term, Phrase)) and _is_written_so(node.value):
            yield node.value
    elif column.type == "string":
        yield from _of_column(node, column)


def _of_column(node: Term | Phrase | Wildcard | Regex | Range | Exists, column: Column) -> Iterator[str]:
    match node:
        case Term(value=value) | Phrase(value=value):
            yield value
        case Wildcard(pattern=pattern):
            parts = list(wild(pattern))
            if ANY_RUN not in parts and ANY_ONE not in parts:
                yield "".join(part[1:] for part in parts)
            elif column.name != "body":
                yield from _whole_words(parts)
        case Regex() | Range() | Exists():
            return
        case _:
            assert_never(node)


def _whole_words(parts: list[str]) -> Iterator[str]:
    """Yield, of each literal run of a wildcard over a whole value, what no neighbour can make part of a longer word."""
    runs = re.split(r"[*?]+", "".join(part if part in (ANY_RUN, ANY_ONE) else "\0" for part in parts))
    literals = iter(part[1:] for part in parts if part not in (ANY_RUN, ANY_ONE))
    for number, run in enumerate(runs):
        text = fold("".join(next(literals) for _ in run))
        whole = [
            found.span()
            for found in _WORD.finditer(text)
            if (number == 0 or found.start() > 0) and (number == len(runs) - 1 or found.end() < len(text))
        ]
        if whole:
            yield text[whole[0][0] : whole[-1][1]]


def _is_written_so(value: str) -> bool:
    """Tell whether an attribute with this text stands in its body in these letters: a fraction may stand otherwise."""
    return only_string(value) or _INTEGER.fullmatch(value) is not None

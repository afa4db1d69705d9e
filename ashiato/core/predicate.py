"""The one predicate: which rows a query means. Indexes and filters only narrow; what this says is the answer.

Every node is compiled once, and refused then if it cannot be evaluated, so that a query is judged the same on no
rows as on many. Nulls and empty strings are no values: they match nothing, and so the negation matches them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, assert_never

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ashiato.core import attribute_match, text_match
from ashiato.core.errors import RejectedError
from ashiato.core.instant import parse_instant
from ashiato.core.query import All, And, Exists, Node, Not, Or, Phrase, Query, Range, Regex, Term, Wildcard
from ashiato.core.record import UID_FIELD, Column, RowFlags, column_of
from ashiato.core.string_match import Comparison, Mask, StringTest, all_hold, compared, exists, is_true, string_test
from ashiato.core.table import in_order, order_times, uids

NODES_DEEP_MAX: Final = 100
"""Nodes inside nodes: far beyond what a person writes, and below what the interpreter can follow."""

UID: Final = re.compile(r"(?P<file_id>.+)-(?P<offset>[0-9a-f]{16})(?P<joined>-j)?")
_UID_COLUMNS: Final = ("file_id", "offset_start", "length", "join_offset")
_TIME_COLUMNS: Final = ("time_unix_nano", "observed_time_unix_nano")
_INT64_MAX: Final = (1 << 63) - 1
_CHEAP, _TEXT, _ATTRIBUTE = 0, 1, 2

Evaluate = Callable[[pa.Table], Mask]
Leaf = Term | Phrase | Wildcard | Regex | Range | Exists


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """A compiled node."""

    cost: int
    columns: frozenset[str]
    """What it reads; a table of only these will do."""
    evaluate: Evaluate


def mask(node: Node, table: pa.Table) -> pa.BooleanArray:
    """Return for each row whether ``node`` matches it; never null.

    Raises:
        RejectedError: the predicate cannot be evaluated.

    """
    return pa.array(compile_node(node).evaluate(table))


def select(query: Query, table: pa.Table) -> pa.Table:
    """Return the rows that ``query`` means, in its order, cut to its limit.

    Raises:
        RejectedError: the query cannot be evaluated, whatever the table holds.

    """
    if query.limit < 0:
        raise RejectedError("a limit below zero", limit=query.limit)
    matching = table.filter(pa.array(compile_query(query).evaluate(table)))
    return in_order(matching, newest_first=query.order == "newest_first", limit=query.limit)


def compile_query(query: Query) -> Test:
    """Return the test of predicate and time range."""
    test = compile_node(query.where)
    start, end = query.time_start_unix_nano, query.time_end_unix_nano

    def evaluate(table: pa.Table) -> Mask:
        times = order_times(table)
        found = np.ones(table.num_rows, np.bool_)
        if start is not None:
            found &= _compared("greater_equal", start)(times)
        if end is not None:
            found &= _compared("less", end)(times)
        return _narrowed(test, table, found)

    return replace(test, columns=test.columns | set(_TIME_COLUMNS), evaluate=evaluate)


def compile_node(node: Node) -> Test:
    """Return the test of a node.

    Raises:
        RejectedError: it cannot be evaluated.

    """
    return _compile(node, NODES_DEEP_MAX)


def _compile(node: Node, deep: int) -> Test:
    if deep <= 0:
        raise RejectedError("the query is nested too deep", deep_max=NODES_DEEP_MAX)
    match node:
        case All():
            return Test(cost=_CHEAP, columns=frozenset(), evaluate=lambda table: np.ones(table.num_rows, np.bool_))
        case And(nodes=nodes):
            return _all_of([_compile(inner, deep - 1) for inner in nodes])
        case Or(nodes=nodes):
            return _any_of([_compile(inner, deep - 1) for inner in nodes])
        case Not(node=inner):
            test = _compile(inner, deep - 1)
            return replace(test, evaluate=lambda table: ~test.evaluate(table))
        case Term() | Phrase() | Wildcard() | Regex() | Range() | Exists():
            return _leaf(node)
        case _:
            assert_never(node)


def _all_of(tests: Sequence[Test]) -> Test:
    ordered = sorted(tests, key=lambda test: test.cost)

    def evaluate(table: pa.Table) -> Mask:
        found = np.ones(table.num_rows, np.bool_)
        for test in ordered:
            found = _narrowed(test, table, found)
        return found

    return _joined(tests, evaluate)


def _any_of(tests: Sequence[Test]) -> Test:
    ordered = sorted(tests, key=lambda test: test.cost)

    def evaluate(table: pa.Table) -> Mask:
        found = np.zeros(table.num_rows, np.bool_)
        for test in ordered:
            found |= _narrowed(test, table, ~found)
        return found

    return _joined(tests, evaluate)


def _joined(tests: Sequence[Test], evaluate: Evaluate) -> Test:
    return Test(
        cost=max((test.cost for test in tests), default=_CHEAP),
        columns=frozenset[str]().union(*(test.columns for test in tests)),
        evaluate=evaluate,
    )


def _narrowed(test: Test, table: pa.Table, among: Mask) -> Mask:
    """Return where ``test`` holds among the rows given; costly tests look at no other rows."""
    count = int(np.count_nonzero(among))
    if count == 0:
        return among
    if count == table.num_rows:
        return test.evaluate(table)
    if test.cost == _CHEAP:
        return among & test.evaluate(table)
    found = among.copy()
    found[among] = test.evaluate(table.select(sorted(test.columns)).filter(pa.array(among)))
    return found


def _leaf(node: Leaf) -> Test:
    if node.field == UID_FIELD:
        return _uid(node)
    column = column_of(node.field or "body")
    if column is None:
        compiled = attribute_match.test(node)
        return Test(cost=_ATTRIBUTE, columns=frozenset({"body"}), evaluate=lambda table: compiled(table["body"]))
    if not node.field and isinstance(node, (Range, Exists)):
        raise RejectedError("a range and an existence need a field")
    name = column.name
    evaluate = _of_column(node, column)
    cost = _TEXT if name == "body" else _CHEAP
    return Test(cost=cost, columns=frozenset({name}), evaluate=lambda table: evaluate(table[name]))


def _of_column(node: Leaf, column: Column) -> StringTest:
    if column.name == "flags":
        return _flags(node)
    if column.type == "binary":
        if isinstance(node, Exists):
            return is_true(pc.is_valid)
        raise RejectedError("raw bytes are not searched; search the body", field=node.field)
    if column.name == "body" and isinstance(node, (Term, Phrase)):
        return text_match.term(node.value)
    if column.name == "body" and isinstance(node, Wildcard):
        return text_match.wildcard(node.pattern)
    if column.type == "string":
        return string_test(node)
    return _number(node, is_time=column.name in _TIME_COLUMNS)


def _number(node: Leaf, *, is_time: bool) -> StringTest:
    read = parse_instant if is_time else _integer
    match node:
        case Term(value=value) | Phrase(value=value):
            return _compared("equal", _of_field(node.field, read, value))
        case Range():
            tests: list[StringTest] = [exists]
            if node.low:
                low = _of_field(node.field, read, node.low)
                tests.append(_compared("greater_equal" if node.low_inclusive else "greater", low))
            if node.high:
                high = _of_field(node.field, read, node.high)
                tests.append(_compared("less_equal" if node.high_inclusive else "less", high))
            return all_hold(tests)
        case Exists():
            return exists
        case Wildcard() | Regex():
            raise RejectedError("a number has no pattern; give a value or a range", field=node.field)
        case _:
            assert_never(node)


def _of_field(field: str, read: Callable[[str], int], text: str) -> int:
    try:
        return read(text)
    except RejectedError as error:
        raise RejectedError(error.message, field=field, **error.facts) from error


def _integer(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,40}", text):
        raise RejectedError("not a whole number", value=text)
    return int(text)


def _compared(comparison: Comparison, bound: int) -> StringTest:
    if abs(bound) > _INT64_MAX:
        # No value is so large: the sign alone says whether all or none match.
        below = comparison in ("less", "less_equal")
        holds = comparison == "not_equal" or (comparison != "equal" and below == (bound > 0))
        return lambda values: exists(values) & holds
    test = compared(comparison, pa.scalar(bound, pa.int64()))
    return lambda values: test(values.cast(pa.int64()))


def _flags(node: Leaf) -> StringTest:
    match node:
        case Exists():
            return _compared("not_equal", 0)
        case Term(value=value) | Phrase(value=value):
            known = {str(flag.name).lower(): int(flag) for flag in RowFlags}
            flag = known.get(value.lower())
            if flag is None:
                raise RejectedError(f"no such flag; there are {', '.join(known)}", field=node.field, value=value)
            return is_true(
                lambda flags: pc.call_function(
                    "not_equal", [pc.bit_wise_and(flags, pa.scalar(flag, pa.int32())), pa.scalar(0)]
                )
            )
        case Wildcard() | Regex() | Range():
            raise RejectedError("a flag is named, or it exists; no patterns or ranges", field=node.field)
        case _:
            assert_never(node)


def _uid(node: Leaf) -> Test:
    columns = frozenset(_UID_COLUMNS)
    if not isinstance(node, (Term, Phrase)):
        strings = string_test(node)

        def evaluate(table: pa.Table) -> Mask:
            return strings(pa.chunked_array([pa.array(uids(table), pa.string())]))

        return Test(cost=_TEXT, columns=columns, evaluate=evaluate)
    parts = UID.fullmatch(node.value)
    offset = int(parts["offset"], 16) if parts is not None else -1
    if parts is None or offset > _INT64_MAX:
        return Test(cost=_CHEAP, columns=columns, evaluate=lambda table: np.zeros(table.num_rows, np.bool_))
    file_id, joined = parts["file_id"], parts["joined"] is not None

    is_empty, is_there, is_file = (
        _compared("equal", 0),
        _compared("equal", offset),
        compared("equal", pa.scalar(file_id)),
    )

    def is_row(table: pa.Table) -> Mask:
        closes = is_empty(table["length"]) & exists(table["join_offset"])
        own = is_file(table["file_id"])
        if joined:
            return own & closes & is_there(table["join_offset"])
        return own & ~closes & is_there(table["offset_start"])

    return Test(cost=_CHEAP, columns=columns, evaluate=is_row)

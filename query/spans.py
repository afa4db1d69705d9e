"""Sets of half-open ranges of integers, as sorted, disjoint tuples of (start, end)."""

from __future__ import annotations

from collections.abc import Iterable

Span = tuple[int, int]
Spans = tuple[Span, ...]


def union(spans: Iterable[Span]) -> Spans:
    """Return the union; ranges that touch become one.

    >>> union([(5, 9), (0, 2), (2, 4)])
    ((0, 4), (5, 9))
    """
    merged: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def without(spans: Iterable[Span], taken: Iterable[Span]) -> Spans:
    """Return what is in ``spans`` and not in ``taken``.

    >>> without([(0, 10)], [(2, 4), (8, 20)])
    ((0, 2), (4, 8))
    """
    left: list[Span] = []
    away = union(taken)
    for whole_start, whole_end in union(spans):
        start = whole_start
        for begin, end in away:
            if end <= start or begin >= whole_end:
                continue
            if begin > start:
                left.append((start, begin))
            start = max(start, end)
        if start < whole_end:
            left.append((start, whole_end))
    return tuple(left)


def size(spans: Iterable[Span]) -> int:
    """Return how many integers are in disjoint ranges."""
    return sum(end - start for start, end in spans)

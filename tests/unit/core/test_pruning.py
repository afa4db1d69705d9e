"""Which row groups can hold a match."""

from __future__ import annotations

import pytest

from ashiato.core.manifest import FileHeld, Manifest, RowGroup
from ashiato.core.pruning import overlaps, row_groups_of
from ashiato.core.query import All, And, Exists, Node, Not, Or, Query, Range, Term, Wildcard

FILES = (
    ("F0", "container/c/n1/shop/web-1/u1/web", (0,)),
    ("F1", "container/c/n2/data/db-1/u2/db", (1, 2)),
    ("F2", "ledger/c/n1/ledger.jsonl", (3,)),
    ("F3", "of-the-future/c/n1/x", (4,)),
)
MANIFEST = Manifest(
    path="p", sha256="", size=0, rows=5, raw_bytes=0, retention_class="container", day="2026-11-24",
    time_min_unix_nano=0, time_max_unix_nano=49, observed_min_unix_nano=0, observed_max_unix_nano=49,
    files=tuple(
        FileHeld(file_id=file_id, source=source, path="", ranges=(), rows=1, row_groups=groups)
        for file_id, source, groups in FILES
    ),
    row_groups=tuple(
        RowGroup(rows=1, raw_bytes=0, time_min_unix_nano=at * 10, time_max_unix_nano=at * 10 + 9) for at in range(5)
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (All(), [0, 1, 2, 3, 4]),
        (Term(field="pod", value="web-1"), [0, 3, 4]),
        (Not(node=Term(field="pod", value="web-1")), [1, 2, 3, 4]),
        (Term(field="node", value="n2"), [1, 2, 4]),
        (Term(field="kind", value="ledger"), [3, 4]),
        (Term(field="file", value="F3"), [4]),
        (Wildcard(field="k8s.pod.uid", pattern="u?"), [0, 1, 2, 3, 4]),
        (Exists(field="pod"), [0, 1, 2, 3, 4]),
        (Not(node=Exists(field="pod")), [3, 4]),
        (Range(field="pod", low="e"), [0, 3, 4]),
        (And(nodes=(Term(field="pod", value="web-1"), Term(field="node", value="n2"))), [4]),
        (Or(nodes=(Term(field="file", value="F0"), Term(field="ns", value="data"))), [0, 1, 2, 3, 4]),
        (Or(nodes=()), []),
        (And(nodes=(Term(field="file", value="F0"), Term(field="", value="timeout"))), [0]),
        (Or(nodes=(Term(field="file", value="F0"), Term(field="", value="timeout"))), [0, 1, 2, 3, 4]),
        (Not(node=And(nodes=(Term(field="file", value="F0"), Term(field="", value="timeout")))), [0, 1, 2, 3, 4]),
        (Not(node=Or(nodes=(Term(field="file", value="F0"), Term(field="", value="timeout")))), [1, 2, 3, 4]),
        (Term(field="log.record.uid", value="F1-0000000000000000"), [1, 2]),
        (Not(node=Term(field="log.record.uid", value="F1-0000000000000000")), [0, 1, 2, 3, 4]),
    ],
)
def test_a_row_group_is_left_out_only_where_its_sources_say_so(where: Node, expected: list[int]) -> None:
    assert row_groups_of(Query(where=where), MANIFEST) == expected


def test_a_row_group_is_left_out_where_its_times_lie_outside() -> None:
    query = Query(time_start_unix_nano=19, time_end_unix_nano=30)
    assert row_groups_of(query, MANIFEST) == [1, 2]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(9, None, True), (10, None, False), (None, 5, False), (None, 6, True), (9, 6, True), (None, None, True)],
)
def test_the_start_is_in_the_range_and_the_end_is_not(start: int | None, end: int | None, *, expected: bool) -> None:
    query = Query(time_start_unix_nano=start, time_end_unix_nano=end)
    assert overlaps(query, 5, 9) is expected

"""Ids and names."""

from __future__ import annotations

import pytest

from ashiato.core.errors import RejectedError
from ashiato.core.ids import (
    CLASS_OF_KIND,
    Kind,
    Source,
    fork_of,
    imported_file_id,
    join_uid,
    next_ulid,
    partition_of,
    record_uid,
    ulid,
)

CONTAINER = Source(
    kind=Kind.CONTAINER, cluster="c", node="n", namespace="shop", pod="web", pod_uid="u-1", container="app"
)


def test_a_source_reads_back_what_it_writes() -> None:
    audit = Source(kind=Kind.AUDIT, cluster="c", node="n", path="var/log/kubernetes/audit.log")
    assert str(CONTAINER) == "container/c/n/shop/web/u-1/app"
    assert Source.parse(str(CONTAINER)) == CONTAINER
    assert Source.parse(str(audit)) == audit


@pytest.mark.parametrize("text", ["", "nothing/c/n/x", "container/c/n/ns/pod", "audit/c/n"])
def test_what_is_no_source_is_rejected(text: str) -> None:
    with pytest.raises(RejectedError):
        Source.parse(text)


def test_container_output_and_plain_files_are_bulk_and_all_else_goes_first() -> None:
    bulk = {kind for kind in Kind if Source(kind=kind, cluster="c", node="n").topic == "ashiato.bulk"}
    assert bulk == {Kind.CONTAINER, Kind.FILE}
    assert set(CLASS_OF_KIND) == set(Kind)


def test_the_partition_of_a_source_is_pinned() -> None:
    # A change would move every source. By sha256sum and bc: the first 8 bytes modulo 1, 3 and 12.
    assert [partition_of(CONTAINER, n) for n in (1, 3, 12)] == [0, 0, 3]


def test_ulids_sort_by_birth_and_carry_their_randomness() -> None:
    first, second = ulid(1_000, b"\xff" * 10), ulid(1_001, b"\0" * 10)
    assert first < second
    assert len(first) == 26
    assert ulid(0, b"\0" * 10) == "0" * 26
    # https://github.com/ulid/spec: the largest one
    assert ulid((1 << 48) - 1, b"\xff" * 10) == "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"


def test_the_next_ulid_is_the_smallest_greater_one() -> None:
    assert next_ulid(ulid(5, b"\0" * 10)) == ulid(5, b"\0" * 9 + b"\1")
    assert next_ulid(ulid(5, b"\xff" * 10)) == ulid(6, b"\0" * 10)


def test_an_imported_file_has_one_id_for_ever() -> None:
    def of(**changed: object) -> str:
        facts: dict[str, object] = {
            "cluster": "c", "node": "n", "relative_path": "a.log", "head_sha256": b"h" * 32, "birth_unix_ms": 7,
        }  # fmt: skip
        return imported_file_id(**(facts | changed))  # type: ignore[arg-type]

    assert of() == of() == "0000000007DKTJB220T83D0496"
    others = [of(cluster="d"), of(node="m"), of(relative_path="b.log"), of(head_sha256=b"i" * 32), of(birth_unix_ms=8)]
    assert len({of(), *others}) == 6


def test_uids_of_records_joins_and_forks() -> None:
    assert record_uid("F", 255) == "F-00000000000000ff"
    assert join_uid("F", 255) == "F-00000000000000ff-j"
    assert fork_of("F", 1) == "F~1"
    assert fork_of("F~1", 2) == "F~2"

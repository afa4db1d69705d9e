"""The entity index names exactly what the rows name, with the first and last time of each."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ashiato.core.entities import (
    KINDS,
    RAW_BYTES_PER_VALUE,
    VALUES_ALLOWED,
    EntityCollector,
    Seen,
    canonical,
    where_named,
)
from ashiato.core.errors import RejectedError
from ashiato.core.predicate import mask
from ashiato.core.table import SCHEMA
from ashiato.core.token_rows import hashes_of_rows
from ashiato.core.tokens import TOKEN_CHARS_MAX

HEX: Final = "0123456789abcdef" * 4
PIECES: Final = (
    *("10.2.3.4", "10.2.3.9", "255.255.255.255", "256.1.1.1", "1.2.3", "10.02.3.4", "0.0.0.0", "9.8.7.6"),
    *("2001:db8::1", "fe80::A:b", "::1", "fd00:1:2:3:4:5:6:7", "aa:bb:cc:dd:ee:ff", "12:13:14:15", "std::vec"),
    *(HEX, HEX.upper(), f"sha256:{HEX}", HEX + "0", HEX[:-1], "g" + HEX[1:]),
    *("api.shop.svc", "Example.COM", "main.go", "https://u:p@Cart.internal:80/x", "http://x"),
    *("a.b.com.au", "com.example.Ledger"),
    *(" ", "-", ".", ":", "/", "@", "=", '"', ",", "認証", "é", "\n", "_", "x", "0"),
)  # fmt: skip
TEXTS: Final = st.lists(st.sampled_from(PIECES), max_size=7).map("".join)
ROWS: Final = st.lists(
    st.fixed_dictionaries(
        {
            "body": st.none() | TEXTS,
            "time_unix_nano": st.none() | st.integers(0, 50),
            "observed_time_unix_nano": st.integers(0, 50),
            "k8s_pod_uid": st.sampled_from([None, "", "u-1", "u-2"]),
            "k8s_namespace_name": st.sampled_from([None, "shop"]),
            "k8s_pod_name": st.sampled_from([None, "web"]),
            "user_name": st.sampled_from(
                [None, "", "alice", "system:serviceaccount:shop:cart", "system:serviceaccount:odd", "system:node:n"]
            ),
            "source_address": st.sampled_from([None, "", "10.2.3.4", "2001:DB8::1", "not an address"]),
            "trace_id": st.sampled_from([None, HEX[:32]]),
        }
    ),
    min_size=1,
    max_size=6,
)


def table(rows: Sequence[Mapping[str, object]]) -> pa.Table:
    return pa.Table.from_pylist([{**dict.fromkeys(SCHEMA.names), "length": 1, **row} for row in rows], schema=SCHEMA)


def collected(rows: pa.Table) -> dict[tuple[str, str], Seen]:
    collector = EntityCollector()
    collector.begin(rows)
    hashes_of_rows(rows, collector.read)
    collector.end()
    assert collector.dense == ()
    return {(kind, value): seen for kind, value, seen in collector.listed()}


@settings(max_examples=400, deadline=None)
@given(rows=ROWS)
def test_together_rows_name_what_each_of_them_names(rows: list[dict[str, object]]) -> None:
    expected: dict[tuple[str, str], Seen] = {}
    for row in rows:
        for key, seen in collected(table([row])).items():
            time = row["time_unix_nano"] if row["time_unix_nano"] is not None else row["observed_time_unix_nano"]
            assert isinstance(time, int)
            assert seen == Seen(time, time)
            expected[key] = seen.and_(expected.get(key, seen))
    assert collected(table(rows)) == expected


@settings(max_examples=400, deadline=None)
@given(rows=ROWS)
def test_what_a_row_names_is_found_by_asking_for_it(rows: list[dict[str, object]]) -> None:
    # given all entities, in their canonical form
    whole = table(rows)
    for (kind, value), seen in collected(whole).items():
        assert canonical(kind, value) == value
        # then the predicate that looks for one takes the rows that name it, the first and the last among them
        marks = mask(where_named(kind, value), whole).to_pylist()
        own = collected(whole.filter(pa.array(marks)))
        assert own[kind, value] == seen


@settings(max_examples=400, deadline=None)
@given(text=TEXTS)
def test_addresses_and_digests_are_those_that_a_regular_expression_finds(text: str) -> None:
    assume(all(len(word) <= TOKEN_CHARS_MAX for word in re.findall(r"\w+", text)))
    found = collected(table([{"body": text, "observed_time_unix_nano": 1}]))
    by_kind = {kind: {value for of, value in found if of == kind} for kind in KINDS}
    text = text.replace("認証", "  ")  # a word of its own, whatever stands beside it
    assert {value for value in by_kind["ip"] if "." in value} == set(_ipv4(text))
    assert by_kind["digest"] | by_kind["container_id"] == set(_hexadecimal(text))
    assert all(ipaddress.ip_address(value) for value in by_kind["ip"])


def _ipv4(text: str) -> Iterator[str]:
    """Find each four of the parts between single dots, by another way."""
    for run in re.findall(r"\w+(?:\.\w+)+", text.casefold()):
        words = run.split(".")
        for at in range(len(words) - 3):
            four = words[at : at + 4]
            if all(re.fullmatch(r"(?a:0|[1-9]\d{0,2})", word) and int(word) < 256 for word in four):
                yield ".".join(four)


def _hexadecimal(text: str) -> Iterator[str]:
    for found in re.finditer(r"\w+", text):
        word = found[0].casefold()
        if re.fullmatch(r"(?a:[0-9a-f]{64})", word):
            is_digest = re.search(r"(?<!\w)sha256:\Z", text[: found.start()].casefold()) is not None
            yield f"sha256:{word}" if is_digest else word


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("blocked 10.2.3.4-10.2.3.9", {("ip", "10.2.3.4"), ("ip", "10.2.3.9")}),
        ("[::1]:8080 and 2001:0db8::1, fe80::a:b.", {("ip", "::1"), ("ip", "2001:db8::1"), ("ip", "fe80::a:b")}),
        ("GET https://user@Cart.Shop.svc:80/x", {("host", "cart.shop.svc")}),
        ("dial tcp db.internal: no such host", {("host", "db.internal")}),
        ("at com.example.ledger.Posting(Posting.java:3) std::vec::push", set()),
        ("http://10.0.0.1/ from 認証.example.com", {("ip", "10.0.0.1"), ("host", "example.com")}),
        (f"pulled img@sha256:{HEX}", {("digest", f"sha256:{HEX}")}),
        (f"container {HEX.upper()} died", {("container_id", HEX)}),
        ("uuid 3f2a9c1e-4b7d-8c9d-a1b2-0123456789ab", set()),
    ],
)
def test_a_body_names_its_entities(text: str, named: set[tuple[str, str]]) -> None:
    assert set(collected(table([{"body": text, "observed_time_unix_nano": 1}]))) == named


def test_an_entity_does_not_reach_into_the_next_row() -> None:
    rows = [
        {"body": body, "observed_time_unix_nano": 1}
        for body in ("10.2.3.", "4 fd00::", "1 https://", "shop.com", "a.svc.", "1")
    ]
    assert set(collected(table(rows))) == {("ip", "fd00::"), ("host", "shop.com"), ("host", "a.svc")}


def test_a_kind_with_too_many_values_is_dense_and_not_listed() -> None:
    # given more addresses than a small pack may list, and one user
    rows = table(
        [
            {"body": f"from 10.0.{n >> 8}.{n & 255}", "observed_time_unix_nano": n, "user_name": "alice"}
            for n in range(VALUES_ALLOWED + RAW_BYTES_PER_VALUE)
        ]
    )
    collector = EntityCollector()
    collector.begin(rows)
    hashes_of_rows(rows, collector.read)
    collector.end()
    # then it says so, and lists the others
    assert collector.dense == ("ip",)
    assert [(kind, value) for kind, value, _ in collector.listed()] == [("user", "alice")]


@pytest.mark.parametrize(
    ("kind", "value"), [("ip", "10.2.3"), ("digest", "sha256:ab"), ("host", "-"), ("planet", "mars"), ("user", "")]
)
def test_what_is_no_entity_is_refused(kind: str, value: str) -> None:
    with pytest.raises(RejectedError):
        canonical(kind, value)

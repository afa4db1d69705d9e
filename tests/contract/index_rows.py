"""Rows for the index contract: a recorded incident, evidence named by its defect, and whatever Hypothesis makes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from hypothesis import strategies as st

from ashiato import demo
from ashiato.adapters.index_documents import document_of
from ashiato.core import layout
from ashiato.core.chunk import Chunk, ChunkFlags, FileFacts
from ashiato.core.ids import CLASS_OF_KIND, Kind, Source
from ashiato.core.ports import Document
from ashiato.core.query import All, And, Exists, Node, Not, Or, Phrase, Query, Range, Regex, Term, Wildcard
from ashiato.core.record import COLUMNS, RowFlags
from ashiato.core.table import SCHEMA
from ingest.contracts import Piece
from ingest.rows import build_rows

INCIDENT: Final = Path(next(iter(demo.__path__))) / "incident"
NOON: Final = 1_795_521_600_000_000_000
"""2026-11-24T12:00:00Z."""
DAY: Final = "2026-11-24"
DAY_NS: Final = 86_400_000_000_000

CONTAINER: Final = Source(
    kind=Kind.CONTAINER, cluster="c", node="n1", namespace="shop", pod="web-1",
    pod_uid="8f2c1c1e-0000-4000-8000-000000000001", container="web",
)  # fmt: skip


def chunk(
    payload: bytes,
    *,
    source: Source = CONTAINER,
    file_id: str = "01J00000000000000000000001",
    offset: int = 0,
    observed: int = NOON,
    flags: int = int(ChunkFlags.STARTS_AT_LINE | ChunkFlags.ENDS_AT_LINE),
) -> Chunk:
    facts = FileFacts(file_id=file_id, source=str(source), path="/var/log/x", restart_count=0)
    return Chunk(file=facts, offset_start=offset, observed_time_unix_nano=observed, flags=flags, payload=payload)


def rows_of(*chunks: Chunk) -> pa.Table:
    pieces = [Piece(chunk=c, retention_class=Source.parse(c.file.source).retention_class) for c in chunks]
    return build_rows(pieces, {})[0]


def documents_of(rows: pa.Table) -> list[Document]:
    return [document_of(row, CLASS_OF_KIND[Kind(row["source_kind"])]) for row in rows.to_pylist()]


def days_of(rows: pa.Table) -> list[str]:
    times = {int(str(time)) for time in rows["observed_time_unix_nano"].to_pylist()}
    return sorted({datetime.fromtimestamp(time // 10**9, UTC).date().isoformat() for time in times})


@cache
def incident_chunks() -> tuple[Chunk, ...]:
    """Every file of the recorded incident, in chunks that end at lines."""
    chunks: list[Chunk] = []
    for number, path in enumerate(sorted(p for p in INCIDENT.rglob("*") if p.suffix in (".log", ".json", ".jsonl"))):
        if path.name == "facts.json":
            continue
        name = path.relative_to(INCIDENT).as_posix()
        node, _, rest = name.partition("/")
        content = path.read_bytes()
        found = layout.recognise(rest or name, cluster="c", node=node, head=content[:4096])
        offset = 0
        for piece in _at_lines(content):
            chunks.append(
                chunk(piece, source=found.source, file_id=f"01J0000000000000000000I{number:03d}", offset=offset)
            )
            offset += len(piece)
    return tuple(chunks)


def _at_lines(content: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(content):
        end = content.rfind(b"\n", start, start + 256 * 1024) + 1 or len(content)
        yield content[start:end]
        start = end


@cache
def incident() -> pa.Table:
    """Every row of the recorded incident."""
    return rows_of(*incident_chunks())


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


DEFECTS: Final[dict[str, bytes]] = {
    "10000 fields": _json({f"field.{n}": n for n in range(10_000)}),
    "one field of 100 kB": _json({"blob": "x" * 100_000, "after": "seen"}),
    "a body of 1 MB in words": b"word " * 200_000,
    "a body of 1 MB without a space": b"y" * 1_000_000,
    "150000 different words": b" ".join(b"w%d" % n for n in range(150_000)),
    "invalid UTF-8": b"caf\xe9 \xff\xfe broken",
    "NUL bytes": b"before\x00after \x00",
    "a lone surrogate in JSON": rb'{"user": "\ud800", "half \udfff": "x", "status": 7}',
    "empty": b"",
    "only spaces": b"   ",
    "an empty key": b'{"": "nameless", "a": {"": 1}, ".": 2, "a..b": 3, "a.": 4, ".a": 5}',
    "keys that look like syntax": b'{"a=b": "c", "a": "b=c", "*": "star", "_exists_": "x", "attributes": {"a": "z"}}',
    "deep JSON": b'{"a":' * 400 + b"1" + b"}" * 400,
    "deeper than Python": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "numbers": b'{"i": 12345678901234567890123, "f": 1.10, "e": 1e400, "t": true, "n": null, "list": [1, "two"]}',
    "Japanese": "利用者認証に失敗しました user=太郎".encode(),
    "folds to more": "Straße ẞ İstanbul ﬀ".encode(),
    "astral": "\U0001f600 \U00020000\U00020001 end".encode(),
    "a timeout": b"connect timeout after 5s",
    "a timeout apart": b"timeout: could not connect",
}


@cache
def defect_chunks() -> tuple[Chunk, ...]:
    """One line of container output, in a file of its own, for each defect."""
    return tuple(
        chunk(
            b"2026-11-24T11:00:%02d.123456789Z stdout F %b\n" % (number, body),
            file_id=f"01J0000000000000000000D{number:03d}",
        )
        for number, body in enumerate(DEFECTS.values())
    )


@cache
def defects() -> pa.Table:
    """The rows of all defects, and some whose columns are odd."""
    rows = rows_of(*defect_chunks()).to_pylist()
    odd: list[dict[str, Any]] = [
        {"user_name": "u" * 2000, "event_name": "long"},
        {"user_name": "\U0001f600" * 600, "event_name": "long in UTF-16"},
        {"user_name": "u" * 40_000, "event_name": "longer than a term of Lucene"},
        {"user_name": "", "body": "", "event_name": None, "rule_name": ""},
        {"body": None, "event_name": "no body"},
        {"time_unix_nano": None, "event_name": "no event time"},
        {"time_unix_nano": (1 << 63) - 1, "event_name": "the last moment"},
        {"time_unix_nano": -(1 << 63) + 1, "event_name": "the first moment"},
        {"time_unix_nano": 9_007_199_254_740_993, "event_name": "between two doubles"},
        {"http_status_code": 403, "severity_number": 17, "event_name": "numbers"},
        {"length": 0, "join_offset": 7, "event_name": "closes a join"},
        {"raw": b"", "event_name": "empty raw"},
        {"raw": bytes(range(256)), "flags": int(RowFlags.QUARANTINED | RowFlags.EARLY), "event_name": "raw"},
        {"flags": sum(RowFlags), "event_name": "every flag"},
    ]
    plain = rows[list(DEFECTS).index("a timeout")]
    for number, changes in enumerate(odd):
        rows.append({**plain, "file_id": f"01J0000000000000000000O{number:03d}", **changes})
    return pa.Table.from_pylist(rows, schema=SCHEMA)


QUERIES: Final[Sequence[Node]] = (
    All(),
    Term(field="", value="timeout"),
    Phrase(field="", value="connect timeout"),
    Not(node=Phrase(field="", value="connect timeout")),
    Not(node=Term(field="body", value="timeout")),
    Term(field="body", value="認証"),
    Term(field="", value="strasse"),
    Term(field="", value="w149999"),
    Term(field="", value="y" * 1_000),
    Wildcard(field="", pattern="time*"),
    Wildcard(field="body", pattern="*o?t"),
    Wildcard(field="user_name", pattern="u*u"),
    Wildcard(field="k8s.pod.name", pattern="*-7d9c*"),
    Wildcard(field="k8s.pod.name", pattern="a*b*c*d*e*f*g*h"),
    Wildcard(field="body", pattern="*"),
    Regex(field="body", pattern="[Ee]xec|broken"),
    Regex(field="k8s.pod.name", pattern="^storefront"),
    Term(field="k8s.namespace.name", value="shop"),
    Not(node=Term(field="k8s.namespace.name", value="shop")),
    Term(field="user_name", value="u" * 2000),
    Term(field="user_name", value="u" * 40_000),
    Not(node=Term(field="user_name", value="u" * 40_000)),
    Term(field="user_name", value=""),
    Exists(field="user_name"),
    Not(node=Exists(field="user_name")),
    Exists(field="raw"),
    Exists(field="flags"),
    Not(node=Exists(field="flags")),
    Term(field="flags", value="quarantined"),
    Not(node=Term(field="flags", value="quarantined")),
    Term(field="code", value="403"),
    Range(field="code", low="200", high="299"),
    Range(field="code", low="400"),
    Not(node=Range(field="code", low="400")),
    Range(field="code", low="-99999999999999999999", high="99999999999999999999"),
    Range(field="severity_number", high="9", high_inclusive=False),
    Range(field="time_unix_nano", low="9007199254740993", high="9007199254740993"),
    Range(field="time_unix_nano", low="9007199254740992", high="9007199254740993", high_inclusive=False),
    Range(field="user_name", low="s", high="t"),
    Range(field="user_name", low="u" * 1500),
    Exists(field="time_unix_nano"),
    Not(node=Exists(field="time_unix_nano")),
    Term(field="verb", value="create"),
    Term(field="objectRef.subresource", value="exec"),
    Not(node=Term(field="objectRef.subresource", value="exec")),
    Exists(field="objectRef"),
    Exists(field="objectRef.subresource"),
    Not(node=Exists(field="objectRef")),
    Wildcard(field="user.username", pattern="*:*"),
    Regex(field="requestURI", pattern="exec"),
    Range(field="responseStatus.code", low="400", high="499"),
    Term(field="field.9999", value="9999"),
    Term(field="after", value="seen"),
    Range(field="blob", low="x"),
    Term(field="blob", value="x" * 100_000),
    Term(field="status", value="7"),
    Term(field="user", value="\ufffd"),
    Term(field="a.", value="1"),
    Term(field="a..b", value="3"),
    Term(field=".", value="2"),
    Term(field="a=b", value="c"),
    Term(field="a", value="b=c"),
    Term(field="attributes.a", value="z"),
    Term(field="*", value="star"),
    Term(field="i", value="12345678901234567890123"),
    Term(field="body.i", value="12345678901234567890123"),
    Term(field="body.user", value="\ufffd"),
    Exists(field="body.user"),
    Term(field="f", value="1.1"),
    Term(field="list", value="two"),
    Exists(field="n"),
    Term(field="log.record.uid", value="01J0000000000000000000O001-0000000000000000"),
    Not(node=Term(field="log.record.uid", value="01J0000000000000000000O001-0000000000000000")),
    Term(field="log.record.uid", value="01J0000000000000000000O010-0000000000000007-j"),
    Wildcard(field="log.record.uid", pattern="*O00?-*"),
    And(nodes=()),
    Or(nodes=()),
    And(nodes=(Term(field="ns", value="shop"), Not(node=Term(field="", value="GET")))),
    Or(nodes=(Term(field="rule", value="nothing"), Exists(field="rule"), Term(field="verb", value="delete"))),
    Or(nodes=tuple(Term(field="", value=f"word{n}") for n in range(200))),
    And(nodes=tuple(Not(node=Term(field="", value=f"word{n}")) for n in range(30))),
)


# -- whatever may come ---------------------------------------------------------------------------------------

_WORDS: Final = (
    "timeout", "Timeout", "connect", "ERROR", "404", "10.2.3.4", "認証", "straße", "STRASSE", "a_b", "\x00", "*", "",
)  # fmt: skip
_TEXT: Final = st.one_of(
    st.lists(st.sampled_from(_WORDS), max_size=5).map(" ".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.sampled_from(("u" * 1025, "\U0001f600" * 513, "u" * 1024)),
)
_PATHS: Final = ("a", "a.b", "level", "a.", "x y", "=")
_SCALARS: Final = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, width=32), _TEXT)
_OBJECTS: Final = st.dictionaries(
    st.sampled_from(_PATHS),
    st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(_PATHS), inner)),
    max_size=4,
)
_BODIES: Final = st.one_of(st.none(), _TEXT, _OBJECTS.map(lambda value: json.dumps(value, ensure_ascii=False)))
_INT64: Final = st.one_of(st.integers(NOON, NOON + 10), st.integers(-(1 << 63) + 1, (1 << 63) - 1))
_INT32: Final = st.one_of(st.integers(0, 3), st.integers(-(1 << 31), (1 << 31) - 1))
_STRINGS: Final = tuple(
    c.name for c in COLUMNS if c.type == "string" and c.name not in ("file_id", "source", "source_kind", "body")
)
_INTS: Final = ("k8s_container_restart_count", "severity_number", "http_status_code")


@st.composite
def _row(draw: st.DrawFn, number: int) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(SCHEMA.names)
    row.update({name: draw(st.none() | _TEXT) for name in draw(st.sets(st.sampled_from(_STRINGS), max_size=4))})
    row.update({name: draw(st.none() | _INT32) for name in _INTS})
    row.update(
        file_id=f"01J000000000000000000{number:05d}", source="s", source_kind="container",
        offset_start=draw(st.integers(0, 1 << 40)), length=draw(st.integers(1, 100)),
        time_unix_nano=draw(st.none() | _INT64), time_uncertainty_ns=draw(st.none() | st.just(10**9)),
        observed_time_unix_nano=draw(st.integers(NOON, NOON + 10)), body=draw(_BODIES),
        raw=draw(st.none() | st.binary(max_size=6)), flags=draw(st.integers(0, int(sum(RowFlags)))),
    )  # fmt: skip
    return row


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    count = draw(st.integers(1, 12))
    return pa.Table.from_pylist([draw(_row(number)) for number in range(count)], schema=SCHEMA)


_FIELDS: Final = st.sampled_from((
    "", "body", "user_name", "k8s_pod_name", "rule_name", "severity_number", "http_status_code", "time_unix_nano",
    "flags", "raw", "log.record.uid", *_PATHS,
))  # fmt: skip
_VALUES: Final = st.one_of(
    st.sampled_from((*filter(None, _WORDS), "early", "3", "true", str(NOON), "9223372036854775808")), _TEXT
)
_LEAVES: Final = st.one_of(
    st.just(All()),
    st.builds(Term, field=_FIELDS, value=_VALUES),
    st.builds(Phrase, field=_FIELDS, value=_VALUES),
    st.builds(Wildcard, field=_FIELDS, pattern=st.sampled_from(("*", "t*", "?imeout", "*o*", "u*", r"a\*", "認*"))),
    st.builds(Regex, field=_FIELDS, pattern=st.sampled_from(("t", "^u+$", "[0-9]+", "(?i)error"))),
    st.builds(
        Range, field=_FIELDS, low=_VALUES | st.just(""), high=_VALUES | st.just(""), low_inclusive=st.booleans(),
        high_inclusive=st.booleans(),
    ),
    st.builds(Exists, field=_FIELDS),
)  # fmt: skip
nodes: Final[st.SearchStrategy[Node]] = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.builds(Not, node=inner),
        st.builds(And, nodes=st.lists(inner, max_size=3).map(tuple)),
        st.builds(Or, nodes=st.lists(inner, max_size=3).map(tuple)),
    ),
    max_leaves=5,
)
queries: Final[st.SearchStrategy[Query]] = st.builds(
    Query,
    where=nodes,
    time_start_unix_nano=st.none() | st.integers(NOON, NOON + 10),
    time_end_unix_nano=st.none() | st.integers(NOON, NOON + 10),
    limit=st.integers(0, 8),
    order=st.sampled_from(("oldest_first", "newest_first")),
)

"""How a row stands in OpenSearch: template, names of indices, documents. Pure.

A document's ``_source`` gives the row back to the letter; what is indexed beside it only narrows a search. Whatever
of a row is not indexed in full (a value too long for a term, too many attributes) is named in ``unindexed``, so that
a search takes such rows in and the one predicate decides. No log line can change the mapping: it is closed.

Fields are named as the columns of the table: at the rim ``ashiato.source`` is a value and ``ashiato.source.kind``
another, which OpenSearch, where a dot means an object, cannot hold.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Final

import orjson

from ashiato.adapters import index_documents
from ashiato.core.attributes import leaves, text_of
from ashiato.core.errors import RejectedError
from ashiato.core.ports import Document
from ashiato.core.record import BY_NAME, COLUMNS, ROW_VERSION, UID_FIELD, order_time
from ashiato.core.tokens import TOKEN_CHARS_MAX, tokens

PREFIX: Final = "ashiato-"
MISDATED: Final = "ashiato-misdated"
"""Rows whose day of reading has no prepared index."""
STATE: Final = "ashiato-state"
"""The published positions."""
_VERSION: Final = ".v1"
"""Every name above is an alias of one index with this behind it. Who writes asks for the alias: where it is missing
OpenSearch refuses, while a missing index it would make by itself, with whatever mapping."""
ROWS: Final = f"{PREFIX}*,-{STATE}*"
"""Every index of rows, as an index expression."""
TEMPLATE: Final = "ashiato"

KEYWORD_UNITS_MAX: Final = 1024
"""UTF-16 units of a value that is indexed as one term: three times that stays far below Lucene's 32,766 bytes."""
ANALYSED_CHARS_MAX: Final = 65_536
"""Characters of an ASCII body that OpenSearch cuts into tokens itself; it cuts ASCII as ``core.tokens`` does."""
TOKENS_MAX: Final = 65_536
"""Distinct tokens of any other body that are indexed; a body with more is taken into every search of text."""
ATTRIBUTES_MAX: Final = 16_384
"""Leaves of one JSON body that are indexed."""
ATTRIBUTE_UNITS_MAX: Final = 4096
"""UTF-16 units of path and value of one attribute that is indexed."""

ORDER_TIME: Final = "order_time"
BODY: Final = "body"
"""An ASCII body: held, and searched by the tokens that OpenSearch makes of it."""
BODY_APART: Final = "body_apart"
"""Any other body: held here and searched by :data:`BODY_TOKENS`, which were made before sending."""
BODY_TOKENS: Final = "body_tokens"
ATTRIBUTES: Final = "attributes"
"""Leaves of a JSON body, each one term; see :func:`attribute_term`."""
UNINDEXED: Final = "unindexed"
"""Names of columns, or ``attributes``, that are not indexed in full; ``*`` for a safe projection."""
VERBATIM: Final = "verbatim"
"""The whole row of a safe projection, which OpenSearch keeps and does not look into."""
EVERYTHING: Final = "*"

INDEXED: Final = tuple(column for column in COLUMNS if column.name not in (BODY, "raw"))
"""Columns with a field of their own. The body is searched by its tokens, raw bytes not at all."""
_NARROWS_NOTHING: Final = frozenset(
    ("offset_start", "length", "join_offset", "time_uncertainty_ns", "observed_time_unix_nano")
)
"""Numbers that order rows, or are asked for beside something else: they are compared by their stored values."""

ANALYZER: Final = "ashiato_ascii_words"
_ANALYSIS: Final = {
    "analyzer": {ANALYZER: {"type": "custom", "tokenizer": ANALYZER, "filter": ["lowercase"]}},
    "tokenizer": {
        ANALYZER: {
            "type": "char_group",
            "tokenize_on_chars": [chr(code) for code in range(128) if not (chr(code).isalnum() or chr(code) == "_")],
            "max_token_length": TOKEN_CHARS_MAX,
        }
    },
}

_INDEX_NAME: Final = re.compile(r"^ashiato-(?P<class>[a-z0-9][a-z0-9_-]*)-(?P<day>\d{4}\.\d{2}\.\d{2})\.v1$")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_ASTRAL: Final = re.compile("[\U00010000-\U0010ffff]")
_TYPES: Final = {"int32": {"type": "integer"}, "int64": {"type": "long"}}
_KEYWORD: Final = {"type": "keyword", "ignore_above": KEYWORD_UNITS_MAX}
_TERMS: Final = {"type": "keyword", "doc_values": False, "norms": False}
_PROJECTED: Final = (
    "file_id", "offset_start", "length", "join_offset", "time_unix_nano", "observed_time_unix_nano", "source",
    "k8s_node_name",
)  # fmt: skip


def index_of(retention_class: str, day: str) -> str:
    """Return the name of the index of a class and a UTC day (``2026-11-24``).

    Raises:
        RejectedError: the class or the day cannot stand in a name.

    """
    if not index_documents.is_day_and_class(day, retention_class):
        raise RejectedError("not a class and a day of an index", retention_class=retention_class, day=day)
    return f"{PREFIX}{retention_class}-{day.replace('-', '.')}"


def index_behind(name: str) -> str:
    """Return the index that stands behind a name."""
    return f"{name}{_VERSION}"


def aliased(name: str, body: Mapping[str, object]) -> dict[str, object]:
    """Return the request that makes the index behind ``name``, with the name as its alias."""
    return {**body, "aliases": {name: {"is_write_index": True}}}


def day_and_class(index: str) -> tuple[str, str] | None:
    """Return (day, class) of the index behind a daily name, None for any other."""
    match = _INDEX_NAME.match(index)
    return (match["day"].replace(".", "-"), match["class"]) if match else None


def home_of(document: Document) -> str:
    """Return the daily index of a document, or where all misdated rows go."""
    home = index_documents.home_of(document)
    return index_of(home[1], home[0]) if home is not None else MISDATED


def template(*, replicas: int) -> dict[str, object]:
    """Return the composable template of every index of rows."""
    return {
        "index_patterns": [f"{PREFIX}*-*{_VERSION}", f"{MISDATED}{_VERSION}"],
        "priority": 500,
        "version": ROW_VERSION,
        "template": {
            "settings": {
                "index": {
                    "number_of_shards": 1,
                    "number_of_replicas": replicas,
                    # The indexer refreshes before it publishes a position; this is for its pauses.
                    "refresh_interval": "30s",
                    # Durability stays "request": a published position promises that what lies below is kept.
                    "sort.field": [ORDER_TIME],
                    "sort.order": ["desc"],
                    "analysis": _ANALYSIS,
                }
            },
            "mappings": mappings(),
        },
    }


def mappings() -> dict[str, object]:
    """Return the closed mapping of rows, generated from the table's columns."""
    properties: dict[str, object] = {column.name: _TYPES.get(column.type, _KEYWORD) for column in INDEXED}
    for name in _NARROWS_NOTHING:
        properties[name] = {**_TYPES[BY_NAME[name].type], "index": False}
    properties[ORDER_TIME] = {"type": "long"}
    # Only ASCII is left to an analyzer: of anything else OpenSearch would fold case by other tables than core.tokens,
    # and then drop matches.
    properties[BODY] = {"type": "text", "analyzer": ANALYZER, "norms": False, "index_options": "docs"}
    properties[BODY_TOKENS] = _TERMS
    # One field of terms: no line can add a field, and it costs a fourth of a flat_object.
    properties[ATTRIBUTES] = _TERMS
    properties[UNINDEXED] = {"type": "keyword"}
    properties[VERBATIM] = {"type": "object", "enabled": False}
    return {
        "dynamic": False,
        "date_detection": False,
        "numeric_detection": False,
        # Nothing is left out of _source: OpenSearch would parse and write each document anew, and keep both.
        "properties": properties,
    }


def state_index(*, replicas: int) -> dict[str, object]:
    """Return settings and mapping of the index of positions; they override the template's."""
    return {
        "settings": {"index": {"number_of_shards": 1, "number_of_replicas": replicas}},
        "mappings": {
            "dynamic": False,
            "properties": {
                "topic": {"type": "keyword"},
                "partition": {"type": "integer"},
                "next": {"type": "long"},
            },
        },
    }


def action(document: Document, index: str, *, projected: bool = False) -> bytes:
    """Return the two lines of a bulk request that create a document in ``index``.

    ``projected`` gives the safe projection: only what orders the row is indexed, the rest stands in ``verbatim``.

    Raises:
        UnicodeEncodeError: a text of the document holds a lone surrogate (never in a row; see :func:`scrubbed`).

    """
    row = index_documents.row_of(document)
    source = _projection(row) if projected else source_of(row)
    try:
        return created(index, str(document[UID_FIELD]), orjson.dumps(source))
    except orjson.JSONEncodeError as error:
        raise UnicodeEncodeError("utf-8", "", 0, 0, "document holds a lone surrogate") from error


def created(index: str, uid: str, source: bytes) -> bytes:
    """Return the two lines of a bulk request that create a document of this ``_source``."""
    return b'{"create":{"_index":%b,"_id":%b}}\n%b\n' % (orjson.dumps(index), orjson.dumps(uid), source)


def scrubbed(document: Document) -> Document:
    """Return ``document`` with each lone surrogate of its texts replaced by U+FFFD."""
    return {
        name: _SURROGATE.sub("\ufffd", value) if isinstance(value, str) else value for name, value in document.items()
    }


def source_of(row: Mapping[str, object]) -> dict[str, object]:
    """Return the ``_source`` of a row's document; ``opensearch_columns`` makes the same of many rows at once."""
    source = _plain(row)
    source[ORDER_TIME] = order_time(row)
    unindexed = [column.name for column in INDEXED if isinstance(v := row[column.name], str) and is_long(v)]
    if isinstance(body := source.pop(BODY, None), str):
        source |= searched(body, unindexed)
    if unindexed:
        source[UNINDEXED] = unindexed
    return source


def row_of(source: Mapping[str, object]) -> dict[str, object]:
    """Return the row, by column names, that a document's ``_source`` holds."""
    verbatim = source.get(VERBATIM)
    held = verbatim if isinstance(verbatim, Mapping) else source
    row: dict[str, object] = {column.name: held.get(column.name) for column in COLUMNS}
    row["flags"] = row["flags"] or 0
    if BODY_APART in held:
        row[BODY] = held[BODY_APART]
    if isinstance(raw := row["raw"], str):
        row["raw"] = base64.b64decode(raw)
    return row


def is_long(value: str) -> bool:
    """Tell whether a value is too long to be indexed as one term."""
    return len(value) > KEYWORD_UNITS_MAX // 2 and _units(value) > KEYWORD_UNITS_MAX


def searched(body: str, unindexed: list[str]) -> dict[str, object]:
    """Return the fields that hold ``body`` and let it be found; ``unindexed`` gets the names of what is incomplete."""
    fields: dict[str, object]
    if len(body) <= ANALYSED_CHARS_MAX and body.isascii():
        fields = {BODY: body}
    else:
        fields = {BODY_APART: body}
        words = set(tokens(body))
        if len(words) > TOKENS_MAX:
            unindexed.append(BODY)
        else:
            fields[BODY_TOKENS] = list(words)
    found, whole = attributes_of(body)
    if found:
        fields[ATTRIBUTES] = found
    if not whole:
        unindexed.append(ATTRIBUTES)
    return fields


def attributes_of(body: str) -> tuple[list[str], bool]:
    """Return the attributes of a JSON body, each as its term, and whether these are all of them."""
    found: list[str] = []
    whole = True
    for count, (path, value) in enumerate(leaves(body)):
        if count == ATTRIBUTES_MAX:
            return found, False
        text = text_of(value)
        if is_indexed(path, text):
            found.append(attribute_term(path, text))
        else:
            whole = False
    return found, whole


def attribute_term(path: str, text: str) -> str:
    """Return the term under which an attribute stands. Others may stand under the same: ``a=b`` is a path too."""
    return f"{path}={text}"


def is_indexed(path: str, text: str) -> bool:
    """Tell whether an attribute of this path and value is indexed."""
    units = len(path) + len(text)
    return units <= ATTRIBUTE_UNITS_MAX and (
        units <= ATTRIBUTE_UNITS_MAX // 2 or _units(path) + _units(text) <= ATTRIBUTE_UNITS_MAX
    )


def _plain(row: Mapping[str, object]) -> dict[str, object]:
    """Return the row in JSON values, absent ones left out."""
    plain = {name: value for name, value in row.items() if value is not None}
    if isinstance(raw := plain.get("raw"), bytes):
        plain["raw"] = base64.b64encode(raw).decode()
    return plain


def _projection(row: Mapping[str, object]) -> dict[str, object]:
    source: dict[str, object] = {name: row[name] for name in _PROJECTED if row[name] is not None}
    source[ORDER_TIME] = order_time(row)
    source[UNINDEXED] = [EVERYTHING]
    source[VERBATIM] = _plain(row)
    return source


def _units(value: str) -> int:
    """Return the length as Java counts it."""
    return len(value) if value.isascii() else len(value) + len(_ASTRAL.findall(value))

"""The hashes of a table's rows: every token that a predicate can ask a string column or an attribute for (Q3).

Of the body that is each of its words; of every other string column the words of its values. A JSON body is asked for
its values as they are *decoded*: where it holds escapes, the words behind them are taken as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute

from ashiato.core.attributes import leaves
from ashiato.core.record import COLUMNS
from ashiato.core.table import offsets_of
from ashiato.core.token_hashes import Hashes, Windows, gathered, hashes_in, windows_of
from ashiato.core.words import Words, words_of, words_of_texts

pc: Final[Any] = pyarrow.compute

TEXT_COLUMNS: Final = tuple(column.name for column in COLUMNS if column.type == "string")

_BACKSLASH: Final = ord("\\")
_OBJECT_STARTS: Final = frozenset(b"{ \t\r\n")
_ESCAPE: Final = re.compile(
    r"\\(?:[^u]|u00(?:[012][0-9A-Fa-f]|3[A-Fa-f]|40|5[B-Eb-e]|60|7[B-Fb-f]))", re.DOTALL
)  # fmt: skip
"""An escape in a JSON string of what is in no word: a space stands as well for it."""


def hashes_of_rows(rows: pa.Table, read: Callable[[Words, Windows], None] | None = None) -> Hashes:
    """Return the hashes of all that a filter over ``rows`` can be asked for, sorted, each once.

    ``read`` is shown the words of the bodies as they are cut, so that nobody cuts them twice.
    """
    return gathered(_parts(rows, read))


def _parts(rows: pa.Table, read: Callable[[Words, Windows], None] | None) -> Iterator[Hashes]:
    values = [_values(rows[name]).cast(pa.string()) for name in TEXT_COLUMNS if name != "body"]
    for words in words_of(pa.chunked_array([chunk for value in values for chunk in _chunks(value)], pa.string())):
        yield from hashes_in(words)
    for words in words_of(rows["body"]):
        windows = windows_of(words)
        if read is not None:
            read(words, windows)
        yield from hashes_in(words, windows)
    for words in words_of_texts([*_behind_escapes(rows["body"]), *_behind_records(rows["body"])]):
        yield from hashes_in(words)


def _values(column: pa.ChunkedArray[Any]) -> Any:
    """Return the values that a column holds, each about once."""
    if column.null_count == len(column):
        return column.slice(0, 0)
    if pa.types.is_dictionary(column.type):
        return pc.unique(column)
    first = column[0]
    if first.is_valid and pc.all(pc.equal(column, first), skip_nulls=False).as_py():
        return column.slice(0, 1)
    return pc.unique(column)


def _chunks(array: Any) -> list[Any]:
    return array.chunks if isinstance(array, pa.ChunkedArray) else [array]


def _behind_escapes(bodies: pa.ChunkedArray[Any]) -> Iterator[str]:
    """Yield texts whose words are those of the decoded keys and values of bodies with escapes."""
    for chunk in bodies.cast(pa.string()).chunks:
        array: Any = chunk
        if not len(array) or array.buffers()[2] is None:
            continue
        offsets = offsets_of(array)
        content = np.frombuffer(array.buffers()[2], np.uint8)[: offsets[-1]]
        at = np.flatnonzero(content[offsets[0] :] == _BACKSLASH) + offsets[0]
        if not len(at):
            continue
        rows = np.searchsorted(offsets, at, side="right") - 1
        for row in rows[np.diff(rows, prepend=-1) != 0].tolist():
            if int(content[offsets[row]]) in _OBJECT_STARTS:
                yield from _decoded(array[row].as_py())
            else:
                # Pairs in a line of text may be quoted, and hold escapes then.
                yield from _of_leaves(array[row].as_py())


def _behind_records(bodies: pa.ChunkedArray[Any]) -> Iterator[str]:
    """Yield the names and values of auditd records, which may be written in hex."""
    is_record = pc.or_(pc.starts_with(bodies, "type="), pc.starts_with(bodies, "node="))
    for body in bodies.filter(is_record).to_pylist():
        yield from _of_leaves(body or "")


def _of_leaves(body: str) -> Iterator[str]:
    for path, value in leaves(body):
        yield path
        if isinstance(value, str):
            yield value


def _decoded(body: str) -> Iterator[str]:
    text = _ESCAPE.sub(" ", body)
    yield text
    # A backslash behind a backslash is an escape in an object that is itself a string: an event in an envelope.
    if "\\u" in text or "\\\\" in body:
        yield from _of_leaves(body)

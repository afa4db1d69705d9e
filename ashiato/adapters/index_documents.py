"""Documents as an index holds them: a row at the rim, and what the rim leaves out but an index must give back.

The rim drops empty strings; a row that comes back from an index is the one that the packs hold, to the letter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Final

from ashiato.core.ids import CLASS_OF_KIND, Kind
from ashiato.core.ports import Document
from ashiato.core.record import BY_NAME, COLUMNS, from_document, to_document

CLASS_KEY: Final = "ashiato.retention_class"
"""A document's own retention class; without it the class follows from the source's kind."""
EMPTY_KEY: Final = "ashiato.empty"
"""Names of the columns that hold an empty string."""

_CLASS: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def document_of(row: Mapping[str, object], retention_class: str) -> Document:
    """Return the document under which a row (by column names) is indexed in a class."""
    document = to_document(row)
    document[CLASS_KEY] = retention_class
    if empty := [column.name for column in COLUMNS if row.get(column.name) == ""]:
        document[EMPTY_KEY] = empty
    return document


def row_of(document: Document) -> dict[str, object]:
    """Return the row that :func:`document_of` (or ``to_document``) gave ``document`` for."""
    row = from_document(document)
    empty = document.get(EMPTY_KEY)
    if isinstance(empty, list):
        row.update(dict.fromkeys(empty, ""))
    return row


def class_of(document: Document) -> str:
    """Return a document's retention class, '' where nothing tells it."""
    told = document.get(CLASS_KEY)
    if told is not None:
        return str(told)
    kind = str(document.get(BY_NAME["source_kind"].rim, ""))
    return CLASS_OF_KIND[Kind(kind)] if kind in set(Kind) else ""


def home_of(document: Document) -> tuple[str, str] | None:
    """Return (day, class) of a document: the UTC day on which the node read it, and its class.

    None for what has no such place: an unheard class, no reading time. It goes where all misdated rows go.
    """
    retention_class = class_of(document)
    try:
        observed = int(str(document[BY_NAME["observed_time_unix_nano"].rim]))
        day = datetime.fromtimestamp(observed // 1_000_000_000, UTC).date().isoformat()
    except (KeyError, ValueError, OverflowError):
        return None
    return (day, retention_class) if is_day_and_class(day, retention_class) else None


def is_day_and_class(day: str, retention_class: str) -> bool:
    """Tell whether these can stand in the name of an index; the day as ``2026-11-24``."""
    try:
        written = date.fromisoformat(day).isoformat()
    except ValueError:
        return False
    return written == day and _CLASS.fullmatch(retention_class) is not None

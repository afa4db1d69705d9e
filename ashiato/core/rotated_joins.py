"""Joins that a rotation cut in two, put together for view by reference. Pure.

A runtime may write the first parts of a long line to the file that is rotated away, and the last one to its
successor. A join ends with its file, so the old one has an empty row that carries what came (CONTRACTS section 4),
and the new one's first line of that stream stands for itself. :func:`continued` says which belong together; rows stay.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from ashiato.core.table import uids

_Row = tuple[str, str, int | None, str | None, int, int, str | None, int | None]
"""(source, file id, restart, stream, offset, length, part, join offset)."""


def continued(rows: pa.Table) -> list[str | None]:
    """Return for each row the uid of the row whose text it goes on with, None where it begins its own.

    The rows may come in any order. A file whose first bytes are not among them goes on with nothing: what is not
    seen may have stood between.
    """
    names = (
        "source", "file_id", "k8s_container_restart_count", "log_iostream", "offset_start", "length", "part",
        "join_offset",
    )  # fmt: skip
    columns: list[_Row] = list(zip(*(rows[name].to_pylist() for name in names), strict=True))
    own = uids(rows)
    found: list[str | None] = [None] * rows.num_rows
    waiting: dict[str | None, int] = {}
    of: tuple[str, int | None] | None = None
    # File ids begin with the birth of the file: in their order, one file follows the other.
    for file in _files(columns):
        source, _, restart, *_ = columns[file[0]]
        if of != (source, restart) or columns[file[0]][4] != 0:
            waiting = {}
        of = (source, restart)
        for stream in list(waiting):
            begins, told_by = _first_of(columns, file, stream)
            if begins:
                left = waiting.pop(stream)
                if told_by is not None:
                    found[told_by] = own[left]
        waiting.update((columns[left][3], left) for left in _left_open(columns, file))
    return found


def _files(columns: Sequence[_Row]) -> list[list[int]]:
    """Return the rows of each file in their order, files of one source behind each other."""
    files: dict[tuple[str, str], list[int]] = {}
    # An empty row that closes a join stands at the offset of the line behind it, and before it.
    for row in sorted(range(len(columns)), key=lambda row: (*columns[row][:2], *columns[row][4:6])):
        files.setdefault(columns[row][:2], []).append(row)
    return list(files.values())


def _left_open(columns: Sequence[_Row], file: Sequence[int]) -> list[int]:
    """Return the empty rows that closed joins at a file's end."""
    end = max(columns[row][4] + columns[row][5] for row in file)
    return [row for row in file if columns[row][5] == 0 and columns[row][7] is not None and columns[row][4] == end]


def _first_of(columns: Sequence[_Row], file: Sequence[int], stream: str | None) -> tuple[bool, int | None]:
    """Return whether a file has lines of a stream, and the row with the text of the first.

    That is the line's own row, or the one that closes the join of its parts.
    """
    first = next((row for row in file if columns[row][3] == stream and columns[row][6] in ("F", "P")), None)
    if first is None or columns[first][6] == "F" or columns[first][7] is not None:
        return first is not None, first
    offset = columns[first][4]
    return True, next((row for row in file if columns[row][7] == offset and columns[row][3] == stream), None)

"""Instants as people write them, to ns since 1970 UTC, exactly: no float ever holds a time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from ashiato.core.errors import RejectedError

_INTEGER: Final = re.compile(r"-?\d{1,19}")
_RFC3339: Final = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)(?:[Tt ](?P<time>\d\d:\d\d(?::\d\d)?)(?:[.,](?P<fraction>\d{1,9})\d*)?"
    r"(?P<zone>[Zz]|[+-]\d\d:?\d\d)?)?"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INT64_MAX: Final = (1 << 63) - 1


def parse_instant(text: str) -> int:
    """Return the ns of an integer of ns, of RFC 3339, or of a date; without a zone it is UTC.

    >>> parse_instant("2026-11-24T03:14:15.926535897Z")
    1795490055926535897

    Raises:
        RejectedError: not an instant, or one that 64 bits of ns cannot hold.

    """
    if _INTEGER.fullmatch(text):
        return _held(int(text), text)
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise RejectedError("not a time: give RFC 3339 or ns since 1970", value=text)
    zone = (match["zone"] or "Z").upper()
    try:
        moment = datetime.fromisoformat(f"{match['date']}T{match['time'] or '00:00'}{zone}")
    except ValueError as error:
        raise RejectedError("not a time: no such date or hour", value=text) from error
    since = moment - _EPOCH
    seconds = since.days * 86_400 + since.seconds
    return _held(seconds * 1_000_000_000 + int((match["fraction"] or "0").ljust(9, "0")), text)


def print_instant(time_unix_nano: int) -> str:
    """Return RFC 3339 in UTC, with as many digits behind the second as are needed.

    >>> print_instant(1795490055926535897)
    '2026-11-24T03:14:15.926535897Z'
    """
    seconds, fraction = divmod(time_unix_nano, 1_000_000_000)
    moment = _EPOCH + timedelta(seconds=seconds)
    digits = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{digits}Z"


def _held(time_unix_nano: int, text: str) -> int:
    if abs(time_unix_nano) > _INT64_MAX:
        raise RejectedError("time is outside of 1677 to 2262", value=text)
    return time_unix_nano

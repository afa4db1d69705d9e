"""Times as logs write them, to ns since 1970, without ever passing through a float.

Each comes with its resolution, from the digits that were written. A time that names no zone is no time: nobody can
tell the hour.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from ingest.parse.cri import written_time

Time = tuple[int, int]
"""(ns since 1970 UTC, resolution in ns)."""

_RFC3339: Final = re.compile(
    rb"^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,30}))? ?(Z|z|UTC|[+-]\d\d:?\d\d)$"
)
_ZONELESS: Final = re.compile(r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:[.,]\d{1,30})?$")
_COMMON_LOG: Final = re.compile(rb"(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-]\d\d)(\d\d)")
_NAMES: Final = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_MONTHS: Final = {name: b"%02d" % number for number, name in enumerate(_NAMES, 1)}
_EPOCH_UNITS: Final = ((10**17, 1), (10**14, 10**3), (10**11, 10**6), (10**8, 10**9))
"""(least value, ns a unit) of times since 1970 that are written as integers: ns, us, ms, s, from 1973 on."""


def rfc3339(text: object) -> Time | None:
    """Return an RFC 3339 time (or ISO 8601 with a zone without its colon), None where it is none."""
    if not isinstance(text, str) or len(text) > 64 or not text.isascii():
        return None
    return of_bytes(text.encode())


def of_bytes(written: bytes) -> Time | None:
    """Return the same of bytes."""
    match = _RFC3339.match(written)
    return _of_groups(match.groups()) if match is not None else None


def in_utc(text: object) -> Time | None:
    """Return a time whose writer is known to write UTC: exports of audit logs leave the zone away."""
    if isinstance(text, str) and len(text) <= 64 and _ZONELESS.match(text):
        return rfc3339(f"{text}Z")
    return rfc3339(text)


def common_log(written: bytes) -> Time | None:
    """Return the time of an access line, ``17/May/2015:10:05:03 +0000``."""
    match = _COMMON_LOG.match(written)
    if match is None or (month := _MONTHS.get(match[2])) is None:
        return None
    zone = match[7] + b":" + match[8]
    return _of_groups((match[3], month, match[1], match[4], match[5], match[6], b"", zone))


def of_json(value: object) -> Time | None:
    """Return a time as JSON lines of applications have it: RFC 3339, or a number since 1970 in s, ms, us or ns."""
    if isinstance(value, str):
        return rfc3339(value)
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        unit = next((unit for least, unit in _EPOCH_UNITS if value >= least), None)
        return _fitting(value * unit, unit) if unit is not None else None
    if isinstance(value, Decimal):
        return _of_decimal(value)
    return None


def _of_decimal(value: Decimal) -> Time | None:
    """Return a time that is written with a fraction: in seconds, as zap and Python have it, or in ms."""
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or not -30 <= exponent <= 20 or not 10**8 <= value < 10**14:
        return None
    unit = 10**9 if value < 10**11 else 10**6
    return _fitting(int(value * unit), max(1, unit // 10 ** min(-exponent, 9)) if exponent < 0 else unit)


def _fitting(time: int, resolution: int) -> Time | None:
    return (time, resolution) if -(2**63) <= time < 2**63 else None


def _of_groups(groups: tuple[bytes | None, ...]) -> Time | None:
    *date, fraction, zone = groups
    zone = zone or b"Z"
    if zone == b"UTC":
        zone = b"Z"
    elif len(zone) == 5:
        zone = zone[:3] + b":" + zone[3:]
    time = written_time([part or b"" for part in date], fraction or b"", zone)
    return (time, 10 ** (9 - min(len(fraction or b""), 9))) if time is not None else None

"""Times as people type them: ``15m`` ago, an RFC 3339 moment, or a day."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from ashiato.core.errors import SettingsError

_UNITS_NS: Final = {
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 604_800_000_000_000,
}
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_SPANS: Final = re.compile(r"^(?:\d+(?:\.\d+)?[smhdw])+$")
_MOMENT: Final = re.compile(
    r"^(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?)?\s*([Zz]|[+-]\d\d:?\d\d)?$"
)


def span_ns(text: str) -> int:
    """Return the length of ``90s``, ``15m``, ``1h30m``, ``2d`` in ns.

    Raises:
        SettingsError: not a length of time.

    """
    if not _SPANS.match(text):
        raise SettingsError(f"not a length of time: {text!r}; write for example 90s, 15m, 1h30m or 2d")
    return sum(int(float(amount) * _UNITS_NS[unit]) for amount, unit in _SPAN.findall(text))


def moment_ns(text: str, *, now_unix_nano: int) -> int:
    """Return a moment in ns since 1970 UTC: RFC 3339 (UTC where no zone is given), ``now``, or a length before now.

    Raises:
        SettingsError: not a moment.

    """
    if text == "now":
        return now_unix_nano
    if _SPANS.match(text):
        return now_unix_nano - span_ns(text)
    match = _MOMENT.match(text)
    if match is None:
        raise SettingsError(f"not a time: {text!r}; write 2026-11-21T21:10:00Z, 2026-11-21, or 15m for 15 minutes ago")
    day, clock, fraction, zone = match.groups()
    clock = clock or "00:00:00"
    seconds_text = clock if clock.count(":") == 2 else f"{clock}:00"
    zone = "+00:00" if zone is None or zone in "Zz" else zone
    try:
        moment = datetime.strptime(f"{day}T{seconds_text}{zone}", "%Y-%m-%dT%H:%M:%S%z")
    except ValueError as error:
        raise SettingsError(f"not a time that exists: {text!r}") from error
    return int(moment.timestamp()) * 1_000_000_000 + int(((fraction or "") + "000000000")[:9])


def written(unix_nano: int, *, digits: int = 3) -> str:
    """Return ``2026-11-21 21:10:13.755`` in UTC."""
    seconds, fraction = divmod(unix_nano, 1_000_000_000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"{text}.{fraction:09d}"[: len(text) + 1 + digits] if digits else text

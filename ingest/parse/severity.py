"""One table of severities: how logs write them, and the number that the OpenTelemetry log data model has for each.

TRACE 1-4, DEBUG 5-8, INFO 9-12, WARN 13-16, ERROR 17-20, FATAL 21-24. Words of syslog, Log4j, java.util.logging,
zap, .NET and klog stand where the model's appendix B puts them; what is in no table has no severity.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

WORDS: Final[Mapping[str, int]] = {
    "trace": 1, "trc": 1, "finest": 1, "silly": 1, "t": 1,
    "debug": 5, "dbg": 5, "verbose": 5, "finer": 5, "d": 5, "v": 5, "fine": 6, "config": 7,
    "info": 9, "inf": 9, "information": 9, "informational": 9, "i": 9, "log": 9, "success": 9, "notice": 10, "n": 10,
    "warn": 13, "warning": 13, "wrn": 13, "w": 13,
    "error": 17, "err": 17, "severe": 17, "eror": 17, "e": 17, "dpanic": 18, "critical": 18, "crit": 18, "c": 18,
    "alert": 19,
    "fatal": 21, "ftl": 21, "f": 21, "panic": 21, "emerg": 21, "emergency": 21,
}  # fmt: skip
"""Lower case. A letter alone is what serilog, MongoDB and Android write."""

IN_TEXT: Final[Mapping[str, int]] = {word: number for word, number in WORDS.items() if 3 <= len(word) <= 8}
"""Words that tell a severity at the head of a line of text; the vectors compare eight bytes."""

SYSLOG: Final = (21, 19, 18, 17, 13, 10, 9, 5)
"""By syslog's number, emergency first (RFC 5424; GELF and journald write it too)."""
KLOG: Final[Mapping[int, int]] = {ord("I"): 9, ord("W"): 13, ord("E"): 17, ord("F"): 21}
PINO: Final[Mapping[int, int]] = {10: 1, 20: 5, 30: 9, 40: 13, 50: 17, 60: 21}
"""pino and bunyan."""
PYTHON: Final[Mapping[int, int]] = {10: 5, 20: 9, 30: 13, 40: 17, 50: 18}
"""``levelno`` of Python's logging."""

FORMS: Final = {form: number for word, number in WORDS.items() for form in (word, word.upper(), word.capitalize())}
"""Words as they are mostly written."""


def severity_of(level: object) -> int | None:
    """Return the number of a level as applications write it: a word, or pino's number; None for anything else.

    >>> severity_of("Warning"), severity_of(30), severity_of("loud")
    (13, 9, None)
    """
    if isinstance(level, str):
        return FORMS.get(level) or WORDS.get(level.strip().lower())
    return numbered(level, PINO)


def numbered(level: object, table: Mapping[int, int]) -> int | None:
    """Return the number of a level that is written as one, None where ``table`` does not have it."""
    return table.get(level) if isinstance(level, int) and not isinstance(level, bool) else None


def of_syslog(level: object) -> int | None:
    """Return the number of one of syslog's."""
    return SYSLOG[level] if isinstance(level, int) and not isinstance(level, bool) and 0 <= level <= 7 else None


def of_otel(number: object) -> int | None:
    """Return a severity number that is one already."""
    return number if isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= 24 else None

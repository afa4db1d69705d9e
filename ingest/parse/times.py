"""Times as logs write them, to ns since 1970, without ever passing through a float."""

from __future__ import annotations

import re
from typing import Final

from ingest.parse.cri import written_time

_RFC3339: Final = re.compile(rb"^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,30}))?(Z|z|[+-]\d\d:\d\d)$")


def rfc3339(text: object) -> tuple[int, int] | None:
    """Return (ns since 1970 UTC, resolution in ns) of an RFC 3339 time, None where it is none."""
    if not isinstance(text, str) or len(text) > 64 or not text.isascii():
        return None
    match = _RFC3339.match(text.encode())
    if match is None:
        return None
    time = written_time(match)
    if time is None:
        return None
    digits = min(len(match[7] or b""), 9)
    return time, 10 ** (9 - digits)

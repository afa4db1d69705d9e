"""What the watch's own lines say that it did not see, for the ledger of the node that ships them."""

from __future__ import annotations

from typing import Final

import msgspec

from collector.upstream import Notice, bounded

_MARK: Final = b'{"type":"GAP"'


class _Gap(msgspec.Struct):
    kind: str
    resource: str
    reason: str
    from_unix_nano: str
    to_unix_nano: str


class _Line(msgspec.Struct):
    object: _Gap


_LINE: Final = msgspec.json.Decoder(_Line).decode


def watch_notices(offset: int, payload: bytes) -> list[Notice]:
    """Return the gaps that lines state. Bytes that are no lines of ours say nothing."""
    found = []
    at = payload.find(_MARK)
    while at >= 0:
        end = payload.find(b"\n", at)
        if end < 0:
            break
        if (at == 0 or payload[at - 1 : at] == b"\n") and (notice := _notice(offset + at, payload[at:end])) is not None:
            found.append(notice)
        at = payload.find(_MARK, end)
    return bounded(found)


def _notice(at: int, line: bytes) -> Notice | None:
    try:
        gap = _LINE(line).object
        start, end = int(gap.from_unix_nano), int(gap.to_unix_nano)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
        return None
    if gap.kind != "Gap" or not 0 <= start <= end < 2**63:
        return None
    return Notice(at, f"the watch of {gap.resource[:64]} did not see all ({gap.reason[:64]})", start, end)

"""auditd records: ``type=SYSCALL msg=audit(1364481363.243:24287): ...``.

Several records make one event and share its serial: they stay rows, and are joined by node and serial at read
(``core.auditd_text``). What a record's own fields tell is promoted where a column has a place for it.
"""

from __future__ import annotations

import re
from typing import Final

from ashiato.core import auditd_text
from ingest.parse.fields import Fields, text_or_none

PARSER: Final = "auditd/2"
_RECORD: Final = re.compile(
    rb"^(?:node=\S+ )?type=(?P<type>\S+) msg=audit\((?P<seconds>\d{1,12})\.(?P<ms>\d{3}):(?P<serial>\d{1,20})\):"
)
_FIELDS_BYTES_MAX: Final = 65_536
"""A record is below 9 KB (MAX_AUDIT_MESSAGE_LENGTH); fields of what is longer are not looked at."""


def parse(line: bytes) -> Fields | None:
    """Return what a record says, None where the line is none."""
    match = _RECORD.match(line)
    if match is None:
        return None
    time = int(match["seconds"]) * 1_000_000_000 + int(match["ms"]) * 1_000_000
    fits = time < 2**63
    said = auditd_text.fields(line[:_FIELDS_BYTES_MAX].decode("utf-8", "replace"))
    return Fields(
        parser=PARSER,
        event_name=f"auditd.{match['type'].decode('ascii', 'replace').lower()}",
        time_unix_nano=time if fits else None,
        time_uncertainty_ns=1_000_000 if fits else None,
        audit_id=match["serial"].decode(),
        user_name=text_or_none(said.get("AUID")) or text_or_none(said.get("acct")),
        event_action=text_or_none(said.get("SYSCALL")) or text_or_none(said.get("op")),
        object_name=text_or_none(said.get("name")) or text_or_none(said.get("exe")),
        source_address=_address(said.get("addr")),
        rule_name=_key(said.get("key")),
    )


def _address(value: str | None) -> str | None:
    return text_or_none(value) if value not in (None, "?", "UNKNOWN") else None


def _key(value: str | None) -> str | None:
    return text_or_none(value) if value != "(null)" else None

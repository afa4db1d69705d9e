"""auditd records: ``type=SYSCALL msg=audit(1364481363.243:24287): ...``; joined by serial at read."""

from __future__ import annotations

import re
from typing import Final

from ingest.parse.fields import Fields

PARSER: Final = "auditd/1"
_RECORD: Final = re.compile(
    rb"^(?:node=\S+ )?type=(?P<type>\S+) msg=audit\((?P<seconds>\d{1,12})\.(?P<ms>\d{3}):(?P<serial>\d{1,20})\):"
)


def parse(line: bytes) -> Fields | None:
    """Return what a record's prefix says, None where the line is none."""
    match = _RECORD.match(line)
    if match is None:
        return None
    time = int(match["seconds"]) * 1_000_000_000 + int(match["ms"]) * 1_000_000
    fits = time < 2**63
    return Fields(
        parser=PARSER,
        event_name=f"auditd.{match['type'].decode('ascii', 'replace').lower()}",
        time_unix_nano=time if fits else None,
        time_uncertainty_ns=1_000_000 if fits else None,
        audit_id=match["serial"].decode(),
    )

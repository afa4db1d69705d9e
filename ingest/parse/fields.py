"""What the parsers of single lines hand over: the columns that a line fills beyond its address and body."""

from __future__ import annotations

from typing import Any, Final

import msgspec

TEXT_PARSER: Final = "text/2"
"""Of lines that are text: plain files, quarantined lines, pieces of long lines."""


class Fields(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Columns of ``core.record``; None where the line does not say."""

    parser: str
    time_unix_nano: int | None = None
    time_uncertainty_ns: int | None = None
    severity_number: int | None = None
    event_name: str | None = None
    audit_id: str | None = None
    audit_stage: str | None = None
    user_name: str | None = None
    event_action: str | None = None
    object_resource: str | None = None
    object_namespace: str | None = None
    object_name: str | None = None
    http_status_code: int | None = None
    source_address: str | None = None
    rule_name: str | None = None
    trace_id: str | None = None
    flags: int = 0
    k8s_namespace_name: str | None = None
    k8s_pod_name: str | None = None
    k8s_pod_uid: str | None = None
    k8s_container_name: str | None = None
    log_iostream: str | None = None
    part: str | None = None
    body: str | None = None
    """Where it is not the line's own text."""


def text_or_none(value: object) -> str | None:
    """Return a JSON value where it is a string that can be stored, else None."""
    if isinstance(value, str) and value:
        return value.encode("utf-8", "replace").decode()
    return None


def dict_or_empty(value: object) -> dict[str, Any]:
    """Return a JSON value where it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def int32_or_none(value: object) -> int | None:
    """Return a JSON value where it is a number that fits the column, else None."""
    if isinstance(value, int) and not isinstance(value, bool) and -(2**31) <= value < 2**31:
        return value
    return None


def unix_nano(text: object) -> int | None:
    """Return ns since 1970 that are written as digits, None where they are not, or do not fit the column."""
    # More digits than int64 has are no time, and int() refuses thousands of them.
    if not isinstance(text, str) or not (text.isascii() and text.isdecimal() and len(text) <= 19):
        return None
    value = int(text)
    return value if value < 2**63 else None

"""Errors as HTTP tells them: problem documents (RFC 9457), one for every error of the tree."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from fastapi import Response

from ashiato.core.errors import (
    AlreadyExistsError,
    AshiatoError,
    EvidenceError,
    NotHeldError,
    RefusedError,
    RejectedError,
    SettingsError,
    TransientError,
)

MEDIA_TYPE: Final = "application/problem+json"

_STATUS: Final[tuple[tuple[type[AshiatoError], int], ...]] = (
    (RejectedError, 400),
    (NotHeldError, 404),
    (AlreadyExistsError, 409),
    (RefusedError, 403),
    (TransientError, 503),
    (EvidenceError, 500),
    (SettingsError, 500),
    (AshiatoError, 500),
)
"""The first that fits decides."""


def status_of(error: AshiatoError) -> int:
    """Return the status that tells whose fault an error is."""
    return next(status for cls, status in _STATUS if isinstance(error, cls))


def problem_of(error: AshiatoError) -> Response:
    """Return the problem document of an error. Where the fault is ours, its facts stay in our log."""
    status = status_of(error)
    detail = str(error) if status < 500 else error.message
    headers = {"Retry-After": "1"} if status == 503 else {}
    return problem(status, detail, code=error.code, headers=headers)


def problem(status: int, detail: str, *, code: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a problem document."""
    document = {
        "type": f"urn:ashiato:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }
    content = msgspec.json.encode(document)
    return Response(content, status_code=status, media_type=MEDIA_TYPE, headers=dict(headers or {}))

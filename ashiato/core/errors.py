"""Errors that say whose fault it is and whether to try again.

Every error that crosses a room's border is one of these. A *finding* (a gap, a skewed clock, a duplicate) is
not an error: it is a value in the timeline.
"""

from __future__ import annotations

from typing import ClassVar


class AshiatoError(Exception):
    """The root. ``code`` is bounded and serves as a metric label; keyword facts are kept for log lines.

    >>> RejectedError("line is not CRI", offset=12).facts
    {'offset': 12}
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts

    def __str__(self) -> str:
        if not self.facts:
            return self.message
        return f"{self.message} ({', '.join(f'{name}={value}' for name, value in self.facts.items())})"


class EvidenceError(AshiatoError):
    """Bytes and proof disagree. Never retried: a person is needed."""

    code = "evidence"


class RejectedError(AshiatoError):
    """The input's fault: it goes to quarantine or back to the caller, and is never retried as it is."""

    code = "rejected"


class TransientError(AshiatoError):
    """Somebody else's bad moment: retry with backoff. Nothing is known to have happened, nothing is lost."""

    code = "transient"


class OutcomeUnknownError(TransientError):
    """A write may or may not have taken effect (J1: 409, 5xx, time-out): ask before trying again."""

    code = "outcome_unknown"


class RefusedError(AshiatoError):
    """Policy or rights say no."""

    code = "refused"


class AlreadyExistsError(RefusedError):
    """A write-once name is taken (S3's 412)."""

    code = "already_exists"


class NotHeldError(AshiatoError):
    """What was asked for is not there: an object, a version, a position."""

    code = "not_held"


class SettingsError(AshiatoError):
    """The operator's settings cannot work; the message says what to change."""

    code = "settings"

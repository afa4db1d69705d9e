"""Events of query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ashiato.core.events import Event, Level, Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionAnswered(Event):
    """A question was answered, or refused. What was asked stands in the access log, not here."""

    level: ClassVar[Level] = Level.DEBUG
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="questions_total", help="Questions by route and status", labels=("route", "status")),
        Metric(name="question_seconds_total", help="Time taken to begin answering", value="seconds", labels=("route",)),
    )
    route: str
    status: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLogFailed(Event):
    """It could not be written who asked what: the question was refused."""

    level: ClassVar[Level] = Level.ERROR
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="access_log_failed_total", help="Questions refused because they could not be recorded"),
    )
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFailed(Event):
    """An answer failed by our own fault."""

    level: ClassVar[Level] = Level.ERROR
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="answer_failed_total", help="Answers that failed by our own fault", labels=("code",)),
    )
    code: str
    error: str

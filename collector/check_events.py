"""What cross-checks and the look at rotation tell, as typed events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ashiato.core.events import Event, Level, Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class LossFound(Event):
    """A cross-check shows that something is missing of which no file is known; the ledger has the gap."""

    level: ClassVar[Level] = Level.ERROR
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="losses_found_total", help="Gaps that cross-checks found, by reason", labels=("reason",)),
    )
    source: str
    reason: str
    file_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationHeadroom(Event):
    """How long the node would last: the least over all containers, at their growth, until unread bytes are deleted."""

    level: ClassVar[Level] = Level.DEBUG
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name="rotation_headroom_seconds", help="Least time until unread bytes are deleted, at the most a week",
            kind="gauge", value="seconds",
        ),
    )  # fmt: skip
    seconds: float

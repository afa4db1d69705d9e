"""What happens to the pod inventory, as typed events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ashiato.core.events import Event, Level, Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryOpened(Event):
    """The inventory goes on from a snapshot, or is made from the first commit on."""

    next_commit: int
    objects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InventorySaved(Event):
    """A snapshot knows all that is archived up to a commit."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="inventory_packs_total", help="Packs that the inventory has read", value="packs"),
        Metric(name="inventory_objects", help="Objects that the inventory knows", kind="gauge", value="objects"),
        Metric(name="inventory_next_commit", help="First commit not in it yet", kind="gauge", value="next_commit"),
        Metric(name="inventory_gaps", help="Gaps of the watch that it knows", kind="gauge", value="gaps"),
    )
    next_commit: int
    packs: int
    changed: int
    objects: int
    gaps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryRowsUnread(Event):
    """Watch lines or audit events could not be read: what they say of pods is not in the inventory."""

    level: ClassVar[Level] = Level.WARNING
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="inventory_unread_rows_total", help="Rows that the inventory could not read", value="rows"),
    )
    pack: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryPackUnread(Event):
    """A pack is gone or damaged: what it says of pods is not in the inventory, and answers say so."""

    level: ClassVar[Level] = Level.ERROR
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="inventory_unread_packs_total", help="Packs that the inventory could not read"),
    )
    pack: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryStopped(Event):
    """The inventory cannot go on, and archiving does: answers come from the rows behind it, and take longer."""

    level: ClassVar[Level] = Level.ERROR
    error: str

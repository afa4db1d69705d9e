"""Settings of retention, and the policy that they state."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final

import msgspec

from ashiato.adapters.archive import ArchiveSettings
from ashiato.adapters.bus import BusSettings
from ashiato.adapters.opensearch_settings import OpenSearchSettings
from ashiato.core.errors import SettingsError
from ashiato.core.ids import CLASSES
from retention.policy import DAY_NS, LEDGER_CLASS, Policy, Rule

KEEP_DAYS: Final[Mapping[str, float]] = MappingProxyType(
    {"container": 30, "file": 30, "audit": 365, "security": 365, "lifecycle": 365, "access": 365, "ledger": 365}
)
"""How long each class is kept where the settings do not say."""

MINIMUM_DAYS: Final[Mapping[str, float]] = MappingProxyType(
    {"container": 1, "file": 1, "audit": 30, "security": 30, "lifecycle": 30, "access": 30}
)
"""How long each class is kept even where the disk budget is exceeded, where the settings do not say."""

Days = Annotated[float, msgspec.Meta(ge=0, le=36_500)]


class RetentionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One keeper. Several may run: every step is safe with two (R5)."""

    bus: BusSettings
    """The bus, as what may make topics and forget records."""
    archive: ArchiveSettings
    """The archive, as what may delete."""
    opensearch: OpenSearchSettings | None = None
    """The hot index; none where the packs are the index."""
    opensearch_replicas: Annotated[int, msgspec.Meta(ge=0, le=10)] = 1
    """Copies of each daily index; 0 for a single node."""
    keep_days: dict[str, Days] = {}
    """Days that packs of a class are kept, for the classes that are not to have the default. The ledger lives at
    least as long as the longest class, and as long as any pack that it states (R1)."""
    minimum_days: dict[str, Days] = {}
    """Days within which nothing of a class goes, not even where the disk budget is exceeded (R8)."""
    clock_ahead_s_max: Annotated[float, msgspec.Meta(ge=0, le=31_536_000)] = 86_400.0
    """How far a node's clock may run ahead of the commit before its reading time is capped, with a finding (R2)."""
    hot_days: Annotated[int, msgspec.Meta(ge=1, le=3650)] = 7
    """Whole days before today whose daily indices are kept hot."""
    prepare_days_ahead: Annotated[int, msgspec.Meta(ge=1, le=60)] = 2
    """Daily indices are made this many days beforehand."""
    priority_partitions: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 3
    """Partitions of the topic for audit, security, lifecycle, ledger and access, where it has to be made."""
    bulk_partitions: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 12
    """Partitions of the topic for container output and files, where it has to be made."""
    disk_budget_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Embedded: what archive and bus may take of the disk; 0 for no limit."""
    free_interval_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 15.0
    """How often the bus forgets what the archive has."""
    expire_interval_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 900.0
    """How often packs are looked at for expiry."""
    prepare_interval_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 900.0
    """How often topics and daily indices are made and old indices are dropped."""
    budget_interval_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 30.0
    """How often the disk is measured against the budget."""
    actor: str = "retention"
    """Who commits say that they are."""
    metrics_port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    """Port of /metrics on loopback; 0 serves none."""


def policy_of(settings: RetentionSettings) -> Policy:
    """Return the policy that the settings state.

    Raises:
        SettingsError: an unknown class, or a minimum above what is kept.

    """
    for name, given in (("keep_days", settings.keep_days), ("minimum_days", settings.minimum_days)):
        if unknown := sorted(set(given) - set(CLASSES)):
            raise SettingsError(
                f"{name} names unknown classes: {', '.join(unknown)}; known: {', '.join(sorted(CLASSES))}"
            )
    keep = {**KEEP_DAYS, **settings.keep_days}
    minimum = {name: min(days, keep[name]) for name, days in MINIMUM_DAYS.items()} | settings.minimum_days
    # (R1) the ledger is never the first to go: what it states must stay provable.
    keep[LEDGER_CLASS] = minimum[LEDGER_CLASS] = max(keep.values())
    for name in CLASSES:
        if minimum[name] > keep[name]:
            raise SettingsError(
                f"minimum_days of class {name} ({minimum[name]:g}) is more than its keep_days ({keep[name]:g})"
            )
    return Policy(
        rules={
            name: Rule(keep_ns=int(keep[name] * DAY_NS), minimum_ns=int(minimum[name] * DAY_NS)) for name in CLASSES
        },
        clock_ahead_ns_max=int(settings.clock_ahead_s_max * 1_000_000_000),
    )

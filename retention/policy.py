"""What may happen to a pack, decided from its commit, the policy and the time alone (R2).

A pack's clock starts at the later of its newest reading time and its commit's time. A reading time after the commit
can only come from a node whose clock runs ahead: it is believed up to a limit, capped there, and said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ashiato.core.commit import AddedPack

DAY_NS: Final = 86_400_000_000_000
LEDGER_CLASS: Final = "ledger"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One class."""

    keep_ns: int
    """It goes when it is this old."""
    minimum_ns: int
    """It never goes before it is this old, whatever else is wanted (R8)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules in force."""

    rules: Mapping[str, Rule]
    clock_ahead_ns_max: int

    @property
    def text(self) -> str:
        """How it stands in commits: days kept and minimum days per class."""
        return " ".join(
            f"{name}={rule.keep_ns / DAY_NS:g}d/{rule.minimum_ns / DAY_NS:g}d"
            for name, rule in sorted(self.rules.items())
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """The pack stays."""

    reason: str
    until_unix_nano: int | None = None
    """When it may be decided anew; None where no time alone will change it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expire:
    """The pack may go."""

    reason: str
    since_unix_nano: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """When a pack's clock started."""

    time_unix_nano: int
    capped_ns: int = 0
    """How much of the reading time was not believed: a finding where it is not 0."""


def started(pack: AddedPack, policy: Policy) -> Started:
    """Say when the clock of ``pack`` started (R2)."""
    limit = pack.commit_time_unix_nano + policy.clock_ahead_ns_max
    return Started(
        time_unix_nano=max(min(pack.observed_max_unix_nano, limit), pack.commit_time_unix_nano),
        capped_ns=max(pack.observed_max_unix_nano - limit, 0),
    )


def decide(pack: AddedPack, policy: Policy, now_ns: int) -> Keep | Expire:
    """Say what is to happen to ``pack`` at ``now_ns``, and why."""
    rule = policy.rules.get(pack.retention_class)
    if rule is None:
        return Keep(reason="no rule names its class")
    return _at_age(pack, policy, now_ns, age_ns=rule.keep_ns, reason="kept as long as its class says")


def decide_early(pack: AddedPack, policy: Policy, now_ns: int) -> Keep | Expire:
    """Say whether ``pack`` may make room at ``now_ns``: only the minimum of its class protects it then (R8)."""
    rule = policy.rules.get(pack.retention_class)
    if rule is None:
        return Keep(reason="no rule names its class")
    return _at_age(pack, policy, now_ns, age_ns=rule.minimum_ns, reason="older than the minimum of its class")


def _at_age(pack: AddedPack, policy: Policy, now_ns: int, *, age_ns: int, reason: str) -> Keep | Expire:
    due = started(pack, policy).time_unix_nano + age_ns
    if now_ns < due:
        return Keep(reason="younger than its class says", until_unix_nano=due)
    return Expire(reason=reason, since_unix_nano=due)

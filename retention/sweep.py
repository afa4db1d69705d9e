"""Expiry: a numbered ``remove`` first, then the deletion of exactly what it names (R1, R2, R5).

A crash between the two, or a second runner, changes nothing: what the journal has removed and the store still has is
deleted by the next run of anybody, and deleting what is gone already is success.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from ashiato.adapters.journal import JournalWriter, new_act_id
from ashiato.adapters.telemetry import Telemetry
from ashiato.core import sidecar_names
from ashiato.core.commit import AddedPack, Commit, RemovedPack
from ashiato.core.errors import EvidenceError, RefusedError
from ashiato.core.invariants import R2, check
from ashiato.core.journal import JournalState
from ashiato.core.limits import EXPIRE_PACKS_MAX
from ashiato.core.ports import ArchiveGovernor, Clock, ObjectRef
from retention.budget import make_room
from retention.events import (
    BudgetExceeded,
    ClassWithoutRule,
    ClockAhead,
    DeletionRefused,
    DiskUsed,
    PackDeleted,
    PacksExpired,
)
from retention.ledgers import LedgerUse
from retention.policy import LEDGER_CLASS, Expire, Policy, decide, decide_early, started

PACKS_PREFIX: Final = "retention_class="
REASON_AGE: Final = "age"
REASON_BUDGET: Final = "disk budget"

Choose = Callable[[JournalState], Sequence[AddedPack]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What one run did."""

    packs_removed: int = 0
    packs_deleted: int = 0


@dataclass(slots=True, kw_only=True)
class Sweep:
    """One runner. Its methods block, and are called from one thread at a time."""

    policy: Policy
    actor: str
    archive: ArchiveGovernor
    journal: JournalWriter
    clock: Clock
    telemetry: Telemetry
    _undeleted: dict[str, tuple[RemovedPack, int]] = field(default_factory=dict)
    """Removed packs that may still lie in the store, by path, with the number of their remove."""
    _seen_n: int = 0
    """The removes of all commits below this are deleted or in ``_undeleted``."""
    _own: set[int] = field(default_factory=set)
    """Own removes at or above ``_seen_n``: they are in ``_undeleted`` already."""
    _ledgers: LedgerUse = field(init=False)

    def __post_init__(self) -> None:
        self._ledgers = LedgerUse(self.archive)

    def expire(self) -> Swept:
        """Finish what was begun, then remove and delete every pack whose time is over.

        Raises:
            TransientError: the archive does not answer; the next run finishes what was begun.
            InvariantError: R2.

        """
        finished = self.finish()
        swept = self._remove(self._expired, REASON_AGE)
        self._say_classes_without_rule()
        return Swept(packs_removed=swept.packs_removed, packs_deleted=finished + swept.packs_deleted)

    def keep_budget(self, *, used_bytes: int, budget_bytes: int) -> Swept:
        """Make room where the budget is exceeded, oldest reading day first; say where that is not enough (R8).

        Raises:
            TransientError: as :meth:`expire`.
            InvariantError: as :meth:`expire`.

        """
        self.telemetry.emit(DiskUsed(used_bytes=used_bytes, budget_bytes=budget_bytes))
        excess = used_bytes - budget_bytes
        if excess <= 0:
            return Swept()
        finished = self.finish()
        measured = dict(self.journal.state.packs)
        short = excess

        def choose(state: JournalState) -> Sequence[AddedPack]:
            nonlocal short
            gone = sum(pack.size for path, pack in measured.items() if path not in state.packs)
            room = make_room(state.packs.values(), self.policy, self.clock.now_unix_nano(), excess_bytes=excess - gone)
            short = room.short_bytes
            return room.packs

        swept = self._remove(choose, REASON_BUDGET)
        if short:
            self.telemetry.emit(BudgetExceeded(used_bytes=used_bytes, budget_bytes=budget_bytes, short_bytes=short))
        return Swept(packs_removed=swept.packs_removed, packs_deleted=finished + swept.packs_deleted)

    def finish(self) -> int:
        """Delete what removes name and the store still has; return how many packs that were.

        The first run looks into the store, for another process may have died between remove and deletion; later
        ones know from the journal what is new.
        """
        state = self.journal.refresh()
        new = {
            path: entry
            for path, entry in state.removed.items()
            if entry[1] >= self._seen_n and entry[1] not in self._own
        }
        if new and self._seen_n == 0:
            present = {ref.path for ref in self.archive.list("evidence", PACKS_PREFIX)}
            new = {path: entry for path, entry in new.items() if path in present or entry[0].manifest_path in present}
        self._undeleted.update(new)
        self._seen_n = state.next_n
        self._own.clear()
        return sum(self._delete(removed, n) for removed, n in list(self._undeleted.values()))

    # -- what may go -----------------------------------------------------------------------------------------

    def _expired(self, state: JournalState) -> Sequence[AddedPack]:
        now = self.clock.now_unix_nano()
        due = [pack for pack in state.packs.values() if isinstance(decide(pack, self.policy, now), Expire)]
        going = [pack for pack in due if pack.retention_class != LEDGER_CLASS]
        ledgers = [pack for pack in due if pack.retention_class == LEDGER_CLASS]
        if ledgers:
            gone = {pack.path for pack in going}
            staying = [pack for pack in state.packs.values() if pack.path not in gone]
            going += self._ledgers.unneeded(ledgers, staying)
        return going

    def _say_classes_without_rule(self) -> None:
        unruled = [p for p in self.journal.state.packs.values() if p.retention_class not in self.policy.rules]
        if unruled:
            names = ", ".join(sorted({pack.retention_class for pack in unruled}))
            self.telemetry.emit(ClassWithoutRule(packs=len(unruled), classes=names))

    # -- the point of no return ------------------------------------------------------------------------------

    def _remove(self, choose: Choose, reason: str) -> Swept:
        removed = deleted = 0
        for packs, commit in self._commits(choose, reason):
            removed += len(packs)
            self._say(packs, commit, reason)
            self._own.add(commit.n)
            self._undeleted.update({gone.path: (gone, commit.n) for gone in commit.removes})
            deleted += sum(self._delete(gone, commit.n) for gone in commit.removes)
        return Swept(packs_removed=removed, packs_deleted=deleted)

    def _commits(self, choose: Choose, reason: str) -> Iterator[tuple[Sequence[AddedPack], Commit]]:
        """Append numbered removes until nothing more is chosen."""
        chosen: Sequence[AddedPack] = ()

        def build(state: JournalState) -> Commit | None:
            nonlocal chosen
            chosen = choose(state)[:EXPIRE_PACKS_MAX]
            return self._act(chosen, reason) if chosen else None

        while (commit := self.journal.append_checked(build)) is not None:
            yield chosen, commit

    def _act(self, packs: Sequence[AddedPack], reason: str) -> Commit:
        """Return the remove; nothing gets into one that is younger than the minimum of its class (R2)."""
        now = self.clock.now_unix_nano()
        for pack in packs:
            check(R2, isinstance(decide_early(pack, self.policy, now), Expire), path=pack.path, reason=reason)
        return Commit(
            n=0,  # the journal sets it
            act_id=new_act_id(),
            kind="expire",
            actor=self.actor,
            time_unix_nano=now,
            removes=tuple(_removed(pack) for pack in packs),
            facts=self._facts(packs, reason),
        )

    def _facts(self, packs: Sequence[AddedPack], reason: str) -> Mapping[str, str]:
        capped = sum(started(pack, self.policy).capped_ns > 0 for pack in packs)
        return {
            "policy": self.policy.text,
            "reason": reason,
            "packs": str(len(packs)),
            "rows": str(sum(pack.rows for pack in packs)),
            "classes": ",".join(sorted({pack.retention_class for pack in packs})),
            "clocks_capped": str(capped),
        }

    def _say(self, packs: Sequence[AddedPack], commit: Commit, reason: str) -> None:
        for pack in packs:
            if capped := started(pack, self.policy).capped_ns:
                self.telemetry.emit(ClockAhead(path=pack.path, capped_ns=capped))
        self.telemetry.emit(
            PacksExpired(
                commit=commit.n,
                reason=reason,
                packs=len(packs),
                rows=sum(pack.rows for pack in packs),
                pack_bytes=sum(pack.size for pack in packs),
            )
        )

    def _delete(self, removed: RemovedPack, n: int) -> bool:
        """Delete what a remove names, the pack before its manifest; return whether both are gone."""
        if removed.path in self.journal.state.packs:
            raise EvidenceError("a removed pack is live in the journal", path=removed.path, commit=n)
        try:
            self.archive.delete(_object(removed.path, removed.version_id, removed.size))
            self.archive.delete(_object(removed.manifest_path, removed.manifest_version_id))
            self._delete_sidecars(removed)
        except RefusedError as error:
            self.telemetry.emit(DeletionRefused(path=removed.path, version_id=removed.version_id, error=str(error)))
            return False
        self._undeleted.pop(removed.path, None)
        self.telemetry.emit(PackDeleted(path=removed.path, version_id=removed.version_id, size=removed.size, commit=n))
        return True

    def _delete_sidecars(self, removed: RemovedPack) -> None:
        """Delete what was derived from a pack, every version of it: it tells of bytes that are gone."""
        sha256 = PurePosixPath(removed.path).stem
        for kind in sidecar_names.KINDS:
            for version in self.archive.list_versions("work", sidecar_names.path_of(kind, sha256)):
                self.archive.delete(version.ref)


def _removed(pack: AddedPack) -> RemovedPack:
    return RemovedPack(
        path=pack.path,
        version_id=pack.version_id,
        retention_class=pack.retention_class,
        day=pack.day,
        size=pack.size,
        manifest_path=pack.manifest_path,
        manifest_version_id=pack.manifest_version_id,
    )


def _object(path: str, version_id: str, size: int = 0) -> ObjectRef:
    return ObjectRef(bucket="evidence", path=path, version_id=version_id, size=size)

"""The journal: the archive's Delta log, one numbered commit after another (CONTRACTS section 5, J1-J8).

Pure: this module folds commits into a state and decides what a loser of a race may do. What a commit is, and its
bytes, stand in ``ashiato/core/commit.py``; putting and reading them is ``ashiato/adapters/journal.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from ashiato.core.commit import (
    ACT_KINDS,
    JOURNAL_VERSION,
    LOG_PREFIX,
    AddedPack,
    Commit,
    Condemned,
    FrontierRef,
    PageRef,
    RemovedPack,
    Txn,
    decode,
    encode,
    number_of,
    partition_named,
    path_of,
)
from ashiato.core.errors import EvidenceError
from ashiato.core.invariants import J3, J5, R4, check
from ashiato.core.ports import Bucket, Partition

__all__ = [
    "ACT_KINDS",
    "JOURNAL_VERSION",
    "LOG_PREFIX",
    "AddedPack",
    "Commit",
    "Condemned",
    "FrontierRef",
    "JournalState",
    "PageRef",
    "RemovedPack",
    "Txn",
    "Verdict",
    "after_loss",
    "decode",
    "encode",
    "fold",
    "number_of",
    "path_of",
]


class Verdict(Enum):
    """What the loser of a number may do (J2)."""

    TRY_NEXT = "try_next"
    """Nothing that matters to it happened: the same act under the next number."""
    REBUILD = "rebuild"
    """Throw the batch away, take the winner's positions and frontier, and build again."""


def after_loss(mine: Commit, winner: Commit) -> Verdict:
    """Say whether an *archiving* act that lost its number to ``winner`` may be retried as it is (J2).

    Every other kind of act checks its own precondition again against each commit that it lost to.
    """
    ours = {txn.where: txn for txn in mine.txns}
    # (1) the winner moved one of the same partitions: our batch is doubled or out of order
    if any(txn.where in ours for txn in winner.txns):
        return Verdict.REBUILD
    # (2) the winner condemned an object that we refer to
    condemned = {(item.bucket, item.path, item.version_id) for item in winner.condemned}
    if not condemned.isdisjoint(mine.refers_to()):
        return Verdict.REBUILD
    # (3) the winner activated a policy inside our batch
    for name, position in winner.activates.items():
        txn = ours.get(partition_named(name))
        if txn is not None and position < txn.next:
            return Verdict.REBUILD
    return Verdict.TRY_NEXT


@dataclass(slots=True, kw_only=True)
class JournalState:
    """The fold of commits ``0 .. next_n - 1``. ``apply`` takes them in order and refuses a hole."""

    next_n: int = 0
    positions: dict[Partition, Txn] = field(default_factory=dict)
    packs: dict[str, AddedPack] = field(default_factory=dict)
    """Live packs by path."""
    removed: dict[str, tuple[RemovedPack, int]] = field(default_factory=dict)
    """Removed packs by path, with the number of their expiry."""
    condemned: set[tuple[Bucket, str, str]] = field(default_factory=set)
    """(bucket, path, version id)."""
    last_time_unix_nano: int = 0

    def apply(self, commit: Commit) -> None:
        """Fold the next commit in; where it is refused, the state stays as it was.

        Raises:
            EvidenceError: not the next number, or it adds a pack that was added before.
            InvariantError: as :meth:`verify`.

        """
        self.verify(commit)
        self.positions.update({txn.where: txn for txn in commit.txns})
        # A commit is not older than those before it, whatever an archiver's clock said: retention counts from here.
        time = max(commit.time_unix_nano, self.last_time_unix_nano)
        self.packs.update(
            {pack.path: msgspec.structs.replace(pack, commit_time_unix_nano=time) for pack in commit.adds}
        )
        for removed in commit.removes:
            self.packs.pop(removed.path, None)
            self.removed.setdefault(removed.path, (removed, commit.n))
        self.condemned.update((item.bucket, item.path, item.version_id) for item in commit.condemned)
        self.next_n = commit.n + 1
        self.last_time_unix_nano = time

    def verify(self, commit: Commit) -> None:
        """Refuse a commit that cannot stand behind those that are folded in. Done before writing and after reading.

        Raises:
            EvidenceError: not the next number, or it adds a pack that was added before.
            InvariantError: J3 (a partition does not move on from where it stands), J5 (its incarnation goes back),
                R4 (refers to a condemned version).

        """
        if commit.n != self.next_n:
            raise EvidenceError("journal has a hole", expected=self.next_n, found=commit.n)
        for txn in commit.txns:
            self._verify_move(txn, commit.n)
        for pack in commit.adds:
            if pack.path in self.packs or pack.path in self.removed:
                raise EvidenceError("pack is added twice", path=pack.path, commit=commit.n)
        for bucket, path, version_id in commit.refers_to():
            check(R4, (bucket, path, version_id) not in self.condemned, bucket=bucket, path=path, commit=commit.n)

    def overtaken(self, mine: Commit) -> bool:
        """Say whether ``mine``, never written yet, can no longer stand: its batch must be built again.

        So it is where a commit that is folded in since the batch was begun moved one of its partitions or condemned
        what it refers to. :func:`after_loss` sees only the winners of the numbers that this batch lost; a commit may
        also have come in while an earlier batch of the same archiver lost its number.
        """
        moved = any(self._stands_at(txn.where) != txn.follows for txn in mine.txns)
        return moved or not self.condemned.isdisjoint(mine.refers_to())

    def incarnation_of(self, where: Partition, bus_id: str) -> str:
        """Return the incarnation under which a partition is read on: the present one where the bus is the same."""
        txn = self.positions.get(where)
        if txn is not None and txn.incarnation.rpartition("#")[0] == bus_id:
            return txn.incarnation
        return f"{bus_id}#{self._next_counter(where)}"

    def next_incarnation(self, where: Partition, bus_id: str) -> str:
        """Return a new incarnation of the same or another bus (J5: the log is not the one that was read)."""
        return f"{bus_id}#{self._next_counter(where)}"

    def _verify_move(self, txn: Txn, n: int) -> None:
        facts = {"topic": txn.topic, "partition": txn.partition, "commit": n}
        check(J3, txn.follows == self._stands_at(txn.where), reason="built on another frontier", **facts)
        before = self.positions.get(txn.where)
        if before is None:
            return
        if before.incarnation == txn.incarnation:
            check(J3, before.next <= txn.next, reason="position moved back", **facts)
        else:
            check(J5, before.incarnation_counter < txn.incarnation_counter, incarnation=txn.incarnation, **facts)

    def _stands_at(self, where: Partition) -> str:
        txn = self.positions.get(where)
        return txn.frontier.sha256 if txn is not None else ""

    def _next_counter(self, where: Partition) -> int:
        txn = self.positions.get(where)
        return txn.incarnation_counter + 1 if txn is not None else 0


def fold(commits: Iterable[Commit]) -> JournalState:
    """Return the state after ``commits``, numbered from 0 without a hole."""
    state = JournalState()
    for commit in commits:
        state.apply(commit)
    return state

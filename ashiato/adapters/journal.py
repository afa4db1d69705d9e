"""The journal on an archive: append a commit under the next number, read on from the last one.

J1: put-if-absent under the number; every commit carries a random ``act_id``; who finds the number taken, or does
not know what happened, reads it, and has won if the id is its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ashiato.core import journal
from ashiato.core.errors import (
    AlreadyExistsError,
    EvidenceError,
    NotHeldError,
    OutcomeUnknownError,
    RejectedError,
    TransientError,
)
from ashiato.core.journal import Commit, JournalState
from ashiato.core.limits import COMMIT_ATTEMPTS_MAX
from ashiato.core.ports import ArchiveReader, ArchiveWriter, ObjectVersion

_ASKS_MAX = 5


def new_act_id() -> str:
    """Return a random act id."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Won:
    """The commit stands under its number."""

    commit: Commit


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """Another act stands under the number."""

    winner: Commit


class Journal:
    """Reads the journal and keeps its fold; ``refresh`` takes in what is new.

    Commits are read by listing behind the last known number, so an opened journal follows cheaply. The oldest
    version of each object is the commit (J6): the archive's ``get`` gives that one. A call that was given up may
    still run in its thread, so whoever moves the fold holds the lock.
    """

    def __init__(self, archive: ArchiveReader) -> None:
        self.archive = archive
        self.state = JournalState()
        self._lock = threading.RLock()

    def refresh(self) -> JournalState:
        """Fold in the commits that were added since.

        Raises:
            EvidenceError: a number is missing while a later one exists, or a commit cannot stand where it does.
            RejectedError: a commit is damaged, or of a version that this release does not read.
            TransientError: the archive does not answer.

        """
        with self._lock:
            for commit in self._new_commits():
                self.state.apply(commit)
            return self.state

    async def refresh_async(self) -> JournalState:
        """As :meth:`refresh`, off the event loop."""
        return await asyncio.to_thread(self.refresh)

    def read(self, n: int) -> Commit | None:
        """Return commit ``n``, None where there is none.

        Raises:
            EvidenceError: what stands there is no commit of ours, or not all of it.

        """
        try:
            content, _ = self.archive.get("evidence", journal.path_of(n))
        except NotHeldError:
            return None
        try:
            return journal.decode(content, n)
        except RejectedError as error:
            facts = {**error.facts, "path": journal.path_of(n)}
            raise EvidenceError(f"{error.message}: put it back from a copy of the archive", **facts) from error

    def disturbed(self) -> Iterator[ObjectVersion]:
        """Yield what lies in the log beside the commits: later versions of a commit, and delete markers (J6).

        The journal does not change by them; each is a finding, for somebody wrote where nobody may.
        """
        oldest: dict[str, ObjectVersion] = {}
        found = [
            version
            for version in self.archive.list_versions("evidence", journal.LOG_PREFIX)
            if journal.number_of(version.ref.path) is not None
        ]
        for version in found:
            first = oldest.get(version.ref.path)
            if not version.is_delete_marker and (
                first is None or version.modified_unix_nano <= first.modified_unix_nano
            ):
                # A listing gives the newest version first, so of two in one moment the later line is the older one.
                oldest[version.ref.path] = version
        yield from (version for version in found if oldest.get(version.ref.path) is not version)

    def _new_commits(self) -> Iterator[Commit]:
        expected = self.state.next_n
        start_after = journal.path_of(expected - 1) if expected else ""
        for ref in self.archive.list("evidence", journal.LOG_PREFIX, start_after=start_after):
            n = journal.number_of(ref.path)
            # A listing may lack what is there: a folder is not listed at one moment, and a delete marker hides a
            # commit without undoing it (J6). Only the number itself tells.
            while n is not None and expected <= n:
                yield self._standing(expected, seen=n)
                expected += 1
        while (hidden := self.read(expected)) is not None:
            yield hidden
            expected += 1

    def _standing(self, n: int, *, seen: int) -> Commit:
        commit = self.read(n)
        if commit is None:
            raise EvidenceError("journal has a hole", expected=n, found=seen)
        return commit


class JournalWriter(Journal):
    """A journal that can be appended to: ingest (archive) and retention."""

    def __init__(self, archive: ArchiveWriter) -> None:
        super().__init__(archive)
        self._writer = archive

    def try_append(self, commit: Commit) -> Won | Lost:
        """Put ``commit`` under its own number once, and say who stands there now.

        The fold takes in the commit that stands there, ours or the winner's. After an error the same commit, with
        the same ``act_id``, may be appended again: if it stands already, it has won.

        Raises:
            EvidenceError: the commit could not stand there (it would leave a hole, double a pack or break an
                invariant): nothing was written.
            OutcomeUnknownError: the archive did not say, after several questions; ask again with the same commit.
            TransientError: the archive does not answer.

        """
        with self._lock:
            if commit.n >= self.state.next_n:
                self.state.verify(commit)
        content = journal.encode(commit)
        for _ in range(_ASKS_MAX):
            # (J1) taken, perhaps by ourselves, or unknown: what stands under the number decides
            with contextlib.suppress(AlreadyExistsError, OutcomeUnknownError):
                self._writer.put_if_absent("evidence", commit.path, content)
            standing = self.read(commit.n)
            if standing is not None:
                self._take_in(standing)
                return Won(commit=standing) if standing.act_id == commit.act_id else Lost(winner=standing)
        raise OutcomeUnknownError("the archive does not say who holds the number", commit=commit.n)

    def append_checked(self, build: Callable[[JournalState], Commit | None]) -> Commit | None:
        """Append an act of governance: ``build`` checks its precondition against each state it loses to (J2).

        ``build`` is called with the newest fold and returns the commit (its ``n`` is set here) or None where
        the act is no longer wanted; returns the commit that stands, or None.

        Raises:
            OutcomeUnknownError: as :meth:`try_append`. The act may stand: call again with a ``build`` that sees it.
            TransientError: lost too many numbers in a row, or the archive does not answer.

        """
        for _ in range(COMMIT_ATTEMPTS_MAX):
            with self._lock:
                state = self.refresh()
                wanted = build(state)
                if wanted is None:
                    return None
                commit = replace(wanted, n=state.next_n)
            outcome = self.try_append(commit)
            if isinstance(outcome, Won):
                return outcome.commit
        raise TransientError("lost too many numbers in a row", attempts=COMMIT_ATTEMPTS_MAX)

    def ensure_created(self, *, actor: str, time_unix_nano: int) -> None:
        """Make commit 0 (protocol and schema) where the journal is empty; several may race."""

        def create(state: JournalState) -> Commit | None:
            if state.next_n:
                return None
            return Commit(n=0, act_id=new_act_id(), kind="create", actor=actor, time_unix_nano=time_unix_nano)

        self.append_checked(create)

    def _take_in(self, standing: Commit) -> None:
        with self._lock:
            if standing.n == self.state.next_n:
                self.state.apply(standing)

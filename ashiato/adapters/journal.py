"""The journal on an archive: append a commit under the next number, read on from the last one.

J1: put-if-absent under the number; every commit carries a random ``act_id``; who finds the number taken, or does
not know what happened, reads it, and has won if the id is its own.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ashiato.core import journal
from ashiato.core.errors import AlreadyExistsError, EvidenceError, NotHeldError, OutcomeUnknownError
from ashiato.core.journal import Commit, JournalState
from ashiato.core.ports import ArchiveReader, ArchiveWriter

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
    version of each object is the commit (J6): the archive's ``get`` gives that one.
    """

    def __init__(self, archive: ArchiveReader) -> None:
        self.archive = archive
        self.state = JournalState()

    def refresh(self) -> JournalState:
        """Fold in the commits that were added since.

        Raises:
            EvidenceError: a number is missing while a later one exists.
            TransientError: the archive does not answer.

        """
        for commit in self._new_commits():
            self.state.apply(commit)
        return self.state

    async def refresh_async(self) -> JournalState:
        """As :meth:`refresh`, off the event loop."""
        return await asyncio.to_thread(self.refresh)

    def read(self, n: int) -> Commit | None:
        """Return commit ``n``, None where there is none."""
        try:
            content, _ = self.archive.get("evidence", journal.path_of(n))
        except NotHeldError:
            return None
        return journal.decode(content, n)

    def _new_commits(self) -> Iterator[Commit]:
        start_after = journal.path_of(self.state.next_n - 1) if self.state.next_n else ""
        expected = self.state.next_n
        for ref in self.archive.list("evidence", journal.LOG_PREFIX, start_after=start_after):
            n = journal.number_of(ref.path)
            if n is None:
                continue
            if n != expected:
                raise EvidenceError("journal has a hole", expected=expected, found=n)
            content, _ = self.archive.get("evidence", ref.path)
            yield journal.decode(content, n)
            expected = n + 1


class JournalWriter(Journal):
    """A journal that can be appended to: ingest (archive) and retention."""

    def __init__(self, archive: ArchiveWriter) -> None:
        super().__init__(archive)
        self._writer = archive

    def try_append(self, commit: Commit) -> Won | Lost:
        """Put ``commit`` under its own number once, and say who stands there now.

        The fold takes in the commit that stands there, ours or the winner's.

        Raises:
            OutcomeUnknownError: the archive did not say, after several questions; ask again with the same commit.

        """
        content = journal.encode(commit)
        for _ in range(_ASKS_MAX):
            try:
                self._writer.put_if_absent("evidence", commit.path, content)
            except AlreadyExistsError:
                pass
            except OutcomeUnknownError:
                # (J1) unknown: what stands under the number decides; nothing there means that we may put again
                if self.read(commit.n) is None:
                    continue
            standing = self.read(commit.n)
            if standing is None:
                continue
            self.refresh_to(standing)
            return Won(commit=standing) if standing.act_id == commit.act_id else Lost(winner=standing)
        raise OutcomeUnknownError("the archive does not say who holds the number", commit=commit.n)

    def refresh_to(self, standing: Commit) -> None:
        """Fold in everything up to ``standing``."""
        if standing.n == self.state.next_n:
            self.state.apply(standing)
        else:
            self.refresh()

    def append_checked(self, build: Callable[[JournalState], Commit | None]) -> Commit | None:
        """Append an act of governance: ``build`` checks its precondition against each state it loses to (J2).

        ``build`` is called with the newest fold and returns the commit (its ``n`` is set here) or None where
        the act is no longer wanted; returns the commit that stands, or None.
        """
        while True:
            state = self.refresh()
            wanted = build(state)
            if wanted is None:
                return None
            outcome = self.try_append(replace(wanted, n=state.next_n))
            if isinstance(outcome, Won):
                return outcome.commit

    def ensure_created(self, *, actor: str, time_unix_nano: int) -> None:
        """Make commit 0 (protocol and schema) where the journal is empty; several may race."""

        def create(state: JournalState) -> Commit | None:
            if state.next_n:
                return None
            return Commit(n=0, act_id=new_act_id(), kind="create", actor=actor, time_unix_nano=time_unix_nano)

        self.append_checked(create)

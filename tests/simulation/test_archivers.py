"""The real archivers, disturbed at each of their writes: nothing is lost, nothing is archived twice (J1-J5, M1, R4)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ashiato.adapters.journal import Journal, JournalWriter, Lost, Won
from ashiato.core import journal
from ashiato.core.ids import TOPIC_BULK
from ashiato.core.invariants import InvariantError
from ashiato.core.journal import Commit, JournalState, Verdict
from ashiato.core.ports import Partition
from tests.simulation.play import LINES, Play
from tests.simulation.staged import Fate, Process

BULK_0, BULK_1 = Partition(TOPIC_BULK, 0), Partition(TOPIC_BULK, 1)
_PROCESSES_MAX = 3
_PIECES_MAX = 12
"""Fewer than the ranges that a frontier remembers, so that whatever is sent again can be compared."""


class Archivers(RuleBasedStateMachine):
    """Up to three archivers, each write of each of which may be late, lost or the last."""

    def __init__(self) -> None:
        super().__init__()
        self.play = Play()
        self.pieces = 0

    @initialize(first=st.integers(0, 12), second=st.integers(0, 12), archivers=st.integers(1, 2))
    def begin(self, first: int, second: int, archivers: int) -> None:
        self.play.send(0, first)
        self.play.send(1, second)
        for _ in range(archivers):
            self.play.start()

    @precondition(lambda self: self.pieces < _PIECES_MAX)
    @rule(file=st.integers(0, 1), lines=st.integers(1, 8))
    def send(self, file: int, lines: int) -> None:
        self.pieces += 1
        self.play.send(file, lines)

    @precondition(lambda self: self.pieces < _PIECES_MAX and any(self.play.sent))
    @rule(file=st.integers(0, 1), start=st.integers(0, LINES), lines=st.integers(1, LINES))
    def resend(self, file: int, start: int, lines: int) -> None:
        self.pieces += 1
        self.play.resend(file, start, start + lines)

    @precondition(lambda self: len(self.play.processes) < _PROCESSES_MAX)
    @rule()
    def start(self) -> None:
        self.play.start()

    @precondition(lambda self: self._idle())
    @rule(data=st.data(), only=st.sampled_from([None, BULK_0, BULK_1]))
    def step(self, data: st.DataObject, only: Partition | None) -> None:
        process = data.draw(st.sampled_from(self._idle()))
        if process.opened:
            process.step(only)
        else:
            process.open()

    @precondition(lambda self: self._idle())
    @rule(data=st.data())
    def flush(self, data: st.DataObject) -> None:
        process = data.draw(st.sampled_from(self._idle()))
        if process.opened:
            process.flush()
        else:
            process.open()

    @precondition(lambda self: self._waiting())
    @rule(data=st.data(), fate=st.sampled_from([Fate.DONE] * 4 + [Fate.REPLY_LOST, Fate.REQUEST_LOST]))
    def let_pass(self, data: st.DataObject, fate: Fate) -> None:
        process = data.draw(st.sampled_from(self._waiting()))
        process.let_pass(data.draw(st.integers(0, len(process.gate.waiting) - 1)), fate)

    @precondition(lambda self: self._waiting())
    @rule(data=st.data(), writes=st.integers(2, 5))
    def let_several_pass(self, data: st.DataObject, writes: int) -> None:
        process = data.draw(st.sampled_from(self._waiting()))
        for _ in range(writes):
            if process.gate.waiting:
                process.let_pass(0, Fate.DONE)

    @precondition(lambda self: self.play.processes)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        process = data.draw(st.sampled_from(self.play.processes))
        self.play.processes.remove(process)
        process.die()

    @rule()
    def free(self) -> None:
        self.play.free()

    @precondition(lambda self: self.play.broker.bus_id == "bus" and any(self.play.sent))
    @rule()
    def renew(self) -> None:
        self.play.renew()

    @rule()
    def hold(self) -> None:
        self.play.hold()

    @rule()
    def condemn(self) -> None:
        self.play.condemn()

    @invariant()
    def what_stands_is_in_order(self) -> None:
        self.play.check()

    def teardown(self) -> None:
        try:
            self.play.finish()
        finally:
            self.play.leave()

    def _idle(self) -> list[Process]:
        return [process for process in self.play.processes if not process.busy]

    def _waiting(self) -> list[Process]:
        return [process for process in self.play.processes if process.gate.waiting]


def test_j1_to_j5_hold_for_the_real_archivers_whatever_disturbs_them() -> None:
    run_state_machine_as_test(
        Archivers,
        settings=settings(
            max_examples=100, stateful_step_count=40, derandomize=True, deadline=None, print_blob=False,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip


# -- plays that were written down, and what would go wrong without a rule ------------------------------------


@contextmanager
def a_play(*, raw_bytes: int = 500) -> Iterator[Play]:
    play = Play(raw_bytes=raw_bytes)
    try:
        yield play
    finally:
        play.leave()


def _two_read_the_same(play: Play) -> None:
    """Both read the same records; one is paused before its commit, the other one commits."""
    play.send(0, 6)
    first, second = play.start(), play.start()
    first.step()
    first.flush()
    while not first.gate.waiting[0].what.startswith(journal.LOG_PREFIX):
        first.let_pass(0, Fate.DONE)
    second.step()
    second.flush()
    while second.gate.waiting:
        second.let_pass(0, Fate.DONE)
    play.finish()


def _an_earlier_batch_lost_its_number(play: Play) -> None:
    """A batch loses its number to a mover of another partition whose records the next batch has read already."""
    first, second = play.start(), play.start()
    play.send(0, 12)
    play.send(1, 12)
    # given a batch of partition 0 that is full and paused, and one of partition 1 that another archiver commits
    first.step(only=BULK_0)
    assert first.gate.waiting
    second.step(only=BULK_1)
    while second.gate.waiting:
        second.let_pass(0, Fate.DONE)
    # when the first one reads partition 1 as well, and only then its first batch goes on
    first.step(only=BULK_1)
    while first.gate.waiting:
        first.let_pass(0, Fate.DONE)
    first.step()
    play.finish()


def _a_reply_is_lost_and_a_hold_takes_the_next_number(play: Play, fate: Fate) -> None:
    play.send(0, 6)
    only = play.start()
    only.step()
    only.flush()
    while not only.gate.waiting[0].what.startswith(journal.LOG_PREFIX):
        only.let_pass(0, Fate.DONE)
    if fate is Fate.REQUEST_LOST:
        play.hold()
    only.let_pass(0, fate)
    play.hold()
    only.undisturbed()
    only.archiver.journal.refresh()
    assert not only.busy
    assert sum(pack.rows for pack in only.archiver.journal.state.packs.values()) == 6


def test_j2_an_archiver_that_was_paused_before_its_commit_throws_its_batch_away() -> None:
    with a_play() as play:
        _two_read_the_same(play)


@pytest.mark.parametrize("fate", [Fate.REPLY_LOST, Fate.REQUEST_LOST])
def test_j1_a_commit_whose_reply_is_lost_stands_once(fate: Fate) -> None:
    with a_play() as play:
        _a_reply_is_lost_and_a_hold_takes_the_next_number(play, fate)
        play.finish()


def test_j3_a_batch_that_was_begun_before_a_commit_came_in_is_built_again() -> None:
    with a_play() as play:
        _an_earlier_batch_lost_its_number(play)


def test_j5_a_bus_that_is_made_anew_is_a_new_incarnation_and_what_it_brings_again_is_trimmed() -> None:
    with a_play() as play:
        # given committed bytes, and more that are only on the bus
        play.send(0, 12)
        first = play.start()
        first.undisturbed()
        first.step()
        first.flush()
        play.send(0, 4)
        # when another bus takes its place, and the collectors send again what they have
        play.renew()
        play.send(0, 4)
        play.finish()
        # then the partition goes on under a counted incarnation of the new bus, from its start
        txn = Journal(play.archive).refresh().positions[BULK_0]
        assert txn.incarnation == f"bus2/{TOPIC_BULK}#1"
        assert txn.next == 2


def test_j4_what_a_crashed_archiver_put_without_a_commit_does_not_exist() -> None:
    with a_play() as play:
        play.send(0, 12)
        first = play.start()
        first.step()
        while not first.gate.waiting[0].what.startswith(journal.LOG_PREFIX):
            first.let_pass(0, Fate.DONE)
        first.die()
        assert list(play.archive.list("evidence", "retention_class=container/"))
        assert Journal(play.archive).refresh().packs == {}
        play.condemn()
        play.finish()


def _unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the journal's own refusal away, so that the mutant's harm is seen in the archive itself."""
    monkeypatch.setattr(JournalState, "verify", lambda *_: None)
    monkeypatch.setattr(JournalState, "overtaken", lambda *_: False)


def test_a_mutant_that_never_builds_again_doubles_what_a_paused_archiver_read(monkeypatch: pytest.MonkeyPatch) -> None:
    _unchecked(monkeypatch)
    monkeypatch.setattr(journal, "after_loss", lambda *_: Verdict.TRY_NEXT)
    with a_play() as play, pytest.raises(AssertionError, match="doubled"):
        _two_read_the_same(play)


def test_a_mutant_that_forgets_what_it_lost_to_doubles_the_next_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    _unchecked(monkeypatch)
    with a_play() as play, pytest.raises(AssertionError, match="doubled"):
        _an_earlier_batch_lost_its_number(play)


def test_j3_the_journal_itself_refuses_what_an_overtaken_archiver_would_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JournalState, "overtaken", lambda *_: False)
    with a_play() as play, pytest.raises(InvariantError, match="J3"):
        _an_earlier_batch_lost_its_number(play)


def test_a_mutant_that_trusts_the_number_loses_what_a_hold_displaced(monkeypatch: pytest.MonkeyPatch) -> None:
    truly = JournalWriter.try_append

    def trusting(self: JournalWriter, commit: Commit) -> Won | Lost:
        truly(self, commit)
        return Won(commit=commit)

    monkeypatch.setattr(JournalWriter, "try_append", trusting)
    with a_play() as play, pytest.raises(AssertionError):
        _a_reply_is_lost_and_a_hold_takes_the_next_number(play, Fate.REQUEST_LOST)

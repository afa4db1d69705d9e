"""The journal on an archive: one winner per number, lost replies asked for, nothing hidden by what lies beside it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ashiato.adapters.archive_directory import DirectoryWriter
from ashiato.adapters.journal import Journal, JournalWriter, Lost, Won
from ashiato.core import journal
from ashiato.core.errors import EvidenceError, OutcomeUnknownError, TransientError
from ashiato.core.invariants import InvariantError
from ashiato.core.journal import Commit, JournalState
from ashiato.core.ports import ArchiveWriter, Bucket, ObjectRef
from tests.simulation.memory_archive import MemoryArchive
from tests.unit.core.commits import commit, pack, txn


@pytest.fixture(params=["memory", "directory"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> ArchiveWriter:
    return MemoryArchive() if request.param == "memory" else DirectoryWriter(tmp_path / "archive")


def writer(archive: ArchiveWriter) -> JournalWriter:
    opened = JournalWriter(archive)
    opened.ensure_created(actor="test", time_unix_nano=1)
    return opened


@dataclass(slots=True)
class Faulty(MemoryArchive):
    """Loses the replies of puts under a number: each fault says whether the put took effect."""

    faults: list[bool] = field(default_factory=list)

    def put_if_absent(self, bucket: Bucket, path: str, content: bytes) -> ObjectRef:
        if self.faults:
            if self.faults.pop(0):
                MemoryArchive.put_if_absent(self, bucket, path, content)
            raise OutcomeUnknownError("no reply", path=path)
        return MemoryArchive.put_if_absent(self, bucket, path, content)


def test_the_first_commit_makes_the_table_and_a_second_opener_finds_it(archive: ArchiveWriter) -> None:
    first, second = writer(archive), writer(archive)
    assert first.state.next_n == second.refresh().next_n == 1
    found = second.read(0)
    assert found is not None
    assert found.kind == "create"
    assert second.read(1) is None


def test_j1_eight_racing_writers_have_one_winner_per_number(archive: ArchiveWriter) -> None:
    writers = [writer(archive) for _ in range(8)]
    start = threading.Barrier(8)

    def race(own: JournalWriter, name: str) -> tuple[str, Won | Lost]:
        start.wait()
        return name, own.try_append(commit(1, "hold", act=name))

    with ThreadPoolExecutor(8) as pool:
        outcomes = dict(pool.map(race, writers, [f"writer {n}" for n in range(8)]))
    won = [name for name, outcome in outcomes.items() if isinstance(outcome, Won)]
    assert len(won) == 1
    winner = commit(1, "hold", act=won[0])
    assert all(outcome.winner == winner for outcome in outcomes.values() if isinstance(outcome, Lost))
    assert all(own.state.next_n == 2 for own in writers)


@pytest.mark.parametrize("faults", [[True], [False], [False, True], [False, False, False], [True, True]])
def test_j1_a_lost_reply_neither_loses_nor_doubles_the_commit(faults: list[bool]) -> None:
    archive = Faulty()
    own = writer(archive)
    archive.faults = list(faults)
    # when the reply is lost, with or without an effect
    outcome = own.try_append(commit(1, "hold", act="mine"))
    # then the act_id that stands there decides
    assert outcome == Won(commit=commit(1, "hold", act="mine"))
    assert [version.ref.path for version in archive.list_versions("evidence", journal.path_of(1))] == [
        journal.path_of(1)
    ]


def test_j1_a_lost_reply_of_a_put_that_lost_the_race_is_a_loss() -> None:
    archive = Faulty()
    own, other = writer(archive), writer(archive)
    other.try_append(commit(1, "hold", act="other"))
    archive.faults = [False]
    assert own.try_append(commit(1, "hold", act="mine")) == Lost(winner=commit(1, "hold", act="other"))


def test_j1_an_archive_that_never_says_is_asked_again_with_the_same_act() -> None:
    archive = Faulty()
    own = writer(archive)
    archive.faults = [False] * 5
    mine = commit(1, "hold", act="mine")
    with pytest.raises(OutcomeUnknownError):
        own.try_append(mine)
    assert own.state.next_n == 1
    assert own.try_append(mine) == Won(commit=mine)
    # and once more, after it stands: the same answer, nothing new
    assert own.try_append(mine) == Won(commit=mine)
    assert Journal(archive).refresh().next_n == 2


def test_a_commit_that_could_not_stand_is_never_written(archive: ArchiveWriter) -> None:
    own = writer(archive)
    own.try_append(commit(1, txns=(txn(0, 5, "a"),), adds=(pack("p"),)))
    with pytest.raises(EvidenceError, match="hole"):
        own.try_append(commit(3, "hold"))
    with pytest.raises(InvariantError, match="J3"):
        own.try_append(commit(2, txns=(txn(0, 5, "b"),)))
    with pytest.raises(EvidenceError, match="twice"):
        own.try_append(commit(2, adds=(pack("p"),)))
    assert [ref.path for ref in archive.list("evidence", journal.LOG_PREFIX)] == [
        journal.path_of(0),
        journal.path_of(1),
    ]


def test_j2_an_act_of_governance_checks_its_precondition_against_each_winner(archive: ArchiveWriter) -> None:
    own, other = writer(archive), writer(archive)
    seen: list[int] = []

    def hold_unless_held(state: JournalState) -> Commit | None:
        seen.append(state.next_n)
        if state.next_n == 1:
            # while this act is prepared, another takes the number
            other.try_append(commit(1, "hold", act="other"))
        return commit(0, "hold", act="mine") if state.next_n < 3 else None

    stands = own.append_checked(hold_unless_held)
    assert stands is not None
    assert stands.n == 2
    assert seen == [1, 2]
    assert own.append_checked(hold_unless_held) is None


def test_a_reader_follows_what_others_append(archive: ArchiveWriter) -> None:
    own, reader = writer(archive), Journal(archive)
    assert reader.refresh().next_n == 1
    own.try_append(commit(1, txns=(txn(0, 5, "a"),), adds=(pack("p"),)))
    own.try_append(commit(2, txns=(txn(0, 7, "b", follows="a"),)))
    assert reader.refresh().next_n == 3
    assert [txn.next for txn in reader.state.positions.values()] == [7]
    assert list(reader.state.packs) == [pack("p").path]


def test_a_missing_number_before_a_later_one_is_a_hole(tmp_path: Path) -> None:
    archive = DirectoryWriter(tmp_path / "archive")
    own = writer(archive)
    for n in (1, 2, 3):
        own.try_append(commit(n, "hold"))
    (tmp_path / "archive" / "evidence" / journal.path_of(2)).unlink()
    with pytest.raises(EvidenceError, match="hole"):
        Journal(archive).refresh()


def test_j6_the_oldest_version_is_the_commit_and_a_second_one_is_a_finding() -> None:
    archive = MemoryArchive()
    own = writer(archive)
    own.try_append(commit(1, "hold", act="true"))
    # when somebody overwrites the commit and hides another one behind a delete marker
    forged = journal.encode(commit(1, "release", act="forged"))
    archive.put("evidence", journal.path_of(1), forged)
    own.try_append(commit(2, "hold"))
    archive.mark_deleted("evidence", journal.path_of(2))
    # then every reader still sees what was committed, the hidden newest commit included
    reader = Journal(archive)
    assert reader.refresh().next_n == 3
    assert reader.read(1) == commit(1, "hold", act="true")
    # and what lies beside the log is a finding each
    found = {(version.ref.path, version.is_delete_marker) for version in reader.disturbed()}
    assert found == {(journal.path_of(1), False), (journal.path_of(2), True)}


def test_j6_a_number_that_a_delete_marker_made_free_is_still_taken() -> None:
    archive = MemoryArchive()
    own, other = writer(archive), writer(archive)
    own.try_append(commit(1, "hold", act="true"))
    archive.mark_deleted("evidence", journal.path_of(1))
    assert other.try_append(commit(1, "hold", act="late")) == Lost(winner=commit(1, "hold", act="true"))
    archive.mark_deleted("evidence", journal.path_of(0))
    own.try_append(commit(2, "hold"))
    assert Journal(archive).refresh().next_n == 3


def test_j6_an_undisturbed_log_has_no_finding(archive: ArchiveWriter) -> None:
    own = writer(archive)
    own.try_append(commit(1, "hold"))
    assert list(own.disturbed()) == []


def test_j7_a_checkpoint_beside_the_log_is_never_opened(archive: ArchiveWriter) -> None:
    own = writer(archive)
    own.try_append(commit(1, adds=(pack("p"),)))
    archive.put("evidence", "_delta_log/_last_checkpoint", b'{"version":1,"size":1}')
    archive.put("evidence", "_delta_log/00000000000000000001.checkpoint.parquet", b"not even Parquet")
    state = Journal(archive).refresh()
    assert state.next_n == 2
    assert list(state.packs) == [pack("p").path]


def test_a_damaged_commit_stops_the_reader_by_its_number(archive: ArchiveWriter) -> None:
    writer(archive)
    archive.put("evidence", journal.path_of(1), b'{"commitInfo":{"operation":"WRITE"}}\n')
    with pytest.raises(EvidenceError) as caught:
        Journal(archive).refresh()
    assert caught.value.facts["commit"] == 1


class _Torn(MemoryArchive):
    """A folder that is read while it changes: the listing has a later name and lacks an earlier one."""

    def list(self, bucket: Bucket, prefix: str, *, start_after: str = "") -> Iterator[ObjectRef]:
        found = MemoryArchive.list(self, bucket, prefix, start_after=start_after)
        yield from (ref for ref in found if journal.number_of(ref.path) != 1)


def test_a_listing_that_lacks_a_number_is_no_hole_where_the_number_answers() -> None:
    archive = _Torn()
    own = writer(archive)
    own.try_append(commit(1, "hold"))
    own.try_append(commit(2, "hold"))
    assert Journal(archive).refresh().next_n == 3


def test_calls_from_several_threads_fold_each_commit_once(archive: ArchiveWriter) -> None:
    own, other = writer(archive), writer(archive)
    for n in range(1, 20):
        other.try_append(commit(n, "hold"))
    with ThreadPoolExecutor(8) as pool:
        states = list(pool.map(lambda _: own.refresh().next_n, range(16)))
    assert states == [20] * 16


def test_an_act_that_loses_forever_stops_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    archive = MemoryArchive()
    own, other = writer(archive), writer(archive)
    monkeypatch.setattr("ashiato.adapters.journal.COMMIT_ATTEMPTS_MAX", 3)

    def always_late(state: JournalState) -> Commit:
        other.try_append(commit(state.next_n, "hold", act=f"other {state.next_n}"))
        return commit(0, "hold", act="mine")

    with pytest.raises(TransientError, match="in a row"):
        own.append_checked(always_late)


def test_a_commit_that_was_cut_is_never_read_as_less(tmp_path: Path) -> None:
    writer = DirectoryWriter(tmp_path)
    JournalWriter(writer).ensure_created(actor="test", time_unix_nano=1)
    (commit,) = (tmp_path / "evidence/_delta_log").glob("*.json")
    whole = commit.read_bytes()

    for size in range(len(whole)):
        commit.write_bytes(whole[:size])
        with pytest.raises(EvidenceError, match="put it back"):
            Journal(writer).refresh()

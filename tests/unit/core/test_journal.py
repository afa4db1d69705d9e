"""The journal's rules (J1-J8, R4): what the loser of a number may do, and which commits a fold refuses."""

from __future__ import annotations

import msgspec
import pytest

from ashiato.core import journal
from ashiato.core.errors import EvidenceError, RejectedError
from ashiato.core.invariants import InvariantError
from ashiato.core.journal import Commit, Condemned, JournalState, PageRef, Txn, Verdict, after_loss, fold
from ashiato.core.ports import Partition
from tests.unit.core.commits import commit, created, frontier_ref, pack, removed, txn

# -- J2: the loser's rule ------------------------------------------------------------------------------------


def test_j2_a_loser_to_a_mover_of_the_same_partition_builds_again() -> None:
    mine = commit(1, act="mine", txns=(txn(0, 5, "a"), txn(1, 3, "b")))
    winner = commit(1, act="winner", txns=(txn(1, 9, "c"),))
    assert after_loss(mine, winner) is Verdict.REBUILD


def test_j2_a_mover_under_another_incarnation_is_a_mover_of_the_same_partition() -> None:
    mine = commit(1, act="mine", txns=(txn(0, 5, "a", incarnation="bus#0"),))
    winner = commit(1, act="winner", txns=(txn(0, 1, "c", incarnation="other#1"),))
    assert after_loss(mine, winner) is Verdict.REBUILD


def test_j2_the_same_number_of_another_topic_is_another_partition() -> None:
    mine = commit(1, act="mine", txns=(txn(0, 5, "a", topic="ashiato.bulk"),))
    winner = commit(1, act="winner", txns=(txn(0, 9, "c", topic="ashiato.priority"),))
    assert after_loss(mine, winner) is Verdict.TRY_NEXT


def test_j2_a_loser_to_a_hold_or_an_expiry_takes_the_next_number() -> None:
    mine = commit(1, act="mine", txns=(txn(0, 5, "a"),), adds=(pack("p"),))
    assert after_loss(mine, commit(1, "hold", act="w", facts={"hold": "case-7"})) is Verdict.TRY_NEXT
    assert after_loss(mine, commit(1, "expire", act="w", removes=(removed("old"),))) is Verdict.TRY_NEXT


@pytest.mark.parametrize(
    "item",
    [
        Condemned(bucket="evidence", path=pack("p").path, version_id="v-p"),
        Condemned(bucket="evidence", path=pack("p").manifest_path, version_id="m-p"),
        Condemned(bucket="work", path=frontier_ref("a").path, version_id="v-a"),
        Condemned(bucket="work", path="frontier/page.json.zst", version_id="v-page"),
    ],
    ids=["pack", "manifest", "frontier", "page of the frontier"],
)
def test_j2_a_loser_to_an_act_that_condemned_its_object_builds_again(item: Condemned) -> None:
    pages = (PageRef(path="frontier/page.json.zst", version_id="v-page"),)
    moved = msgspec.structs.replace(
        txn(0, 5, "a"), frontier=msgspec.structs.replace(frontier_ref("a"), new_pages=pages)
    )
    mine = commit(1, act="mine", txns=(moved,), adds=(pack("p"),))
    assert after_loss(mine, commit(1, "condemn", act="w", condemned=(item,))) is Verdict.REBUILD


def test_j2_another_version_of_the_same_object_may_be_condemned() -> None:
    mine = commit(1, act="mine", txns=(txn(0, 5, "a"),), adds=(pack("p"),))
    other = Condemned(bucket="evidence", path=pack("p").path, version_id="an older put")
    assert after_loss(mine, commit(1, "condemn", act="w", condemned=(other,))) is Verdict.TRY_NEXT


@pytest.mark.parametrize(
    ("position", "verdict"),
    [(0, Verdict.REBUILD), (4, Verdict.REBUILD), (5, Verdict.TRY_NEXT), (50, Verdict.TRY_NEXT)],
)
def test_j2_a_policy_that_activates_inside_the_batch_has_it_built_again(position: int, verdict: Verdict) -> None:
    mine = commit(1, act="mine", txns=(txn(0, 5, "a"),))
    winner = commit(1, "policy", act="w", activates={"ashiato.bulk:0": position, "ashiato.priority:0": 0})
    assert after_loss(mine, winner) is verdict


# -- the fold ------------------------------------------------------------------------------------------------


def test_a_fold_refuses_a_hole() -> None:
    with pytest.raises(EvidenceError, match="hole"):
        fold([created(), commit(2)])
    with pytest.raises(EvidenceError, match="hole"):
        fold([commit(1)])
    with pytest.raises(EvidenceError, match="hole"):
        fold([created(), created()])


def test_j3_a_position_never_moves_back_within_an_incarnation() -> None:
    state = fold([created(), commit(1, txns=(txn(0, 5, "a"),))])
    with pytest.raises(InvariantError, match="J3"):
        state.apply(commit(2, txns=(txn(0, 4, "b", follows="a"),)))


def test_j3_a_partition_is_moved_only_from_the_frontier_where_it_stands() -> None:
    # given two archivers that began at the same place
    state = fold([created(), commit(1, txns=(txn(0, 5, "a"),))])
    # when the second one commits what it read from there, under a number that nobody else took
    late = commit(2, txns=(txn(0, 5, "b"),))
    # then the journal says that it was overtaken, and refuses it
    assert state.overtaken(late)
    with pytest.raises(InvariantError, match="J3"):
        state.apply(late)
    assert not state.overtaken(commit(2, txns=(txn(0, 6, "b", follows="a"),)))


def test_j5_a_new_incarnation_may_begin_anywhere_and_never_gives_way_to_an_older_one() -> None:
    state = fold([created(), commit(1, txns=(txn(0, 5, "a", incarnation="bus#0"),))])
    state.apply(commit(2, txns=(txn(0, 1, "b", follows="a", incarnation="bus2#1"),)))
    assert state.positions[Partition("ashiato.bulk", 0)].next == 1
    with pytest.raises(InvariantError, match="J5"):
        state.apply(commit(3, txns=(txn(0, 9, "c", follows="b", incarnation="bus#0"),)))
    with pytest.raises(InvariantError, match="J5"):
        state.apply(commit(3, txns=(txn(0, 9, "c", follows="b", incarnation="bus#1"),)))


def test_j5_the_same_bus_is_the_same_incarnation_and_another_one_counts_on() -> None:
    where = Partition("ashiato.bulk", 0)
    state = JournalState()
    assert state.incarnation_of(where, "bus#odd") == "bus#odd#0"
    state = fold([created(), commit(1, txns=(txn(0, 5, "a", incarnation="bus#0"),))])
    assert state.incarnation_of(where, "bus") == "bus#0"
    assert state.incarnation_of(where, "other") == "other#1"
    assert state.next_incarnation(where, "bus") == "bus#1"


@pytest.mark.parametrize(
    "item",
    [
        Condemned(bucket="evidence", path=pack("p").path, version_id="v-p"),
        Condemned(bucket="evidence", path=pack("p").manifest_path, version_id="m-p"),
        Condemned(bucket="work", path=frontier_ref("a").path, version_id="v-a"),
    ],
    ids=["pack", "manifest", "frontier"],
)
def test_r4_no_commit_refers_to_a_condemned_version(item: Condemned) -> None:
    state = fold([created(), commit(1, "condemn", condemned=(item,))])
    mine = commit(2, txns=(txn(0, 5, "a"),), adds=(pack("p"),))
    assert state.overtaken(mine)
    with pytest.raises(InvariantError, match="R4"):
        state.apply(mine)


def test_a_refused_commit_leaves_the_state_as_it_was() -> None:
    state = fold([created(), commit(1, txns=(txn(0, 5, "a"),), adds=(pack("p"),))])
    bad = commit(2, txns=(txn(1, 9, "x"), txn(0, 4, "b", follows="a")), adds=(pack("q"),), removes=(removed("p"),))
    with pytest.raises(InvariantError):
        state.apply(bad)
    assert state.next_n == 2
    assert list(state.packs) == [pack("p").path]
    assert list(state.positions) == [Partition("ashiato.bulk", 0)]


def test_a_pack_is_added_once_even_after_it_was_removed() -> None:
    state = fold([created(), commit(1, adds=(pack("p"),))])
    with pytest.raises(EvidenceError, match="twice"):
        state.apply(commit(2, adds=(pack("p"),)))
    state.apply(commit(2, "expire", removes=(removed("p"),)))
    assert not state.packs
    assert state.removed[pack("p").path][1] == 2
    with pytest.raises(EvidenceError, match="twice"):
        state.apply(commit(3, adds=(pack("p"),)))


def test_an_expiry_that_two_runners_made_counts_from_its_first_number() -> None:
    state = fold([
        created(),
        commit(1, adds=(pack("p"),)),
        commit(2, "expire", removes=(removed("p"),)),
        commit(3, "expire", removes=(removed("p"),)),
    ])  # fmt: skip
    assert state.removed[pack("p").path][1] == 2


# -- bytes that are refused ----------------------------------------------------------------------------------


def _changed(whole: Commit, old: bytes, new: bytes) -> bytes:
    content = journal.encode(whole)
    assert old in content
    return content.replace(old, new)


def _full() -> Commit:
    return commit(7, txns=(txn(0, 5, "a"), txn(1, 6, "b")), adds=(pack("p"),), removes=(removed("q"),))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "commitInfo"),
        (b"not json\n", "damaged"),
        (b'{"commitInfo":{}}\n', "damaged"),
        (b"[1]\n", "damaged"),
        (b"\xff\xfe\n", "damaged"),
        (_changed(_full(), b'"format":1', b'"format":2'), "version"),
        (_changed(_full(), b'"kind":"archive"', b'"kind":"purge"'), "kind"),
        (_changed(_full(), b'"version":5', b'"version":6'), "different things"),
        (_changed(_full(), b'"incarnation":"bus#0"', b'"incarnation":"bus"'), "different things"),
        (_changed(_full(), b'"ashiato.raw_bytes":"5000"', b'"ashiato.raw_bytes":"many"'), "damaged"),
        (_changed(_full(), b'"size":1000', b'"size":"big"'), "damaged"),
        (_changed(_full(), b'\\"numRecords\\":10', b'\\"numRecords\\":null'), "damaged"),
        (_changed(_full(), b'"ashiato.sha256"', b'"ashiato.md5"'), "damaged"),
        (journal.encode(_full()) + journal.encode(_full()), "commitInfo"),
        (journal.encode(_full()) + b'{"remove":null}\n', "cut or added to"),
        (journal.encode(commit(7, activates={"nowhere": 3})), "partition"),
        (journal.encode(commit(7, txns=(txn(0, 1, "a"), txn(0, 2, "b")))), "twice"),
        (journal.encode(commit(7, txns=(txn(0, 1, "a", incarnation="bus"),))), "counter"),
    ],
)  # fmt: skip
def test_bytes_that_are_no_commit_of_ours_are_refused(content: bytes, why: str) -> None:
    with pytest.raises(RejectedError, match=why):
        journal.decode(content, 7)


def test_a_commit_that_was_cut_anywhere_is_refused() -> None:
    content = journal.encode(_full())
    for cut in range(len(content) - 1):
        with pytest.raises(RejectedError):
            journal.decode(content[:cut], 7)


def test_j8_a_commit_holds_statistics_of_time_and_counts_only() -> None:
    line = next(line for line in journal.encode(_full()).splitlines() if line.startswith(b'{"add"'))
    stats = msgspec.json.decode(msgspec.json.decode(line)["add"]["stats"])
    assert set(stats) == {"numRecords", "minValues", "maxValues", "tightBounds"}
    times = {"time_unix_nano", "observed_time_unix_nano"}
    assert set(stats["minValues"]) == set(stats["maxValues"]) == times


def test_numbers_are_names_that_sort() -> None:
    assert journal.path_of(7) == "_delta_log/00000000000000000007.json"
    assert [journal.number_of(journal.path_of(n)) for n in (0, 9, 10**19)] == [0, 9, 10**19]
    for other in (
        "_last_checkpoint",
        "_delta_log/_last_checkpoint",
        "_delta_log/00000000000000000010.checkpoint.parquet",
        "_delta_log/0000000000000000007.json",
        "_delta_log/0000000000000000000x.json",
        "_delta_log/sub/00000000000000000007.json",
        "00000000000000000007.json",
    ):
        assert journal.number_of(other) is None


def test_a_txn_says_what_delta_calls_it() -> None:
    moved: Txn = txn(3, 9, "a", incarnation="cluster/topic#2")
    assert moved.app_id == "bus:cluster/topic#2:ashiato.bulk:3"
    assert moved.incarnation_counter == 2

"""Expiry over a real archive: what goes, what stays, and what a crash leaves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import deltalake
import pytest

from ashiato.adapters.archive_directory import DirectoryGovernor
from ashiato.core import sidecar_names
from ashiato.core.errors import EvidenceError, NotHeldError, RefusedError, TransientError
from ashiato.core.frontier import FileState, HeldRange
from ashiato.core.ids import Kind
from ashiato.core.invariants import R2, InvariantError
from ashiato.core.ports import ObjectRef
from ingest.held import HeldPacks, held_or_none
from retention.policy import DAY_NS, Policy, Rule
from tests.unit.retention.house import NOON, POLICY, House


@pytest.fixture
async def house(tmp_path: Path) -> House:
    house = House(tmp_path)
    await house.prepare()
    return house


class Refusing(DirectoryGovernor):
    """A directory whose deletions ``may`` forbid, as a store's lock or a crash does."""

    def __init__(self, root: Path, may: Callable[[ObjectRef], None]) -> None:
        super().__init__(root)
        self._may = may

    def delete(self, ref: ObjectRef) -> None:
        self._may(ref)
        super().delete(ref)


async def test_a_pack_whose_time_is_over_leaves_the_journal_and_the_disk_and_a_younger_one_stays(
    house: House,
) -> None:
    old = await house.packed("old")
    house.clock.advance(9 * DAY_NS)
    young = await house.packed("young")
    house.clock.advance(DAY_NS)

    swept = house.sweep().expire()

    assert (swept.packs_removed, swept.packs_deleted) == (1, 1)
    assert set(house.state().packs) == {young.path}
    assert house.stored() == {young.path, young.manifest_path}
    (removed, n) = house.state().removed[old.path]
    assert (removed.version_id, removed.manifest_version_id) == (old.version_id, old.manifest_version_id)
    commit = house.sweep().journal.read(n)
    assert commit is not None
    assert (commit.kind, commit.actor) == ("expire", "retention")
    assert commit.facts["reason"] == "age"
    assert commit.facts["policy"] == POLICY.text


async def test_one_moment_before_its_time_nothing_goes(house: House) -> None:
    one = await house.packed("one")
    house.clock.advance(10 * DAY_NS - 1)

    assert house.sweep().expire().packs_removed == 0
    house.clock.advance(1)
    assert house.sweep().expire().packs_removed == 1
    assert one.path in house.state().removed


async def test_an_empty_journal_has_nothing_to_expire(house: House) -> None:
    swept = house.sweep().expire()

    assert (swept.packs_removed, swept.packs_deleted) == (0, 0)
    assert house.state().next_n == 0


@pytest.mark.parametrize("deletions_before_the_crash", [0, 1, 2, 3])
async def test_a_crash_between_remove_and_deletion_is_finished_by_the_next_process(
    house: House, deletions_before_the_crash: int
) -> None:
    for name in ("first", "second"):
        await house.packed(name)
    house.clock.advance(10 * DAY_NS)
    left = deletions_before_the_crash

    def crash(_: ObjectRef) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1

    with pytest.raises(KeyboardInterrupt):
        house.sweep(archive=Refusing(house.root / "archive", crash)).expire()
    assert house.state().packs == {}
    assert house.stored()
    commits = house.state().next_n

    house.sweep().expire()

    assert house.stored() == set()
    assert house.state().next_n == commits


async def test_a_store_that_is_away_during_deletion_is_asked_again_by_the_same_process(house: House) -> None:
    await house.packed("one")
    house.clock.advance(10 * DAY_NS)
    away = True

    def may(_: ObjectRef) -> None:
        if away:
            raise TransientError("the store does not answer")

    sweep = house.sweep(archive=Refusing(house.root / "archive", may))
    with pytest.raises(TransientError):
        sweep.expire()
    away = False

    assert sweep.expire().packs_deleted == 1
    assert house.stored() == set()


async def test_a_deletion_that_the_lock_refuses_is_said_and_tried_again(house: House) -> None:
    pack = await house.packed("locked")
    house.clock.advance(10 * DAY_NS)
    locked = True

    def may(ref: ObjectRef) -> None:
        if locked and ref.path == pack.path:
            raise RefusedError("locked until next year")

    sweep = house.sweep(archive=Refusing(house.root / "archive", may))
    assert sweep.expire().packs_deleted == 0
    assert house.stored() == {pack.path, pack.manifest_path}
    assert house.telemetry.value("deletions_refused_total") == 1
    locked = False

    assert sweep.expire().packs_deleted == 1
    assert house.stored() == set()


async def test_only_what_a_remove_names_is_deleted(house: House) -> None:
    await house.packed("one")
    house.archive.put("evidence", "retention_class=container/day=2026-01-01/orphan.parquet", b"nobody's")
    house.clock.advance(10 * DAY_NS)
    asked: list[ObjectRef] = []

    house.sweep(archive=Refusing(house.root / "archive", asked.append)).expire()

    (removed, _) = next(iter(house.state().removed.values()))
    assert [(ref.path, ref.version_id) for ref in asked if ref.bucket == "evidence"] == [
        (removed.path, removed.version_id),
        (removed.manifest_path, removed.manifest_version_id),
    ]
    assert house.stored() == {"retention_class=container/day=2026-01-01/orphan.parquet"}


async def test_what_was_deleted_is_not_deleted_again_at_each_run(house: House) -> None:
    await house.packed("one")
    house.clock.advance(10 * DAY_NS)
    asked: list[ObjectRef] = []
    sweep = house.sweep(archive=Refusing(house.root / "archive", asked.append))

    for _ in range(3):
        sweep.expire()

    assert len([ref for ref in asked if ref.bucket == "evidence"]) == 2
    assert len([ref for ref in asked if ref.bucket == "work"]) == 2


async def test_what_was_derived_from_a_pack_goes_with_it(house: House) -> None:
    # given a pack that goes and one that stays, each with its sidecars, one of them made again
    old = await house.packed("old")
    house.archive.put("work", sidecar_names.path_of("filters", old.sha256) + ".00aa", b"made again")
    house.clock.advance(9 * DAY_NS)
    young = await house.packed("young")
    house.clock.advance(2 * DAY_NS)
    # when the one is removed
    house.sweep().expire()
    # then what tells of its tokens is gone as well, and the other's is there
    left = {sidecar_names.pack_of(ref.path) for kind in sidecar_names.KINDS for ref in house.archive.list("work", kind)}
    assert left == {young.sha256}


async def test_two_runners_at_once_remove_each_pack_once(house: House) -> None:
    packs = [await house.packed(f"pack {n}") for n in range(6)]
    house.clock.advance(10 * DAY_NS)
    start = threading.Barrier(2)
    failures: list[BaseException] = []
    sweeps = [house.sweep(), house.sweep()]

    def run(index: int) -> None:
        try:
            start.wait()
            sweeps[index].expire()
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for sweep in sweeps:
        sweep.expire()

    assert failures == []
    assert house.stored() == set()
    named = [
        gone.path
        for n in range(house.state().next_n)
        if (commit := house.sweep().journal.read(n)) is not None
        for gone in commit.removes
    ]
    assert sorted(named) == sorted(pack.path for pack in packs)


async def test_a_commit_that_comes_between_is_taken_in_before_the_remove(house: House) -> None:
    old = await house.packed("old")
    house.clock.advance(10 * DAY_NS)
    sweep = house.sweep()
    sweep.journal.refresh()
    young = await house.packed("young")

    sweep.expire()

    assert set(house.state().packs) == {young.path}
    assert old.path in house.state().removed


async def test_a_reader_with_an_old_snapshot_learns_that_the_pack_is_gone(house: House) -> None:
    facts = await house.write("line", name="file")
    await house.commit()
    snapshot = house.state()
    (path,) = snapshot.packs
    file = FileState(file_id=facts.file_id, source=facts.source, ranges=(HeldRange(start=0, end=10, pack=path),))
    reader = HeldPacks(house.archive, snapshot)
    house.clock.advance(10 * DAY_NS)

    house.sweep().expire()

    with pytest.raises(NotHeldError):
        reader.bytes_of(file, 0, 10)
    # (Q2) the journal, read again, says why.
    assert path in house.state().removed
    assert held_or_none(HeldPacks(house.archive, house.state()), file, 0, 10) is None


async def test_delta_readers_see_the_table_without_what_went(house: House) -> None:
    await house.packed("old", lines=30)
    house.clock.advance(9 * DAY_NS)
    await house.packed("young", lines=12)
    table = str(house.root / "archive" / "evidence")
    assert deltalake.DeltaTable(table).to_pyarrow_table().num_rows == 42
    house.clock.advance(DAY_NS)

    house.sweep().expire()

    after = deltalake.DeltaTable(table)
    assert after.to_pyarrow_table().num_rows == 12
    assert [entry["operation"] for entry in after.history()] == ["EXPIRE", "ARCHIVE", "ARCHIVE", "CREATE"]


async def test_nothing_younger_than_its_minimum_gets_into_a_remove_whatever_chose_it(house: House) -> None:
    await house.packed("young")
    sweep = house.sweep()

    with pytest.raises(InvariantError) as refused:
        sweep._remove(lambda state: list(state.packs.values()), "a bug")

    assert refused.value.facts["invariant"] == R2.number
    assert len(house.state().packs) == 1


async def test_a_pack_that_is_removed_and_live_stops_the_sweep(house: House) -> None:
    pack = await house.packed("old")
    house.clock.advance(10 * DAY_NS)
    sweep = house.sweep()
    sweep.expire()
    (removed, n) = house.state().removed[pack.path]
    sweep.journal.state.packs[pack.path] = pack

    with pytest.raises(EvidenceError):
        sweep._delete(removed, n)


# -- the ledger ----------------------------------------------------------------------------------------------


async def test_a_ledger_pack_lives_as_long_as_a_pack_whose_files_it_may_state(house: House) -> None:
    """R1."""
    born = house.clock.now_unix_nano()
    ledger = await house.packed("ledger line", kind=Kind.LEDGER)
    house.clock.advance(15 * DAY_NS)
    # The file was born beside that ledger and is written fifteen days later.
    container = await house.packed("late line", born_ns=born)
    house.clock.advance(6 * DAY_NS)

    house.sweep().expire()
    assert set(house.state().packs) == {ledger.path, container.path}
    house.clock.advance(4 * DAY_NS)
    house.sweep().expire()

    assert house.state().packs == {}


async def test_a_ledger_pack_that_no_live_pack_needs_goes_in_its_time(house: House) -> None:
    await house.packed("ledger line", kind=Kind.LEDGER)
    house.clock.advance(19 * DAY_NS)
    young = await house.packed("young")
    house.clock.advance(DAY_NS)

    house.sweep().expire()

    assert set(house.state().packs) == {young.path}


async def test_a_ledger_pack_stays_beside_a_file_whose_id_tells_a_birth_that_never_was(house: House) -> None:
    """R1: its node's clock ran a year ahead for a moment, and every id since then carries that year."""
    ledger = await house.packed("ledger line", kind=Kind.LEDGER)
    container = await house.packed("line", born_ns=house.clock.now_unix_nano() + 365 * DAY_NS)
    longer = replace(POLICY, rules={**POLICY.rules, "container": Rule(keep_ns=40 * DAY_NS, minimum_ns=0)})
    house.clock.advance(21 * DAY_NS)

    house.sweep(policy=longer).expire()
    assert set(house.state().packs) == {ledger.path, container.path}
    house.clock.advance(20 * DAY_NS)
    house.sweep(policy=longer).expire()

    assert house.state().packs == {}


async def test_a_manifest_that_cannot_be_read_keeps_the_ledger(house: House) -> None:
    ledger = await house.packed("ledger line", kind=Kind.LEDGER)
    house.clock.advance(19 * DAY_NS)
    young = await house.packed("young")
    house.archive.delete(ObjectRef(bucket="evidence", path=young.manifest_path, version_id="", size=0))
    house.clock.advance(DAY_NS)

    house.sweep().expire()

    assert set(house.state().packs) == {ledger.path, young.path}


# -- clocks and classes --------------------------------------------------------------------------------------


async def test_a_node_whose_clock_runs_ahead_does_not_keep_its_packs_for_ever_and_is_named(house: House) -> None:
    pack = await house.packed("future", observed_ns=house.clock.now_unix_nano() + 300 * DAY_NS)
    house.clock.advance(11 * DAY_NS)

    house.sweep().expire()

    assert pack.path in house.state().removed
    assert [event["capped_ns"] for event in house.events("clock_ahead")] == [299 * DAY_NS]


async def test_a_class_without_a_rule_is_kept_and_said(house: House) -> None:
    await house.packed("audit", kind=Kind.AUDIT)
    house.clock.advance(1000 * DAY_NS)
    policy = Policy(rules={"container": Rule(keep_ns=0, minimum_ns=0)}, clock_ahead_ns_max=0)

    house.sweep(policy=policy).expire()

    assert len(house.state().packs) == 1
    assert [event["classes"] for event in house.events("class_without_rule")] == ["audit"]


# -- the disk budget -----------------------------------------------------------------------------------------


async def test_over_budget_the_oldest_pack_goes_first_and_only_as_much_as_needed(house: House) -> None:
    old = await house.packed("old")
    house.clock.advance(DAY_NS)
    later = await house.packed("later")
    house.clock.advance(3 * DAY_NS)

    swept = house.sweep().keep_budget(used_bytes=1000, budget_bytes=999)

    assert swept.packs_removed == 1
    assert set(house.state().packs) == {later.path}
    assert house.stored() == {later.path, later.manifest_path}
    assert house.sweep().journal.read(house.state().removed[old.path][1]) is not None
    assert house.events("budget_exceeded") == []


async def test_over_budget_nothing_younger_than_its_minimum_goes_and_the_operator_is_told(house: House) -> None:
    pack = await house.packed("young")
    house.clock.advance(2 * DAY_NS - 1)

    swept = house.sweep().keep_budget(used_bytes=10**9, budget_bytes=1)

    assert swept.packs_removed == 0
    assert set(house.state().packs) == {pack.path}
    (event,) = house.events("budget_exceeded")
    assert event["short_bytes"] == 10**9 - 1


async def test_within_the_budget_nothing_is_read_or_removed(house: House) -> None:
    await house.packed("one")
    house.clock.advance(100 * DAY_NS)

    swept = house.sweep().keep_budget(used_bytes=5, budget_bytes=5)

    assert swept.packs_removed == 0
    assert len(house.state().packs) == 1


async def test_a_pack_of_an_archiver_whose_clock_stood_in_the_past_is_kept_as_long_as_any(house: House) -> None:
    """Its reading time was capped at a commit time of 1970: the pack was over on the day that it was made."""
    await house.packed("before")
    house.clock.unix_nano = 0
    late = await house.packed("late", observed_ns=NOON)
    house.clock.unix_nano = NOON + 10 * DAY_NS - 1

    assert house.sweep().expire().packs_removed == 0
    house.clock.unix_nano += 1
    assert house.sweep().expire().packs_removed == 2
    assert late.path in house.state().removed

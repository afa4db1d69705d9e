"""Archiver and two keepers over one archive and one bus, in any order, with crashes between remove and deletion."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ashiato.adapters.archive_directory import DirectoryGovernor
from ashiato.core.ids import TOPIC_BULK, Kind
from ashiato.core.ports import ObjectRef, Partition
from retention.freeing import Freeing
from retention.policy import DAY_NS
from retention.sweep import Sweep
from tests.unit.retention.house import POLICY, House

KINDS = st.sampled_from([Kind.CONTAINER, Kind.CONTAINER, Kind.AUDIT, Kind.LEDGER])
BULK = Partition(TOPIC_BULK, 0)


class CrashError(Exception):
    """The process dies here."""


class Mortal(DirectoryGovernor):
    """A directory whose user dies at a deletion that is chosen beforehand."""

    deletions_left: int | None = None

    def delete(self, ref: ObjectRef) -> None:
        if self.deletions_left == 0:
            raise CrashError
        if self.deletions_left is not None:
            self.deletions_left -= 1
        super().delete(ref)


class Keepers(RuleBasedStateMachine):
    """What must hold after each step: M1, R2, and that a live pack is never touched."""

    @initialize()
    def begin(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="retention-"))
        self.loop = asyncio.new_event_loop()
        self.house = House(self.root)
        self.archives = [Mortal(self.root / "archive") for _ in range(2)]
        self.sweeps = [self._runner(number) for number in range(2)]
        self.loop.run_until_complete(self.house.prepare())
        self.added: dict[str, int] = {}

    def _runner(self, number: int) -> Sweep:
        return self.house.sweep(archive=self.archives[number])

    @rule(days=st.sampled_from([1, 5, 10, 20]))
    def time_passes(self, days: int) -> None:
        self.house.clock.advance(days * DAY_NS)

    @rule(kind=KINDS)
    def a_node_writes(self, kind: Kind) -> None:
        self.loop.run_until_complete(self.house.write("line", kind=kind, name=str(kind), lines=2))

    @rule(kind=KINDS)
    def a_node_writes_and_an_archiver_starts_and_commits(self, kind: Kind) -> None:
        self.a_node_writes(kind)
        self.loop.run_until_complete(self.house.commit())
        for path, pack in self.house.state().packs.items():
            self.added.setdefault(path, pack.commit_time_unix_nano)

    @rule(number=st.integers(min_value=0, max_value=1))
    def a_keeper_expires(self, number: int) -> None:
        self.sweeps[number].expire()

    @rule(number=st.integers(min_value=0, max_value=1), deletions=st.integers(min_value=0, max_value=2))
    def a_keeper_dies_at_a_deletion(self, number: int, deletions: int) -> None:
        self.archives[number].deletions_left = deletions
        try:
            self.sweeps[number].expire()
        except CrashError:
            self.sweeps[number] = self._runner(number)
        finally:
            self.archives[number].deletions_left = None

    @rule()
    def the_bus_is_freed(self) -> None:
        freeing = Freeing(
            keeper=self.house.keeper,
            reader=self.house.reader(),
            archive=self.house.archive,
            telemetry=self.house.telemetry,
        )
        self.loop.run_until_complete(freeing.free(self.house.state()))

    @invariant()
    def the_bus_holds_what_the_archive_does_not(self) -> None:
        log = self.house.broker.log(BULK)
        txn = self.house.state().positions.get(BULK)
        assert log.start == 0 or (txn is not None and log.start < txn.next <= log.end)

    @invariant()
    def live_packs_are_whole_and_removed_ones_were_old_enough(self) -> None:
        state = self.house.state()
        assert {pack.path for pack in state.packs.values()} <= self.house.stored()
        assert {pack.manifest_path for pack in state.packs.values()} <= self.house.stored()
        for path, (removed, n) in state.removed.items():
            commit = self.sweeps[0].journal.read(n)
            assert commit is not None
            assert commit.time_unix_nano >= self.added[path] + POLICY.rules[removed.retention_class].keep_ns

    def teardown(self) -> None:
        if hasattr(self, "house"):
            self._runner(0).expire()
            live = self.house.state().packs.values()
            assert self.house.stored() == {path for p in live for path in (p.path, p.manifest_path)}
            assert self.house.events("bus_is_another") == []
            self.loop.close()
            shutil.rmtree(self.root)


TestKeepers = Keepers.TestCase
TestKeepers.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)

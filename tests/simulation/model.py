"""An explicit-state model of archiving: every interleaving in small bounds, driven through the real pure functions.

The world is a value. ``moves`` gives every step that may happen next: a collector sends (or sends again, cut
elsewhere), an archiver opens, takes a record, seals, puts, tries a number, loses a reply, crashes; the bus forgets up
to the commit or is made anew; retention condemns an orphan and deletes it. What an archiver does in a step is decided
by ``Admission``, ``frontier.plan`` and ``extend``, ``JournalState`` and ``journal.after_loss`` themselves, so that the
model cannot be right where the code is wrong. A paused archiver that wakes up late is one whose next step comes late.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, TypeVar

from ashiato.core import journal
from ashiato.core.errors import AshiatoError
from ashiato.core.ids import TOPIC_BULK
from ashiato.core.journal import AddedPack, Commit, Condemned, FrontierRef, JournalState, Txn, Verdict
from ashiato.core.ports import Partition
from ingest.admission import Admission
from tests.simulation.house import LogFile, pod_in
from tests.simulation.world import (
    Act,
    Archiver,
    Bus,
    Files,
    Journal,
    Lane,
    Move,
    One,
    Pack,
    Piece,
    Reached,
    Sealed,
    Sent,
    World,
    one,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules as they are; a mutant replaces one, to show that the model would notice."""

    after_loss: Callable[[Commit, Commit], Verdict] = journal.after_loss
    overtaken: Callable[[JournalState, Commit], bool] = JournalState.overtaken
    trusts_the_number: bool = False
    """Mutant: who finds its number taken after a lost reply believes that it has won, without reading."""
    puts_first: bool = True
    trims: bool = True
    frees_ahead: int = -1
    """The bus forgets positions below the committed one plus this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much may go wrong in one run."""

    crashes: int = 0
    lost_replies: int = 0
    renewals: int = 0
    condemnations: int = 0
    holds: int = 0
    frees: bool = False


CONTENT: Final = b"2026-11-24T03:00:00Z stdout F a\n" * 4
LINE: Final = len(CONTENT) // 4
_FILES: Final = tuple(LogFile(source=pod_in(n % 2), number=n, content=CONTENT) for n in range(3))
_PARTITIONS: Final = 2


@dataclass(slots=True, kw_only=True)
class Model:
    """A script of what collectors send, some archivers, and the rules."""

    script: tuple[Sent, ...]
    archivers: int = 2
    rules: Rules = field(default_factory=Rules)
    bounds: Bounds = field(default_factory=Bounds)

    def start(self) -> World:
        return World(bus=self._bus("bus"), archivers=(Archiver(),) * self.archivers, journal=one((one(Act("create")),)))

    def _bus(self, name: str) -> One[Bus]:
        """Return a bus with everything sent: a record that was not sent yet is one that nobody took yet."""
        logs = tuple(tuple(sent for sent in self.script if sent.file % _PARTITIONS == n) for n in range(_PARTITIONS))
        return one(Bus(name=name, logs=logs, starts=(0,) * _PARTITIONS))

    def search(self, *, states_max: int) -> tuple[int, str]:
        """Visit every world; return how many there were and the first violation, '' where there is none."""
        first = self.start()
        seen, queue = {first}, [first]
        while queue:
            world = queue.pop()
            if wrong := self.violation(world):
                return len(seen), wrong
            idle = True
            try:
                for following in self.moves(world):
                    idle = False
                    if following not in seen:
                        seen.add(following)
                        queue.append(following)
            except AshiatoError as error:
                return len(seen), f"a step was refused: {error}"
            if idle and (wrong := self.unfinished(world)):
                return len(seen), wrong
            if len(seen) > states_max:
                raise AssertionError(f"more than {states_max} worlds: the bounds are too wide")
        return len(seen), ""

    # -- what must be true -----------------------------------------------------------------------------------

    def violation(self, world: World) -> str:
        try:
            state = _fold(world.journal)
        except AshiatoError as error:
            return f"the journal does not fold: {error}"
        committed = _committed(world.journal)
        if missing := committed - world.objects:
            return f"a commit refers to what is not there: {[pack.value for pack in missing]}"
        held, doubled = _held(world.journal)
        if doubled:
            return f"doubled: {doubled[0]}"
        for where, log in enumerate(world.bus.value.logs):
            passed = _passed(state, world.bus.value, where)
            if world.bus.value.starts[where] > passed:
                return f"the bus forgot what no commit has: partition {where}"
            for sent in log[:passed]:
                if not _bytes_of(sent) <= held:
                    return f"a position is passed and its bytes are not held: {sent}"
        return ""

    def unfinished(self, world: World) -> str:
        """A world in which nothing more can happen holds every byte that was sent."""
        held, _ = _held(world.journal)
        for sent in self.script:
            if not _bytes_of(sent) <= held:
                return f"lost for good: {sent}"
        return ""

    # -- what may happen -------------------------------------------------------------------------------------

    def moves(self, world: World) -> Iterator[World]:
        yield from self._renewal(world)
        yield from self._retention(world)
        for number, archiver in enumerate(world.archivers):
            yield from self._archiver(world, number, archiver)

    def _renewal(self, world: World) -> Iterator[World]:
        if world.renewals < self.bounds.renewals:
            # another bus takes the place of this one, and the collectors send everything again
            bus = self._bus(f"bus{world.renewals + 2}")
            yield world._replace(bus=bus, renewals=world.renewals + 1)

    def _retention(self, world: World) -> Iterator[World]:
        state, bus = _fold(world.journal), world.bus.value
        for where in range(_PARTITIONS if self.bounds.frees else 0):
            passed = _passed(state, bus, where)
            before = min(passed + self.rules.frees_ahead, len(bus.logs[where])) if passed else 0
            if before > bus.starts[where]:
                yield world._replace(bus=one(bus._replace(starts=_with(bus.starts, where, before))))
        condemned = {pack for act in world.journal.value for pack in act.value.condemned}
        if world.condemnations < self.bounds.condemnations:
            for orphan in world.objects - _committed(world.journal) - condemned:
                act = Act(f"condemn {len(world.journal.value)}", condemned=(orphan,))
                yield world._replace(journal=_and(world.journal, one(act)), condemnations=world.condemnations + 1)
        if world.holds < self.bounds.holds:
            act = Act(f"hold {world.holds}")
            yield world._replace(journal=_and(world.journal, one(act)), holds=world.holds + 1)
        for pack in condemned & world.objects:
            yield world._replace(objects=world.objects - {pack})

    def _archiver(self, world: World, number: int, own: Archiver) -> Iterator[World]:
        def become(changed: Archiver, **parts: Any) -> World:
            return world._replace(archivers=_with(world.archivers, number, changed), **parts)

        if own.lanes is None:
            if self._is_behind(world):
                yield become(self._opened(world, own))
            return
        bus = world.bus.value
        for where, lane in enumerate(own.lanes):
            if lane.next < len(bus.logs[where]) or not lane.incarnation.startswith(f"{bus.name}#"):
                yield become(self._taken(world, own, where))
        if own.sealed is None and own.moved:
            yield self._sealed(world, number, own, become)
        if own.sealed is not None:
            yield from self._commit(world, own, own.sealed, become)
        if world.crashes < self.bounds.crashes:
            yield become(_down(own), crashes=world.crashes + 1)

    def _sealed(self, world: World, number: int, own: Archiver, become: Callable[..., World]) -> World:
        changed = _seal(number, own)
        sealed = changed.sealed
        assert sealed is not None
        if self.rules.puts_first and not self.bounds.condemnations:
            # nobody looks at an object without a commit: putting it is no step of its own
            return become(
                changed._replace(sealed=sealed._replace(put=True)), objects=world.objects | {*sealed.act.value.packs}
            )
        return become(changed)

    def _is_behind(self, world: World) -> bool:
        """Somebody starts an archiver again as long as the bus has what no commit has."""
        state, bus = _fold(world.journal), world.bus.value
        return any(_passed(state, bus, where) < len(log) for where, log in enumerate(bus.logs))

    def _opened(self, world: World, own: Archiver) -> Archiver:
        state, bus = _fold(world.journal), world.bus.value
        lanes = []
        for where in range(_PARTITIONS):
            place = Partition(TOPIC_BULK, where)
            follows = _stands_at(world.journal, where)
            if follows is None:
                lanes.append(Lane(state.incarnation_of(place, bus.name), bus.starts[where], None, one(()), None))
                continue
            at = follows.value
            if state.incarnation_of(place, bus.name) == at.incarnation and _same_log(bus, at):
                lanes.append(Lane(at.incarnation, at.next, at.record, at.files, follows))
            else:
                incarnation = state.next_incarnation(place, bus.name)
                lanes.append(Lane(incarnation, bus.starts[where], None, at.files, follows))
        return Archiver(batches=own.batches, lanes=tuple(lanes), known=len(world.journal.value))

    def _taken(self, world: World, own: Archiver, where: int) -> Archiver:
        assert own.lanes is not None
        lane = own.lanes[where]
        bus = world.bus.value
        if lane.next < bus.starts[where] or not lane.incarnation.startswith(f"{bus.name}#"):
            return _down(own)
        sent = bus.logs[where][lane.next]
        files, pieces = _admit(lane.files if self.rules.trims else one(()), sent)
        lane = lane._replace(next=lane.next + 1, record=(bus.name, sent), files=files)
        return own._replace(lanes=_with(own.lanes, where, lane), pieces=own.pieces + pieces, moved=own.moved | {where})

    def _commit(self, world: World, own: Archiver, sealed: Sealed, become: Callable[..., World]) -> Iterator[World]:
        put_due = not sealed.put and sealed.act.value.packs and (self.rules.puts_first or sealed.number == -2)
        if put_due:
            if sealed.number == -2:
                yield become(_won(own), objects=world.objects | {*sealed.act.value.packs})
            else:
                yield become(
                    own._replace(sealed=sealed._replace(put=True)), objects=world.objects | {*sealed.act.value.packs}
                )
            return
        number = own.known if sealed.number < 0 else sealed.number
        mine = _commit_of(sealed.act, number)
        if sealed.number < 0 and self.rules.overtaken(_fold(_until(world.journal, own.known)), mine):
            yield become(_down(own))
            return
        tried = own._replace(sealed=sealed._replace(number=number))
        if number == len(world.journal.value):
            _fold(world.journal).verify(mine)
            stands = _and(world.journal, sealed.act)
            done = _won(own) if self.rules.puts_first else own._replace(sealed=sealed._replace(number=-2))
            yield become(done._replace(known=number + 1), journal=stands)
            if world.lost_replies < self.bounds.lost_replies:
                lost = world.lost_replies + 1
                yield become(tried, journal=stands, lost_replies=lost)
                yield become(tried, lost_replies=lost)
            return
        winner = world.journal.value[number]
        if winner is sealed.act or self.rules.trusts_the_number:
            yield become(_won(own)._replace(known=number + 1))
        elif self.rules.after_loss(mine, _commit_of(winner, number)) is Verdict.REBUILD:
            yield become(_down(own))
        else:
            yield become(own._replace(known=number + 1, sealed=sealed._replace(number=number + 1)))


def _seal(number: int, own: Archiver) -> Archiver:
    assert own.lanes is not None
    moves = []
    for where in sorted(own.moved):
        lane = own.lanes[where]
        reached = Reached(where, lane.incarnation, lane.next, lane.record, lane.files)
        moves.append(Move(reached=one(reached), follows=lane.follows))
    packs = (one(Pack(number, own.batches, own.pieces)),) if own.pieces else ()
    act = Act(f"archiver {number} batch {own.batches}", moves=tuple(moves), packs=packs)
    return own._replace(batches=own.batches + 1, pieces=(), moved=frozenset(), sealed=Sealed(act=one(act)))


def _won(own: Archiver) -> Archiver:
    assert own.lanes is not None
    assert own.sealed is not None
    lanes = own.lanes
    for move in own.sealed.act.value.moves:
        where = move.reached.value.where
        lanes = _with(lanes, where, lanes[where]._replace(follows=move.reached))
    return own._replace(lanes=lanes, sealed=None)


def _down(own: Archiver) -> Archiver:
    return Archiver(batches=own.batches + (1 if own.sealed is None and own.moved else 0))


def _same_log(bus: Bus, at: Reached) -> bool:
    """(J5) the record before the committed position is the one that was read; missing is different."""
    before = at.next - 1
    if not bus.starts[at.where] <= before < len(bus.logs[at.where]):
        return False
    return at.record == (bus.name, bus.logs[at.where][before])


def _passed(state: JournalState, bus: Bus, where: int) -> int:
    """Return the committed position of a partition of this very bus, 0 where the journal knows another one."""
    txn = state.positions.get(Partition(TOPIC_BULK, where))
    return txn.next if txn is not None and txn.incarnation.startswith(f"{bus.name}#") else 0


def _and(journal_: Journal, act: One[Act]) -> Journal:
    return one((*journal_.value, act))


def _until(journal_: Journal, number: int) -> Journal:
    return one(journal_.value[:number])


@cache
def _stands_at(journal_: Journal, where: int) -> One[Reached] | None:
    moves = (move for act in reversed(journal_.value) for move in act.value.moves)
    return next((move.reached for move in moves if move.reached.value.where == where), None)


@cache
def _committed(journal_: Journal) -> frozenset[One[Pack]]:
    return frozenset(pack for act in journal_.value for pack in act.value.packs)


@cache
def _held(journal_: Journal) -> tuple[frozenset[tuple[str, int]], tuple[Piece, ...]]:
    """Return every (file, byte) that is committed, and the pieces that are there twice."""
    held: set[tuple[str, int]] = set()
    doubled: list[Piece] = []
    for piece in (piece for act in journal_.value for pack in act.value.packs for piece in pack.value.pieces):
        span = {(piece.file_id, at) for at in range(piece.start, piece.end)}
        if held & span:
            doubled.append(piece)
        held |= span
    return frozenset(held), tuple(doubled)


@cache
def _bytes_of(sent: Sent) -> frozenset[tuple[str, int]]:
    return frozenset({(_FILES[sent.file].file_id, at) for at in range(sent.start, sent.end)})


T = TypeVar("T")


def _with(values: tuple[T, ...], index: int, value: T) -> tuple[T, ...]:
    return (*values[:index], value, *values[index + 1 :])


@cache
def _admit(files: Files, sent: Sent) -> tuple[Files, tuple[Piece, ...]]:
    """Let the real admission decide what of a record is new."""
    admission = Admission(files={file.file_id: file for file in files.value}, find=lambda _: None)
    file = _FILES[sent.file]
    admitted = admission.admit(file.chunk(sent.start, sent.end), lambda _, start, end: file.content[start:end])
    pieces = tuple(
        Piece(p.chunk.file.file_id, p.chunk.offset_start, p.chunk.offset_end)
        for p in admitted.pieces if p.chunk.payload
    )  # fmt: skip
    return one(tuple(sorted(admission.files.values(), key=lambda state: state.file_id))), pieces


@cache
def _fold(acts: Journal) -> JournalState:
    state = JournalState()
    for n, act in enumerate(acts.value):
        state.apply(_commit_of(act, n))
    return state


@cache
def _commit_of(act: One[Act], n: int) -> Commit:
    """Return the real commit that stands for an act of the model."""
    told = act.value
    kind = told.name.split()[0] if told.name.split()[0] in journal.ACT_KINDS else "archive"
    condemned = [_added(pack) for pack in told.condemned]
    return Commit(
        n=n, act_id=_digest(told.name)[:32], kind=kind, actor="model", time_unix_nano=n,
        txns=tuple(_txn(move) for move in told.moves), adds=tuple(_added(pack) for pack in told.packs),
        condemned=tuple(Condemned(bucket="evidence", path=p.path, version_id=p.version_id) for p in condemned),
    )  # fmt: skip


def _txn(move: Move) -> Txn:
    reached, digest = move.reached.value, _frontier(move.reached)
    return Txn(
        topic=TOPIC_BULK, partition=reached.where, incarnation=reached.incarnation, next=reached.next,
        frontier=FrontierRef(path=digest, version_id=digest, sha256=digest),
        follows=_frontier(move.follows) if move.follows is not None else "",
    )  # fmt: skip


@cache
def _frontier(reached: One[Reached]) -> str:
    return _digest((reached.value[:-1], reached.value.files.value))


@cache
def _added(pack: One[Pack]) -> AddedPack:
    digest = _digest(pack.value)
    return AddedPack(
        path=f"{digest}.parquet", version_id=digest[:32], sha256=digest, size=1, rows=1, raw_bytes=1,
        retention_class="container", day="2026-11-24", time_min_unix_nano=0, time_max_unix_nano=0,
        observed_min_unix_nano=0, observed_max_unix_nano=0, manifest_path=f"{digest}.manifest.json",
        manifest_version_id=digest[:32], manifest_sha256=digest,
    )  # fmt: skip


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()

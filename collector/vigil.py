"""The vigil: feeds the cross-checks and the headroom meter with what the collector sees, and states what they find.

A gap that the bytes of a log tell of is in the ledger before the bookmark moves past those bytes, so that a crash
loses none. Where the disk is full it waits, as the bookmark does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ashiato.adapters.telemetry import Telemetry
from ashiato.core.errors import TransientError
from ashiato.core.ledger import Gap
from ashiato.core.ports import Clock
from collector.bookmark import Bookmark, Checked, Known
from collector.check_events import LossFound, RotationHeadroom
from collector.crosschecks import CrossChecks, Passed
from collector.discovery import Candidate, Swept
from collector.followed import Followed
from collector.headroom import FileSeen, HeadroomMeter, Rotation, logs_of
from collector.ledger_file import LedgerFile
from collector.pin.held import GivenUp
from collector.plan import Identity, Plan
from collector.registry import Registry
from collector.settings import CollectorSettings
from collector.ship import Load

HEADROOM_INTERVAL_NS: Final = 5_000_000_000
"""How often headroom is told: a fraction of the kubelet's period."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What a plan states beside its own."""

    gaps: tuple[Gap, ...]
    births: tuple[Known, ...]


class Vigil:
    """Of one collector. Made before its registry, for it reads the ledger's end as the last run left it."""

    def __init__(
        self, settings: CollectorSettings, *, bookmark: Bookmark, ledger: LedgerFile, clock: Clock, telemetry: Telemetry
    ) -> None:
        contents = bookmark.contents
        stated = [line.statement for line in ledger.since(contents.stated)]
        self._checks = CrossChecks(
            contents.marks, (file.known for file in contents.files.values()), (s for s in stated if isinstance(s, Gap))
        )
        self._meter = HeadroomMeter(
            Rotation(
                bytes_max=settings.container_log_bytes_max, files_max=settings.container_log_files_max,
                period_s=settings.container_log_check_s,
            )
        )  # fmt: skip
        self._bookmark = bookmark
        self._ledger = ledger
        self._clock = clock
        self._telemetry = telemetry
        self._marked: dict[str, bytes] = {}
        self._headroom_due_ns = 0
        self._told_ns = -1

    # -- bytes -----------------------------------------------------------------------------------------------

    def kept(self, load: Load) -> None:
        """Take in a frame that the bus keeps, before the bookmark knows it."""
        if not load.watched:
            return
        now = self._clock.monotonic_nano()
        for one in load.watched:
            facts = one.file.facts
            passed = Passed(
                source=facts.source, file_id=facts.file_id, offset_start=one.chunk.offset_start,
                payload=one.chunk.payload,
            )  # fmt: skip
            self._checks.passed(passed, now)
        if gaps := self._checks.due:
            try:
                self._ledger.append(gaps)
            except TransientError:
                # The next sweep states them; until the disk has room the bookmark does not move either.
                return
            self._stated(gaps)
        self._mark({one.file.facts.source for one in load.watched})

    # -- sweeps ----------------------------------------------------------------------------------------------

    def planned(self, plan: Plan, given_up: Iterable[GivenUp] = ()) -> Due:
        """Add to a plan what cross-checks have to state; :meth:`carried_out` is told when it is durable."""
        births = tuple(entry for entry in plan.entries if isinstance(entry, Known))
        jumps = self._checks.jumps(births, self._clock.now_unix_nano())
        gaps = (*jumps, *self._checks.due, *(one.gap for one in given_up))
        plan.statements += gaps
        return Due(gaps=gaps, births=births)

    def carried_out(self, swept: Swept, plan: Plan, due: Due, registry: Registry) -> None:
        """Take in a sweep whose plan is carried out."""
        self._checks.stated((), due.births)
        self._stated(due.gaps)
        self._mark({gap.source for gap in due.gaps})
        now = self._clock.monotonic_nano()
        if self._checks.is_settling:
            self._checks.settle({file.facts.source for file in registry.files.values() if file.waiting}, now)
        if plan.entries or plan.moves or self._checks.has_suspected:
            self._checks.numbered(swept.candidates, registry.file_id_of)
        self._unopened(swept, plan, registry)
        if now >= self._headroom_due_ns:
            self._headroom_due_ns = now + HEADROOM_INTERVAL_NS
            self._tell_headroom(swept.candidates, registry.files.values(), now)

    def _unopened(self, swept: Swept, plan: Plan, registry: Registry) -> None:
        if self._checks.has_unopened:
            paths = {candidate.path for candidate in swept.candidates}
            self._checks.vanished(plan.seen or frozenset(), paths)
        if plan.deferred:
            self._checks.not_opened(
                candidate
                for candidate in swept.candidates
                if str(candidate.found.source) in plan.deferred and not registry.file_id_of(candidate.identity)
            )
        elif self._checks.has_unopened:
            self._checks.not_opened(())

    # -- telling ---------------------------------------------------------------------------------------------

    def _stated(self, gaps: Iterable[Gap]) -> None:
        gaps = list(gaps)
        self._checks.stated(gaps)
        for gap in gaps:
            self._telemetry.emit(LossFound(source=gap.source, reason=gap.reason, file_id=gap.file_id))

    def _mark(self, sources: Iterable[str]) -> None:
        for source in sources:
            mark = self._checks.mark(source)
            if mark is not None and mark != self._marked.get(source):
                self._marked[source] = mark
                self._bookmark.note(Checked(source=source, mark=mark))

    def _tell_headroom(self, candidates: Iterable[Candidate], files: Iterable[Followed], now_ns: int) -> None:
        # A sweep does not ask for the size of what is followed.
        followed: dict[Identity, Followed] = {file.identity: file for file in files}
        if not any(file.waiting or file.changed_monotonic_nano >= self._told_ns for file in followed.values()):
            return
        self._told_ns = now_ns
        is_unlinked_behind = any(file.unlinked and file.waiting for file in followed.values())
        seen = (_seen(candidate, followed.get(candidate.identity)) for candidate in candidates)
        self._meter.swept(logs_of(seen), now_ns)
        # What has no name any more hangs on our descriptor alone: a restart would lose it.
        seconds = 0.0 if is_unlinked_behind else self._meter.least(now_ns)
        self._telemetry.emit(RotationHeadroom(seconds=round(seconds, 1)))


def _seen(candidate: Candidate, file: Followed | None) -> FileSeen:
    if file is None:
        return FileSeen(found=candidate.found, size=candidate.size, unread=False)
    size = candidate.size if candidate.found.compressed else file.size
    return FileSeen(found=candidate.found, size=size, unread=file.waiting > 0)

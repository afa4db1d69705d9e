"""Every order of events on a node that Hypothesis can think of, and the judge after each time of quiet.

The rules are what writers, kubelet, logrotate and people do to log files, and what befalls the collector, its disk,
its bus and its clock. Time is virtual, the files are real. After :meth:`NodeMachine.quiet`, and at the end, everything
that was ever written is held once, named in a gap, or was on the disk only while no collector ran.
"""

from __future__ import annotations

import errno
import random
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.conformance.oracle import Verdict
from tests.conformance.site import Site, descriptors, site_at
from tests.conformance.truth import Pen

SETTINGS = {
    "sweep_interval_s": 1.0, "settle_s": 2.0, "beat_interval_s": 3.0, "idle_beat_interval_s": 6.0,
    "unterminated_idle_s": 4.0, "drain_s": 2.0,
}  # fmt: skip
QUIET_S = 14.0
LOOK_S = 0.8
"""Before bytes are cut off, the collector looks once more: what it never saw, it does not name."""
SWEEP_S = 2.3
WHOLE_SWEEP_S = 11.0
"""On a node where nothing moves: only a whole sweep sees that a file grew that was closed already."""
PODS = st.sampled_from(["a", "b"])


@dataclass(slots=True, kw_only=True)
class Log:
    """One pod's log: the live path, its writer, what of a line is still to come, and its rotations by age."""

    path: Path
    pen: Pen | None = None
    stale: Pen | None = None
    """The writer of the file that was rotated last, if it is not closed yet."""
    rest: bytes = b""
    rotated: list[Path] = field(default_factory=list)
    grew_late: bool = False
    """Its rotations may have bytes that only a whole sweep finds."""


class NodeMachine(RuleBasedStateMachine):
    """One node, from its first start to its end."""

    folder: ClassVar[Path]
    """Where nodes are made."""

    def __init__(self) -> None:
        super().__init__()
        self.descriptors = descriptors()
        self.is_struck = False
        self.stack = ExitStack()
        self.root = Path(tempfile.mkdtemp(dir=self.folder))
        self.site: Site = self.stack.enter_context(site_at(self.root, settings=SETTINGS))
        self.logs: dict[str, Log] = {}
        self.turn = 0
        self.verdict = Verdict()

    @initialize(seed=st.integers(0, 2**32), reserves=st.booleans())
    def begin(self, seed: int, *, reserves: bool) -> None:
        self.site.disk.reserves = reserves
        self.site.rng.seed(seed)
        self.site.disk.rng = random.Random(seed)
        self.site.start()

    # -- writers ---------------------------------------------------------------------------------------------

    @rule(pod=PODS, count=st.integers(1, 30), width=st.sampled_from([40, 40, 3000]))
    def write(self, pod: str, count: int, width: int) -> None:
        """Write whole lines, after what is still to come of the one before."""
        log, pen = self._open(pod)
        # No two writes are of one length: a file that is written anew to its very size is told by nothing.
        self.turn += 1
        pen.write(log.rest + self.site.truth.lines(pod, count, width=width + self.turn))
        log.rest = b""

    @rule(pod=PODS, share=st.floats(0.1, 0.9))
    def write_part(self, pod: str, share: float) -> None:
        """Write a line without its end."""
        log, pen = self._open(pod)
        line = log.rest or self.site.truth.line(pod, width=200)
        at = max(1, int(len(line) * share))
        pen.write(line[:at])
        log.rest = line[at:]

    @rule(pod=PODS)
    def write_late(self, pod: str) -> None:
        """Write to the file that was rotated last, as long as its writer has it open."""
        if (log := self.logs.get(pod)) is not None and log.stale is not None:
            log.stale.write(self.site.truth.lines(f"{pod}-late", 2))
            log.grew_late = True

    @rule(pod=PODS)
    def close_late(self, pod: str) -> None:
        if (log := self.logs.get(pod)) is not None and log.stale is not None:
            log.stale.close()
            log.stale = None

    # -- kubelet, logrotate, people --------------------------------------------------------------------------

    @rule(pod=PODS)
    def rotate(self, pod: str) -> None:
        if (log := self._live(pod)) is None:
            return
        self.close_late(pod)
        self.site.truth.rename(log.path, to := self._next_name(log))
        log.rotated.append(to)
        log.pen, log.stale, log.rest = None, log.pen, b""

    @rule(pod=PODS)
    def rotate_and_reopen(self, pod: str) -> None:
        self.rotate(pod)
        self._open(pod)

    @rule(pod=PODS, which=st.integers(0, 3))
    def compress(self, pod: str, which: int) -> None:
        log = self.logs.get(pod)
        plain = [path for path in log.rotated if path.suffix != ".gz"] if log is not None else []
        if log is None or which >= len(plain):
            return
        path = plain[which]
        self._close_late_of(path, log)
        log.rotated[log.rotated.index(path)] = self.site.truth.compress(path)

    @rule(pod=PODS, which=st.integers(0, 3))
    def delete(self, pod: str, which: int) -> None:
        """Remove a rotation, the oldest first."""
        if (log := self.logs.get(pod)) is None or which >= len(log.rotated):
            return
        self._let_be_born(log)
        self._close_late_of(log.rotated[which], log)
        self.site.truth.unlink(log.rotated.pop(which))

    @rule(pod=PODS)
    def delete_live(self, pod: str) -> None:
        """Remove the live file after its writer closed it."""
        if (log := self._live(pod)) is not None:
            self._let_be_born()
            self._close(log)
            self.site.truth.unlink(log.path)
            if str(log.path) in self.site.disk.denied:
                # Of a file that never opened the inode is all that is known: the next one must not have it at once.
                self.site.pass_time(SWEEP_S)

    @rule(pod=PODS, count=st.integers(0, 5))
    def recreate(self, pod: str, count: int) -> None:
        """Remove the file and make it anew at once: ext4 gives the inode again where nobody holds it."""
        self.delete_live(pod)
        _, pen = self._open(pod)
        pen.write(self.site.truth.lines(pod, count))

    @rule(pod=PODS)
    def truncate(self, pod: str) -> None:
        self._let_be_born()
        self.site.pass_time(LOOK_S)
        if (log := self._live(pod)) is not None:
            log.rest = b""
            self.site.truth.truncate(log.path)

    @rule(pod=PODS)
    def copy_truncate(self, pod: str) -> None:
        self._let_be_born()
        self.site.pass_time(LOOK_S)
        if (log := self._live(pod)) is not None:
            log.rest = b""
            self.site.truth.copy(log.path, to := self._next_name(log))
            self.site.truth.truncate(log.path)
            log.rotated.append(to)

    @rule(pod=PODS)
    def move_out_of_sight(self, pod: str) -> None:
        if (log := self._live(pod)) is not None:
            self._let_be_born()
            self._close(log)
            away = self.root / "away"
            away.mkdir(exist_ok=True)
            self.turn += 1
            self.site.truth.rename(log.path, away / str(self.turn))

    @rule(pod=PODS)
    def exit_pod(self, pod: str) -> None:
        """End, and be removed with all that it left."""
        if (log := self.logs.pop(pod, None)) is not None:
            self._let_be_born(log)
            self._close(log)
            if log.stale is not None:
                log.stale.close()
            was_denied = self.site.disk.denied.pop(str(log.path), None)
            self.site.truth.remove_all(log.path.parent.parent)
            if was_denied:
                self.site.pass_time(SWEEP_S)

    # -- what befalls the collector --------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.1, 3.0]))
    def step(self, seconds: float) -> None:
        self.site.pass_time(seconds)

    @rule()
    def pause(self) -> None:
        self.site.pass_time(20)

    @rule()
    def bus_down(self) -> None:
        self.site.writer.away = True

    @rule()
    def bus_up(self) -> None:
        self.site.writer.away = False

    @rule(count=st.integers(1, 3))
    def replies_are_lost(self, count: int) -> None:
        self.site.writer.lose_replies = count

    @precondition(lambda self: self.site.task is not None)
    @rule(power=st.booleans())
    def kill(self, *, power: bool) -> None:
        self.site.kill(power=power)

    @precondition(lambda self: self.site.task is not None)
    @rule(calls=st.integers(1, 25), when=st.sampled_from(["before", "torn", "after"]), power=st.booleans())
    def kill_at_a_call(self, calls: int, when: str, *, power: bool) -> None:
        """Die at the n-th call that changes the state folder, if it comes within two seconds."""
        self.site.disk.kill_in(calls, when)
        self.site.pass_time(2)
        if self.site.task is None:
            self.is_struck = True
        if self.site.task is None and power:
            self.site.disk.lose_power()
        self.site.disk.revive()

    @precondition(lambda self: self.site.task is not None)
    @rule()
    def stop(self) -> None:
        self.site.stop()

    @precondition(lambda self: self.site.task is None)
    @rule()
    def restart(self) -> None:
        self.site.start()

    @rule()
    def disk_full(self) -> None:
        self.site.disk.full = True

    @rule()
    def disk_has_room(self) -> None:
        self.site.disk.full = False

    @rule(hours=st.sampled_from([-24, -1, 1]))
    def clock_jumps(self, hours: int) -> None:
        self.site.clock.behind_ns -= hours * 3_600_000_000_000

    @rule(pod=PODS)
    def deny(self, pod: str) -> None:
        if (log := self.logs.get(pod)) is not None:
            self.site.disk.denied[str(log.path)] = errno.EACCES

    @rule(pod=PODS, seconds=st.sampled_from([0.3, 3.0]))
    def descriptors_run_out(self, pod: str, seconds: float) -> None:
        """For a while there is no descriptor for new files."""
        if (log := self.logs.get(pod)) is not None and str(log.path) not in self.site.disk.denied:
            self.site.disk.denied[str(log.path)] = errno.EMFILE
            self.site.pass_time(seconds)
            del self.site.disk.denied[str(log.path)]
            self.site.pass_time(SWEEP_S)

    @rule()
    def restore(self) -> None:
        self.site.disk.denied.clear()

    # -- the judge -------------------------------------------------------------------------------------------

    @rule()
    def quiet(self) -> None:
        """Mend everything, wait until nothing is left to do, and judge."""
        self.site.writer.away, self.site.writer.lose_replies = False, 0
        self.site.disk.full = False
        self.site.disk.denied.clear()
        if self.site.task is None:
            self.site.start()
        self.site.pass_time(QUIET_S)
        self.verdict = verdict = self.site.judge()
        note(f"{verdict.bytes_written} written, {verdict.bytes_held} held, {verdict.bytes_in_gaps} in gaps")
        assert not verdict.faults(), verdict.faults()
        # What lies on the disk now is held to its last line: no gap excuses it.
        for life in self.site.truth.lives:
            if any(path.startswith(str(self.site.logs)) for path in life.paths) and not life.copied_bytes:
                assert self.site.has(life), f"{life.name} lies on the disk and is not held"

    def teardown(self) -> None:
        try:
            self.quiet()
            self.site.stop()
        finally:
            self.stack.close()
            shutil.rmtree(self.root)
        # Killed between two calls, it could not do that here.
        assert self.is_struck or descriptors() <= self.descriptors, "a collector that has ended holds descriptors"

    # -- small things ----------------------------------------------------------------------------------------

    def _open(self, pod: str) -> tuple[Log, Pen]:
        log = self.logs.setdefault(pod, Log(path=self.site.pod_log(pod=pod)))
        if log.pen is None:
            if self.site.disk.denied.pop(str(log.path), None) and self.site.task is not None:
                # One path is named as unreadable once, whichever file has it.
                self.site.pass_time(SWEEP_S)
            log.pen = self.site.truth.open(log.path)
        return log, log.pen

    def _live(self, pod: str) -> Log | None:
        log = self.logs.get(pod)
        return log if log is not None and log.path.exists() else None

    def _let_be_born(self, log: Log | None = None) -> None:
        """While the disk is full births wait, and nothing names what goes before it has room again."""
        if log is not None and log.grew_late and self.site.task is not None:
            self.site.disk.full = log.grew_late = False
            self.site.pass_time(WHOLE_SWEEP_S)
        if self.site.disk.full and self.site.task is not None:
            self.site.disk.full = False
            self.site.pass_time(SWEEP_S)

    def _close(self, log: Log) -> None:
        if log.pen is not None:
            log.pen.close()
        log.pen, log.rest = None, b""

    def _close_late_of(self, path: Path, log: Log) -> None:
        """End the late writer before its file loses its name: what it wrote then would be on no disk."""
        truth = self.site.truth
        if log.stale is not None and truth.at(path) is truth.life_of(log.stale.inode):
            log.stale.close()
            log.stale = None

    def _next_name(self, log: Log) -> Path:
        self.turn += 1
        return log.path.with_name(f"{log.path.name}.20261124-{self.turn:06d}")


def machine_in(folder: Path) -> type[NodeMachine]:
    """Return a machine whose nodes lie below a folder."""

    class Here(NodeMachine):
        pass

    Here.folder = folder
    return Here

"""What a play needs around its archivers: collectors that send and send again, a bus, retention, and the judgement."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Final

from ashiato.adapters.bus_memory import MemoryBroker, MemoryKeeper
from ashiato.adapters.journal import Journal, JournalWriter, new_act_id
from ashiato.core import manifest
from ashiato.core.ids import TOPICS
from ashiato.core.journal import Commit, Condemned, JournalState
from ashiato.core.limits import CHUNK_BYTES_MAX
from ashiato.core.ports import Bucket
from tests.simulation.house import NOON, LogFile, cri_file, make_topics, new_broker, pod_in, read_held, send
from tests.simulation.memory_archive import MemoryArchive
from tests.simulation.staged import Process, Stage

LINES: Final = 24
_BUCKETS: Final[tuple[Bucket, ...]] = ("evidence", "work")


class Play:
    """A house of two sources whose archivers may be disturbed at each write."""

    def __init__(self, *, raw_bytes: int = 500) -> None:
        self.stage = Stage()
        self.archive = MemoryArchive()
        self.broker: MemoryBroker = new_broker()
        self.files: tuple[LogFile, ...] = tuple(cri_file(pod_in(n), n, LINES) for n in range(2))
        self.borders = [file.lines() for file in self.files]
        self.sent = [0 for _ in self.files]
        """Lines that were sent of each file."""
        self.processes: list[Process] = []
        self._raw_bytes = raw_bytes
        self._folder = tempfile.TemporaryDirectory(prefix="play-")
        self._buses = 1
        self._started = 0
        self.stage.play(make_topics(self.broker))
        JournalWriter(self.archive).ensure_created(actor="play", time_unix_nano=NOON)

    # -- collectors ------------------------------------------------------------------------------------------

    def send(self, file: int, lines: int) -> None:
        """Send the next lines of a file."""
        start = self.sent[file]
        self.sent[file] = min(start + lines, LINES)
        self._send(file, start, self.sent[file])

    def resend(self, file: int, start: int, end: int) -> None:
        """Send lines again that were sent before, cut elsewhere."""
        end = min(end, self.sent[file])
        self._send(file, min(start, end), end)

    def _send(self, file: int, start: int, end: int) -> None:
        borders = self.borders[file]
        if borders[start] < borders[end]:
            assert borders[end] - borders[start] < CHUNK_BYTES_MAX
            self.stage.play(send(self.broker, [self.files[file].chunk(borders[start], borders[end])]))

    # -- the bus ---------------------------------------------------------------------------------------------

    def free(self) -> None:
        """Forget what is committed, but for the record before the commit (M1, J5)."""
        for where, txn in Journal(self.archive).refresh().positions.items():
            if txn.incarnation.startswith(f"{self.broker.bus_id}/"):
                self.stage.play(MemoryKeeper(self.broker).free(where, txn.next - 1))

    def renew(self) -> None:
        """Put a new bus in the place of this one; the collectors send again what they still have."""
        self._buses += 1
        self.broker.bus_id = f"bus{self._buses}"
        for topic in TOPICS:
            del self.broker.topics[topic]
        self.stage.play(make_topics(self.broker))
        for file, lines in enumerate(self.sent):
            self._send(file, 0, lines)
        for process in self.processes:
            process.opened = False

    # -- retention -------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Commit an act that moves no partition."""
        JournalWriter(self.archive).append_checked(lambda _: _act("hold"))

    def condemn(self) -> None:
        """Condemn every pack, manifest and frontier that no commit refers to, then delete it (R4)."""
        taken: list[Condemned] = []

        def build(state: JournalState) -> Commit | None:
            commits = [Journal(self.archive).read(n) for n in range(state.next_n)]
            referred = {ref for commit in commits if commit is not None for ref in commit.refers_to()}
            taken[:] = [
                Condemned(bucket=ref.bucket, path=ref.path, version_id=ref.version_id)
                for bucket in _BUCKETS
                for version in self.archive.list_versions(bucket, "")
                if not (ref := version.ref).path.startswith("_delta_log/")
                and (ref.bucket, ref.path, ref.version_id) not in referred
            ]  # fmt: skip
            return _act("condemn", tuple(taken)) if taken else None

        if JournalWriter(self.archive).append_checked(build) is not None:
            gone = {(item.bucket, item.path, item.version_id) for item in taken}
            for bucket in _BUCKETS:
                for version in list(self.archive.list_versions(bucket, "")):
                    if (version.ref.bucket, version.ref.path, version.ref.version_id) in gone:
                        self.archive.delete(version.ref)

    # -- archivers -------------------------------------------------------------------------------------------

    def start(self) -> Process:
        """Start one more archiver."""
        self._started += 1
        name = f"archiver-{self._started}"
        scratch = Path(self._folder.name) / name
        process = Process(self.stage, self.archive, self.broker, scratch, name=name, raw_bytes=self._raw_bytes)
        self.processes.append(process)
        process.open()
        return process

    # -- the judgement ---------------------------------------------------------------------------------------

    def check(self) -> None:
        """What stands is in order: the journal folds, no range is held twice, what it names is there."""
        state = Journal(self.archive).refresh()
        held: dict[str, list[tuple[int, int]]] = {}
        for pack in state.packs.values():
            self.archive.get("evidence", pack.path, pack.version_id)
            content, _ = self.archive.get("evidence", pack.manifest_path, pack.manifest_version_id)
            for file in manifest.decode(content).files:
                assert "~" not in file.file_id, "bytes that were equal began a fork"
                held.setdefault(file.file_id, []).extend((r.start, r.end) for r in file.ranges)
        for file_id, ranges in held.items():
            ranges.sort()
            for before, after in itertools.pairwise(ranges):
                assert before[1] <= after[0], f"doubled: {file_id} {before} {after}"
        for txn in state.positions.values():
            self.archive.get("work", txn.frontier.path, txn.frontier.version_id)

    def finish(self) -> None:
        """A fresh archiver archives what is left; zombies wake up after it; every byte is held exactly once."""
        self.start().drain()
        self._whole()
        for process in self.processes:
            process.undisturbed()
        self._whole()
        for process in self.processes:
            process.die()
        self.start().drain()
        self._whole()

    def _whole(self) -> None:
        self.check()
        held = read_held(self.archive)
        assert held.doubles() == []
        for file, lines, borders in zip(self.files, self.sent, self.borders, strict=True):
            assert held.of(file.file_id) == file.content[: borders[lines]]

    def leave(self) -> None:
        """End every thread."""
        for process in self.processes:
            process.die()
        self.stage.leave()
        self._folder.cleanup()


def _act(kind: str, condemned: tuple[Condemned, ...] = ()) -> Commit:
    return Commit(n=0, act_id=new_act_id(), kind=kind, actor="retention", time_unix_nano=NOON, condemned=condemned)

"""The collector's real process over the real SQLite bus, killed at any moment: in the end every byte is there, once."""

from __future__ import annotations

import contextlib
import gzip
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import pytest

from ashiato.adapters.bus_sqlite import SqliteKeeper
from ashiato.core import frame, ledger
from ashiato.core.chunk import Chunk
from ashiato.core.ids import Kind
from ashiato.core.ledger import Born, Gap, Unattested
from tests.simulation.collector_node import HeldFile, reassemble
from tests.simulation.spans_held import check_spans, verified

DEADLINE_S = 60.0
SETTINGS = """
[collector]
state_dir = "{root}/state"
node = "n1"
roots = ["{root}/logs"]
poll_interval_s = 0.02
sweep_interval_s = 0.05
beat_interval_s = 0.1
span_interval_s = 0.15
reserve_bytes = 65536
settle_s = 0.3
bus = {{kind = "sqlite", path = "{root}/bus.sqlite"}}
"""


@dataclass(slots=True, kw_only=True)
class Machine:
    """A node with a collector process that comes and goes, and logs whose truth is known."""

    root: Path
    written: dict[Path, bytes] = field(default_factory=dict)
    rotated: list[bytes] = field(default_factory=list)
    """Content of files that have another name now."""

    @property
    def config(self) -> Path:
        return self.root / "ashiato.toml"

    @contextlib.contextmanager
    def collector(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        words = words or ("-m", "collector")
        with (self.root / "stderr").open("wb") as stderr:
            process = subprocess.Popen([sys.executable, *words, "--config", str(self.config)], stderr=stderr)
        (self.root / "stderr").rename(self.root / f"stderr-{process.pid}")
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(DEADLINE_S)

    def log(self, pod: str) -> Path:
        path = self.root / "logs/pods" / f"shop_{pod}_uid-{pod}" / "c/0.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, pod: str, content: bytes) -> None:
        path = self.log(pod)
        with path.open("ab") as file:
            file.write(content)
        self.written[path] = self.written.get(path, b"") + content

    def rotate(self, pod: str, turn: int, *, pack: bool) -> None:
        path = self.log(pod)
        to = path.with_name(f"0.log.20261124-{turn:06d}")
        path.rename(to)
        self.rotated.append(self.written.pop(path))
        if pack:
            temporary = to.with_name(to.name + ".tmp")
            temporary.write_bytes(gzip.compress(to.read_bytes(), compresslevel=1))
            temporary.rename(to.with_name(to.name + ".gz"))
            to.unlink()

    def is_up(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether the process has said that it started: from then on it handles signals."""
        return (self.root / f"stderr-{process.pid}").read_bytes().count(b"service_started") > 0

    def held(self) -> dict[str, HeldFile]:
        """Return what the bus holds; a hole in any file fails."""
        return reassemble(self.chunks())

    def chunks(self) -> list[Chunk]:
        with contextlib.closing(apsw.Connection(str(self.root / "bus.sqlite"))) as db:
            db.set_busy_timeout(10_000)
            values = [bytes(v) for (v,) in db.execute("SELECT value FROM records ORDER BY topic, number, position")]
        return [chunk for value in values for chunk in frame.decode(value)]

    def attested(self) -> int:
        """Verify the ledger and every span in it; return how many bytes they state."""
        return check_spans(verified(self.root / "state"), self.chunks())

    def contents(self) -> list[bytes]:
        return sorted(file.content for file in self.held().values() if file.source.kind is Kind.CONTAINER)

    def expected(self) -> list[bytes]:
        return sorted([*self.written.values(), *self.rotated])

    def statements(self) -> list[ledger.Statement]:
        lines = [line for p in sorted((self.root / "state/ledger").glob("*")) for line in p.read_bytes().splitlines()]
        ledger.verify_chain(lines)
        return [ledger.decode(line).statement for line in lines]


def until(condition: Callable[[], object], process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "not reached before the deadline"
        assert process is None or process.poll() is None, "the collector died"
        time.sleep(0.02)


def lines(rng: random.Random, count: int) -> bytes:
    return b"".join(
        b"2026-11-24T10:00:00.0Z stdout F %s\n" % rng.randbytes(rng.randrange(60)).hex().encode() for _ in range(count)
    )


@pytest.fixture
async def machine(tmp_path: Path) -> Machine:
    keeper = SqliteKeeper(str(tmp_path / "bus.sqlite"))
    await keeper.create_topics({"ashiato.priority": 1, "ashiato.bulk": 2})
    await keeper.close()
    machine = Machine(root=tmp_path)
    machine.config.write_text(SETTINGS.format(root=tmp_path))
    return machine


@pytest.mark.parametrize("seed", [1, 2, 7])
def test_killed_at_any_moment_while_logs_grow_and_rotate(machine: Machine, seed: int) -> None:
    rng = random.Random(seed)
    for turn in range(8):
        # when: killed somewhere between its start and the middle of its work
        with machine.collector() as process:
            stop_at = time.monotonic() + rng.uniform(0.1, 0.9)
            steps = 0
            while time.monotonic() < stop_at:
                pod = rng.choice(["a", "b", "c"])
                machine.write(pod, lines(rng, rng.randrange(1, 400)))
                steps += 1
                if rng.random() < 0.02:
                    machine.rotate(pod, turn * 1000 + steps, pack=False)
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
        # and: things go on while it is down
        pod = rng.choice(["a", "b", "c"])
        machine.write(pod, lines(rng, 50))
        if rng.random() < 0.7:
            machine.rotate(pod, turn * 1000 + 999, pack=rng.random() < 0.5)
    # then: in the end every file is there under one id, without a hole, and stops cleanly
    with machine.collector() as process:
        until(lambda: machine.contents() == machine.expected() and machine.is_up(process), process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
    assert machine.contents() == machine.expected()
    statements = machine.statements()
    assert not [statement for statement in statements if isinstance(statement, Gap)]
    # and: every byte is stated, and verifies with the salts that came beside it first
    assert machine.attested() == sum(map(len, machine.expected()))
    assert not [statement for statement in statements if isinstance(statement, Unattested)]
    inodes = [(s.device, s.inode) for s in statements if isinstance(s, Born) and s.source.startswith("container/")]
    assert len(inodes) == len(machine.expected())


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("write", range(1, 8))
def test_dead_at_each_durable_write_no_file_is_born_twice(machine: Machine, when: str, write: int) -> None:
    rng = random.Random(write)
    machine.write("a", lines(rng, 100))
    with machine.collector("-m", "tests.simulation.crash_at", when, str(write)) as process:
        deadline = time.monotonic() + DEADLINE_S
        while process.poll() is None and time.monotonic() < deadline:
            machine.write(rng.choice(["a", "b"]), lines(rng, 10))
            time.sleep(0.02)
        assert process.wait(1) == 9
    with machine.collector() as process:
        until(lambda: machine.contents() == machine.expected() and machine.is_up(process), process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
    assert machine.attested() == sum(map(len, machine.expected()))
    births = [s.file_id for s in machine.statements() if isinstance(s, Born) and s.source.startswith("container/")]
    assert sorted(births) == sorted(i for i, f in machine.held().items() if f.source.kind is Kind.CONTAINER)
    assert len(births) == len(machine.expected())

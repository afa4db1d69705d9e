"""Pins: rotation while no collector runs loses nothing with them, and leaves an exact gap without."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ashiato.core.ids import Kind
from ashiato.core.ledger import Closed, Gap
from collector.pin import landlock
from collector.pin.held import Pins
from collector.pin.pinner import Budget, Pinner
from tests.simulation.collector_node import Node, until

LOCKED = pytest.mark.skipif(landlock.abi() < landlock.ABI_NEEDED, reason="this kernel has no Landlock")


def lines(turn: int) -> bytes:
    return b"".join(b"2026-11-24T10:%02d:00.%09dZ stdout F %d\n" % (turn, n, n) for n in range(200))


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(root=tmp_path, settings={"span_interval_s": 0.02})


def pins_of(node: Node) -> Path:
    return node.logs / ".pins"


def all_pins(node: Node) -> list[Path]:
    return sorted(path for path in pins_of(node).iterdir() if not path.name.endswith((".from", ".gone")))


def _start(words: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(words, stderr=subprocess.PIPE)


@contextlib.asynccontextmanager
async def pinner(node: Node, bytes_max: int = 1 << 30) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Run the pinner as the process that it is."""
    (node.logs / "pods").mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "collector.pin", "--root", str(node.logs / "pods"), "--pins", str(pins_of(node))]
    words += ["--bytes-max", str(bytes_max), "--free-share-min", "0"]
    process = await asyncio.to_thread(_start, words)
    try:
        assert process.stderr is not None
        said = await asyncio.to_thread(process.stderr.readline)
        assert json.loads(said)["event"] == "pinning"
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
        assert process.stderr is not None
        process.stderr.close()


def is_pinned(node: Node, inode: int) -> bool:
    return any(f"-{inode}-" in pin.name for pin in all_pins(node))


async def rotations(node: Node, *, turns: range, pinned: bool) -> bytes:
    """Write and rotate as the kubelet does, and delete each rotated file at once. Return what was written."""
    log, written = node.pod_log(), b""
    held = contextlib.ExitStack()
    for turn in turns:
        node.write(log, lines(turn))
        written += lines(turn)
        if pinned:
            await until(functools.partial(is_pinned, node, log.stat().st_ino))
        # Another process has it open: the inode is not used again at once.
        held.enter_context(log.open("rb"))
        rotated = log.rename(log.with_name(f"0.log.20261124-10{turn:02d}00"))
        rotated.unlink()
    node.write(log, b"2026-11-24T10:59:00Z stdout F last\n")
    held.close()
    return written + b"2026-11-24T10:59:00Z stdout F last\n"


@LOCKED
async def test_what_rotation_deletes_while_no_collector_runs_is_read_from_its_pins(node: Node) -> None:
    async with pinner(node):
        # given: a collector that read a first part, and is gone
        first = b"2026-11-24T09:00:00Z stdout F first\n"
        node.write(node.pod_log(), first)
        async with node.collector(pins_dir=str(pins_of(node))):
            await until(lambda: node.contents() == [first])
        # when: rotation deletes five files before another one starts
        written = await rotations(node, turns=range(5), pinned=True)
        async with node.collector(pins_dir=str(pins_of(node))):
            await until(lambda: b"".join(node.contents()) == first + written)
            # then: in order, once, closed, and let go of
            await until(lambda: len(node.stated(Closed)) >= 5)
            await until(lambda: len(all_pins(node)) == 1)
    assert not node.stated(Gap)
    assert sum(file.bytes_sent for file in node.files()) == len(first + written)
    assert {file.path for file in node.files()} == {str(node.pod_log())}
    assert {file.restart_count for file in node.files()} == {0}


async def test_without_pins_the_same_rotations_leave_a_gap(node: Node) -> None:
    first = b"2026-11-24T09:00:00Z stdout F first\n"
    node.write(node.pod_log(), first)
    async with node.collector():
        await until(lambda: node.contents() == [first])
    await rotations(node, turns=range(5), pinned=False)
    async with node.collector():
        await until(lambda: b"".join(node.contents()).endswith(b"last\n"))
    assert [(gap.reason, gap.offset_start) for gap in node.stated(Gap)] == [("rotated_away", str(len(first)))]


@LOCKED
async def test_a_pinner_that_is_over_its_budget_gives_up_the_oldest_and_the_ledger_says_so(node: Node) -> None:
    # given: pins that are the only name of their file, of which the budget allows one
    log = node.pod_log()
    pins_of(node).mkdir(parents=True)
    by_hand = Pinner([str(node.logs / "pods")], str(pins_of(node)), Budget(bytes_max=30_000, free_share_min=0))
    for turn in range(3):
        node.write(log, lines(turn) * 2)
        os.utime(log, ns=(turn, turn))
        by_hand.sweep()
        log.unlink()
    held = sum(path.stat().st_blocks * 512 for path in all_pins(node))
    assert held > 30_000
    assert by_hand.keep_budget() > 0
    assert sum(path.stat().st_blocks * 512 for path in all_pins(node)) <= 30_000
    kept = [path.read_bytes() for path in all_pins(node)]
    assert lines(2) * 2 in kept
    # when
    async with node.collector(pins_dir=str(pins_of(node))):
        await until(lambda: sorted(node.contents()) == sorted(kept))
        await until(lambda: not list(pins_of(node).iterdir()))
    # then
    gaps = node.stated(Gap)
    assert {gap.reason for gap in gaps} == {"over_budget"}
    assert len(gaps) == 3 - len(kept)
    assert all(gap.source.startswith("container/") and str(log) in gap.detail for gap in gaps)
    assert not node.files(Kind.FILE)


def test_a_pin_is_made_by_descriptor_and_never_of_a_link_or_a_compressed_file(tmp_path: Path) -> None:
    logs, pins = tmp_path / "pods", tmp_path / ".pins"
    (logs / "a").mkdir(parents=True)
    pins.mkdir()
    (logs / "a/0.log").write_bytes(b"x\n")
    (logs / "a/0.log.20261124-100000.gz").write_bytes(b"x")
    (logs / "a/1.log").symlink_to("/etc/passwd")
    by_hand = Pinner([str(logs)], str(pins), Budget(bytes_max=1 << 30, free_share_min=0))
    assert by_hand.sweep() == 1
    assert by_hand.sweep() == 0
    (pin,) = (path for path in pins.iterdir() if not path.name.endswith(".from"))
    assert pin.stat().st_ino == (logs / "a/0.log").stat().st_ino
    assert str(pin.with_name(f"{pin.name}.from").readlink()) == str(logs / "a/0.log")


@LOCKED
def test_the_lock_lets_it_add_names_and_read_and_nothing_else(tmp_path: Path) -> None:
    logs, pins = tmp_path / "pods", tmp_path / ".pins"
    logs.mkdir()
    (logs / "0.log").write_bytes(b"x\n")
    program = f"""
import os, json
from collector.pin.__main__ import _confine
from collector.pin.pinner import Budget, Pinner
logs, pins = {str(logs)!r}, {str(pins)!r}
os.mkdir(pins)
_confine([logs], pins, unconfined=False)
Pinner([logs], pins, Budget(bytes_max=1, free_share_min=0)).sweep()
pin = [pins + "/" + name for name in os.listdir(pins) if not name.endswith(".from")][0]
def refused(what):
    try:
        what()
    except PermissionError:
        return True
    return False
print(json.dumps({{
    "read": open(logs + "/0.log").read(),
    "unlink": refused(lambda: os.unlink(logs + "/0.log")),
    "rename": refused(lambda: os.rename(logs + "/0.log", logs + "/1.log")),
    "move out": refused(lambda: os.rename(logs + "/0.log", pins + "/0.log")),
    "write": refused(lambda: open(logs + "/0.log", "ab")),
    "write through the pin": refused(lambda: open(pin, "ab")),
    "truncate through the pin": refused(lambda: os.truncate(pin, 0)),
    "make": refused(lambda: open(logs + "/2.log", "x")),
    "read elsewhere": refused(lambda: open("/etc/passwd")),
    "unlink a pin": refused(lambda: os.unlink(pin)),
}}))
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60).stdout
    told = json.loads(said)
    assert told.pop("read") == "x\n"
    assert told.pop("unlink a pin") is False, "its budget needs that"
    # Truncation is a right of its own from the third version on.
    assert told.pop("truncate through the pin") is (landlock.abi() >= 3)
    assert set(told.values()) == {True}
    assert (logs / "0.log").read_bytes() == b"x\n"


def test_it_refuses_folders_that_cannot_hold_pins(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "collector.pin", "--bytes-max", "1", "--free-share-min", "0"]
    (tmp_path / "pods").mkdir()

    def code(*more: str) -> int:
        return subprocess.run([*words, *more], capture_output=True, check=False, timeout=60).returncode

    assert code("--root", str(tmp_path / "none"), "--pins", str(tmp_path / "pins")) == 2
    assert code("--root", str(tmp_path / "pods"), "--pins", str(tmp_path / "pods/.pins")) == 2


def test_it_needs_the_standard_library_alone() -> None:
    program = "import sys; was = set(sys.modules); import collector.pin.__main__; print(*(set(sys.modules) - was))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60).stdout
    foreign = {name.partition(".")[0] for name in said.decode().split()} - sys.stdlib_module_names
    assert foreign == {"ashiato", "collector"}


def test_pins_without_a_folder_hold_nothing(tmp_path: Path) -> None:
    assert Pins(folder=tmp_path / "none").release(lambda _: True) == 0

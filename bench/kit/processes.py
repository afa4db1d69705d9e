"""Service processes that are measured from outside: CPU and memory as the kernel counts them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ashiato.core.limits import MIB
from bench.kit.machine import memory_mib

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
SAMPLE_S: Final = 0.1


@dataclass(slots=True)
class Measured:
    """One child process."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    metrics_port: int = 0
    cpu_at_begin_s: float = 0.0
    cpu_s: float = 0.0
    rss_bytes_max: int = 0
    rss_bytes: list[int] = field(default_factory=list)

    @classmethod
    def start(cls, name: str, arguments: list[str], log: Path, *, metrics_port: int = 0) -> Measured:
        """Start ``python -m …``; what it says goes to ``log``."""
        return cls.start_command(name, [sys.executable, "-P", "-m", *arguments], log, metrics_port=metrics_port)

    @classmethod
    def start_command(cls, name: str, command: list[str], log: Path, *, metrics_port: int = 0) -> Measured:
        """Start any program."""
        with log.open("wb") as stream:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
        return cls(name, process, log, metrics_port)

    def begin(self) -> None:
        """Count CPU from now on: what went before was starting."""
        self.cpu_at_begin_s = self._cpu_now_s()

    def sample(self) -> None:
        """Note the memory that it holds now."""
        try:
            self.rss_bytes.append(int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * _PAGE)
        except (FileNotFoundError, ProcessLookupError, IndexError):
            return

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        own = (line for line in lines if line.partition("{")[0].partition(" ")[0] == f"ashiato_{self.name}_{name}")
        return sum(float(line.rpartition(" ")[2]) for line in own)

    def stop(self, *, timeout_s: float) -> None:
        """Ask it to end, and note what it took.

        Raises:
            RuntimeError: it did not end, or not with 0.

        """
        self.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        while True:
            # Not the kernel's account at the end: there a child's memory begins with what its parent held.
            with suppress(RuntimeError):
                self.rss_bytes_max = int(memory_mib("VmHWM", self.process.pid) * MIB)
            pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > deadline:
                self.process.kill()
                raise RuntimeError(f"{self.name} did not end within {timeout_s} s: see {self.log}")
            time.sleep(0.02)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.cpu_s = usage.ru_utime + usage.ru_stime - self.cpu_at_begin_s
        if self.process.returncode:
            raise RuntimeError(f"{self.name} ended with {self.process.returncode}: {self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        """End it if it still runs."""
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()

    def _cpu_now_s(self) -> float:
        return cpu_of_s(self.process.pid)


@contextmanager
def ending(one: Measured, *, timeout_s: float = 60) -> Iterator[Measured]:
    """Ask a process to end when the context does, and kill it where something fails."""
    try:
        yield one
        one.stop(timeout_s=timeout_s)
    finally:
        one.kill()


def part_cpu_s(folder: Path) -> float:
    """Return the CPU time that the server of ``tests.parts`` in ``folder`` has used so far."""
    return cpu_of_s(int((folder / "pid").read_text().split()[0]))


class Sampler:
    """Samples the memory of processes until it is closed."""

    def __init__(self, processes: list[Measured]) -> None:
        self._processes = processes
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop sampling."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            for one in self._processes:
                one.sample()


def cpu_of_s(pid: int) -> float:
    """Return the CPU time that a process has used so far, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def machine_cpu_s() -> float:
    """Return the CPU time that all processes of the machine, and its kernel, have used so far."""
    user, nice, system, _idle, _waiting, irq, softirq, stolen, *_ = Path("/proc/stat").read_text().split()[1:11]
    return sum(map(int, (user, nice, system, irq, softirq, stolen))) / _TICKS


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until(what: str, true: Callable[[], bool], *, timeout_s: float, processes: list[Measured]) -> None:
    """Poll until ``true`` says so; a process that died ends the benchmark.

    Raises:
        RuntimeError: a process died, or the time is over.

    """
    deadline = time.monotonic() + timeout_s
    while not true():
        for one in processes:
            if one.process.poll() is not None:
                raise RuntimeError(f"{one.name} died: {one.log.read_text()[-2000:]}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {timeout_s} s")
        time.sleep(SAMPLE_S)

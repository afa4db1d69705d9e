"""One server as a child process: started, waited for, stopped, killed, and found again by a later process."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

READY_SECONDS_MAX = 120.0
STOP_SECONDS_MAX = 30.0
_ASK_SECONDS = 0.1

# A child that dies with its parent dies, in truth, with the *thread* that started it: so one thread starts them all
# and lives as long as the process.
_SPAWNER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="parts")


def _made_by() -> str:
    """Return a digest of the code that prepares parts."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    code = b"".join(path.read_bytes() for path in sources if not path.name.startswith("test_"))
    return hashlib.sha256(code).hexdigest()[:16]


_MADE_BY = _made_by()


class PartError(Exception):
    """A part cannot be had; the message says why and what to do."""


class Part(ABC):
    """A server in a folder of its own: the same ports, secrets and data at each start.

    ``folder`` keeps ``part.json`` (ports and secrets), ``pid`` and ``log``; an object made over the same folder by
    another process finds the server that runs there. ``survives`` leaves it running when this process ends. ``lasts``
    lets a Java server compile as it does in production: slower to start, about twice as fast after a minute.
    """

    name: ClassVar[str]
    ports: ClassVar[Sequence[str]]

    def __init__(self, folder: Path, *, survives: bool = False, lasts: bool = False) -> None:
        self.folder = folder
        self.survives = survives
        self.lasts = lasts or survives
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What the server prints."""
        return self.folder / "log"

    @property
    def java_options(self) -> Sequence[str]:
        """Options of every Java server: one small heap's collector, and the quick compiler where it does not last."""
        return ("-XX:+UseSerialGC", *(() if self.lasts else ("-XX:TieredStopAtLevel=1",)))

    @property
    def running(self) -> bool:
        """Whether the process that was started here is alive."""
        return self._pid() is not None

    def start(self) -> None:
        """Start the server and return when it answers, and what answers is it.

        Raises:
            PartError: it does not come up; the message holds the end of its log.

        """
        if self._is_outdated():
            self.kill()
            shutil.rmtree(self.folder)
        if self.running:
            self._wait_until_ready()
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "part.json").is_file():
            self.choose(self.choose_ports(), secret=secrets.token_hex(16))
            self.prepare()
        self._spawn(self.command())
        self._wait_until_ready()
        if not (self.folder / "settled").exists():
            self.settle()
            (self.folder / "settled").touch()

    def stop(self) -> None:
        """End it as an operator does (SIGTERM); SIGKILL when it does not listen."""
        self._signal(signal.SIGTERM)
        if not self._gone_within(STOP_SECONDS_MAX):
            self.kill()

    def kill(self) -> None:
        """End it as a power cut does (SIGKILL)."""
        self._signal(signal.SIGKILL)
        if not self._gone_within(STOP_SECONDS_MAX):
            raise PartError(f"{self.name} does not die")

    def pause(self) -> None:
        """Stop it in its tracks (SIGSTOP): connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)
        deadline = time.monotonic() + STOP_SECONDS_MAX
        while (pid := self._pid()) is not None and not _stopped(pid):
            if time.monotonic() > deadline:
                raise PartError(f"{self.name} does not pause")
            time.sleep(_ASK_SECONDS / 50)

    def resume(self) -> None:
        """Let it go on after :meth:`pause`."""
        self._signal(signal.SIGCONT)

    def choose_ports(self) -> dict[str, int]:
        """Return a free port for each of ``ports``."""
        return free_ports(self.ports)

    @abstractmethod
    def prepare(self) -> None:
        """Write configuration and certificates, once per folder."""

    @abstractmethod
    def command(self) -> Sequence[str]:
        """Return what is run."""

    @abstractmethod
    def answers(self) -> bool:
        """Ask whether it is ready. Raises PartError where a stranger answers; anything else means not yet."""

    @abstractmethod
    def settle(self) -> None:
        """Grant rights, make buckets: once per folder, when it first answers."""

    def environment(self) -> Mapping[str, str]:
        """Return what is added to its environment."""
        return {}

    def choose(self, ports: Mapping[str, int], *, secret: str) -> None:
        """Fix what stays the same at each start in this folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_json("part.json", {"ports": dict(ports), "secret": secret, "made_by": _MADE_BY})

    def port(self, name: str) -> int:
        """Return one of its ports."""
        return int(self._facts()["ports"][name])

    def secret(self, of: str) -> str:
        """Return a password that is the same at each start and differs between folders."""
        return f"{of}-{self._facts()['secret']}"

    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.folder / "part.json").read_text(encoding="utf-8"))
        return facts

    def _is_outdated(self) -> bool:
        """Whether the folder was made by other code than this: its users and rights are others, then."""
        return (self.folder / "part.json").is_file() and self._facts().get("made_by") != _MADE_BY

    def _write_json(self, name: str, content: object) -> Path:
        path = self.folder / name
        path.write_text(json.dumps(content, indent=2), encoding="utf-8")
        path.chmod(0o600)
        return path

    def _spawn(self, command: Sequence[str]) -> None:
        if not self.survives:
            command = [*_dying_with_parent(), *command]
        environment = {**os.environ, **self.environment()}
        with self.log.open("ab") as log:
            self._child = _SPAWNER.submit(
                lambda: subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    env=environment,
                    start_new_session=True,
                )
            ).result()
        (self.folder / "pid").write_text(f"{self._child.pid} {_started(self._child.pid)}", encoding="utf-8")

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS_MAX
        while True:
            if not self.running:
                raise PartError(f"{self.name} ended while it started; the end of {self.log}:\n{self._log_end()}")
            if self.answers():
                return
            if time.monotonic() > deadline:
                raise PartError(f"{self.name} does not answer; the end of {self.log}:\n{self._log_end()}")
            time.sleep(_ASK_SECONDS)

    def _log_end(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-3000:]

    def _pid(self) -> int | None:
        """Return the process that was started here, if it lives: a number that another one got later is not it."""
        if self._child is not None and self._child.poll() is not None:
            return None
        try:
            pid, started = (self.folder / "pid").read_text(encoding="utf-8").split()
        except (FileNotFoundError, ValueError):
            return None
        return int(pid) if _started(int(pid)) == started else None

    def _signal(self, number: signal.Signals) -> None:
        if (pid := self._pid()) is not None:
            os.kill(pid, number)

    def _gone_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.running:
            if time.monotonic() > deadline:
                return False
            time.sleep(_ASK_SECONDS / 5)
        if self._child is not None:
            self._child.wait()
        return True


def free_ports(names: Sequence[str]) -> dict[str, int]:
    """Return a free loopback port for each name; all are held until all are known, so that they differ."""
    held = []
    try:
        for _ in names:
            sock = socket.socket()
            sock.bind(("127.0.0.1", 0))
            held.append(sock)
        return {name: int(sock.getsockname()[1]) for name, sock in zip(names, held, strict=True)}
    finally:
        for sock in held:
            sock.close()


def free_port_in(ports: Sequence[int]) -> int:
    """Return a free loopback port of a range, not always the same one, so that two who choose at once rarely meet."""
    first = secrets.randbelow(len(ports))
    for port in (*ports[first:], *ports[:first]):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise PartError(f"no free port in {ports[0]}-{ports[-1]}")


def listens(port: int) -> bool:
    """Whether anybody accepts connections at a loopback port."""
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _started(pid: int) -> str:
    """Return what tells a process from a later one of the same number; '' where it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _stopped(pid: int) -> bool:
    """Whether every thread of a process stands still: a signal stops them one after the other."""
    states = [path.read_text(encoding="ascii").rpartition(")")[2].split()[0] for path in _stats(pid)]
    return all(state == "T" for state in states)


def _stats(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").glob("*/stat"))


def _dying_with_parent() -> Sequence[str]:
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []

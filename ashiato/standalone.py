"""Everything on one machine: the four services as four processes over one data folder, without a server.

They are the same services as at scale, with other adapters. A process that dies is started again, and that is said;
what it was doing goes on where the bookmark and the journal stand. This is one user on one machine: the processes can
do each other's harm, and ``ashiato up`` says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final

from ashiato.adapters import files
from ashiato.adapters.data_folder import DataFolder
from ashiato.adapters.service_log import ServiceLog
from ashiato.core.errors import AshiatoError, RefusedError, SettingsError, TransientError

SERVICES: Final = ("retention", "ingest", "collector", "query")
"""In the order of their start; they stop in the order of the data: what is read is still taken in."""
_STOP_ORDER: Final = ("collector", "ingest", "query", "retention")

GIB: Final = 1024**3
_READY_S: Final = 30.0
_STARTS_MAX: Final = 4
"""Of a service that ends again and again before it has ever run: what is wrong does not pass by itself."""
_STOP_S: Final = 20.0
_BACKOFF_S_MAX: Final = 30.0
_TEND_S: Final = 2.0
_AGAIN_S: Final = 600.0
"""The same trouble is told again after this long."""
_FREE_BYTES_LOW: Final = 16 * 1024 * 1024
_IDLE_BEAT_S: Final = 5.0
"""How far the watermark may lie back on a quiet machine: a person asks up to now."""
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a person may choose; everything else has one right value on one machine."""

    roots: tuple[str, ...] = ()
    """Folders to follow; () takes the collector's own defaults."""
    all_files: bool = False
    """Follow every log-like file below the roots."""
    cluster: str = "local"
    node: str = ""
    port: int = 0
    """Port of the query service on loopback; 0 takes a free one."""
    disk_budget_bytes: int = 10 * GIB
    commit_age_s: float = 900.0
    beat_interval_s: float = 2.0
    sweep_interval_s: float = 1.0
    settle_s: float = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the query service answers, and what it asks for."""

    url: str
    token: str


@dataclass(slots=True)
class _Child:
    service: str
    process: asyncio.subprocess.Process
    restarts: int = 0
    watcher: asyncio.Task[None] | None = None


def settings_document(data: DataFolder, options: Options) -> Mapping[str, Mapping[str, object]]:
    """Return the settings of the four services, a table each."""
    bus = {"kind": "sqlite", "path": str(data.bus_path)}
    archive = {"directory": str(data.archive)}
    return {
        "collector": {
            "bus": bus,
            "state_dir": str(data.collector_state),
            "cluster": options.cluster,
            "access_dir": str(data.access),
            "all_files": options.all_files,
            "ours": _ours_below(data, options.roots),
            "beat_interval_s": options.beat_interval_s,
            "idle_beat_interval_s": _IDLE_BEAT_S,
            "sweep_interval_s": options.sweep_interval_s,
            "settle_s": options.settle_s,
            **({"node": options.node} if options.node else {}),
            **({"roots": list(options.roots)} if options.roots else {}),
        },
        "ingest": {
            "bus": bus,
            "archive": archive,
            "scratch_dir": str(data.scratch),
            "tail_dir": str(data.tail),
            "keeps_inventory": True,
            "commit_age_s": options.commit_age_s,
        },
        "query": {
            "archive": archive,
            "tail_dir": str(data.tail),
            "access_dir": str(data.access),
            "token_file": str(data.token_file),
            "address_file": str(data.address_file),
            "port": options.port,
        },
        "retention": {
            "bus": bus,
            "archive": archive,
            "priority_partitions": 1,
            "bulk_partitions": 1,
            "disk_budget_bytes": options.disk_budget_bytes,
        },
    }


class Standalone:
    """Starts, watches and stops the four processes. ``say`` is told every step as a sentence for a person."""

    def __init__(self, data: DataFolder, options: Options, *, say: Callable[[str], None]) -> None:
        self.data = data
        self._options = options
        self._say = say
        self._children: dict[str, _Child] = {}
        self._logs = {service: ServiceLog(data.run / f"{service}.log") for service in SERVICES}
        self._lock: IO[bytes] | None = None
        self._tending: asyncio.Task[None] | None = None
        self._starting = True
        self._stopping = False
        self._said: dict[str, float] = {}
        """Troubles that were told, and when."""
        self._is_full = False
        self._hopeless: dict[str, str] = {}
        """Services that do not start, and their last words."""

    async def start(self) -> Address:
        """Start all four and return the address once the query service answers.

        Raises:
            RefusedError: another Ashiato runs over this folder.
            SettingsError: the folder is somebody else's, or a service refuses its settings.
            TransientError: a service did not become ready.

        """
        self.data.check_ours()
        self._claim()
        # A query service that is started again answers where it did before.
        options = replace(self._options, port=self._options.port or _free_port())
        files.replace(self.data.settings_file, toml(settings_document(self.data, options)).encode())
        token = self._token()
        self.data.address_file.unlink(missing_ok=True)
        self._look_for_room()
        for service in SERVICES:
            await self._spawn(service)
        for service in SERVICES:
            await self._ready(service)
        url = await self._answers()
        self._starting = False
        self._tending = asyncio.create_task(self._tend())
        return Address(url=url, token=token)

    async def stop(self) -> None:
        """Ask each process to end, in the order of the data, and wait; what does not end is killed."""
        self._stopping = True
        if self._tending is not None:
            self._tending.cancel()
        for service in _STOP_ORDER:
            child = self._children.get(service)
            if child is None:
                continue
            if child.process.returncode is None:
                child.process.terminate()
                try:
                    await asyncio.wait_for(child.process.wait(), _STOP_S)
                except TimeoutError:
                    self._say(f"{service} did not stop within {_STOP_S:.0f} s and is killed; nothing is lost")
                    child.process.kill()
                    await child.process.wait()
            if child.watcher is not None:
                child.watcher.cancel()
                await asyncio.gather(child.watcher, return_exceptions=True)
            with contextlib.suppress(OSError):
                self._pid_file(service).unlink(missing_ok=True)
            self._say(f"{service} stopped")
        if self._lock is not None:
            with contextlib.suppress(OSError):
                self.data.address_file.unlink(missing_ok=True)
        self._let_go()

    # -- the folder ------------------------------------------------------------------------------------------

    def _claim(self) -> None:
        for folder in (self.data.run, self.data.scratch, self.data.tail, self.data.access):
            files.make_folder(folder)
        self._lock = (self.data.run / "lock").open("wb")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            self._lock = None
            raise RefusedError(
                "another ashiato runs over this folder: stop it, or choose another with --data",
                data=str(self.data.root),
            ) from error

    def _let_go(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _token(self) -> str:
        """Return the token of this folder; it is made at the first start and stays."""
        try:
            return self.data.token_file.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            token = secrets.token_urlsafe(24)
            files.write_new(self.data.token_file, token.encode() + b"\n")
            return token

    # -- processes -------------------------------------------------------------------------------------------

    async def _spawn(self, service: str, restarts: int = 0) -> None:
        log = self._logs[service]
        log.begin()
        with log.path.open("ab") as stream:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", service, "--config", str(self.data.settings_file),
                stdin=asyncio.subprocess.DEVNULL, stdout=stream, stderr=stream,
                start_new_session=True, preexec_fn=_end_with_parent,
            )  # fmt: skip
        with contextlib.suppress(OSError):
            # For people only; a full disk must not keep a service from running.
            self._pid_file(service).write_text(f"{process.pid}\n", encoding="ascii")
        child = _Child(service, process, restarts)
        self._children[service] = child
        child.watcher = asyncio.create_task(self._watch(child))

    async def _watch(self, child: _Child) -> None:
        """Start a process again when it dies, and say so."""
        started = asyncio.get_running_loop().time()
        code = await child.process.wait()
        if self._stopping:
            return
        log = self._logs[child.service]
        lived_s = asyncio.get_running_loop().time() - started
        restarts = child.restarts + 1 if lived_s < 60 else 1
        wait_s = min(0.25 * 2 ** (restarts - 1), _BACKOFF_S_MAX)
        if self._starting and (code == 2 or restarts > _STARTS_MAX):
            self._hopeless[child.service] = log.last_words()
            return  # whoever waits for its start says so
        if code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        else:
            how = f"ended with exit code {code} ({log.last_words()})"
        self._say(f"{child.service} {how}: started again in {wait_s:g} s, nothing is lost (its log: {log.path})")
        await asyncio.sleep(wait_s)
        while not self._stopping:
            try:
                await self._spawn(child.service, restarts)
            except OSError as error:
                self._say(f"{child.service} cannot be started ({error.strerror}): tried again in {_BACKOFF_S_MAX:g} s")
                await asyncio.sleep(_BACKOFF_S_MAX)
            else:
                return

    async def _tend(self) -> None:
        """Keep the logs short, and tell a person what the services cannot do and where room runs out."""
        for log in self._logs.values():
            log.troubles()  # what was waited for while all of them started is over
        while True:
            await asyncio.sleep(_TEND_S)
            for service, log in self._logs.items():
                await asyncio.to_thread(log.shorten)
                for trouble in await asyncio.to_thread(log.troubles):
                    self._say_once(f"{service} {trouble}")
            self._look_for_room()

    def _say_once(self, sentence: str) -> None:
        now = asyncio.get_running_loop().time()
        self._said = {words: at for words, at in self._said.items() if now - at < _AGAIN_S}
        if sentence not in self._said:
            self._said[sentence] = now
            self._say(sentence)

    def _look_for_room(self) -> None:
        free = shutil.disk_usage(self.data.root).free
        if free < _FREE_BYTES_LOW:
            self._say_once(
                f"the disk of {self.data.root} is full, or nearly so: free some room; what cannot be taken in waits "
                "in the log files"
            )
        elif self._is_full:
            self._said.clear()
            self._say("there is room on the disk again")
        self._is_full = free < _FREE_BYTES_LOW

    async def _ready(self, service: str) -> None:
        deadline = asyncio.get_running_loop().time() + _READY_S
        while asyncio.get_running_loop().time() < deadline:
            child = self._children[service]
            if self._logs[service].has("service_started"):
                self._say(f"{service} is running (process {child.process.pid})")
                return
            if service in self._hopeless:
                raise self._refusal(child)
            await asyncio.sleep(0.05)
        log = self._logs[service]
        raise TransientError(f"{service} does not start: {log.last_words()} (its log: {log.path})")

    def _refusal(self, child: _Child) -> AshiatoError:
        words = self._hopeless[child.service]
        if child.process.returncode == 2:
            return SettingsError(f"{child.service} refuses its settings: {words}")
        return TransientError(f"{child.service} does not start: {words} (its log: {self._logs[child.service].path})")

    async def _answers(self) -> str:
        deadline = asyncio.get_running_loop().time() + _READY_S
        while asyncio.get_running_loop().time() < deadline:
            with contextlib.suppress(OSError, ValueError, KeyError, urllib.error.URLError):
                url = str(json.loads(self.data.address_file.read_bytes())["url"])
                await asyncio.to_thread(_get, f"{url}/healthz")
                return url
            await asyncio.sleep(0.05)
        raise TransientError(f"query does not answer: see {self._logs['query'].path}")

    def _pid_file(self, service: str) -> Path:
        return self.data.run / f"{service}.pid"


def _ours_below(data: DataFolder, roots: tuple[str, ...]) -> list[str]:
    """Return our own folders that lie where logs are looked for: what we write must not be read as somebody's."""
    ours = (
        data.bus_path.parent, data.archive, data.tail, data.collector_state, data.access, data.scratch, data.run,
    )  # fmt: skip
    return [str(folder) for folder in ours if not roots or any(folder.is_relative_to(root) for root in roots)]


def toml(tables: Mapping[str, Mapping[str, object]]) -> str:
    """Return settings as TOML: a table per service, inner structs inline."""
    return "\n".join(
        "\n".join((f"[{name}]", *(f"{key} = {_value(value)}" for key, value in table.items()), ""))
        for name, table in tables.items()
    )


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str):
        # A TOML basic string has JSON's escapes, but for the surrogate pairs that ensure_ascii would make.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _end_with_parent() -> None:
    """Ask the kernel to end this process when the one that started it dies (Linux)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _get(url: str) -> None:
    with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - our own loopback address
        pass


def remedy(roots: tuple[str, ...]) -> str:
    """Return what to do where the default log folders cannot be read, '' where at least one can."""
    present = [root for root in roots if Path(root).is_dir()]
    if any(os.access(root, os.R_OK | os.X_OK) for root in present):
        return ""
    if not present:
        return (
            f"There are no container logs on this machine (looked in {', '.join(roots)}).\n"
            "Follow another folder:   ashiato up FOLDER\n"
            "See it work right now:   ashiato demo"
        )
    user = os.environ.get("USER") or str(os.geteuid())
    return (
        f"This user may not read {', '.join(present)}. One of these helps:\n"
        f"    sudo setfacl -R -m u:{user}:rX -m d:u:{user}:rX {' '.join(present)}\n"
        f"    sudo {sys.argv[0]} up\n"
        "See it work right now:   ashiato demo"
    )

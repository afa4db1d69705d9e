"""The bus of a single machine: one SQLite file through apsw, which brings its own SQLite.

WAL with synchronous=FULL: a send has returned only when its transaction is on the disk. Sends that arrive together
share one transaction. Positions count up within each partition and are never used twice, because the next one is
stored, not derived from the rows that are left.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import apsw

from ashiato.core.errors import (
    AshiatoError,
    EvidenceError,
    NotHeldError,
    RejectedError,
    SettingsError,
    TransientError,
)
from ashiato.core.limits import FRAME_BYTES_MAX
from ashiato.core.ports import BusRecord, Partition

T = TypeVar("T")

BUSY_MS = 30_000
POLL_S = 0.05
FORMAT = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS bus (id TEXT NOT NULL, format INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS partitions (
    topic TEXT NOT NULL, number INTEGER NOT NULL, start INTEGER NOT NULL, next INTEGER NOT NULL,
    PRIMARY KEY (topic, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
    topic TEXT NOT NULL, number INTEGER NOT NULL, position INTEGER NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (topic, number, position)
);
"""


class _Side:
    """One connection, used from one thread of its own."""

    def __init__(self, path: str, *, read_only: bool = False) -> None:
        self._path = path
        self._read_only = read_only
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bus")
        self._connection: apsw.Connection | None = None

    async def partitions(self, topic: str) -> int:
        """Return how many partitions ``topic`` has."""

        def count(db: apsw.Connection) -> int:
            return int(str(db.execute("SELECT count(*) FROM partitions WHERE topic = ?", (topic,)).get))

        if not (found := await self._run(count)):
            raise NotHeldError("no such topic", topic=topic)
        return found

    async def incarnation(self, topic: str) -> str:
        """Return the file's random id and the topic."""
        await self.partitions(topic)
        bus_id = await self._run(lambda db: str(db.execute("SELECT id FROM bus").get))
        return f"{bus_id}/{topic}"

    async def bounds(self, partition: Partition) -> tuple[int, int]:
        """Return (first readable position, next position)."""
        return await self._run(lambda db: _bounds(db, partition))

    async def close(self) -> None:
        """Close the connection and its thread."""

        def close() -> None:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

        await asyncio.wrap_future(self._thread.submit(close))
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[apsw.Connection], T]) -> T:
        def call() -> T:
            try:
                return work(self._open())
            except apsw.FullError as error:
                raise TransientError(
                    "the disk of the bus is full: free some room; nothing is lost meanwhile"
                ) from error
            except (apsw.CorruptError, apsw.NotADBError) as error:
                raise EvidenceError(f"the file of the bus is damaged: {error}", path=self._path) from error
            except apsw.SQLError as error:
                raise NotHeldError("no bus here yet", path=self._path) from error
            except (apsw.BusyError, apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError) as error:
                raise TransientError(f"the bus does not answer: {error}", path=self._path) from error

        return await asyncio.wrap_future(self._thread.submit(call))

    def _open(self) -> apsw.Connection:
        if self._connection is None:
            if self._read_only:
                flags = apsw.SQLITE_OPEN_READWRITE
            else:
                Path(self._path).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
            connection = apsw.Connection(self._path, flags=flags)
            connection.set_busy_timeout(BUSY_MS)
            if self._read_only:
                # WAL readers need the shared memory file, so the connection is opened for writing and forbidden to.
                connection.execute("PRAGMA query_only = 1")
            else:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA journal_size_limit = 67108864")
                _create(connection)
            _check_format(connection)
            self._connection = connection
        return self._connection


class SqliteWriter(_Side):
    """The collector's side."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._waiting: list[tuple[Partition, bytes, asyncio.Future[int]]] = []
        self._flush: asyncio.Task[None] | None = None

    async def send(self, partition: Partition, value: bytes) -> int:
        """Append; return the position once the transaction is on the disk."""
        if len(value) > FRAME_BYTES_MAX:
            raise RejectedError("record is larger than the bus takes", size=len(value), size_max=FRAME_BYTES_MAX)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((partition, value, future))
        if self._flush is None or self._flush.done():
            self._flush = asyncio.create_task(self._flush_all())
        return await future

    async def reset(self) -> None:
        """Fail what waits, and wait for the transaction that is under way: nothing of it arrives later."""
        waiting, self._waiting = self._waiting, []
        for _, _, future in waiting:
            _settle(future, TransientError("session was reset"))
        if self._flush is not None:
            await asyncio.wait([self._flush])

    async def close(self) -> None:
        """End what is under way, then let go."""
        await self.reset()
        await super().close()

    async def _flush_all(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            wanted = [(partition, value) for partition, value, _ in group]
            outcomes: list[int | AshiatoError]
            try:
                outcomes = await self._run(functools.partial(_append, group=wanted))
            except AshiatoError as error:
                outcomes = [error] * len(group)
            except BaseException:
                for _, _, future in group:
                    _settle(future, TransientError("the bus failed"))
                raise
            for (_, _, future), outcome in zip(group, outcomes, strict=True):
                _settle(future, outcome)


def _settle(future: asyncio.Future[int], outcome: int | AshiatoError) -> None:
    if future.done():
        return  # its caller was cancelled
    if isinstance(outcome, int):
        future.set_result(outcome)
    else:
        # An error of its own for each: a traceback belongs to one caller.
        future.set_exception(copy.copy(outcome))


class SqliteReader(_Side):
    """Ingest's side: a connection that cannot write."""

    def __init__(self, path: str) -> None:
        super().__init__(path, read_only=True)
        self._next: dict[Partition, int] = {}

    async def assign(self, starts: Mapping[Partition, int]) -> None:
        """Read from these positions on."""
        self._next = dict(starts)

    async def poll(self, *, bytes_max: int, wait_ns: int) -> list[BusRecord]:
        """Return what is there; look again each 50 ms until ``wait_ns`` is over."""
        deadline = asyncio.get_running_loop().time() + wait_ns / 1e9
        while True:
            found = await self._run(lambda db: self._read(db, bytes_max))
            left = deadline - asyncio.get_running_loop().time()
            if found or left <= 0:
                return found
            await asyncio.sleep(min(POLL_S, left))

    async def read_one(self, partition: Partition, position: int) -> BusRecord | None:
        """Return one record, or None."""

        def read(db: apsw.Connection) -> BusRecord | None:
            value = db.execute(
                "SELECT value FROM records WHERE topic = ? AND number = ? AND position = ?", (*partition, position)
            ).get
            if not isinstance(value, bytes):
                return None
            return BusRecord(partition=partition, position=position, value=value)

        return await self._run(read)

    def _read(self, db: apsw.Connection, bytes_max: int) -> list[BusRecord]:
        found: list[BusRecord] = []
        room = bytes_max
        with db:
            for partition, position in self._next.items():
                start, end = _bounds(db, partition)
                if not start <= position <= end:
                    raise NotHeldError(
                        "position is outside of the log", topic=partition.topic, partition=partition.number,
                        position=position,
                    )  # fmt: skip
                if position == end or (room <= 0 and found):
                    continue
                rows = db.execute(
                    "SELECT position, value FROM records"
                    " WHERE topic = ? AND number = ? AND position >= ? ORDER BY position",
                    (*partition, position),
                )
                for at, value in rows:
                    assert isinstance(at, int)
                    assert isinstance(value, bytes)
                    found.append(BusRecord(partition=partition, position=at, value=value))
                    room -= len(value)
                    if room <= 0:
                        break
        for record in found:
            # Who was served stands at the end of the row, so that a full partition starves no other.
            self._next.pop(record.partition)
            self._next[record.partition] = record.position + 1
        return found


class SqliteKeeper(_Side):
    """Retention's side."""

    async def create_topics(self, topics: Mapping[str, int]) -> None:
        """Make what does not exist."""

        def create(db: apsw.Connection) -> None:
            with _immediate(db):
                for topic, partitions in topics.items():
                    if db.execute("SELECT count(*) FROM partitions WHERE topic = ?", (topic,)).get:
                        continue
                    for number in range(partitions):
                        db.execute("INSERT INTO partitions VALUES (?, ?, 0, 0)", (topic, number))

        await self._run(create)

    async def free(self, partition: Partition, before: int) -> None:
        """Forget, and give the room back to the disk."""

        def free(db: apsw.Connection) -> None:
            with _immediate(db):
                start, end = _bounds(db, partition)
                upto = min(before, end)
                if upto <= start:
                    return
                db.execute("DELETE FROM records WHERE topic = ? AND number = ? AND position < ?", (*partition, upto))
                db.execute("UPDATE partitions SET start = ? WHERE topic = ? AND number = ?", (upto, *partition))
            db.execute("PRAGMA incremental_vacuum").fetchall()
            with contextlib.suppress(apsw.BusyError):
                db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

        await self._run(free)


class _immediate:  # noqa: N801 - reads as a statement
    """A transaction that takes the write lock at once, so that it never has to upgrade."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            try:
                self._db.execute("COMMIT")
            except apsw.Error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        elif self._db.in_transaction:
            self._db.execute("ROLLBACK")


def _create(db: apsw.Connection) -> None:
    with _immediate(db):
        db.execute(_SCHEMA)
        if not db.execute("SELECT count(*) FROM bus").get:
            db.execute("INSERT INTO bus VALUES (?, ?)", (secrets.token_hex(16), FORMAT))


def _check_format(db: apsw.Connection) -> None:
    found = db.execute("SELECT format FROM bus").get
    if found != FORMAT:
        raise SettingsError(f"the bus is of format {found}, and this release reads {FORMAT}")


def _bounds(db: apsw.Connection, partition: Partition) -> tuple[int, int]:
    row = db.execute("SELECT start, next FROM partitions WHERE topic = ? AND number = ?", tuple(partition)).fetchall()
    if not row:
        raise NotHeldError("no such partition", topic=partition.topic, partition=partition.number)
    start, end = row[0]
    assert isinstance(start, int)
    assert isinstance(end, int)
    return start, end


def _append(db: apsw.Connection, group: list[tuple[Partition, bytes]]) -> list[int | AshiatoError]:
    """Append in one transaction; a partition that is not there fails its own records alone."""
    outcomes: list[int | AshiatoError] = []
    with _immediate(db):
        ends: dict[Partition, int] = {}
        for partition, value in group:
            try:
                position = ends[partition] if partition in ends else _bounds(db, partition)[1]
            except NotHeldError as error:
                outcomes.append(error)
                continue
            db.execute("INSERT INTO records VALUES (?, ?, ?, ?)", (*partition, position, value))
            outcomes.append(position)
            ends[partition] = position + 1
        for partition, end in ends.items():
            db.execute("UPDATE partitions SET next = ? WHERE topic = ? AND number = ?", (end, *partition))
    return outcomes

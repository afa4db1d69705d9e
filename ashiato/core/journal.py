"""The journal: the archive's Delta log, one numbered commit after another (CONTRACTS section 5, J1-J8).

Pure: this module makes and reads the bytes of commits, folds them into a state, and decides what a loser of a
race may do. Putting and reading them is ``ashiato/adapters/journal.py``.

A commit is ``_delta_log/<20 digits>.json``: one Delta action per line (https://github.com/delta-io/delta/blob/
master/PROTOCOL.md), ``commitInfo`` first. Ours stands in ``commitInfo.ashiato``; foreign engines ignore it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import msgspec

from ashiato.core.errors import EvidenceError, RejectedError
from ashiato.core.invariants import J3, R4, check
from ashiato.core.ports import Partition
from ashiato.core.record import COLUMNS

JOURNAL_VERSION: Final = 1
LOG_PREFIX: Final = "_delta_log/"
ACT_KINDS: Final = ("create", "archive", "policy", "hold", "release", "expire", "condemn", "export", "enrol", "rule")

_DELTA_TYPES: Final = {"string": "string", "int32": "integer", "int64": "long", "binary": "binary"}


class FrontierRef(msgspec.Struct, frozen=True, kw_only=True):
    """Where a partition's frontier lies (bucket ``work``), pinned by version id and hash (J4)."""

    path: str
    version_id: str
    sha256: str


class Txn(msgspec.Struct, frozen=True, kw_only=True):
    """All positions of a partition below ``next`` are in this or an earlier commit (J3)."""

    topic: str
    partition: int
    incarnation: str
    """``<id of the bus>#<counter>`` (J5)."""
    next: int
    frontier: FrontierRef

    @property
    def where(self) -> Partition:
        """The partition."""
        return Partition(self.topic, self.partition)

    @property
    def app_id(self) -> str:
        """Delta's name of it."""
        return f"bus:{self.incarnation}:{self.topic}:{self.partition}"


class AddedPack(msgspec.Struct, frozen=True, kw_only=True):
    """One pack as a commit adds it."""

    path: str
    version_id: str
    sha256: str
    size: int
    rows: int
    raw_bytes: int
    retention_class: str
    day: str
    time_min_unix_nano: int
    time_max_unix_nano: int
    """Bounds of the ordering time (event, else reading)."""
    observed_min_unix_nano: int
    observed_max_unix_nano: int
    manifest_path: str
    manifest_version_id: str
    manifest_sha256: str
    commit: int = -1
    """The number of the commit that added it; set when read."""
    commit_time_unix_nano: int = 0


class RemovedPack(msgspec.Struct, frozen=True, kw_only=True):
    """One pack that an expiry removes: from this commit on only (path, version_id) may be deleted, by deleters."""

    path: str
    version_id: str
    retention_class: str
    day: str
    size: int = 0


class Condemned(msgspec.Struct, frozen=True, kw_only=True):
    """An object version that no commit may refer to (R4)."""

    bucket: str
    path: str
    version_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One numbered entry of the journal."""

    n: int
    act_id: str
    """Random, 32 hex: who finds the number taken reads the winner, and has won if this id is its own (J1)."""
    kind: str
    actor: str
    time_unix_nano: int
    txns: tuple[Txn, ...] = ()
    adds: tuple[AddedPack, ...] = ()
    removes: tuple[RemovedPack, ...] = ()
    condemned: tuple[Condemned, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    """What an act of governance says; no field values of records."""
    activates: Mapping[str, int] = field(default_factory=dict)
    """For a policy: ``<topic>:<partition>`` to the first bus position it governs (I3)."""

    @property
    def path(self) -> str:
        """Where it lies in ``evidence``."""
        return path_of(self.n)


class Verdict(Enum):
    """What the loser of a number may do (J2)."""

    TRY_NEXT = "try_next"
    """Nothing that matters to it happened: the same act under the next number."""
    REBUILD = "rebuild"
    """Throw the batch away, take the winner's positions and frontier, and build again."""


def path_of(n: int) -> str:
    """Return the object name of commit ``n``."""
    return f"{LOG_PREFIX}{n:020d}.json"


def number_of(path: str) -> int | None:
    """Return the number of the commit at ``path``, None for any other object."""
    name = path.removeprefix(LOG_PREFIX)
    if len(name) == 25 and name.endswith(".json") and name[:20].isdigit():
        return int(name[:20])
    return None


def after_loss(mine: Commit, winner: Commit) -> Verdict:
    """Say whether an *archiving* act that lost its number to ``winner`` may be retried as it is (J2).

    Every other kind of act checks its own precondition again against each commit that it lost to.
    """
    ours = {txn.where: txn for txn in mine.txns}
    # (1) the winner moved one of the same partitions: our batch is doubled or out of order
    if any(txn.where in ours for txn in winner.txns):
        return Verdict.REBUILD
    # (2) the winner condemned an object that we refer to
    referred = {(pack.path, pack.version_id) for pack in mine.adds}
    referred |= {(pack.manifest_path, pack.manifest_version_id) for pack in mine.adds}
    referred |= {(txn.frontier.path, txn.frontier.version_id) for txn in mine.txns}
    if any((item.path, item.version_id) in referred for item in winner.condemned):
        return Verdict.REBUILD
    # (3) the winner activated a policy inside our batch
    for name, position in winner.activates.items():
        topic, _, number = name.rpartition(":")
        txn = ours.get(Partition(topic, int(number)))
        if txn is not None and position < txn.next:
            return Verdict.REBUILD
    return Verdict.TRY_NEXT


def encode(commit: Commit) -> bytes:
    """Return the canonical bytes of ``commit``: sorted keys, no spaces, one action a line."""
    lines: list[dict[str, Any]] = [{"commitInfo": _commit_info(commit)}]
    if commit.kind == "create":
        lines += [{"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}, {"metaData": _metadata(commit)}]
    lines += [
        {"txn": {"appId": txn.app_id, "version": txn.next, "lastUpdated": commit.time_unix_nano // 1_000_000}}
        for txn in commit.txns
    ]
    lines += [{"add": _add(pack, commit)} for pack in commit.adds]
    lines += [{"remove": _remove(pack, commit)} for pack in commit.removes]
    return b"".join(msgspec.json.encode(line, order="sorted") + b"\n" for line in lines)


def decode(content: bytes, n: int) -> Commit:
    """Read commit ``n`` back.

    Raises:
        RejectedError: damaged, not ours, or of a version that is not read.

    """
    try:
        lines = [msgspec.json.decode(line) for line in content.splitlines() if line]
        info = next(line["commitInfo"] for line in lines if "commitInfo" in line)
        ours = msgspec.convert(info["ashiato"], _Ours)
        adds = tuple(_read_add(line["add"], n, ours) for line in lines if "add" in line)
        removes = tuple(_read_remove(line["remove"]) for line in lines if "remove" in line)
        told = {(line["txn"]["appId"], line["txn"]["version"]) for line in lines if "txn" in line}
    except (
        msgspec.DecodeError,
        msgspec.ValidationError,
        KeyError,
        TypeError,
        StopIteration,
        UnicodeDecodeError,
    ) as error:
        raise RejectedError("commit is damaged or not ours", commit=n) from error
    if ours.format != JOURNAL_VERSION:
        raise RejectedError("commit of an unknown version", commit=n, format=ours.format)
    if told != {(txn.app_id, txn.next) for txn in ours.txns}:
        raise RejectedError("commit's txn actions and its own say different things", commit=n)
    return Commit(
        n=n, act_id=ours.act_id, kind=ours.kind, actor=ours.actor, time_unix_nano=int(ours.time_unix_nano),
        txns=ours.txns, adds=adds, removes=removes, condemned=ours.condemned, facts=ours.facts,
        activates=ours.activates,
    )  # fmt: skip


@dataclass(slots=True, kw_only=True)
class JournalState:
    """The fold of commits ``0 .. next_n - 1``. ``apply`` takes them in order and refuses a hole."""

    next_n: int = 0
    positions: dict[Partition, Txn] = field(default_factory=dict)
    packs: dict[str, AddedPack] = field(default_factory=dict)
    """Live packs by path."""
    removed: dict[str, tuple[RemovedPack, int]] = field(default_factory=dict)
    """Removed packs by path, with the number of their expiry."""
    condemned: set[tuple[str, str]] = field(default_factory=set)
    """(path, version id)."""
    last_time_unix_nano: int = 0

    def apply(self, commit: Commit) -> None:
        """Fold the next commit in.

        Raises:
            EvidenceError: not the next number.
            InvariantError: J3 (a position moved back within an incarnation), R4 (refers to a condemned version).

        """
        if commit.n != self.next_n:
            raise EvidenceError("journal has a hole", expected=self.next_n, found=commit.n)
        for txn in commit.txns:
            before = self.positions.get(txn.where)
            check(
                J3,
                before is None or before.incarnation != txn.incarnation or before.next <= txn.next,
                topic=txn.topic, partition=txn.partition, commit=commit.n,
            )  # fmt: skip
            self.positions[txn.where] = txn
        for pack in commit.adds:
            check(R4, (pack.path, pack.version_id) not in self.condemned, path=pack.path, commit=commit.n)
            self.packs[pack.path] = pack
        for removed in commit.removes:
            self.packs.pop(removed.path, None)
            self.removed[removed.path] = (removed, commit.n)
        self.condemned.update((item.path, item.version_id) for item in commit.condemned)
        self.next_n = commit.n + 1
        self.last_time_unix_nano = max(self.last_time_unix_nano, commit.time_unix_nano)

    def incarnation_of(self, where: Partition, bus_id: str) -> str:
        """Return the incarnation under which a partition is read on: the present one where the bus is the same."""
        txn = self.positions.get(where)
        if txn is not None and txn.incarnation.rpartition("#")[0] == bus_id:
            return txn.incarnation
        return f"{bus_id}#{self._next_counter(where)}"

    def next_incarnation(self, where: Partition, bus_id: str) -> str:
        """Return a new incarnation of the same or another bus (J5: the log is not the one that was read)."""
        return f"{bus_id}#{self._next_counter(where)}"

    def _next_counter(self, where: Partition) -> int:
        txn = self.positions.get(where)
        return int(txn.incarnation.rpartition("#")[2]) + 1 if txn is not None else 0


def fold(commits: Iterable[Commit]) -> JournalState:
    """Return the state after ``commits``, numbered from 0 without a hole."""
    state = JournalState()
    for commit in commits:
        state.apply(commit)
    return state


class _Ours(msgspec.Struct, frozen=True, kw_only=True):
    """``commitInfo.ashiato`` (J8)."""

    format: int
    act_id: str
    kind: str
    actor: str
    time_unix_nano: str
    txns: tuple[Txn, ...] = ()
    condemned: tuple[Condemned, ...] = ()
    facts: dict[str, str] = {}
    activates: dict[str, int] = {}


def _commit_info(commit: Commit) -> dict[str, Any]:
    ours = _Ours(
        format=JOURNAL_VERSION, act_id=commit.act_id, kind=commit.kind, actor=commit.actor,
        time_unix_nano=str(commit.time_unix_nano), txns=commit.txns, condemned=commit.condemned,
        facts=dict(commit.facts), activates=dict(commit.activates),
    )  # fmt: skip
    return {
        "timestamp": commit.time_unix_nano // 1_000_000,
        "operation": commit.kind.upper(),
        "operationParameters": dict(commit.facts),
        "isBlindAppend": commit.kind == "archive",
        "engineInfo": "ashiato",
        "ashiato": msgspec.to_builtins(ours),
    }


def _metadata(commit: Commit) -> dict[str, Any]:
    return {
        "id": str(uuid.UUID(hex=commit.act_id)),
        "name": "ashiato",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": msgspec.json.encode({"type": "struct", "fields": list(_delta_fields())}).decode(),
        "partitionColumns": ["retention_class", "day"],
        "configuration": {},
        "createdTime": commit.time_unix_nano // 1_000_000,
    }


def _delta_fields() -> Iterator[dict[str, Any]]:
    for column in COLUMNS:
        yield {
            "name": column.name,
            "type": _DELTA_TYPES[column.type],
            "nullable": True,
            "metadata": {"comment": column.what},
        }
    for name in ("retention_class", "day"):
        yield {"name": name, "type": "string", "nullable": True, "metadata": {}}


def _add(pack: AddedPack, commit: Commit) -> dict[str, Any]:
    # The bounds of the event time are those of the ordering time: never narrower, so pruning stays right, and said
    # to be wide.
    low = {"observed_time_unix_nano": pack.observed_min_unix_nano, "time_unix_nano": pack.time_min_unix_nano}
    high = {"observed_time_unix_nano": pack.observed_max_unix_nano, "time_unix_nano": pack.time_max_unix_nano}
    stats = {"numRecords": pack.rows, "minValues": low, "maxValues": high, "tightBounds": False}
    return {
        "path": pack.path,
        "partitionValues": {"retention_class": pack.retention_class, "day": pack.day},
        "size": pack.size,
        "modificationTime": commit.time_unix_nano // 1_000_000,
        "dataChange": True,
        "stats": msgspec.json.encode(stats, order="sorted").decode(),
        "tags": {
            "ashiato.version_id": pack.version_id,
            "ashiato.sha256": pack.sha256,
            "ashiato.raw_bytes": str(pack.raw_bytes),
            "ashiato.time_min_unix_nano": str(pack.time_min_unix_nano),
            "ashiato.time_max_unix_nano": str(pack.time_max_unix_nano),
            "ashiato.manifest_path": pack.manifest_path,
            "ashiato.manifest_version_id": pack.manifest_version_id,
            "ashiato.manifest_sha256": pack.manifest_sha256,
        },
    }


def _read_add(add: dict[str, Any], n: int, ours: _Ours) -> AddedPack:
    stats, tags = msgspec.json.decode(add["stats"]), add["tags"]
    return AddedPack(
        path=add["path"], version_id=tags["ashiato.version_id"], sha256=tags["ashiato.sha256"], size=add["size"],
        rows=stats["numRecords"], raw_bytes=int(tags["ashiato.raw_bytes"]),
        retention_class=add["partitionValues"]["retention_class"], day=add["partitionValues"]["day"],
        time_min_unix_nano=int(tags["ashiato.time_min_unix_nano"]),
        time_max_unix_nano=int(tags["ashiato.time_max_unix_nano"]),
        observed_min_unix_nano=stats["minValues"]["observed_time_unix_nano"],
        observed_max_unix_nano=stats["maxValues"]["observed_time_unix_nano"],
        manifest_path=tags["ashiato.manifest_path"], manifest_version_id=tags["ashiato.manifest_version_id"],
        manifest_sha256=tags["ashiato.manifest_sha256"], commit=n, commit_time_unix_nano=int(ours.time_unix_nano),
    )  # fmt: skip


def _remove(pack: RemovedPack, commit: Commit) -> dict[str, Any]:
    return {
        "path": pack.path,
        "deletionTimestamp": commit.time_unix_nano // 1_000_000,
        "dataChange": True,
        "extendedFileMetadata": True,
        "partitionValues": {"retention_class": pack.retention_class, "day": pack.day},
        "size": pack.size,
        "tags": {"ashiato.version_id": pack.version_id},
    }


def _read_remove(remove: dict[str, Any]) -> RemovedPack:
    return RemovedPack(
        path=remove["path"], version_id=remove["tags"]["ashiato.version_id"],
        retention_class=remove["partitionValues"]["retention_class"], day=remove["partitionValues"]["day"],
        size=remove["size"],
    )  # fmt: skip

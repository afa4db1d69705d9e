"""One commit of the journal, and its bytes (CONTRACTS section 5, J3, J4, J8).

A commit is ``_delta_log/<20 digits>.json``: one Delta action per line (https://github.com/delta-io/delta/blob/
master/PROTOCOL.md), ``commitInfo`` first. Ours stands in ``commitInfo.ashiato``; foreign engines ignore it.
Statistics are of time and counts only: commits outlive the data.
"""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from ashiato.core.errors import RejectedError
from ashiato.core.ports import Bucket, ObjectRef, Partition
from ashiato.core.record import COLUMNS

JOURNAL_VERSION: Final = 1
LOG_PREFIX: Final = "_delta_log/"
ACT_KINDS: Final = ("create", "archive", "policy", "hold", "release", "expire", "condemn", "export", "enrol", "rule")

_NUMBERED: Final = re.compile(re.escape(LOG_PREFIX) + r"([0-9]{20})\.json")
_DELTA_TYPES: Final = {"string": "string", "int32": "integer", "int64": "long", "binary": "binary"}


class PageRef(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a page of the frontier."""

    path: str
    version_id: str


class FrontierRef(msgspec.Struct, frozen=True, kw_only=True):
    """Where a partition's frontier lies (bucket ``work``), pinned by version id and hash (J4)."""

    path: str
    version_id: str
    sha256: str
    new_pages: tuple[PageRef, ...] = ()
    """Pages that this frontier is the first to name: a commit refers to them too (R4)."""


class Txn(msgspec.Struct, frozen=True, kw_only=True):
    """All positions of a partition below ``next`` are in this or an earlier commit (J3)."""

    topic: str
    partition: int
    incarnation: str
    """``<id of the bus>#<counter>`` (J5)."""
    next: int
    frontier: FrontierRef
    follows: str = ""
    """SHA-256 of the frontier that this one was built on, '' for the partition's first: a commit moves a partition
    only from where the journal stands, so that nothing is archived twice even where no number was lost (J3)."""

    @property
    def where(self) -> Partition:
        """The partition."""
        return Partition(self.topic, self.partition)

    @property
    def app_id(self) -> str:
        """Delta's name of it."""
        return f"bus:{self.incarnation}:{self.topic}:{self.partition}"

    @property
    def incarnation_counter(self) -> int:
        """The journalled counter behind the bus's id.

        Raises:
            RejectedError: the incarnation has none.

        """
        counter = self.incarnation.rpartition("#")[2]
        if not counter.isdecimal():
            raise RejectedError("incarnation has no counter", incarnation=self.incarnation)
        return int(counter)


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

    @property
    def ref(self) -> ObjectRef:
        """The version of the object that the commit names."""
        return ObjectRef(
            bucket="evidence", path=self.path, version_id=self.version_id, size=self.size, sha256=self.sha256
        )


class RemovedPack(msgspec.Struct, frozen=True, kw_only=True):
    """One pack that an expiry removes, with its manifest: deleters delete exactly these two versions (R1)."""

    path: str
    version_id: str
    retention_class: str
    day: str
    size: int = 0
    manifest_path: str = ""
    manifest_version_id: str = ""


class Condemned(msgspec.Struct, frozen=True, kw_only=True):
    """An object version that no commit may refer to (R4)."""

    bucket: Bucket
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

    def refers_to(self) -> Iterator[tuple[Bucket, str, str]]:
        """Yield (bucket, path, version id) of every object that the commit makes part of the archive."""
        for pack in self.adds:
            yield "evidence", pack.path, pack.version_id
            yield "evidence", pack.manifest_path, pack.manifest_version_id
        for txn in self.txns:
            yield "work", txn.frontier.path, txn.frontier.version_id
            for page in txn.frontier.new_pages:
                yield "work", page.path, page.version_id


def path_of(n: int) -> str:
    """Return the object name of commit ``n``."""
    return f"{LOG_PREFIX}{n:020d}.json"


def number_of(path: str) -> int | None:
    """Return the number of the commit at ``path``, None for any other object."""
    found = _NUMBERED.fullmatch(path)
    return int(found[1]) if found is not None else None


def partition_named(name: str) -> Partition:
    """Read ``<topic>:<partition>``.

    Raises:
        RejectedError: the text has not that form.

    """
    topic, _, number = name.rpartition(":")
    if not topic or not number.isdecimal():
        raise RejectedError("not a partition's name", name=name)
    return Partition(topic, int(number))


def encode(commit: Commit) -> bytes:
    """Return the canonical bytes of ``commit``: sorted keys, no spaces, one action a line."""
    assert commit.kind in ACT_KINDS, commit.kind
    lines: list[dict[str, Any]] = []
    if commit.kind == "create":
        lines += [{"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}, {"metaData": _metadata(commit)}]
    lines += [
        {"txn": {"appId": txn.app_id, "version": txn.next, "lastUpdated": commit.time_unix_nano // 1_000_000}}
        for txn in commit.txns
    ]
    lines += [{"add": _add(pack, commit)} for pack in commit.adds]
    lines += [{"remove": _remove(pack, commit)} for pack in commit.removes]
    lines.insert(0, {"commitInfo": _commit_info(commit, actions=len(lines) + 1)})
    return b"".join(msgspec.json.encode(line, order="sorted") + b"\n" for line in lines)


def decode(content: bytes, n: int) -> Commit:
    """Read commit ``n`` back.

    Raises:
        RejectedError: damaged, not ours, or of a version that is not read.

    """
    if content and not content.endswith(b"\n"):
        raise RejectedError("commit was cut", commit=n, bytes=len(content))
    try:
        actions = [_ACTION.decode(line) for line in content.splitlines() if line]
        infos = [info for action in actions if (info := bytes(action.commit_info))]
        if len(infos) != 1:
            raise RejectedError("commit has not one commitInfo", commit=n, found=len(infos))
        version = _VERSION.decode(infos[0]).ashiato.format
        if version != JOURNAL_VERSION:
            raise RejectedError("commit of an unknown version", commit=n, format=version)
        ours = _INFO.decode(infos[0]).ashiato
        commit = Commit(
            n=n, act_id=ours.act_id, kind=ours.kind, actor=ours.actor, time_unix_nano=int(ours.time_unix_nano),
            txns=ours.txns,
            adds=tuple(_read_add(action.add, n, ours) for action in actions if action.add is not None),
            removes=tuple(_read_remove(action.remove) for action in actions if action.remove is not None),
            condemned=ours.condemned, facts=ours.facts, activates=ours.activates,
        )  # fmt: skip
    except (msgspec.DecodeError, KeyError, ValueError) as error:
        raise RejectedError("commit is damaged or not ours", commit=n) from error
    _judge(commit, actions, ours.actions)
    return commit


def _judge(commit: Commit, actions: list[_Action], said: int) -> None:
    """Refuse a commit whose parts are well formed and do not fit each other."""
    if len(actions) != said:
        raise RejectedError("commit was cut or added to", commit=commit.n, lines=len(actions), said=said)
    if commit.kind not in ACT_KINDS:
        raise RejectedError("commit of an unknown kind", commit=commit.n, kind=commit.kind)
    if Counter((action.txn.app_id, action.txn.version) for action in actions if action.txn is not None) != Counter(
        (txn.app_id, txn.next) for txn in commit.txns
    ):
        raise RejectedError("commit's txn actions and its own say different things", commit=commit.n)
    if len({txn.where for txn in commit.txns}) != len(commit.txns):
        raise RejectedError("commit moves a partition twice", commit=commit.n)
    for txn in commit.txns:
        _ = txn.incarnation_counter
    for name in commit.activates:
        partition_named(name)


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
    actions: int
    """Lines of the commit, this one included: a commit that was cut at a line's end is known by it."""


class _Info(msgspec.Struct, frozen=True, kw_only=True):
    ashiato: _Ours


class _Format(msgspec.Struct, frozen=True, kw_only=True):
    format: int


class _Version(msgspec.Struct, frozen=True, kw_only=True):
    ashiato: _Format


class _TxnAction(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    app_id: str
    version: int


class _PartitionValues(msgspec.Struct, frozen=True, kw_only=True):
    retention_class: str
    day: str


class _AddAction(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    path: str
    partition_values: _PartitionValues
    size: int
    stats: str
    tags: dict[str, str]


class _RemoveAction(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    path: str
    partition_values: _PartitionValues
    size: int
    tags: dict[str, str]


class _Action(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One line of a commit; actions that we do not read are ignored."""

    commit_info: msgspec.Raw = msgspec.Raw()
    txn: _TxnAction | None = None
    add: _AddAction | None = None
    remove: _RemoveAction | None = None


class _Observed(msgspec.Struct, frozen=True, kw_only=True):
    observed_time_unix_nano: int


class _Stats(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    num_records: int
    min_values: _Observed
    max_values: _Observed


_ACTION: Final = msgspec.json.Decoder(_Action)
_VERSION: Final = msgspec.json.Decoder(_Version)
_INFO: Final = msgspec.json.Decoder(_Info)
_STATS: Final = msgspec.json.Decoder(_Stats)


def _commit_info(commit: Commit, *, actions: int) -> dict[str, Any]:
    ours = _Ours(
        format=JOURNAL_VERSION, act_id=commit.act_id, kind=commit.kind, actor=commit.actor,
        time_unix_nano=str(commit.time_unix_nano), txns=commit.txns, condemned=commit.condemned,
        facts=dict(commit.facts), activates=dict(commit.activates), actions=actions,
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
        # Foreign engines only read; one that may write is told never to clean the log away.
        "configuration": {"delta.enableExpiredLogCleanup": "false"},
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


def _read_add(add: _AddAction, n: int, ours: _Ours) -> AddedPack:
    stats, tags = _STATS.decode(add.stats), add.tags
    return AddedPack(
        path=add.path, version_id=tags["ashiato.version_id"], sha256=tags["ashiato.sha256"], size=add.size,
        rows=stats.num_records, raw_bytes=int(tags["ashiato.raw_bytes"]),
        retention_class=add.partition_values.retention_class, day=add.partition_values.day,
        time_min_unix_nano=int(tags["ashiato.time_min_unix_nano"]),
        time_max_unix_nano=int(tags["ashiato.time_max_unix_nano"]),
        observed_min_unix_nano=stats.min_values.observed_time_unix_nano,
        observed_max_unix_nano=stats.max_values.observed_time_unix_nano,
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
        "tags": {
            "ashiato.version_id": pack.version_id,
            "ashiato.manifest_path": pack.manifest_path,
            "ashiato.manifest_version_id": pack.manifest_version_id,
        },
    }


def _read_remove(remove: _RemoveAction) -> RemovedPack:
    return RemovedPack(
        path=remove.path, version_id=remove.tags["ashiato.version_id"],
        retention_class=remove.partition_values.retention_class, day=remove.partition_values.day, size=remove.size,
        manifest_path=remove.tags["ashiato.manifest_path"],
        manifest_version_id=remove.tags["ashiato.manifest_version_id"],
    )  # fmt: skip

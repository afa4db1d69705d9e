"""Commits as tests build them: small, valid, and told apart by one letter."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from ashiato.core.journal import AddedPack, Commit, Condemned, FrontierRef, RemovedPack, Txn

NOON: Final = 1_795_000_000_000_000_000


def sha256(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def act_id(name: str) -> str:
    return sha256(name)[:32]


def frontier_ref(name: str) -> FrontierRef:
    digest = sha256(name)
    return FrontierRef(path=f"frontier/{digest}.json.zst", version_id=f"v-{name}", sha256=digest)


def txn(
    partition: int,
    next_: int,
    frontier: str,
    *,
    follows: str = "",
    incarnation: str = "bus#0",
    topic: str = "ashiato.bulk",
) -> Txn:
    """``frontier`` and ``follows`` name frontiers; '' is none."""
    return Txn(
        topic=topic, partition=partition, incarnation=incarnation, next=next_, frontier=frontier_ref(frontier),
        follows=sha256(follows) if follows else "",
    )  # fmt: skip


def pack(name: str, *, commit: int = -1, commit_time: int = 0, day: str = "2026-11-24") -> AddedPack:
    digest = sha256(name)
    path = f"retention_class=container/day={day}/{digest}.parquet"
    return AddedPack(
        path=path, version_id=f"v-{name}", sha256=digest, size=1000, rows=10, raw_bytes=5000,
        retention_class="container", day=day, time_min_unix_nano=NOON, time_max_unix_nano=NOON + 7,
        observed_min_unix_nano=NOON + 1, observed_max_unix_nano=NOON + 9,
        manifest_path=path.replace(".parquet", ".manifest.json"), manifest_version_id=f"m-{name}",
        manifest_sha256=sha256(f"manifest {name}"), commit=commit, commit_time_unix_nano=commit_time,
    )  # fmt: skip


def removed(name: str, *, day: str = "2026-11-24") -> RemovedPack:
    whole = pack(name, day=day)
    return RemovedPack(
        path=whole.path, version_id=whole.version_id, retention_class="container", day=day, size=whole.size
    )


def commit(
    n: int,
    kind: str = "archive",
    *,
    act: str = "",
    txns: tuple[Txn, ...] = (),
    adds: tuple[AddedPack, ...] = (),
    removes: tuple[RemovedPack, ...] = (),
    condemned: tuple[Condemned, ...] = (),
    facts: Mapping[str, str] | None = None,
    activates: Mapping[str, int] | None = None,
) -> Commit:
    return Commit(
        n=n, act_id=act_id(act or f"act {n}"), kind=kind, actor="ingest", time_unix_nano=NOON + n, txns=txns,
        adds=adds, removes=removes, condemned=condemned, facts=facts or {}, activates=activates or {},
    )  # fmt: skip


def created() -> Commit:
    return commit(0, "create")

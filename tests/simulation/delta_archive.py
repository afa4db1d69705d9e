"""An archive as the real archiver makes it: several commits over two days, an expiry and a hold."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ashiato.adapters.archive_directory import DirectoryWriter
from ashiato.adapters.bus_memory import MemoryReader
from ashiato.adapters.journal import Journal, JournalWriter, new_act_id
from ashiato.core.journal import Commit, JournalState, RemovedPack
from tests.simulation.house import (
    DAY_NS,
    NOON,
    LogFile,
    audit_file,
    cri_file,
    make_topics,
    new_archiver,
    new_broker,
    pod_in,
    send,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaArchive:
    """Where it lies, and what it must hold."""

    root: Path
    state: JournalState
    live_lines: int
    lines_per_class: dict[str, int]
    lines_per_day: dict[str, int]

    @property
    def table(self) -> Path:
        """The Delta table's folder."""
        return self.root / "evidence"


def build(folder: Path) -> DeltaArchive:
    """Archive two days, expire the first day's audit log, hold the rest."""
    archive = DirectoryWriter(folder / "archive")
    asyncio.run(_archive_two_days(archive, folder / "scratch"))
    own = JournalWriter(archive)
    own.append_checked(_expire_first_audit)
    own.append_checked(lambda _: _act("hold", {"hold": "case-7", "reason": "incident"}))
    state = Journal(archive).refresh()
    packs = state.packs.values()
    lines_per_class, lines_per_day = Counter[str](), Counter[str]()
    for pack in packs:
        lines_per_class[pack.retention_class] += pack.rows
        lines_per_day[pack.day] += pack.rows
    return DeltaArchive(
        root=folder / "archive", state=state, live_lines=80 + 60 + 30 + 20 + 10,
        lines_per_class=dict(lines_per_class), lines_per_day=dict(lines_per_day),
    )  # fmt: skip


async def _archive_two_days(archive: DirectoryWriter, scratch: Path) -> None:
    broker = new_broker()
    await make_topics(broker)
    archiver = new_archiver(archive, MemoryReader(broker), scratch)
    await archiver.open()
    first, second = pod_in(0), pod_in(1)
    days: list[tuple[int, list[LogFile]]] = [
        (23, [cri_file(first, 0, 80, day=23), audit_file(40, day=23)]),
        (23, [cri_file(second, 0, 60, day=23)]),
        (24, [cri_file(first, 1, 30, day=24), audit_file(20, day=24)]),
        (24, [cri_file(second, 1, 10, day=24)]),
    ]
    for day, files in days:
        for file in files:
            whole = file.chunk(0, len(file.content), observed_unix_nano=NOON + (day - 25) * DAY_NS, closed=True)
            await send(broker, [whole])
        await archiver.step()
        await archiver.flush()


def _expire_first_audit(state: JournalState) -> Commit:
    old = [pack for pack in state.packs.values() if (pack.retention_class, pack.day) == ("audit", "2026-11-23")]
    removes = tuple(
        RemovedPack(
            path=pack.path, version_id=pack.version_id, retention_class=pack.retention_class, day=pack.day,
            size=pack.size,
        )
        for pack in old
    )  # fmt: skip
    assert removes
    return _act("expire", {"class": "audit", "before": "2026-11-24"}, removes)


def _act(kind: str, facts: dict[str, str], removes: tuple[RemovedPack, ...] = ()) -> Commit:
    return Commit(
        n=0, act_id=new_act_id(), kind=kind, actor="retention", time_unix_nano=NOON, facts=facts, removes=removes
    )

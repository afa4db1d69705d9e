"""Freeing the bus: it may forget what the archive has, and nothing else (M1, J5).

The record before the committed position always stays: it tells an archiver that starts whether this is the log that
it has read. For the same reason it is asked here before anything goes: a bus that was made anew, or restored, holds
records at positions that the journal knows and that no archive has.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field

from ashiato.adapters.frontiers import frontier_at
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.commit import Txn
from ashiato.core.errors import NotHeldError
from ashiato.core.invariants import M1, check
from ashiato.core.journal import JournalState
from ashiato.core.ports import ArchiveReader, BusKeeper, BusReader, Partition
from retention.events import BusFreed, BusIsAnother


@dataclass(slots=True, kw_only=True)
class Freeing:
    """Frees each partition up to the record before its committed position."""

    keeper: BusKeeper
    reader: BusReader
    """Only asked which log this is; it never reads on."""
    archive: ArchiveReader
    telemetry: Telemetry
    _said: dict[Partition, str] = field(default_factory=dict)

    async def free(self, state: JournalState) -> int:
        """Free what ``state`` has committed; return how many positions were forgotten.

        Raises:
            TransientError: the bus or the archive does not answer.
            InvariantError: M1.

        """
        freed = 0
        for where, txn in sorted(state.positions.items()):
            try:
                freed += await self._free(where, txn)
            except NotHeldError as error:
                self._is_another(where, f"it is not there: {error.message}")
        return freed

    async def _free(self, where: Partition, txn: Txn) -> int:
        start, end = await self.keeper.bounds(where)
        before = txn.next - 1
        if before <= start:
            return 0
        # (1) what is committed lies within the log that stands there now
        if txn.next > end:
            return self._is_another(where, f"it ends at {end}, before the committed position {txn.next}")
        # (2) the bus is the one that the journal names
        bus_id = await self.reader.incarnation(where.topic)
        if txn.incarnation.rpartition("#")[0] != bus_id:
            return self._is_another(where, "the journal has read another one")
        # (3) the record before the committed position is the one that was archived
        if not await self._same_record(where, txn):
            return self._is_another(where, "the record before the committed position differs from the archived one")
        # (4) it stays, and so does everything behind it
        check(M1, before < txn.next <= end, topic=where.topic, partition=where.number, before=before)
        await self.keeper.free(where, before)
        self._said.pop(where, None)
        self.telemetry.emit(
            BusFreed(topic=where.topic, partition=where.number, before=before, positions=before - start)
        )
        return before - start

    async def _same_record(self, where: Partition, txn: Txn) -> bool:
        held = await asyncio.to_thread(frontier_at, self.archive, txn.frontier)
        record = await self.reader.read_one(where, txn.next - 1)
        return record is not None and hashlib.sha256(record.value).hexdigest() == held.record_sha256

    def _is_another(self, where: Partition, reason: str) -> int:
        """Say it once, until it changes; nothing is freed."""
        if self._said.get(where) != reason:
            self._said[where] = reason
            self.telemetry.emit(BusIsAnother(topic=where.topic, partition=where.number, reason=reason))
        return 0

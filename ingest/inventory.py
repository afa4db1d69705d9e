"""``ingest inventory``: follows the journal and keeps the pod inventory, from archived facts alone.

It never reads the bus. What it knows is a fold of the packs of commits 0 to n, so a crash, a second runner or a lost
snapshot costs time and changes nothing: the newest snapshot that is whole is taken, and the commits behind it are read
again. Facts that come late are right at once, for nothing is written into rows.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from ashiato.adapters.inventory import InventoryWriter, Root
from ashiato.adapters.inventory_packs import heard_in
from ashiato.adapters.journal import Journal
from ashiato.adapters.pack_reader import PackReader
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.errors import EvidenceError, NotHeldError, TransientError
from ashiato.core.events import PartUnavailable
from ashiato.core.inventory import Inventory
from ashiato.core.journal import AddedPack
from ashiato.core.ports import ArchiveWriter
from ingest.inventory_events import InventoryOpened, InventoryPackUnread, InventoryRowsUnread, InventorySaved

FOLLOW_S: Final = 10.0
"""The journal is read this often; commits are minutes apart."""
PACKS_AT_ONCE: Final = 512
"""Packs that are read, at least, before a snapshot is put: what a crash costs while an archive is read anew."""
_RETRY_S_MAX: Final = 30.0


class InventoryKeeper:
    """One process's inventory. Several may run: they put the same."""

    def __init__(self, archive: ArchiveWriter, *, telemetry: Telemetry, follow_s: float = FOLLOW_S) -> None:
        self._journal = Journal(archive)
        self._reader = PackReader(archive)
        self._store = InventoryWriter(archive)
        self._telemetry = telemetry
        self._follow_s = follow_s
        self.inventory = Inventory()
        self.root: Root | None = None
        self._next = 0
        self._changed: set[str] = set()
        self._packs = 0
        self._unread_rows = 0
        self._unread_packs: list[str] = []

    def open(self, *, again: bool = False) -> None:
        """Go on from the newest snapshot that is whole; with ``again`` from the first commit. Raises TransientError."""
        loaded = None if again else self._store.load()
        if loaded is not None:
            self.root, self.inventory, self._next = loaded.root, loaded.inventory, loaded.root.next_commit
            self._unread_rows, self._unread_packs = loaded.root.unread_rows, list(loaded.root.unread_packs)
        self._telemetry.emit(InventoryOpened(next_commit=self._next, objects=len(self.inventory)))

    def step(self) -> bool:
        """Take in the commits that are new, and put a snapshot; return whether there were any.

        Raises:
            TransientError: the archive does not answer; what was read is kept, and is put with the next snapshot.
            EvidenceError: the journal has a hole.

        """
        state = self._journal.refresh()
        if self._next >= state.next_n and not self._packs:
            return False
        packs = sorted(
            (pack for pack in state.packs.values() if pack.commit >= self._next),
            key=lambda pack: (pack.commit, pack.path),
        )
        at = 0
        while at < len(packs):
            commit = packs[min(at + PACKS_AT_ONCE, len(packs)) - 1].commit
            while at < len(packs) and packs[at].commit <= commit:
                self._read(packs[at])
                at += 1
            self._next = commit + 1
            if at < len(packs):
                self._save(packs[at - 1].commit_time_unix_nano)
        self._next = state.next_n
        if self._packs or self.root is None:
            self._save(state.last_time_unix_nano)
        return True

    async def run(self, stop: asyncio.Event) -> None:
        """Follow until ``stop`` is set; an archive that is away is waited for."""
        wait_s, is_open = 1.0, False
        while not stop.is_set():
            pause_s = self._follow_s
            try:
                if not is_open:
                    await asyncio.to_thread(self.open)
                    is_open = True
                await asyncio.to_thread(self.step)
                wait_s = 1.0
            except TransientError as error:
                self._telemetry.emit(PartUnavailable(part="archive", error=str(error), retry_in_ms=int(wait_s * 1000)))
                pause_s, wait_s = wait_s, min(wait_s * 2, _RETRY_S_MAX)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause_s)

    def _read(self, pack: AddedPack) -> None:
        try:
            for heard in heard_in(self._reader, pack):
                self._changed |= self.inventory.take(heard.sightings)
                self.inventory.gaps |= set(heard.gaps)
                if heard.unread:
                    self._unread_rows += heard.unread
                    self._telemetry.emit(InventoryRowsUnread(pack=pack.path, rows=heard.unread))
        except (NotHeldError, EvidenceError) as error:
            if isinstance(error, NotHeldError) and pack.path not in self._journal.refresh().packs:
                # Removed in between: nothing of it is there to be told.
                return
            self._unread_packs.append(pack.path)
            self._telemetry.emit(InventoryPackUnread(pack=pack.path, error=str(error)))
        self._packs += 1

    def _save(self, time_unix_nano: int) -> None:
        root = Root(
            next_commit=self._next, time_unix_nano=time_unix_nano, segments=(), objects=0,
            unread_rows=self._unread_rows, unread_packs=tuple(self._unread_packs),
        )  # fmt: skip
        self.root = self._store.save(self.inventory, sorted(self._changed), self.root, root)
        self._telemetry.emit(
            InventorySaved(
                next_commit=self._next, packs=self._packs, changed=len(self._changed), objects=len(self.inventory),
                gaps=len(self.inventory.gaps),
            )
        )  # fmt: skip
        self._changed, self._packs = set(), 0

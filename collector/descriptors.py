"""How many descriptors there are, and who gives his up: first who is read to its end, then who still has its name.

A file that has no name any more, or is to lose it next, keeps its descriptor whatever happens, because nothing else
leads to its bytes. Another one is opened again by its name when it is read, and only if it is the same file still.
"""

from __future__ import annotations

import resource
import threading
from typing import Final, Protocol

RESERVE: Final = 128
"""Descriptors left to the bus, the state folder and the sweep."""
WANTED: Final = 65_536


class Holder(Protocol):
    """Who holds a descriptor."""

    at_rest: bool
    """It may be asked to give it up: all of it is read, and it has a name."""
    is_live: bool
    """It may be asked in need: it has the name under which it is written."""

    def give_up(self) -> bool:
        """Close the descriptor unless it is in use this moment; return whether it was closed."""
        ...


class Descriptors:
    """A bound on descriptors of followed files. Safe to use from several threads."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._holders: dict[Holder, None] = {}
        """Who was asked for last stands last."""
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._holders)

    def make_room(self, *, more: int = 0) -> None:
        """Ask holders, those that were read longest ago first, until one more descriptor fits the bound.

        Where none can give way the bound does: what the system refuses then, waits. ``more`` are asked beyond it.
        """
        with self._lock:
            over = len(self._holders) + 1 - self.limit + more
            if over <= 0:
                return
            holders = list(self._holders)
            for holder in [h for h in holders if h.at_rest] + [h for h in holders if h.is_live and not h.at_rest]:
                if over <= 0:
                    return
                if holder.give_up():
                    del self._holders[holder]
                    over -= 1

    def took(self, holder: Holder) -> None:
        """Take in that a descriptor was opened, or read through."""
        with self._lock:
            self._holders.pop(holder, None)
            self._holders[holder] = None

    def gave(self, holder: Holder) -> None:
        """Take in that a descriptor was closed for good."""
        with self._lock:
            self._holders.pop(holder, None)

    @property
    def is_full(self) -> bool:
        """Whether one more would pass the bound."""
        return len(self._holders) >= self.limit


def for_this_process() -> Descriptors:
    """Return the bound of this process, after its soft limit was raised as far as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < WANTED:
        wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
        if wanted > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    if soft == resource.RLIM_INFINITY:
        soft = WANTED
    return Descriptors(max(16, soft - RESERVE, soft // 2))

"""The disk budget of an embedded archive: which packs make room, and what cannot be made (R8)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ashiato.core.commit import AddedPack
from retention.policy import LEDGER_CLASS, Expire, Policy, decide_early


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What may go, oldest reading day first, and the bytes that are still over the budget then."""

    packs: tuple[AddedPack, ...]
    short_bytes: int


def make_room(packs: Iterable[AddedPack], policy: Policy, now_ns: int, *, excess_bytes: int) -> Room:
    """Choose packs whose sizes add up to ``excess_bytes``. Nothing younger than its minimum is among them.

    The ledger stays: it is small, and what it states would lose its proof.
    """
    candidates = sorted(
        (
            pack
            for pack in packs
            if pack.retention_class != LEDGER_CLASS and isinstance(decide_early(pack, policy, now_ns), Expire)
        ),
        key=lambda pack: (pack.day, pack.observed_max_unix_nano, pack.path),
    )
    chosen: list[AddedPack] = []
    left = excess_bytes
    for pack in candidates:
        if left <= 0:
            break
        chosen.append(pack)
        left -= pack.size
    return Room(packs=tuple(chosen), short_bytes=max(left, 0))

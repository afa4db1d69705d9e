"""Where sidecars lie: two objects per pack in ``work``, in folders by the first two digits of the pack's name.

So few names stand in one folder that whoever looks for one, or for all of one pack, may list it.
"""

from __future__ import annotations

import re
from typing import Final, Literal

SIDECAR_VERSION: Final = 1
SidecarKind = Literal["filters", "entities"]
KINDS: Final[tuple[SidecarKind, ...]] = ("filters", "entities")

_PLACE: Final = re.compile(r"(?P<kind>filters|entities)/[0-9a-f]{2}/(?P<pack>[0-9a-f]{64})\.v[0-9]+(?:\.[0-9a-f]+)?")


def path_of(kind: SidecarKind, pack_sha256: str) -> str:
    """Return where the sidecar of a pack lies. One that is made again beside a damaged one has a dot and more behind.

    >>> path_of("filters", "ab" * 32)[:16]
    'filters/ab/ababa'
    """
    return f"{kind}/{pack_sha256[:2]}/{pack_sha256}.v{SIDECAR_VERSION}"


def pack_of(path: str) -> str | None:
    """Return the SHA-256 of the pack that a sidecar's path names; None for any other path."""
    found = _PLACE.fullmatch(path)
    return found["pack"] if found is not None else None

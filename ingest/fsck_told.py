"""What ``fsck`` finds, one line each."""

from __future__ import annotations

import msgspec


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is not as it should be, or, where ``is_orphan``, that nobody names."""

    kind: str
    """hole, commit, second_version, delete_marker, stranger, order, txn, condemned, manifest, pack, rows, held_twice,
    frontier, sidecar, empty, or orphan."""
    what: str
    path: str = ""
    version_id: str = ""
    row_group: int = -1
    is_orphan: bool = False

    def line(self) -> str:
        """Return it for people."""
        where = " ".join(filter(None, (self.path, self.version_id and f"(version {self.version_id})")))
        group = f"row group {self.row_group}: " if self.row_group >= 0 else ""
        return f"{self.kind}: {where + ': ' if where else ''}{group}{self.what}"

"""The data folder of an embedded Ashiato: where each part of it lies. One folder, one machine, one user."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Paths below ``root``; nothing is made here."""

    root: Path

    @property
    def settings_file(self) -> Path:
        """One TOML file with a table per service, written anew at each start."""
        return self.run / "settings.toml"

    @property
    def bus_path(self) -> Path:
        """The SQLite bus."""
        return self.root / "bus" / "bus.sqlite"

    @property
    def archive(self) -> Path:
        """The archive: ``evidence/`` is a Delta table, ``work/`` lies beside it."""
        return self.root / "archive"

    @property
    def tail(self) -> Path:
        """Arrow segments of what no commit holds yet."""
        return self.root / "tail"

    @property
    def collector_state(self) -> Path:
        """Bookmark and ledger of the collector."""
        return self.root / "collector"

    @property
    def access(self) -> Path:
        """The query service's access log, tailed like any other source."""
        return self.root / "access"

    @property
    def scratch(self) -> Path:
        """Where packs are written and read back before they are put."""
        return self.root / "scratch"

    @property
    def run(self) -> Path:
        """What lives only while the processes do: their logs, the token, the address."""
        return self.root / "run"

    @property
    def token_file(self) -> Path:
        """The token that the query service asks for; readable by its owner alone."""
        return self.run / "token"

    @property
    def address_file(self) -> Path:
        """JSON ``{"url": ...}`` of the query service that runs now."""
        return self.run / "address.json"

"""The data folder of an embedded Ashiato: where each part of it lies. One folder, one machine, one user."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ashiato.core.errors import SettingsError

DEMO_MARKER: Final = ".ashiato-demo"
"""Name of the empty file that says that a demo made the folder, and may empty it."""
_OURS: Final = frozenset(
    ("bus", "archive", "tail", "collector", "access", "scratch", "run", "nodes", DEMO_MARKER, "lost+found")
)


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Paths below ``root``; nothing is made here."""

    root: Path

    def check_ours(self) -> None:
        """Look before anything is written whether the folder is somebody else's.

        Raises:
            SettingsError: it is no folder, or holds what no Ashiato has put there.

        """
        names: set[str] = set()
        with contextlib.suppress(FileNotFoundError):
            try:
                names = {entry.name for entry in self.root.iterdir()}
            except NotADirectoryError as error:
                raise SettingsError(f"{self.root} is not a folder: name another with --data") from error
            except PermissionError as error:
                raise SettingsError(f"this user may not read {self.root}: name another folder with --data") from error
        signs = (self.settings_file, self.run / "import.toml", self.archive / "evidence" / "_delta_log")
        if names - _OURS and not any(sign.exists() for sign in signs):
            raise SettingsError(f"{self.root} holds other things: name an empty folder, or a new one, with --data")

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

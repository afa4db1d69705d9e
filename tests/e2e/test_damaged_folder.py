"""``ashiato up`` over a folder that is damaged, or somebody else's: it says so, ends, and touches nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def up(logs: Path, data: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ashiato", "up", str(logs), "--data", str(data)],
        capture_output=True, check=False, text=True, timeout=120,
    )  # fmt: skip


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    return folder


def test_a_folder_of_another_program_is_left_alone(logs: Path, tmp_path: Path) -> None:
    data = tmp_path / "mail"
    (data / "inbox").mkdir(parents=True)

    done = up(logs, data)

    assert done.returncode == 2
    assert "holds other things" in done.stderr
    assert [path.name for path in data.iterdir()] == ["inbox"]


def test_a_file_in_the_place_of_the_folder_is_said(logs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    done = up(logs, tmp_path / "file")

    assert done.returncode == 2
    assert "is not a folder" in done.stderr


def test_a_damaged_bus_is_said_and_not_written_over(logs: Path, tmp_path: Path) -> None:
    bus = tmp_path / "data/bus/bus.sqlite"
    bus.parent.mkdir(parents=True)
    bus.write_bytes(b"this is no database" * 100)

    done = up(logs, tmp_path / "data")

    assert done.returncode == 1
    assert "does not start" in done.stderr
    assert "the file of the bus is damaged" in done.stderr.splitlines()[-1]
    assert bus.read_bytes() == b"this is no database" * 100

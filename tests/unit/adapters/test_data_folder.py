"""A data folder that is somebody else's is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from ashiato.adapters.data_folder import DataFolder
from ashiato.core.errors import SettingsError


def test_a_new_an_empty_and_our_own_folder_are_taken(tmp_path: Path) -> None:
    ours = tmp_path / "ours"
    (ours / "run").mkdir(parents=True)
    (ours / "run" / "lock").touch()

    DataFolder(tmp_path / "new").check_ours()
    DataFolder(ours).check_ours()
    (tmp_path / "empty").mkdir()
    DataFolder(tmp_path / "empty").check_ours()


def test_a_note_beside_an_archive_does_not_make_it_foreign(tmp_path: Path) -> None:
    (tmp_path / "archive/evidence/_delta_log").mkdir(parents=True)
    (tmp_path / "NOTES.txt").touch()

    DataFolder(tmp_path).check_ours()


def test_a_folder_of_another_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "mail").mkdir()

    with pytest.raises(SettingsError, match="holds other things"):
        DataFolder(tmp_path).check_ours()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(SettingsError, match="not a folder"):
        DataFolder(tmp_path / "file").check_ours()

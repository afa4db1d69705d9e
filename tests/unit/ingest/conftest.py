"""What the tests of ingest share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.unit.adapters.pack_corpus import Corpus, built

__all__ = ["archive", "built", "whole"]


@pytest.fixture
def whole(built: Corpus) -> Path:
    """Return an archive with all that ``fsck`` looks at; nobody changes it."""
    return built.root


@pytest.fixture
def archive(whole: Path, tmp_path: Path) -> Path:
    """Return a copy of it, to be damaged."""
    shutil.copytree(whole, tmp_path / "archive")
    return tmp_path / "archive"

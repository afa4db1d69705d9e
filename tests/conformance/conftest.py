"""Fixtures of the conformance suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.site import Site, site_at


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A node under test."""
    with site_at(tmp_path) as site:
        yield site

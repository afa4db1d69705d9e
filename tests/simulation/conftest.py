"""Fixtures of the simulations: what a test does not make otherwise for itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.apiserver import ApiServer, serving
from tests.parts.watcher import Watcher
from tests.simulation.collector_node import Node


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node of a collector."""
    return Node(root=tmp_path)


@pytest.fixture
def api() -> Iterator[ApiServer]:
    """The API server of a cluster."""
    with serving() as server:
        yield server


@pytest.fixture
def watcher(api: ApiServer, tmp_path: Path) -> Watcher:
    """A watcher of its pods."""
    return Watcher(tmp_path, kube_url=api.url, resources=("pods",))

"""The index in memory keeps the contract of every index."""

from __future__ import annotations

import pytest

from ashiato.adapters.index_memory import MemoryIndex, MemoryIndexKeeper, MemoryIndexWriter, MemoryIndices
from tests.contract.index_contract import IndexContract, Sides


class TestMemoryIndex(IndexContract):
    @pytest.fixture
    def sides(self) -> Sides:
        indices = MemoryIndices()
        return Sides(writer=MemoryIndexWriter(indices), keeper=MemoryIndexKeeper(indices), reader=MemoryIndex(indices))

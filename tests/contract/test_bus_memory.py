"""The bus in memory keeps the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ashiato.adapters.bus_memory import MemoryBroker, MemoryKeeper, MemoryReader, MemoryWriter
from tests.contract.bus_contract import BusContract, House


class _MemoryHouse(House):
    def __init__(self) -> None:
        super().__init__()
        self._broker = MemoryBroker()

    async def open_writer(self) -> MemoryWriter:
        return MemoryWriter(self._broker)

    async def open_reader(self) -> MemoryReader:
        return MemoryReader(self._broker)

    async def open_keeper(self) -> MemoryKeeper:
        return MemoryKeeper(self._broker)


class TestMemoryBus(BusContract):
    @pytest.fixture
    async def house(self) -> AsyncIterator[House]:
        house = _MemoryHouse()
        yield house
        await house.close()

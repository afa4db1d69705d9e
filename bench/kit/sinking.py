"""``python sinking.py SETTINGS``: the collector as it is, over a bus that acknowledges at once and keeps nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Final

from ashiato.adapters.clock import SystemClock
from ashiato.adapters.settings import load
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.ports import Partition
from collector.service import Collector
from collector.settings import CollectorSettings

PARTITIONS: Final = 6


class Nothing:
    """The writer's side of a bus that is as fast as can be."""

    def __init__(self) -> None:
        self._next: Counter[Partition] = Counter()

    async def partitions(self, topic: str) -> int:
        """Return as many as the benchmark's Kafka has."""
        return PARTITIONS if topic.endswith("bulk") else 1

    async def incarnation(self, topic: str) -> str:
        """Return an id."""
        return f"nothing/{topic}"

    async def send(self, partition: Partition, value: bytes) -> int:
        """Count it."""
        self._next[partition] += bool(value)
        return self._next[partition]

    async def reset(self) -> None:
        """Nothing fails."""

    async def close(self) -> None:
        """Nothing is held."""


async def main() -> None:
    """Run until SIGTERM."""
    settings = load(CollectorSettings, service="collector", file=Path(sys.argv[1]), environ=os.environ)
    telemetry, stop = Telemetry("collector"), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    telemetry.serve("127.0.0.1", settings.metrics_port)
    await Collector(settings, writer=Nothing(), clock=SystemClock(), telemetry=telemetry).run(stop)


if __name__ == "__main__":
    asyncio.run(main())

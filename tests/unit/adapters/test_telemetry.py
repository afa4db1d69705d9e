"""Our own log never stops a service."""

from __future__ import annotations

import errno
import io
import json

from ashiato.adapters.telemetry import Telemetry
from ashiato.core.events import ServiceStarted


class FullDisk(io.StringIO):
    full = False

    def write(self, text: str) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


def test_a_log_on_a_full_disk_stops_nothing_and_says_afterwards_what_it_lacks() -> None:
    stream = FullDisk()
    telemetry = Telemetry("ingest", stream=stream)
    stream.full = True
    for _ in range(3):
        telemetry.emit(ServiceStarted(version="1"))
    stream.full = False

    telemetry.emit(ServiceStarted(version="2"))

    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [one["event"] for one in told] == ["log_lines_unwritten", "service_started"]
    assert told[0]["count"] == 3
    assert telemetry.value("log_lines_unwritten_total") == 3

"""Our own log never stops a service."""

from __future__ import annotations

import errno
import io
import json
import urllib.error
import urllib.request

from ashiato.adapters.telemetry import Telemetry
from ashiato.core.events import ServiceStarted
from tests.parts.process import free_ports


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


def test_probes_answer_beside_the_metrics_and_say_what_is_wrong() -> None:
    telemetry = Telemetry("ingest", stream=io.StringIO())
    ails = [""]
    port = free_ports(["metrics"])["metrics"]
    telemetry.serve("127.0.0.1", port, probes={"/healthz": lambda: ails[0]})

    def ask(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    well, metrics = ask("/healthz"), ask("/metrics")
    ails[0] = "the loop stands still"
    ill = ask("/healthz")

    assert well == (200, "ok\n")
    assert ill == (503, "the loop stands still\n")
    assert metrics[0] == 200
    assert 'ashiato_build_info{service="ingest",version=' in metrics[1]

"""The collector beside what people run: the same files to the same Kafka, one tool after the other.

``python bench/collector.py [--quick]`` starts a broker (TLS, SASL) and gives every tool that is on the PATH, ours
first, three tasks over numbered CRI lines: *catch up* with files that lie there, *keep up* with containers that write
10 MB/s over 50 files, and stay *idle* over 500 files. It counts CPU seconds (user and system, all threads), peak
memory, and, from the topic, by one bit for each line that was written: lines lost, duplicated and torn. Latency is from
the time in a line to the time at which the broker appended it. Ours hashes, states and syncs as it does in use.

``sink`` runs ours alone without Kafka: catching up into nothing. rsyslog comes from Debian's packages; tools that are
not there are named. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import calendar
import json
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.kit.machine import ROOT, facts, memory_mib
from bench.kit.processes import Measured, cpu_of_s, ending, free_port, wait_until
from bench.kit.sequences import Logs
from bench.kit.tailers import INSTALL, OTHERS, OURS, TOPIC, Place, Tailer
from bench.kit.topic import Topic, texts
from tests.parts.kafka import KafkaPart

MB: Final = 1_000_000
PARTITIONS: Final = 6
FILES: Final = 50
RATE_BYTES_PER_S: Final = 10 * MB
IDLE_FILES: Final = 500
STILL_S: Final = 12.0
"""A topic that has not grown for so long holds all that will come."""
TIMEOUT_S: Final = 600.0
LATENCY_EACH: Final = 20
"""Every so many lines one is timed."""
GOALS: Final = {
    "keep_up_cpu_percent_max": 5.0, "idle_cpu_percent_max": 0.2, "keep_up_rss_mib_max": 45.0,
    "catch_up_rss_mib_max": 64.0, "catch_up_mb_per_cpu_s_min": 100.0, "sink_mb_per_cpu_s_min": 300.0,
    "latency_p99_s_max": 1.0,
}  # fmt: skip
_STAMP: Final = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{9})Z stdout F ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is done."""

    catch_up_bytes: int
    keep_up_s: float
    idle_s: float
    sink_bytes: int


FULL: Final = Size(catch_up_bytes=1500 * MB, keep_up_s=60, idle_s=60, sink_bytes=2000 * MB)
QUICK: Final = Size(catch_up_bytes=60 * MB, keep_up_s=4, idle_s=3, sink_bytes=200 * MB)


def main() -> int:
    """Run and return 0; a tool of ours that loses a line is an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small figures, under a minute")
    parser.add_argument("--only", default="", help="comma-separated names of tools, or sink")
    parser.add_argument("--folder", type=Path, default=ROOT / "bench" / "out", help="where everything is written")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    told = facts(arguments.folder)
    size = QUICK if arguments.quick else FULL
    only = set(filter(None, arguments.only.split(",")))
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="collector-", dir=arguments.folder) as folder:
        root = Path(folder)
        sink = into_nothing(root / "sink", size) if not only or "sink" in only else None
        kafka = KafkaPart(root / "kafka", lasts=True)
        chosen = [tool for tool in (OURS, *OTHERS) if not only or tool.name in only]
        try:
            if chosen:
                say("starting Kafka")
                kafka.start()
            for tool in chosen:
                if version := tool.found():
                    results[tool.name] = {"version": version, **run(tool, kafka, root / tool.name, size)}
                else:
                    say(f"{tool.name} is not on the PATH" + (f": {INSTALL}" if tool.name == "rsyslog" else ""))
                    results[tool.name] = None
        finally:
            kafka.stop()
    results["vlagent"] = "found, and not run: it writes to VictoriaLogs only" if shutil.which("vlagent") else None
    print(json.dumps({"benchmark": "collector", "quick": arguments.quick, "goals": GOALS, "sink": sink,
                      "tools": results, **told}))  # fmt: skip
    ours = results.get(OURS.name)
    return 1 if ours and any(ours[task]["lost"] for task in ("catch_up", "keep_up")) else 0


def run(tool: Tailer, kafka: KafkaPart, folder: Path, size: Size) -> dict[str, Any]:
    """Give one tool its three tasks."""
    tasks = {"catch_up": catch_up, "keep_up": keep_up, "idle": idle}
    done = {}
    for name, task in tasks.items():
        say(f"{tool.name}: {name.replace('_', ' ')}")
        topic = Topic(kafka, TOPIC)
        topic.anew(PARTITIONS)
        here = folder / name
        (here / "tool").mkdir(parents=True)
        logs = Logs(here / "node", IDLE_FILES if name == "idle" else FILES)
        place = Place(
            folder=here / "tool", logs=here / "node/var/log/pods", bootstrap_servers=kafka.bootstrap_servers,
            ca_file=kafka.ca_file, credentials_file=kafka.credentials_file("collector"),
        )  # fmt: skip
        done[name] = task(tool, place, logs, topic, size)
        shutil.rmtree(here)
    return done


def catch_up(tool: Tailer, place: Place, logs: Logs, topic: Topic, size: Size) -> dict[str, Any]:
    """Files lie there; the tool starts, and ships all of them."""
    logs.fill(size.catch_up_bytes // FILES)
    with ending(tool.start(place)) as one:
        began = time.monotonic()
        ended = wait_for_all(one, logs, topic)
        cpu_s = cpu_of_s(one.process.pid)
        rss = peak_rss(one)
    return {
        "raw_bytes": logs.raw_bytes, "wall_s": round(ended - began, 2), "cpu_s": round(cpu_s, 2),
        "cpu_s_per_gb": round(cpu_s / (logs.raw_bytes / 1e9), 2), "mb_per_cpu_s": round(logs.raw_bytes / MB / cpu_s, 1),
        "rss_mib_max": rss, **count(logs, topic, with_latency=False),
    }  # fmt: skip


def keep_up(tool: Tailer, place: Place, logs: Logs, topic: Topic, size: Size) -> dict[str, Any]:
    """Containers write; the tool follows."""
    logs.fill(1)
    with ending(tool.start(place)) as one:
        wait_for_all(one, logs, topic)
        cpu_s, before = cpu_of_s(one.process.pid), logs.raw_bytes
        began = time.monotonic()
        logs.pace(RATE_BYTES_PER_S, size.keep_up_s)
        wall_s = time.monotonic() - began
        cpu_s = cpu_of_s(one.process.pid) - cpu_s
        rss = peak_rss(one)
        wait_for_all(one, logs, topic)
    written = logs.raw_bytes - before
    return {
        "raw_bytes": written, "mb_per_s": round(written / MB / wall_s, 2), "cpu_s": round(cpu_s, 2),
        "cpu_percent": round(100 * cpu_s / wall_s, 2), "cpu_s_per_gb": round(cpu_s / (written / 1e9), 2),
        "rss_mib_max": rss, **count(logs, topic, with_latency=True),
    }  # fmt: skip


def idle(tool: Tailer, place: Place, logs: Logs, topic: Topic, size: Size) -> dict[str, Any]:
    """Files lie still."""
    logs.fill(1)
    with ending(tool.start(place)) as one:
        wait_for_all(one, logs, topic)
        time.sleep(min(5, size.idle_s))
        cpu_s = cpu_of_s(one.process.pid)
        time.sleep(size.idle_s)
        cpu_s = cpu_of_s(one.process.pid) - cpu_s
        rss = peak_rss(one)
    return {"files": logs.count, "cpu_percent": round(100 * cpu_s / size.idle_s, 3), "rss_mib_max": rss}


def into_nothing(folder: Path, size: Size) -> dict[str, Any]:
    """Let ours catch up with a bus that keeps nothing: reading, hashing, compressing and stating alone."""
    say("sink: catching up into nothing")
    logs = Logs(folder / "node", FILES)
    logs.fill(size.sink_bytes // FILES)
    port = free_port()
    settings = folder / "collector.toml"
    settings.write_text(
        f"""
        [collector]
        state_dir = "{folder}/state"
        node = "bench"
        roots = ["{folder}/node/var/log/pods"]
        metrics_port = {port}
        bus = {{kind = "sqlite", path = "unused"}}
        """
    )
    program = [sys.executable, "-P", str(Path(__file__).parent / "kit" / "sinking.py"), str(settings)]
    with ending(Measured.start_command("collector", program, folder / "log", metrics_port=port)) as one:
        began = time.monotonic()
        ended = wait_for_all(one, logs, None)
        cpu_s, rss = cpu_of_s(one.process.pid), peak_rss(one)
    shutil.rmtree(folder)
    return {
        "raw_bytes": logs.raw_bytes, "wall_s": round(ended - began, 2), "cpu_s": round(cpu_s, 2),
        "mb_per_cpu_s": round(logs.raw_bytes / MB / cpu_s, 1), "rss_mib_max": rss,
    }  # fmt: skip


def wait_for_all(one: Measured, logs: Logs, topic: Topic | None) -> float:
    """Return when the topic had all of it, or when it stopped growing; ours tells what is acknowledged."""
    last, changed = -1, time.monotonic()

    def is_all() -> bool:
        nonlocal last, changed
        if one.metrics_port:
            try:
                reached = int(one.metric("acked_bytes_total"))
            except OSError:
                return False
            wanted = logs.raw_bytes
        else:
            assert topic is not None
            reached, wanted = topic.records(), logs.lines
        if reached != last:
            last, changed = reached, time.monotonic()
        return reached >= wanted or time.monotonic() - changed > STILL_S

    wait_until(f"{one.name} has shipped everything", is_all, timeout_s=TIMEOUT_S, processes=[one])
    return changed


def count(logs: Logs, topic: Topic, *, with_latency: bool) -> dict[str, Any]:
    """Return what of the lines arrived, and how late."""
    values = topic.values()
    arrived = logs.check(text for _, text in texts(values))
    told: dict[str, Any] = {
        "lines": logs.lines, "lost": arrived.lost, "duplicated": arrived.duplicated, "unknown": arrived.unknown,
        "records": len(values), "topic_bytes": sum(len(value) for _, value in values),
    }  # fmt: skip
    if with_latency:
        late = sorted(latencies_s(values))
        told["latency_s"] = {
            "p50": round(statistics.median(late), 3), "p99": round(late[len(late) * 99 // 100], 3),
            "max": round(late[-1], 3),
        }  # fmt: skip
    return told


def latencies_s(values: list[tuple[int, bytes]]) -> Iterator[float]:
    """Yield, of a sample of lines, the time from its writing to its appending at the broker."""
    seen = 0
    for at_ms, text in texts(values):
        for match in _STAMP.finditer(text):
            seen += 1
            if seen % LATENCY_EACH == 0:
                written = calendar.timegm(time.strptime(match[1].decode(), "%Y-%m-%dT%H:%M:%S"))
                yield at_ms / 1000 - (written + int(match[2]) / 1e9)


def peak_rss(one: Measured) -> float:
    """Return the most memory that the process has held so far, in MiB."""
    return round(memory_mib("VmHWM", one.process.pid), 1)


def say(text: str) -> None:
    """Tell a waiting person; the figures go to stdout."""
    print(f"collector: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

"""How long after a line was written it can be found, at what load, and what that takes.

``python bench/freshness.py [--quick] [--live]`` appends lines to a followed CRI file and asks the query service over
HTTP, again and again, until it finds them: the time from the end of the write to the end of the first answer that has
the line, so the question itself is part of it. First with nothing else going on; then while another pod writes JSON
lines, twice, because the first time OpenSearch still compiles what it runs; then at other rates, until it is known
which the machine sustains: the highest of those tried at which 99 of 100 lines are found in the time that is allowed.
Embedded always; with ``--live`` also over Kafka, OpenSearch and S3, which are started for it, where the answer comes
from OpenSearch. All processes, the servers, and this one, which writes and asks, share one machine: the processor time
of each is told. A line that is not found is an error. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx

from ashiato.adapters.data_folder import DataFolder
from bench.kit import corpus
from bench.kit.machine import ROOT, facts
from bench.kit.processes import cpu_of_s, machine_cpu_s, part_cpu_s
from bench.kit.services import TOKEN, Running, at_scale, embedded, running

if TYPE_CHECKING:
    from tests.parts.stack import Stack

SECONDS: Final = 30.0
SECONDS_QUICK: Final = 6.0
SECONDS_RATE: Final = 20.0
"""At each of the other rates; quick, as long as all else."""
PROBES_PER_S: Final = 20
LOAD_MB_PER_S: Final = 2.0
RATES_MB_PER_S: Final = (0.25, 0.5, 1.0, LOAD_MB_PER_S, 4.0, 8.0)
PAUSE_S: Final = 0.1
"""Between two questions."""
FOUND_WITHIN_S: Final = 180.0
P99_S_MAX: Final = {"embedded": 2.0, "at_scale": 5.0}
_NUMBER: Final = re.compile(r" n=(\d+)")


def main() -> int:
    """Run and return 0; a line that is not found is an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{SECONDS_QUICK:g} s each instead of {SECONDS:g} s")
    parser.add_argument("--live", action="store_true", help="also over Kafka, OpenSearch and S3")
    parser.add_argument("--folder", type=Path, default=ROOT / "bench" / "out", help="where everything is written")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    told = facts(arguments.folder)
    seconds = SECONDS_QUICK if arguments.quick else SECONDS
    rate_seconds = SECONDS_QUICK if arguments.quick else SECONDS_RATE
    places = {}
    with tempfile.TemporaryDirectory(prefix="freshness-", dir=arguments.folder) as folder:
        root = Path(folder)
        data, node = DataFolder(root / "embedded"), root / "node"
        with running(data, embedded(data, node)) as place:
            places["embedded"] = Run(place, node, P99_S_MAX["embedded"], {}).told(seconds, rate_seconds)
        if arguments.live:
            with parts(root / "parts") as (stack, servers):
                data, node = DataFolder(root / "scale"), root / "node-at-scale"
                with running(data, at_scale(data, node, stack)) as place:
                    places["at_scale"] = Run(place, node, P99_S_MAX["at_scale"], servers).told(seconds, rate_seconds)
    print(json.dumps({"benchmark": "freshness", "quick": arguments.quick, **places, **told}))
    return 0


@dataclass(frozen=True, slots=True)
class Run:
    """One way to run, being measured."""

    place: Running
    node: Path
    p99_s_max: float
    servers: Mapping[str, Path]
    """Folders of the servers that were started for it."""

    def told(self, seconds: float, rate_seconds: float) -> dict[str, Any]:
        """Start everything, measure, and stop."""
        self.node.mkdir()
        ends = ("retention", "collector")
        for service in (ends[0], *(one for one in self.place.services if one not in ends), ends[1]):
            self.place.start_ready(service)
        quiet = self.at(0.0, seconds)
        first = self.at(LOAD_MB_PER_S, seconds)
        loaded = self.at(LOAD_MB_PER_S, seconds)
        tried = self.other_rates(loaded, rate_seconds)
        for one in self.place.all:
            one.stop(timeout_s=60)
        met = [measured["load_mb_per_s"] for measured in (quiet, loaded, *tried) if self.meets(measured)]
        return {
            "quiet": quiet,
            "first_under_load": first,
            "under_load": loaded,
            "other_rates": tried,
            "p99_s_allowed": self.p99_s_max,
            "meets_its_target": self.meets(quiet) and self.meets(loaded),
            "sustained_load_mb_per_s": max(met, default=None),
            "rss_bytes_max": {one.name: one.rss_bytes_max for one in self.place.all},
        }

    def other_rates(self, loaded: Mapping[str, Any], seconds: float) -> list[dict[str, Any]]:
        """Measure at higher rates while the target is met, or at lower ones until it is."""
        up = self.meets(loaded)
        higher = [rate for rate in RATES_MB_PER_S if rate > LOAD_MB_PER_S]
        lower = [rate for rate in reversed(RATES_MB_PER_S) if rate < LOAD_MB_PER_S]
        tried: list[dict[str, Any]] = []
        for rate in higher if up else lower:
            tried.append(self.at(rate, seconds))
            if self.meets(tried[-1]) != up:
                break
        return tried

    def meets(self, measured: Mapping[str, Any]) -> bool:
        """Tell whether lines were found in time, while as much was written beside them as was asked for."""
        written = measured["load_mb_per_s"] >= 0.95 * measured["load_asked_mb_per_s"]
        return bool(written and measured["p99_s"] <= self.p99_s_max)

    def at(self, load_mb_per_s: float, seconds: float) -> dict[str, Any]:
        """Measure at one rate."""
        before, own, machine = self.cpu_s(), time.process_time(), machine_cpu_s()
        told = measure(self.place, self.node, seconds, load_mb_per_s=load_mb_per_s)
        used = {name: round(at - before[name], 2) for name, at in self.cpu_s().items()}
        used["this_benchmark"] = round(time.process_time() - own, 2)
        # What was left to us is said too: a figure from a machine that others use is another figure.
        others = max(machine_cpu_s() - machine - sum(used.values()), 0.0)
        return {**told, "cpu_s": {**used, "everything_else_on_the_machine": round(others, 2)}}

    def cpu_s(self) -> dict[str, float]:
        """Return what every process has used so far."""
        services = {one.name: cpu_of_s(one.process.pid) for one in self.place.all}
        return services | {name: part_cpu_s(folder) for name, folder in self.servers.items()}


@dataclass(slots=True)
class Writing:
    """Appends probes, and other pods' lines beside them, each from a thread of its own."""

    node: Path
    mark: str
    load_mb_per_s: float
    written_at: dict[int, float] = field(default_factory=dict)
    load_bytes: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Begin."""
        work = [self._probe, *([self._load] if self.load_mb_per_s else [])]
        self._threads = [threading.Thread(target=one, daemon=True) for one in work]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Write nothing more."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _probe(self) -> None:
        descriptor = _open(self.node, f"probe-{self.mark}")
        number = 0
        while not self._stop.wait(1 / PROBES_PER_S):
            os.write(descriptor, f"{_now()} stdout F freshness {self.mark} n={number}\n".encode())
            self.written_at[number] = time.monotonic()
            number += 1
        os.close(descriptor)

    def _load(self) -> None:
        descriptor = _open(self.node, f"load-{self.mark}")
        source = random.Random(self.mark)
        began = time.monotonic()
        while not self._stop.wait(0.02):
            lines = []
            due = int((time.monotonic() - began) * self.load_mb_per_s * 1_000_000) - self.load_bytes
            while due > 0:
                lines.append(f"{_now()} stdout F {corpus.application_line(source)}\n".encode())
                due -= len(lines[-1])
            self.load_bytes += os.write(descriptor, b"".join(lines))
        os.close(descriptor)


def measure(place: Running, node: Path, seconds: float, *, load_mb_per_s: float) -> dict[str, Any]:
    """Write for ``seconds`` and search until all that was written is found."""
    say(f"{seconds:g} s at {load_mb_per_s:g} MB/s of other lines")
    writing = Writing(node, f"probe{os.urandom(4).hex()}", load_mb_per_s)
    latencies: dict[int, float] = {}
    searches: list[float] = []
    with httpx.Client(base_url=place.address(), headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30) as client:
        began = time.monotonic()
        writing.start()
        ends = time.monotonic() + seconds
        try:
            while time.monotonic() < ends:
                look(client, writing, latencies, searches)
        finally:
            writing.stop()
        while len(latencies) < len(writing.written_at):
            if time.monotonic() > ends + FOUND_WITHIN_S:
                missing = sorted(set(writing.written_at) - set(latencies))
                raise RuntimeError(f"{len(missing)} of {len(writing.written_at)} lines were not found: {missing[:20]}")
            look(client, writing, latencies, searches)
    elapsed_s = time.monotonic() - began
    ordered = sorted(latencies.values())
    return {
        "load_asked_mb_per_s": load_mb_per_s,
        "load_mb_per_s": round(writing.load_bytes / 1_000_000 / seconds, 2),
        "seconds": seconds,
        "seconds_until_all_was_found": round(elapsed_s, 1),
        "lines": len(ordered),
        "p50_s": round(statistics.median(ordered), 3),
        "p99_s": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 3),
        "max_s": round(ordered[-1], 3),
        "searches": len(searches),
        "search_p50_s": round(statistics.median(searches), 3),
        "search_max_s": round(max(searches), 3),
    }


def look(client: httpx.Client, writing: Writing, latencies: dict[int, float], searches: list[float]) -> None:
    """Ask once, and note what is found for the first time."""
    began = time.monotonic()
    # What is missing is newer than what was found: a question for all would itself be the load.
    limit = len(writing.written_at) - len(latencies) + PROBES_PER_S
    answer = client.get("/v1/search", params={"q": writing.mark, "limit": limit, "order": "newest_first"})
    now = time.monotonic()
    answer.raise_for_status()
    searches.append(now - began)
    for line in answer.text.splitlines():
        if match := _NUMBER.search(str(json.loads(line).get("body", ""))):
            number = int(match[1])
            latencies.setdefault(number, now - writing.written_at[number])
    time.sleep(PAUSE_S)


@contextlib.contextmanager
def parts(folder: Path) -> Iterator[tuple[Stack, Mapping[str, Path]]]:
    """Yield running parts with empty topics and buckets, and their folders; what was started here ends here."""
    from tests.parts.stack import parts_in, stack_of  # noqa: PLC0415 - only with --live

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    kafka, opensearch, s3 = parts_in(folder, lasts=True)
    try:
        for part in (kafka, opensearch, s3):
            say(f"starting {part.name}")
            part.start()
        yield stack_of(kafka, opensearch, s3).fresh(), {part.name: part.folder for part in (kafka, opensearch, s3)}
    finally:
        for part in (kafka, opensearch, s3):
            part.kill()


def say(text: str) -> None:
    """Tell a waiting person; the figures go to stdout."""
    print(f"freshness: {text}", file=sys.stderr)


def _open(node: Path, pod: str) -> int:
    path = node / "var" / "log" / "pods" / f"bench_{pod}_{pod}" / "main" / "0.log"
    path.parent.mkdir(parents=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


if __name__ == "__main__":
    sys.exit(main())

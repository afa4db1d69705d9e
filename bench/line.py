"""The whole line over a million log lines: how fast, for how much CPU, in how much memory, to what size.

``python bench/line.py [--quick]`` writes a corpus of CRI files, starts the four service processes of ``ashiato up``
with their usual settings, and lets them take it in: collector, SQLite bus, archiver with its tail, retention and query
beside them. It ends when every byte is committed, and checks that against the journal. In the same run the same files
go through ``gzip`` and ``zstd``, which is what a node's log rotation does with them: that keeps bytes on one disk and
answers no question, so it is the floor, not a rival.

The corpus was just written, so it is read from the page cache. MB are 10^6 bytes of log files as they lay there. CPU is
user and system time of the processes, as the kernel counts it, from the moment that all services stood ready. The last
line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from ashiato.adapters.bus_sqlite import SqliteReader
from ashiato.adapters.data_folder import DataFolder
from bench.kit.corpus import Corpus, make
from bench.kit.machine import ROOT, facts
from bench.kit.processes import Measured, Sampler, wait_until
from bench.kit.services import BULK, Running, embedded, journal_of, reached, running

LINES: Final = 1_200_000
LINES_QUICK: Final = 500_000
MB: Final = 1_000_000
MB_PER_CPU_S_MIN: Final = 15.0
RSS_BYTES_MAX: Final = 512 * 1024 * 1024
BESIDE: Final = ("retention", "ingest", "query")
TIMEOUT_S: Final = 900.0
_BASELINES: Final = (("gzip -6", ("gzip", "-6", "-c")), ("zstd -3", ("zstd", "-3", "-q", "-c")))


def main() -> int:
    """Run and return 0; a process that dies or a byte that is missing is an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{LINES_QUICK:,} lines instead of {LINES:,}")
    parser.add_argument("--lines", type=int, default=0, help="another number of lines")
    parser.add_argument("--folder", type=Path, default=ROOT / "bench" / "out", help="where everything is written")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    told = facts(arguments.folder)
    with tempfile.TemporaryDirectory(prefix="line-", dir=arguments.folder) as folder:
        root = Path(folder)
        say("writing the corpus")
        corpus = make(root / "node", lines=arguments.lines or (LINES_QUICK if arguments.quick else LINES))
        line = run_line(corpus, DataFolder(root / "data"))
        baselines = {
            name: run_baseline(corpus, list(command)) for name, command in _BASELINES if shutil.which(command[0])
        }
    result = {
        "benchmark": "line",
        "quick": arguments.quick,
        "corpus": {
            "lines": corpus.lines, "files": len(corpus.files), "raw_bytes": corpus.raw_bytes,
            "bytes_per_line": round(corpus.raw_bytes / corpus.lines, 1),
        },
        **line,
        "baselines": baselines,
        **told,
    }  # fmt: skip
    print(json.dumps(result))
    return 0


def run_line(corpus: Corpus, data: DataFolder) -> dict[str, Any]:
    """Take the corpus in with real processes and return what that took."""
    with running(data, embedded(data, corpus.root)) as place:
        for name in BESIDE:
            place.start_ready(name)
        for one in place.all:
            one.begin()
        began = time.monotonic()
        place.start("collector")
        sampler = Sampler(place.all)
        try:
            say("taking it in")
            searchable_s = wait_for_tail(corpus, place) - began
            say("committing what is left")
            asked = time.monotonic()
            place.processes["ingest"].stop(timeout_s=120)
            # The second in which nothing moved any more is not counted.
            archived_s = searchable_s + time.monotonic() - asked
        finally:
            sampler.close()
        for name in ("collector", "query", "retention"):
            place.processes[name].stop(timeout_s=60)
        processes = place.all
    packs = [pack for pack in journal_of(data).state.packs.values() if pack.retention_class == "container"]
    archived, rows = sum(pack.raw_bytes for pack in packs), sum(pack.rows for pack in packs)
    if (archived, rows) != (corpus.raw_bytes, corpus.lines):
        raise RuntimeError(f"archived {archived} bytes in {rows} rows of {corpus.raw_bytes} in {corpus.lines}")
    cpu_s = sum(one.cpu_s for one in processes)
    rss_max = max(one.rss_bytes_max for one in processes)
    return {
        "archived_wall_s": round(archived_s, 2),
        "searchable_wall_s": round(searchable_s, 2),
        "mb_per_s": round(corpus.raw_bytes / MB / archived_s, 2),
        "cpu_s": round(cpu_s, 2),
        "mb_per_cpu_s": round(corpus.raw_bytes / MB / cpu_s, 2),
        "mb_per_cpu_s_min": MB_PER_CPU_S_MIN,
        "rss_bytes_max": rss_max,
        "rss_bytes_allowed": RSS_BYTES_MAX,
        "meets_its_targets": corpus.raw_bytes / MB / cpu_s >= MB_PER_CPU_S_MIN and rss_max <= RSS_BYTES_MAX,
        "processes": {one.name: account(one, corpus) for one in sorted(processes, key=lambda one: one.name)},
        "packs": len(packs),
        "pack_ratio": round(sum(pack.size for pack in packs) / archived, 4),
        "archive_ratio": round(bytes_below(data.archive) / archived, 4),
    }


def wait_for_tail(corpus: Corpus, place: Running) -> float:
    """Return the moment at which everything was acknowledged and could be searched."""
    data, collector = place.data, place.processes["collector"]
    journal = journal_of(data)
    reader = SqliteReader(str(data.bus_path))
    last: tuple[int, int] = (-1, -1)
    changed = time.monotonic()

    def still() -> bool:
        """Whether all is acknowledged, the tail has reached the bus's end, and neither moved for a second."""
        nonlocal last, changed
        now = (loop.run_until_complete(reader.bounds(BULK))[1], reached(data, journal))
        if now != last:
            last, changed = now, time.monotonic()
        acknowledged = time.monotonic() - changed > 1 and collector.metric("acked_bytes_total")
        return acknowledged >= corpus.raw_bytes and now[0] == now[1]

    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        wait_until("all is searchable", still, timeout_s=TIMEOUT_S, processes=place.all)
        loop.run_until_complete(reader.close())
    return changed


def account(one: Measured, corpus: Corpus) -> dict[str, Any]:
    """Return what one process took; memory by tenths of the run shows whether it grows."""
    count = len(one.rss_bytes)
    tenths = [one.rss_bytes[count * n // 10 : count * (n + 1) // 10] for n in range(10)]
    return {
        "cpu_s": round(one.cpu_s, 2),
        "mb_per_cpu_s": round(corpus.raw_bytes / MB / one.cpu_s, 1) if one.cpu_s else None,
        "rss_bytes_max": one.rss_bytes_max,
        "rss_by_tenth_bytes_max": [max(tenth, default=0) for tenth in tenths],
    }


def run_baseline(corpus: Corpus, command: list[str]) -> dict[str, Any]:
    """Compress each file on its own, as rotation does, and return what that took."""
    began, cpu_s, size = time.monotonic(), 0.0, 0
    for path in corpus.files:
        with path.open("rb") as source, tempfile.TemporaryFile(dir=corpus.root) as target:
            process = subprocess.Popen(command, stdin=source, stdout=target)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise RuntimeError(f"{command} ended with {process.returncode}")
            os.fsync(target.fileno())
            size += os.fstat(target.fileno()).st_size
            cpu_s += usage.ru_utime + usage.ru_stime
    wall_s = time.monotonic() - began
    return {
        "wall_s": round(wall_s, 2),
        "cpu_s": round(cpu_s, 2),
        "mb_per_s": round(corpus.raw_bytes / MB / wall_s, 2),
        "mb_per_cpu_s": round(corpus.raw_bytes / MB / cpu_s, 2),
        "ratio": round(size / corpus.raw_bytes, 4),
    }


def bytes_below(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def say(text: str) -> None:
    """Tell a waiting person; the figures go to stdout."""
    print(f"line: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

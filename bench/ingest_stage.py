"""How fast and in how much memory ``python -m ingest`` archives CRI lines from a SQLite bus, tail segments included.

The last line printed is one JSON object. ``--quick`` takes a tenth of the bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from kit.machine import facts

from ashiato.adapters.archive_directory import DirectoryReader
from ashiato.adapters.bus_sqlite import SqliteKeeper, SqliteWriter
from ashiato.adapters.journal import Journal
from ashiato.core import frame
from ashiato.core.chunk import Chunk, ChunkFlags, FileFacts
from ashiato.core.ids import TOPIC_BULK, TOPIC_PRIORITY, Kind, Source, ulid
from ashiato.core.limits import KIB, MIB
from ashiato.core.ports import Partition

NOON = 1_795_608_000_000_000_000
HOUR_NS = 3_600_000_000_000
PODS = 20
BULK = Partition(TOPIC_BULK, 0)


def lines(pod: int, count: int, at: int) -> bytes:
    """Return CRI lines as services write them: access lines, JSON, stack traces, now and then a long one."""
    out = []
    for number in range(at, at + count):
        seconds, fraction = divmod(number * 1_370_041, 1_000_000_000)
        stamp = f"2026-11-25T12:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction:09}Z"
        digest = hashlib.blake2b(f"{pod}/{number}".encode(), digest_size=12).hexdigest()
        if number % 5 == 0:
            text = (
                f'{{"level":"info","ts":"{stamp}","msg":"request done","path":"/api/cart/{number % 977}",'
                f'"trace_id":"{digest}{digest[:8]}","ms":{number % 311}}}'
            )
        elif number % 97 == 0:
            text = (
                f"java.lang.IllegalStateException: order {digest}\\n\\tat com.shop.Cart.add(Cart.java:{number % 400})"
            )
        else:
            text = (
                f'10.42.{pod}.{number % 251} - - "GET /api/items/{digest}?page={number % 40} HTTP/1.1" '
                f'{200 if number % 23 else 503} {number % 9000} "curl/8.5"'
            )
        out.append(f"{stamp} {'stderr' if number % 11 == 0 else 'stdout'} F {text}\n")
    return "".join(out).encode()


def frames(total_bytes: int) -> Iterator[bytes]:
    """Yield frames of chunks of all pods in turn, as a collector sends them."""
    offsets, numbers, sent = [0] * PODS, [0] * PODS, 0
    observed = time.time_ns() + HOUR_NS  # never so old that the tail is left to commits
    while sent < total_bytes:
        for first in range(0, PODS, 4):
            chunks = []
            for pod in range(first, first + 4):
                content = lines(pod, 1200, numbers[pod])
                numbers[pod] += 1200
                source = Source(
                    kind=Kind.CONTAINER, cluster="c1", node="node-1", namespace="shop", pod=f"web-{pod}",
                    pod_uid=f"00000000-0000-4000-8000-{pod:012}", container="web",
                )  # fmt: skip
                facts = FileFacts(
                    file_id=ulid(NOON // 1_000_000, pod.to_bytes(10, "big")), source=str(source), path="0.log",
                    restart_count=0,
                )  # fmt: skip
                chunks.append(
                    Chunk(
                        file=facts,
                        offset_start=offsets[pod],
                        observed_time_unix_nano=observed,
                        payload=content,
                        flags=int(ChunkFlags.STARTS_AT_LINE | ChunkFlags.ENDS_AT_LINE),
                    )
                )
                offsets[pod] += len(content)
                sent += len(content)
            yield frame.encode(chunks)


async def fill(path: Path, total_bytes: int) -> tuple[int, int, int]:
    """Write frames of about ``total_bytes`` raw bytes; return raw bytes, sent bytes, and the next position."""
    keeper = SqliteKeeper(str(path))
    await keeper.create_topics({TOPIC_PRIORITY: 1, TOPIC_BULK: 1})
    await keeper.close()
    writer = SqliteWriter(str(path))
    raw = sent = position = 0
    for value in frames(total_bytes):
        raw += sum(held.length for held in frame.decode_held(value))
        sent += len(value)
        position = await writer.send(BULK, value) + 1
    await writer.close()
    return raw, sent, position


def reached(root: Path) -> int:
    """Return the bus position below which everything is committed or published in the tail."""
    committed = Journal(DirectoryReader(root / "archive")).refresh().positions.get(BULK)
    published = [int(path.stem.rpartition("-")[2]) for path in (root / "tail").glob(f"{TOPIC_BULK}-0-*.arrow")]
    return max([committed.next if committed is not None else 0, *published])


def archive(root: Path, position: int) -> tuple[float, resource.struct_rusage]:
    """Archive up to ``position`` in a process of its own; return how long that took, and what it used."""
    settings = root / "ashiato.toml"
    settings.write_text(
        f'[ingest]\nbus = {{kind = "sqlite", path = "{root}/bus.sqlite"}}\narchive = {{directory = "{root}/archive"}}\n'
        f'scratch_dir = "{root}/scratch"\ntail_dir = "{root}/tail"\nstop_grace_s = 120.0\n'
    )
    started = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "ingest", "archive", "--config", str(settings)])
    while reached(root) < position:
        assert child.poll() is None
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return time.perf_counter() - started, usage


def main() -> None:
    """Fill a bus, archive it, and say what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--raw-mib", type=int, default=320)
    arguments = parser.parse_args()
    total = arguments.raw_mib * MIB // (10 if arguments.quick else 1)
    with tempfile.TemporaryDirectory(prefix="ingest-stage-") as folder:
        root = Path(folder)
        raw, sent, position = asyncio.run(fill(root / "bus.sqlite", total))
        elapsed, usage = archive(root, position)
        state = Journal(DirectoryReader(root / "archive")).refresh()
        measured_on = facts(root)
    packs = state.packs.values()
    assert sum(pack.raw_bytes for pack in packs) == raw
    cpu = usage.ru_utime + usage.ru_stime
    print(
        f"{raw / MIB:.0f} MiB raw ({sent / MIB:.0f} MiB on the bus) in {elapsed:.1f} s, {cpu:.1f} s of processor time"
    )
    told = {
        "benchmark": "ingest_stage",
        "quick": arguments.quick,
        "raw_bytes": raw,
        "rows": sum(pack.rows for pack in packs),
        "commits": state.next_n - 1,
        "elapsed_s": round(elapsed, 3),
        "cpu_s": round(cpu, 3),
        "raw_mb_per_cpu_s": round(raw / 1e6 / cpu, 2),
        "raw_mb_per_s": round(raw / 1e6 / elapsed, 2),
        "rss_max_mib": round(usage.ru_maxrss / KIB, 1),
        "pack_bytes_per_raw_byte": round(sum(pack.size for pack in packs) / raw, 4),
        **measured_on,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()

"""How fast, and at what price, ``python -m ingest index`` makes lines of the bus searchable in a real OpenSearch.

``python bench/index_stage.py [--quick]`` starts OpenSearch, fills a SQLite bus with CRI lines and waits until the
indexer has published a position above all of them: JSON lines of applications alone, then a mix of everything. A first
part of each warms both processes up and is not counted. Processor time is told of the indexer and of OpenSearch apart,
because on one machine they share its cores. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ashiato.adapters.bus_sqlite import SqliteKeeper, SqliteWriter
from ashiato.adapters.opensearch_client import OpenSearchClient
from ashiato.adapters.opensearch_keeper import OpenSearchKeeper
from ashiato.adapters.opensearch_settings import OpenSearchSettings
from ashiato.adapters.opensearch_writer import OpenSearchWriter
from ashiato.core import frame
from ashiato.core.chunk import Chunk, ChunkFlags, FileFacts
from ashiato.core.ids import CLASSES, TOPIC_BULK, TOPIC_PRIORITY, Kind, Source, ulid
from ashiato.core.limits import KIB
from ashiato.core.ports import Partition
from bench.kit import corpus
from bench.kit.machine import ROOT, facts
from bench.kit.processes import Measured, ending, part_cpu_s
from tests.parts.opensearch import OpenSearchPart

BULK: Final = Partition(TOPIC_BULK, 0)
PODS: Final = 8
CHUNK_BYTES: Final = 64 * KIB
LINES: Final = {"full": 120_000, "quick": 30_000}
"""Counted lines of each mix."""
WARM_PART: Final = 0.5
"""Lines that warm up, as a part of the counted ones."""
WITHIN_S: Final = 600.0


def main() -> int:
    """Run and return 0; a process that ends, or a position that is not published in time, is an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{LINES['quick']} lines of each mix")
    arguments = parser.parse_args()
    folder = ROOT / "bench" / "out"
    folder.mkdir(parents=True, exist_ok=True)
    told = facts(folder)
    count = LINES["quick" if arguments.quick else "full"]
    mixes = {}
    with tempfile.TemporaryDirectory(prefix="index-stage-", dir=folder) as name:
        root = Path(name)
        with opensearch(root / "parts") as part:
            for mix in ("json", "mixed"):
                (root / mix).mkdir()
                print(f"index_stage: {count} {mix} lines", file=sys.stderr)
                mixes[mix] = asyncio.run(run(root / mix, part, mix, count))
    print(json.dumps({"benchmark": "index_stage", "quick": arguments.quick, **mixes, **told}))
    return 0


async def run(root: Path, part: OpenSearchPart, mix: str, count: int) -> dict[str, Any]:
    """Index one mix into indices that are made anew."""
    client = OpenSearchClient(OpenSearchSettings(urls=(part.url,)))
    await client.ask("DELETE", "/ashiato-*", params={"expand_wildcards": "all"})
    await OpenSearchKeeper(client, replicas=0).prepare([datetime.now(UTC).date().isoformat()], CLASSES)
    keeper = SqliteKeeper(str(root / "bus.sqlite"))
    await keeper.create_topics({TOPIC_PRIORITY: 1, TOPIC_BULK: 1})
    await keeper.close()
    texts = list(_texts(root, mix, int(count * (1 + WARM_PART))))
    warm_lines = len(texts) - count
    bus, positions = SqliteWriter(str(root / "bus.sqlite")), OpenSearchWriter(client)
    offsets = [0] * PODS
    warm, counted = _frames(texts[:warm_lines], offsets), _frames(texts[warm_lines:], offsets)
    raw_bytes = sum(len(line) for line in texts[warm_lines:])
    with ending(_start(root, part)) as indexer:
        for value in warm:
            await bus.send(BULK, value)
        await _published(positions, len(warm), indexer)
        indexer.begin()
        servers_s, began = part_cpu_s(part.folder), time.perf_counter()
        for value in counted:
            await bus.send(BULK, value)
        await _published(positions, len(warm) + len(counted), indexer)
        elapsed_s, servers_s = time.perf_counter() - began, part_cpu_s(part.folder) - servers_s
    await bus.close()
    stored = await client.ask("GET", "/ashiato-*/_stats/store,docs")
    await client.close()
    held = stored["_all"]["primaries"]
    return {
        "documents_count": count,
        "raw_bytes": raw_bytes,
        "elapsed_s": round(elapsed_s, 2),
        "documents_per_s": round(count / elapsed_s),
        "raw_mb_per_s": round(raw_bytes / 1e6 / elapsed_s, 3),
        "indexer_cpu_s": round(indexer.cpu_s, 2),
        "opensearch_cpu_s": round(servers_s, 2),
        "indexer_cpu_us_per_document": round(indexer.cpu_s / count * 1e6, 1),
        "opensearch_cpu_us_per_document": round(servers_s / count * 1e6, 1),
        "indexer_rss_max_mib": round(indexer.rss_bytes_max / 1024**2),
        "store_bytes_per_raw_byte": round(held["store"]["size_in_bytes"] / sum(len(line) for line in texts), 3),
    }


@contextmanager
def opensearch(folder: Path) -> Iterator[OpenSearchPart]:
    """Yield a node that ends with this."""
    part = OpenSearchPart(folder / "opensearch", lasts=True)
    try:
        part.start()
        yield part
    finally:
        part.kill()


def _texts(root: Path, mix: str, count: int) -> Iterator[bytes]:
    if mix == "json":
        source = random.Random(1)
        for number in range(count):
            stamp = f"2026-11-25T12:{number // 60_000 % 60:02}:{number // 1000 % 60:02}.{number % 1000:03}000001Z"
            yield f"{stamp} stdout F {corpus.application_line(source)}\n".encode()
        return
    made = corpus.make(root / "node", lines=count + 100)
    lines = [line for path in made.files for line in path.read_bytes().splitlines(keepends=True)]
    random.Random(1).shuffle(lines)
    # Parts of a cut line are rows too, but belong together: they are left to other benchmarks.
    whole = [line for line in lines if len(line) < 16_000]
    yield from whole[:count]


def _frames(texts: list[bytes], offsets: list[int]) -> list[bytes]:
    """Return frames of one chunk of each pod, as a collector sends them; ``offsets`` move on."""
    frames: list[bytes] = []
    chunks: list[Chunk] = []
    lines: list[bytes] = []
    size = pod = 0
    for number, line in enumerate(texts):
        lines.append(line)
        size += len(line)
        if size < CHUNK_BYTES and number < len(texts) - 1:
            continue
        chunks.append(_chunk(pod, offsets[pod], b"".join(lines)))
        offsets[pod] += size
        lines, size, pod = [], 0, (pod + 1) % PODS
        if pod % 4 == 0 or number == len(texts) - 1:
            frames.append(frame.encode(chunks))
            chunks = []
    return frames


def _chunk(pod: int, offset: int, payload: bytes) -> Chunk:
    source = Source(
        kind=Kind.CONTAINER, cluster="c1", node="node-1", namespace="shop", pod=f"web-{pod}",
        pod_uid=f"00000000-0000-4000-8000-{pod:012}", container="web",
    )  # fmt: skip
    file_id = ulid(1_795_608_000_000, pod.to_bytes(10, "big"))
    return Chunk(
        file=FileFacts(file_id=file_id, source=str(source), path="0.log", restart_count=0),
        offset_start=offset,
        observed_time_unix_nano=time.time_ns(),
        payload=payload,
        flags=int(ChunkFlags.STARTS_AT_LINE | ChunkFlags.ENDS_AT_LINE),
    )


def _start(root: Path, part: OpenSearchPart) -> Measured:
    settings = root / "ashiato.toml"
    settings.write_text(
        f'[ingest]\nbus = {{kind = "sqlite", path = "{root}/bus.sqlite"}}\narchive = {{directory = "{root}/archive"}}\n'
        f'scratch_dir = "{root}/scratch"\nopensearch = {{urls = ["{part.url}"]}}\n'
    )
    return Measured.start("index", ["ingest", "index", "--config", str(settings)], root / "index.log")


async def _published(positions: OpenSearchWriter, end: int, indexer: Measured) -> None:
    deadline = time.monotonic() + WITHIN_S
    while (await positions.positions()).get(BULK, 0) < end:
        if indexer.process.poll() is not None:
            raise RuntimeError(f"the indexer died: {indexer.log.read_text()[-2000:]}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"position {end} was not published within {WITHIN_S} s")
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())

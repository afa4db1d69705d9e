"""What archiving costs, stage by stage and as a process: processor seconds and ratios, for large and small chunks.

``python bench/ingest.py [--quick]`` makes files of two hundred pods (``kit/mixed.py``; with Loghub's lines where
``ASHIATO_DATA`` names a folder that has them), cuts them as collectors do, in turn, into chunks of 256 KiB and again of
4 KiB, and archives the frames on one core in a process of its own: decode, admit, parse, rows, pack, read back, render,
compare, sidecars. A stage is a function of the line itself; its seconds leave out the stages that it calls. Then
``python -m ingest archive`` takes the same frames from a SQLite bus, tail segments included. The last line is one JSON
object.
"""

# ruff: noqa: E402 - how memory is kept is said before Arrow is imported

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import bench.kit  # noqa: F401 - the package is ingest, and not this script
from ingest.memory import keep_memory

keep_memory()  # as `python -m ingest` does

import pyarrow as pa
import pyarrow.parquet as pq

from ashiato.adapters.bus_sqlite import SqliteKeeper, SqliteWriter
from ashiato.adapters.data_folder import DataFolder
from ashiato.core import frame
from ashiato.core.chunk import Chunk, ChunkFlags, FileFacts
from ashiato.core.ids import TOPIC_BULK, TOPIC_PRIORITY, ulid
from ashiato.core.layout import recognise
from ashiato.core.limits import (
    CHUNK_BYTES_TARGET,
    CHUNK_OWN_BLOCK_BYTES,
    COMMIT_RAW_BYTES,
    FRAME_RAW_BYTES_TARGET,
    KIB,
    MIB,
)
from bench.kit import mixed
from bench.kit.machine import facts, memory_mib
from bench.kit.processes import Measured, ending, wait_until
from bench.kit.services import BULK, journal_of, reached
from ingest import columns, lines, pack, rows
from ingest.admission import Admission, chunks_of
from ingest.batch import Batch, at_rest
from ingest.filters import SidecarBuilder
from ingest.parse import cri

NOON: Final = 1_795_608_000_000_000_000
HOUR_NS: Final = 3_600_000_000_000
TIMEOUT_S: Final = 900.0
GRACE_S: Final = 120.0
ROUNDS: Final = 5
SMALL_CHUNK_BYTES: Final = 4 * KIB
STAGES: Final = (
    "decode frames", "admit", "cut into lines", "parse headers", "join", "read bodies", "rows", "exactness",
    "write parquet", "read back", "render", "compare", "sidecars", "the rest",
)  # fmt: skip


# -- frames --------------------------------------------------------------------------------------------------


def frames(root: Path, chunk_bytes: int) -> Iterator[bytes]:
    """Yield frames of chunks of all files in turn, as a collector sends them."""
    files = [_chunks(path, root, number, chunk_bytes) for number, path in enumerate(sorted(root.rglob("*.log")))]
    gathered: list[Chunk] = []
    size = 0
    for turn in zip_longest(*files):
        for chunk in filter(None, turn):
            gathered.append(chunk)
            size += len(chunk.payload)
            if size >= FRAME_RAW_BYTES_TARGET:
                yield frame.encode(gathered)
                gathered, size = [], 0
    if gathered:
        yield frame.encode(gathered)


def _chunks(path: Path, root: Path, number: int, chunk_bytes: int) -> Iterator[Chunk]:
    found = recognise(path.relative_to(root).as_posix(), cluster="c1", node="node-1")
    told = FileFacts(
        file_id=ulid(NOON // 1_000_000, number.to_bytes(10, "big")), source=str(found.source), path=str(path),
        restart_count=found.restart_count,
    )  # fmt: skip
    observed = time.time_ns() + HOUR_NS  # never so old that the tail is left to commits
    content = path.read_bytes()
    at = 0
    while at < len(content):
        end = content.rfind(b"\n", at, at + chunk_bytes) + 1 or content.index(b"\n", at) + 1
        yield Chunk(
            file=told, offset_start=at, observed_time_unix_nano=observed, payload=content[at:end],
            flags=int(ChunkFlags.STARTS_AT_LINE | ChunkFlags.ENDS_AT_LINE),
        )  # fmt: skip
        at = end


# -- stages --------------------------------------------------------------------------------------------------


class Stages:
    """Processor seconds of each stage, without those of the stages that it calls."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._stack: list[str] = ["the rest"]
        self._since = time.process_time()

    def switch(self, stage: str | None) -> None:
        """Begin a stage, or end the present one."""
        now = time.process_time()
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now
        if stage is None:
            self._stack.pop()
        else:
            self._stack.append(stage)

    def watch(self, owner: Any, name: str, stage: str) -> None:
        """Count what a function of the line takes."""
        function = getattr(owner, name)

        def timed(*arguments: Any, **named: Any) -> Any:
            self.switch(stage)
            try:
                return function(*arguments, **named)
            finally:
                self.switch(None)

        setattr(owner, name, timed)


def run_stages(path: Path, scratch: Path) -> dict[str, Any]:
    """Archive the frames of a file on one core, in commits, up to where a pack would be put."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pa.set_cpu_count(1)
    stages = Stages()
    # The functions themselves are watched: what is measured is the line, and no copy of it.
    for owner, name, stage in (
        (frame, "_decompress", "decode frames"), (frame, "_header", "decode frames"),
        (rows, "lines_of", "cut into lines"), (rows, "parse_lines", "parse headers"), (rows, "join", "join"),
        (rows, "read_bodies", "read bodies"), (rows, "_table", "rows"), (rows, "_exact", "exactness"),
        (pq.ParquetWriter, "write_table", "write parquet"), (pq.ParquetWriter, "close", "write parquet"),
        (pq.ParquetFile, "read_row_group", "read back"), (pack, "conform", "read back"),
        (pack, "render_rows", "render"),
        (pack, "_ranges_of_rows", "compare"), (pack, "_ranges_of_pieces", "compare"),
        (SidecarBuilder, "add", "sidecars"), (SidecarBuilder, "finish", "sidecars"),
    ):  # fmt: skip
        stages.watch(owner, name, stage)
    told: dict[str, Any] = {"raw_bytes": 0, "sent_bytes": 0, "rows": 0, "pack_bytes": 0, "sidecar_bytes": 0}
    admission = Admission(find=lambda _: None)
    states: dict[str, Any] = {}
    batch = Batch(started_monotonic_nano=0)
    for record in _records(path):
        told["sent_bytes"] += len(record)
        stages.switch("admit")
        for chunk, held in chunks_of(record):
            told["raw_bytes"] += held.length
            for piece in admission.admit(chunk, lambda *_: None).pieces:
                batch.add(at_rest(piece, held if held.length > CHUNK_OWN_BLOCK_BYTES else None))
        stages.switch(None)
        if batch.raw_bytes >= COMMIT_RAW_BYTES:
            _pack(batch, scratch, states, stages, told)
            batch = Batch(started_monotonic_nano=0)
    _pack(batch, scratch, states, stages, told)
    stages.switch("the rest")
    return {
        **told,
        "cpu_s": sum(stages.seconds.values()),
        "stages_s": dict(stages.seconds),
        "rss_max_mib": memory_mib("VmHWM"),
    }


def _records(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while size := file.read(4):
            yield file.read(int.from_bytes(size, "big"))


def _pack(batch: Batch, scratch: Path, states: dict[str, Any], stages: Stages, told: dict[str, Any]) -> None:
    for name, pieces in batch.by_source():
        builder = pack.PackBuilder(scratch, name or "container", bytes(32), states)
        builder.add(pieces)
        built = builder.finish()
        assert built is not None
        states.update(builder.states)
        told["rows"] += built.manifest.rows
        told["pack_bytes"] += built.manifest.size
        told["sidecar_bytes"] += sum(len(one.content) for one in built.sidecars)
        stages.switch("the rest")
        built.file.unlink()
        stages.switch(None)


def measure_stages(root: Path, chunk_bytes: int) -> dict[str, Any]:
    """Write the frames of the corpus into a file and archive them in a process of its own."""
    path = root / f"{chunk_bytes}.frames"
    with path.open("wb") as file:
        for record in frames(root, chunk_bytes):
            file.write(len(record).to_bytes(4, "big") + record)
    command = [sys.executable, __file__, "--stages-of", str(path)]
    told: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    raw_mb = told["raw_bytes"] / 1e6
    print(f"-- chunks of {chunk_bytes // KIB} KiB: {raw_mb:.0f} MB raw, {told['rows']} rows, one core")
    for stage in STAGES:
        seconds = told["stages_s"].get(stage, 0.0)
        share, rate = seconds / told["cpu_s"], raw_mb / max(seconds, 1e-9)
        print(f"   {stage:<16} {seconds:7.2f} s {share:6.1%} {rate:8.0f} MB/s")
    told["raw_mb_per_cpu_s"] = round(raw_mb / told["cpu_s"], 2)
    told["archive_bytes_per_raw_byte"] = round((told["pack_bytes"] + told["sidecar_bytes"]) / told["raw_bytes"], 4)
    told["pack_bytes_per_raw_byte"] = round(told["pack_bytes"] / told["raw_bytes"], 4)
    told["stages_s"] = {stage: round(told["stages_s"].get(stage, 0.0), 3) for stage in STAGES}
    told["cpu_s"], told["rss_max_mib"] = round(told["cpu_s"], 3), round(told["rss_max_mib"], 1)
    print(
        f"   all             {told['cpu_s']:8.2f} s {told['raw_mb_per_cpu_s']:15.1f} MB/s per core;"
        f" packs {told['pack_bytes_per_raw_byte']:.1%} of raw, with sidecars {told['archive_bytes_per_raw_byte']:.1%};"
        f" {told['rss_max_mib']:.0f} MiB"
    )
    return {"chunk_bytes": chunk_bytes, **told}


def measure_parsers(root: Path) -> dict[str, int]:
    """Return lines a second of one core, in buffers as ingest gathers them: headers, and the bodies behind them."""
    chunks = [chunk for record in frames(root, CHUNK_BYTES_TARGET) for chunk, _ in chunks_of(record)][: 64 * 4]
    admission = Admission(find=lambda _: None)
    pieces = [piece for chunk in chunks for piece in admission.admit(chunk, lambda *_: None).pieces]
    gathered = [(group[0].source.kind, lines.lines_of(group)) for group in lines.groups_of(lines.runs_of(pieces, {}))]
    count = ROUNDS * sum(len(own) for _, own in gathered)
    started = time.process_time()
    for _ in range(ROUNDS):
        for _, own in gathered:
            cri.parse(own.buffer, own.starts, own.ends)
    headers = time.process_time()
    parsed = [(kind, own, columns.parse_lines(kind, own)) for kind, own in gathered]
    began = time.process_time()
    for _ in range(ROUNDS):
        for kind, own, found in parsed:
            columns.read_bodies(kind, own, found)
    bodies = time.process_time()
    told = {
        "cri_lines_per_cpu_s": round(count / (headers - started)),
        "bodies_lines_per_cpu_s": round(count / (bodies - began)),
        "parse_lines_per_cpu_s": round(count / (headers - started + bodies - began)),
    }
    print("-- parse: " + ", ".join(f"{value / 1e6:.2f} M {name}" for name, value in told.items()))
    return told


# -- the process ---------------------------------------------------------------------------------------------


async def fill(path: Path, root: Path) -> int:
    """Write the frames of the corpus on a bus; return the next position."""
    keeper = SqliteKeeper(str(path))
    await keeper.create_topics({TOPIC_PRIORITY: 1, TOPIC_BULK: 1})
    await keeper.close()
    writer = SqliteWriter(str(path))
    position = 0
    for value in frames(root, CHUNK_BYTES_TARGET):
        position = await writer.send(BULK, value) + 1
    await writer.close()
    return position


def archive(data: DataFolder, position: int) -> tuple[float, Measured]:
    """Archive up to ``position`` in a process of its own; return how long that took, and the process."""
    settings = data.run / "ashiato.toml"
    settings.write_text(
        f'[ingest]\nbus = {{kind = "sqlite", path = "{data.bus_path}"}}\n'
        f'archive = {{directory = "{data.archive}"}}\n'
        f'scratch_dir = "{data.scratch}"\ntail_dir = "{data.tail}"\nstop_grace_s = {GRACE_S}\n'
    )
    journal, command = journal_of(data), ["ingest", "archive", "--config", str(settings)]
    started = time.perf_counter()
    with ending(Measured.start("ingest", command, data.run / "log"), timeout_s=GRACE_S) as one:
        wait_until(
            "all is archived or in the tail", lambda: reached(data, journal) >= position, timeout_s=TIMEOUT_S,
            processes=[one],
        )  # fmt: skip
    return time.perf_counter() - started, one


def measure_process(root: Path) -> dict[str, Any]:
    """Archive the corpus from a bus in a process of its own, as it runs on a machine."""
    data = DataFolder(root / "data")
    for folder in (data.bus_path.parent, data.run):
        folder.mkdir(parents=True)
    position = asyncio.run(fill(data.bus_path, root))
    elapsed, used = archive(data, position)
    raw = sum(one.raw_bytes for one in journal_of(data).state.packs.values())
    told = {
        "raw_bytes": raw,
        "elapsed_s": round(elapsed, 3),
        "cpu_s": round(used.cpu_s, 3),
        "raw_mb_per_cpu_s": round(raw / 1e6 / used.cpu_s, 2),
        "raw_mb_per_s": round(raw / 1e6 / elapsed, 2),
        "rss_max_mib": round(used.rss_bytes_max / MIB, 1),
    }
    print(f"-- python -m ingest archive, from its start to its end, tail included: {told}")
    return told


def main() -> None:
    """Make a corpus, archive it in stages and as a process, and say what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a tenth of the bytes")
    parser.add_argument("--raw-mib", type=int, default=320)
    parser.add_argument("--stages-of", type=Path, help="archive the frames of this file and print what it took")
    arguments = parser.parse_args()
    if arguments.stages_of is not None:
        with tempfile.TemporaryDirectory(prefix="ingest-stages-") as scratch:
            print(json.dumps(run_stages(arguments.stages_of, Path(scratch))))
        return
    size_mib = arguments.raw_mib // (10 if arguments.quick else 1)
    with tempfile.TemporaryDirectory(prefix="ingest-bench-") as folder:
        root = Path(folder)
        real = Path(os.environ.get("ASHIATO_DATA", "")) / "loghub"
        made = mixed.make(root, raw_bytes=size_mib << 20, real=real if real.is_dir() else None)
        line_bytes = made.raw_bytes / made.lines
        print(f"-- {made.raw_bytes / 1e6:.0f} MB in {made.files_count} files, {line_bytes:.0f} bytes a line")
        told = {
            "benchmark": "ingest",
            "quick": arguments.quick,
            "raw_bytes": made.raw_bytes,
            "line_bytes_mean": round(line_bytes, 1),
            "has_real_lines": real.is_dir(),
            "parse": measure_parsers(root),
            "stages": [measure_stages(root, chunk_bytes) for chunk_bytes in (CHUNK_BYTES_TARGET, SMALL_CHUNK_BYTES)],
            "process": measure_process(root),
            **facts(root),
        }
    assert all(one["raw_bytes"] == made.raw_bytes for one in (*told["stages"], told["process"]))
    print(json.dumps(told))


if __name__ == "__main__":
    main()

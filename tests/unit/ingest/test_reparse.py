"""Lines that an older parser refused are found again: counted by reason when they came, derived when one takes them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ashiato.adapters.archive_directory import DirectoryReader, DirectoryWriter
from ashiato.adapters.bus_memory import MemoryBroker, MemoryKeeper, MemoryReader, MemoryWriter
from ashiato.adapters.clock import FixedClock
from ashiato.adapters.telemetry import Telemetry
from ashiato.core import frame
from ashiato.core.chunk import Chunk
from ashiato.core.ids import TOPIC_BULK, TOPIC_PRIORITY, Kind, Source
from ashiato.core.ports import Partition
from ashiato.core.render import render_rows
from ashiato.core.table import conform, uids
from ingest import columns
from ingest.archiver import Archiver, ArchiverSettings
from ingest.reparse import PARSERS, reparse
from tests.unit.ingest.files import NOON, WEB, chunk, cri

AUDIT = Source(kind=Kind.AUDIT, cluster="c1", node="node-1", path="audit.log")
EVENT = {"auditID": "a", "stage": "ResponseComplete", "verb": "get", "stageTimestamp": "2026-11-25T12:00:00Z"}
WRAPPED = json.dumps({"kind": "EventList", "items": [EVENT]}).encode() + b"\n"
PLAIN_EVENT = json.dumps(EVENT).encode() + b"\n"


async def _archived(root: Path, *arriving: Chunk, records: tuple[bytes, ...] = ()) -> Telemetry:
    broker = MemoryBroker(bus_id="bus")
    await MemoryKeeper(broker).create_topics({TOPIC_PRIORITY: 1, TOPIC_BULK: 1})
    (root / "scratch").mkdir()
    telemetry = Telemetry("ingest", stream=StringIO())
    archiver = Archiver(
        ArchiverSettings(actor="ingest", commit_raw_bytes=1 << 40, commit_age_ns=1 << 62, poll_wait_ns=0),
        reader=MemoryReader(broker),
        archive=DirectoryWriter(root / "archive"),
        clock=FixedClock(unix_nano=NOON),
        telemetry=telemetry,
        scratch=root / "scratch",
    )
    await archiver.open()
    for record in (*records, *(frame.encode([one]) for one in arriving)):
        await MemoryWriter(broker).send(Partition(TOPIC_BULK, 0), record)
    await archiver.drain()
    return telemetry


def _report(root: Path, *, write: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(reparse(DirectoryWriter(root / "archive"), write=write).as_json())
    return found


def test_refused_lines_are_counted_by_kind_and_reason(tmp_path: Path) -> None:
    telemetry = asyncio.run(
        _archived(tmp_path, chunk(b"garbage\n\n" + cri("ok")), chunk(b"{}\n[]\n" + PLAIN_EVENT, source=AUDIT, number=2))
    )
    counted = {
        (kind, reason): telemetry.value("quarantined_lines_total", source_kind=kind, reason=reason)
        for kind, reason in (
            ("container", "no_header"), ("container", "empty"), ("audit", "not_of_its_kind"), ("audit", "not_an_object")
        )
    }  # fmt: skip
    assert set(counted.values()) == {1}
    assert telemetry.value("quarantined_rows_total") == 4


def test_what_a_newer_parser_takes_is_derived_and_the_rows_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = PLAIN_EVENT + WRAPPED + b"{}\n"
    with monkeypatch.context() as older:
        taken = columns.PARSERS[Kind.AUDIT]
        older.setitem(columns.PARSERS, Kind.AUDIT, lambda line: None if b"EventList" in line else taken(line))
        arriving = (chunk(content, source=AUDIT), chunk(b"garbage\n", source=WEB, number=2))
        asyncio.run(_archived(tmp_path, *arriving, records=(b"no frame\n",)))
    packs = sorted((tmp_path / "archive" / "evidence").rglob("*.parquet"))
    before = [path.read_bytes() for path in packs]

    dry = _report(tmp_path, write=False)
    told = _report(tmp_path)

    assert dry == {**told, "derived": []}
    assert told["quarantined_rows"] == 4
    assert told["now_parsed"] == [{"kind": "audit", "was": "text/2", "parser": "audit/2", "rows": 1}]
    assert told["still_refused"] == [
        {"kind": "audit", "reason": "not_of_its_kind", "rows": 1},
        {"kind": "container", "reason": "no_header", "rows": 1},
    ]
    assert told["damaged_frames"] == 1
    assert [path.read_bytes() for path in packs] == before

    # a reader finds a row of the same id and bytes, with the columns that are known now
    (path,) = told["derived"]
    content_of, _ = DirectoryReader(tmp_path / "archive").get("work", path)
    derived = pq.read_table(BytesIO(content_of))
    assert json.loads(derived.schema.metadata[b"ashiato.parsers"]) == list(PARSERS)
    rows = conform(derived)
    held = next(
        rows for rows in map(conform, map(pq.read_table, packs)) if "EventList" in str(rows["body"].to_pylist())
    )
    at = uids(held).index(uids(rows)[0])
    assert render_rows(rows).to_pylist() == [WRAPPED] == render_rows(held).to_pylist()[at : at + 1]
    (row,) = rows.to_pylist()
    assert (row["event_action"], row["audit_id"], row["flags"]) == ("get", "a", 0)
    assert (row["file_id"], row["source"], row["observed_time_unix_nano"]) == tuple(
        held[name].to_pylist()[at] for name in ("file_id", "source", "observed_time_unix_nano")
    )
    # and a second run writes nothing new
    assert _report(tmp_path) == told
    assert len(list((tmp_path / "archive" / "work" / "derived").rglob("*.parquet"))) == 1


def test_the_command_prints_one_line_of_json(tmp_path: Path) -> None:
    asyncio.run(_archived(tmp_path, chunk(b"garbage\n")))
    settings = tmp_path / "ashiato.toml"
    settings.write_text(
        f'[ingest]\nbus = {{kind = "sqlite", path = "{tmp_path}/bus"}}\n'
        f'archive = {{directory = "{tmp_path}/archive"}}\nscratch_dir = "{tmp_path}/scratch"\n'
    )
    command = [sys.executable, "-m", "ingest", "reparse", "--config", str(settings)]
    done = subprocess.run([*command, "--report-only"], capture_output=True, check=True, timeout=60)
    told = json.loads(done.stdout)
    assert (told["quarantined_rows"], told["now_parsed_rows"], told["derived"]) == (1, 0, [])
    wrong = subprocess.run([*command[:3], "archive", "--report-only"], capture_output=True, check=False, timeout=60)
    assert wrong.returncode == 2

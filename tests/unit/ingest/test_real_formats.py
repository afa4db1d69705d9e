"""What is read out of real logs, held against what others know of them, where a folder of such logs is named."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ashiato import demo
from ashiato.core.auditd_text import command_line
from ashiato.core.ids import Kind, Source
from ashiato.core.render import render_file
from ingest.parse.severity import severity_of
from ingest.rows import build_rows
from tests.unit.ingest.files import admitted, chunks

INCIDENT = Path(demo.__file__).parent / "incident"
REAL = Path(os.environ.get("ASHIATO_DATA", ""))
needs_real = pytest.mark.skipif(not REAL.name, reason="ASHIATO_DATA names no folder of real logs")


def _rows(content: bytes, kind: Kind) -> tuple[list[dict[str, Any]], Counter[tuple[str, str]]]:
    source = Source(kind=kind, cluster="c1", node="n", path="x")
    rows, _, refused = build_rows(admitted(chunks(content, source=source)), {})
    assert render_file(rows) == content
    return rows.to_pylist(), refused


def _events(path: Path) -> list[bytes]:
    """Return the events of a file, one a line, whatever its indentation."""
    text = path.read_text()
    try:
        return [json.dumps(json.loads(text)).encode()]
    except json.JSONDecodeError:
        return [line.encode() for line in text.splitlines() if line]


def test_the_incident_tells_of_severity_and_execs() -> None:
    content = (INCIDENT / "control-plane" / "audit.log").read_bytes()
    rows, refused = _rows(content, Kind.AUDIT)
    assert not refused
    assert {row["audit_stage"] for row in rows if row["object_resource"] == "pods/exec"} >= {"ResponseStarted"}
    assert all(row["time_uncertainty_ns"] == 1_000 for row in rows)
    falco = next((INCIDENT / "node-1").rglob("events.json")).read_bytes()
    alerts, _ = _rows(falco, Kind.FALCO)
    assert [row["time_unix_nano"] for row in alerts] == [
        json.loads(line)["output_fields"]["evt.time"] for line in falco.splitlines()
    ]


@needs_real
@pytest.mark.parametrize("name", ["HDFS", "Zookeeper", "OpenStack"])
def test_levels_are_those_that_the_structured_files_name(name: str) -> None:
    content = (REAL / "loghub" / f"{name}_2k.log").read_bytes()
    if name == "OpenStack":
        # The collection put the name of the file before each line.
        content = b"".join(line.partition(b" ")[2] for line in content.splitlines(keepends=True))
    rows, _ = _rows(content, Kind.FILE)
    with (REAL / "loghub" / f"{name}_2k.log_structured.csv").open(newline="") as file:
        expected = [severity_of(line["Level"]) for line in csv.DictReader(file)]
    assert None not in expected
    assert [row["severity_number"] for row in rows] == expected


@needs_real
def test_levels_of_kafka_are_found_in_every_line_that_has_one() -> None:
    for path in sorted((REAL / "java").iterdir()):
        rows, _ = _rows(path.read_bytes(), Kind.FILE)
        begin = [row for row in rows if row["body"].startswith("[20")]
        assert all(row["severity_number"] for row in begin), path
        assert len({row["severity_number"] for row in begin}) <= 4


@needs_real
def test_ten_thousand_access_lines_tell_status_address_and_time() -> None:
    content = (REAL / "web" / "apache_access_10k.log").read_bytes()
    rows, _ = _rows(content, Kind.FILE)
    assert len(rows) == 10_000
    assert {row["event_name"] for row in rows} == {"http.access"}
    for row in rows:
        address, rest = row["body"].split(" ", 1)
        assert row["source_address"] == address
        assert row["http_status_code"] == int(rest.split('" ', 1)[1].split(" ", 1)[0])
        assert row["time_unix_nano"] is not None


@needs_real
def test_every_audit_event_is_taken_and_the_malformed_one_is_not() -> None:
    folder = REAL / "k8s_audit"
    lines = [line for path in sorted((folder / "falco_traces").glob("*.json")) for line in _events(path)]
    rows, refused = _rows(b"".join(line + b"\n" for line in lines), Kind.AUDIT)
    assert refused == {("audit", "not_of_its_kind"): 1}
    assert [row["body"] for row in rows if row["flags"]] == ['{"kind": 0}']
    assert all(row["audit_id"] and row["time_unix_nano"] for row in rows if not row["flags"])
    for name in ("demo.log", "demo_full_757.log"):
        rows, refused = _rows((folder / "audit2rbac" / name).read_bytes(), Kind.AUDIT)
        assert not refused
        assert all(row["user_name"] and row["event_action"] for row in rows)


@needs_real
def test_events_in_the_envelopes_of_clouds_are_taken() -> None:
    taken: Counter[str] = Counter()
    for line in (REAL / "k8s_audit" / "panther_vectors.jsonl").read_text().splitlines():
        if not line.strip():
            continue
        log = json.loads(line)["log"]
        inner = json.loads(log["properties"]["log"]) if "properties" in log else log
        payload = log.get("protoPayload") or {}
        is_event = "audit.k8s.io" in str(inner.get("apiVersion")) or payload.get("serviceName") == "k8s.io"
        (row,), _ = _rows(json.dumps(log).encode() + b"\n", Kind.AUDIT)
        if is_event:
            assert row["flags"] == 0, log
            assert row["event_action"] or inner.get("verb") is None
            taken["gke" if payload else "aks" if "properties" in log else "eks"] += 1
    assert min(taken[cloud] for cloud in ("gke", "aks", "eks")) > 10, taken


@needs_real
def test_alerts_of_falco_are_taken_and_its_start_up_text_is_counted() -> None:
    content = next((REAL / "falco").glob("*.log")).read_bytes()
    rows, refused = _rows(content, Kind.FALCO)
    alerts = [row for row in rows if not row["flags"]]
    assert len(alerts) == 23
    assert refused.total() == len(rows) - 23
    for row in alerts:
        assert row["time_unix_nano"] == json.loads(row["body"])["output_fields"]["evt.time.iso8601"]


@needs_real
def test_auditd_records_are_taken_and_what_ran_is_told() -> None:
    for path in sorted((REAL / "auditd").rglob("*.log")):
        rows, refused = _rows(path.read_bytes(), Kind.AUDITD)
        assert not {reason for _, reason in refused} - {"empty", "no_header"}, path
        by_serial: dict[str, list[str]] = {}
        for row in rows:
            if not row["flags"]:
                by_serial.setdefault(row["audit_id"], []).append(row["body"])
        for texts in by_serial.values():
            if any("type=EXECVE" in text for text in texts):
                assert command_line(texts), path

"""The same services as processes on a real Kafka, OpenSearch and S3 server, each with its own credentials."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from ashiato.adapters import archive as archives
from ashiato.adapters.clock import SystemClock
from ashiato.adapters.index_opensearch import OpenSearchIndex
from ashiato.adapters.index_packs import PackIndex
from ashiato.adapters.journal import Journal
from ashiato.adapters.opensearch_client import OpenSearchClient
from ashiato.core.query import Query, Wildcard
from ashiato.core.search import Leg
from ashiato.demo.replay import replay, script
from tests.e2e.line import Services, forget_index, settings_at_scale, until
from tests.parts.stack import Stack

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

INCIDENT = script()
ANCHOR = f"pod:{INCIDENT.deleted_pod}"
UID = "log.record.uid"
OUTAGE_S = float(os.environ.get("ASHIATO_OUTAGE_S", "8"))
"""How long each part is away; 60 for the long version."""


@pytest.fixture
def services(stack: Stack, tmp_path: Path) -> Iterator[Services]:
    asyncio.run(forget_index(stack.index()))
    nodes = tmp_path / "nodes"
    nodes.mkdir()
    line = Services(folder=tmp_path, settings=settings_at_scale(stack, tmp_path, nodes), token="told-token-of-a-test")
    line.start("retention", "archive", "index", "collector", "query")
    try:
        until(lambda: line.ask("/v1/search?q=*&limit=1"), "the query service answers")
        yield line
    finally:
        line.stop()


def test_a_dead_pod_is_told_of_with_nothing_alive_but_the_bucket(services: Services, stack: Stack) -> None:
    asyncio.run(replay(INCIDENT, services.folder / "nodes", speed=20, now_unix_nano=SystemClock().now_unix_nano))
    ended = SystemClock().now_unix_nano()

    def settled() -> Any:
        records, coverage = services.ask(f"/v1/timeline?anchor={quote(ANCHOR)}&limit=100000")
        reached = int(coverage.get("watermark_unix_nano", 0)) >= ended
        return (records, coverage) if coverage["complete"] and reached else None

    records, coverage = until(settled, "the timeline is complete")
    own = [step for step in INCIDENT.steps if INCIDENT.facts["web_deleted"] in step.path and step.act == "append"]
    kinds = Counter(record["ashiato.timeline.kind"] for record in records)
    assert kinds["output"] == len(own)
    assert min(kinds[kind] for kind in ("exec", "alert", "lifecycle", "audit")) >= 1
    assert "hot" in coverage["legs"]
    assert len({record[UID] for record in records}) == len(records)
    assert services.alive() == ["retention", "archive", "index", "collector", "query"]

    services.stop()
    stack.kafka.stop()
    stack.opensearch.stop()
    try:
        alone = subprocess.run(
            [sys.executable, "-m", "ashiato", "timeline", ANCHOR, "--archive", stack.address("query"), "--json",
             "--limit", "100000"], capture_output=True, check=False, timeout=120,
        )  # fmt: skip
    finally:
        stack.kafka.start()
        stack.opensearch.start()
    assert alone.returncode == 0, alone.stderr.decode()
    lines = [json.loads(line) for line in alone.stdout.splitlines()]
    assert [line[UID] for line in lines[:-1]] == [record[UID] for record in records]


class Writer(threading.Thread):
    """Writes numbered lines to three pods' files until it is told to end, rotating now and then."""

    def __init__(self, nodes: Path) -> None:
        super().__init__(daemon=True)
        self.written: list[str] = []
        self._nodes = nodes
        self._ending = threading.Event()

    def run(self) -> None:
        number = 0
        while not self._ending.is_set():
            pod = number % 3
            folder = self._nodes / f"n1/var/log/pods/shop_web-{pod}_0000000{pod}-aaaa-bbbb-cccc-dddddddddddd/web"
            folder.mkdir(parents=True, exist_ok=True)
            body = f"outage-line-{number:06d}"
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
            with (folder / "0.log").open("a", encoding="ascii") as file:
                file.write(f"{stamp}.{number % 1_000_000_000:09d}Z stdout F {body}\n")
            self.written.append(body)
            number += 1
            if number % 1501 == 0:
                (folder / "0.log").rename(folder / f"0.log.{number:015d}")
            self._ending.wait(0.005)

    def end(self) -> None:
        self._ending.set()
        self.join()


def test_nothing_is_lost_or_doubled_while_each_part_is_away(services: Services, stack: Stack) -> None:
    """C4, M1, J1: OpenSearch, Kafka and S3 are killed one after the other while lines are written."""
    writer = Writer(services.folder / "nodes")
    writer.start()
    until(lambda: found_in_archive(stack), "the first lines are archived")

    stack.opensearch.kill()
    before = len(found_in_archive(stack))
    until(lambda: len(found_in_archive(stack)) > before + 200, "the archive goes on without the index")
    _, coverage = services.ask("/v1/search?q=outage*&limit=10")
    assert not coverage["complete"]
    time.sleep(OUTAGE_S)
    stack.opensearch.start()

    stack.kafka.kill()
    time.sleep(OUTAGE_S)
    stack.kafka.start()
    there = len(writer.written)
    until(lambda: len(found_in_archive(stack)) >= there, "what was written before Kafka came back is archived")

    stack.s3.kill()
    time.sleep(OUTAGE_S)
    stack.s3.start()
    writer.end()

    expected = Counter(writer.written)
    until(lambda: Counter(found_in_archive(stack)) == expected, "every line is archived once")

    def searched() -> Any:
        records, _ = services.ask(f"/v1/search?q={quote('outage* AND kind:container')}&limit=100000")
        bodies = Counter(record["body"] for record in records)
        assert all(count == 1 for count in bodies.values())
        return bodies == expected

    until(searched, "every line is found once")
    until(lambda: asyncio.run(hot_bodies(stack)) == expected, "the hot index has caught up")
    assert services.alive() == ["retention", "archive", "index", "collector", "query"]
    assert not {error for role in services.children for error in errors(services.log(role))}


def found_in_archive(stack: Stack) -> list[str]:
    return asyncio.run(_found_in_archive(stack))


async def _found_in_archive(stack: Stack) -> list[str]:
    archive = archives.open_reader(stack.archive("query"))
    if not (await Journal(archive).refresh_async()).next_n:
        return []
    index = PackIndex(archive, tail=None)
    try:
        where = Wildcard(field="", pattern="outage*")
        leg = await index.search(Query(where=where, limit=100_000))
    finally:
        await index.close()
    return numbered(leg)


async def hot_bodies(stack: Stack) -> Counter[str]:
    hot = OpenSearchIndex(OpenSearchClient(stack.index()))
    try:
        leg = await hot.search(Query(where=Wildcard(field="", pattern="outage*"), limit=100_000))
    finally:
        await hot.close()
    return Counter(numbered(leg))


def numbered(leg: Leg) -> list[str]:
    return [str(body) for body in leg.rows["body"].to_pylist() if re.match(r"^outage-line-\d+$", str(body))]


def errors(log: str) -> Iterator[str]:
    """Yield the names of what a service called an error in its own log."""
    for line in log.splitlines():
        if line.startswith("{") and (event := json.loads(line)).get("level") == "error":
            yield str(event.get("event"))

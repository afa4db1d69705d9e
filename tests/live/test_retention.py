"""Retention with its own rights on a real Kafka, OpenSearch and S3."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ashiato.adapters import archive as archives
from ashiato.adapters import bus as buses
from ashiato.adapters.clock import FixedClock, SystemClock
from ashiato.adapters.journal import Journal
from ashiato.adapters.opensearch_client import OpenSearchClient
from ashiato.adapters.opensearch_keeper import OpenSearchKeeper
from ashiato.adapters.telemetry import Telemetry
from ashiato.core import frame
from ashiato.core.events import Level
from ashiato.core.ids import TOPIC_BULK, Kind, partition_of
from ashiato.core.journal import JournalState
from ashiato.core.ports import BusWriter, Partition
from ingest.archiver import Archiver, ArchiverSettings
from retention.policy import DAY_NS
from retention.service import Retention
from retention.settings import RetentionSettings
from tests.parts.stack import Stack
from tests.unit.retention.house import chunk_of, source_of

pytestmark = pytest.mark.live

PARTITIONS = 2


@dataclass(slots=True)
class Scene:
    """A collector's writer, archivers, and keepers, each as the user that it is."""

    stack: Stack
    folder: Path
    writer: BusWriter
    clock: FixedClock
    log: io.StringIO = field(default_factory=io.StringIO)
    offsets: dict[str, int] = field(default_factory=dict)

    @property
    def where(self) -> Partition:
        return Partition(TOPIC_BULK, partition_of(source_of(Kind.CONTAINER), PARTITIONS))

    async def write(self, text: str) -> None:
        chunk = chunk_of(text, name="file", at_ns=self.clock.now_unix_nano(), offsets=self.offsets, born_ns=0)
        await self.writer.send(self.where, frame.encode([chunk]))

    async def commit(self) -> JournalState:
        reader = await buses.open_reader(self.stack.bus("ingest"))
        archiver = Archiver(
            ArchiverSettings(actor="ingest", commit_raw_bytes=1 << 30, commit_age_ns=10**18),
            reader=reader,
            archive=archives.open_writer(self.stack.archive("ingest")),
            clock=self.clock,
            telemetry=Telemetry("ingest", stream=self.log),
            scratch=self.folder,
        )
        try:
            await archiver.drain()
        finally:
            await reader.close()
        return archiver.journal.state

    def retention(self) -> Retention:
        settings = RetentionSettings(
            bus=self.stack.bus("retention"),
            archive=self.stack.archive("retention"),
            opensearch=self.stack.index(),
            opensearch_replicas=0,
            priority_partitions=PARTITIONS,
            bulk_partitions=PARTITIONS,
            hot_days=3,
        )
        telemetry = Telemetry("retention", stream=self.log, level=Level.DEBUG)
        return Retention(settings=settings, clock=self.clock, telemetry=telemetry)

    def state(self) -> JournalState:
        return Journal(archives.open_reader(self.stack.archive("query"))).refresh()

    def stored(self) -> set[str]:
        reader = archives.open_reader(self.stack.archive("query"))
        return {ref.path for ref in reader.list("evidence", "retention_class=")}

    def events(self, name: str) -> list[dict[str, object]]:
        return [line for line in map(json.loads, self.log.getvalue().splitlines()) if line["event"] == name]


@pytest.fixture
async def scene(stack: Stack, tmp_path: Path) -> AsyncIterator[Scene]:
    writer = await buses.open_writer(stack.bus("collector"))
    scene = Scene(stack, tmp_path, writer, FixedClock(unix_nano=SystemClock().now_unix_nano()))
    yield scene
    await scene.writer.close()


async def test_kafka_is_freed_up_to_the_commit_and_an_archiver_goes_on(scene: Scene) -> None:
    retention = scene.retention()
    for n in range(5):
        await scene.write(f"line {n}")
    before = await scene.commit()
    await scene.write("newer")

    await retention.free()

    keeper = await buses.open_keeper(scene.stack.bus("retention"))
    assert await keeper.bounds(scene.where) == (4, 6)
    after = await scene.commit()
    assert after.positions[scene.where].incarnation == before.positions[scene.where].incarnation
    assert sum(pack.rows for pack in after.packs.values()) == 6 * 20
    await keeper.close()
    await retention.close()


async def test_kafka_topics_that_were_made_anew_are_not_freed(scene: Scene) -> None:
    for n in range(3):
        await scene.write(f"line {n}")
    await scene.commit()
    await asyncio.to_thread(scene.stack.kafka.fresh_topics, PARTITIONS)
    await scene.writer.close()
    scene.writer = await buses.open_writer(scene.stack.bus("collector"))
    scene.offsets.clear()
    for n in range(7):
        await scene.write(f"other {n}")
    retention = scene.retention()

    await retention.free()

    keeper = await buses.open_keeper(scene.stack.bus("retention"))
    assert await keeper.bounds(scene.where) == (0, 7)
    assert [event["topic"] for event in scene.events("bus_is_another")] == [TOPIC_BULK]
    await keeper.close()
    await retention.close()


async def test_packs_expire_from_s3_and_leave_no_version_behind(scene: Scene) -> None:
    await scene.write("old")
    (old,) = (await scene.commit()).packs.values()
    scene.clock.advance(29 * DAY_NS)
    await scene.write("young")
    await scene.commit()
    scene.clock.advance(DAY_NS)
    retention = scene.retention()

    await retention.expire()

    (young,) = scene.state().packs.values()
    assert scene.stored() == {young.path, young.manifest_path}
    assert old.path in scene.state().removed
    versions = archives.open_reader(scene.stack.archive("admin")).list_versions("evidence", "retention_class=")
    assert {version.ref.path for version in versions} == {young.path, young.manifest_path}
    await retention.close()


async def test_daily_indices_are_made_beforehand_and_dropped_when_their_rows_are_archived(scene: Scene) -> None:
    retention = scene.retention()
    await scene.write("line")
    await retention.prepare()
    first = {day for day, _ in await _days(scene)}
    scene.clock.advance(10 * DAY_NS)

    await retention.prepare()
    assert first <= {day for day, _ in await _days(scene)}
    assert scene.events("index_kept")
    await scene.commit()
    await retention.free()
    await retention.prepare()

    left = {day for day, _ in await _days(scene)}
    assert not first & left
    assert len(left) == 4
    await retention.close()


async def _days(scene: Scene) -> list[tuple[str, str]]:
    keeper = OpenSearchKeeper(OpenSearchClient(scene.stack.index()), replicas=0)
    try:
        return list(await keeper.days())
    finally:
        await keeper.close()

"""Who may do what: each line of the design's table that exists today, tried with the real credentials."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Protocol, TypeVar

import pytest

from ashiato.adapters.archive_s3 import S3Governor
from ashiato.adapters.bus_kafka import KafkaKeeper, KafkaReader, KafkaWriter
from ashiato.core.errors import RefusedError
from ashiato.core.ports import Bucket, BusRecord, ObjectRef, Partition
from tests.parts.kafka import KafkaPart
from tests.parts.seaweed import Buckets, SeaweedPart
from tests.parts.stack import archive_settings, bus_settings

pytestmark = pytest.mark.live

BULK = Partition("ashiato.bulk", 0)


class Closable(Protocol):
    async def close(self) -> None: ...


C = TypeVar("C", bound=Closable)


class Bus:
    """The bus, as whom one likes."""

    def __init__(self, part: KafkaPart, opened: AsyncExitStack) -> None:
        self._part = part
        self._opened = opened

    async def writer(self, user: str) -> KafkaWriter:
        return self._kept(await KafkaWriter.open(bus_settings(self._part, user)))

    async def reader(self, user: str) -> KafkaReader:
        return self._kept(await KafkaReader.open(bus_settings(self._part, user)))

    async def keeper(self, user: str) -> KafkaKeeper:
        return self._kept(await KafkaKeeper.open(bus_settings(self._part, user)))

    def _kept(self, side: C) -> C:
        self._opened.push_async_callback(side.close)
        return side


@pytest.fixture
async def bus(kafka: KafkaPart) -> AsyncIterator[Bus]:
    kafka.fresh_topics()
    async with AsyncExitStack() as opened:
        yield Bus(kafka, opened)


async def test_each_service_does_its_part_on_the_bus(bus: Bus) -> None:
    writer, reader, keeper = await bus.writer("collector"), await bus.reader("ingest"), await bus.keeper("retention")

    assert await writer.partitions(BULK.topic) == 2
    assert [await writer.send(BULK, b"%d" % n) for n in range(3)] == [0, 1, 2]
    await reader.assign({BULK: 1})
    assert [record.value for record in await reader.poll(bytes_max=1 << 20, wait_ns=10_000_000_000)] == [b"1", b"2"]
    await keeper.free(BULK, 2)
    await keeper.create_topics({"ashiato.more": 1})
    assert await keeper.bounds(BULK) == (2, 3)


async def test_the_collector_does_not_read_the_bus(bus: Bus) -> None:
    await (await bus.writer("collector")).send(BULK, b"evidence")
    reader = await bus.reader("collector")
    await reader.assign({BULK: 0})

    with pytest.raises(RefusedError, match="may not read"):
        await _poll_until_something(reader)


@pytest.mark.parametrize("user", ["ingest", "retention"])
async def test_who_does_not_collect_does_not_write_to_the_bus(bus: Bus, user: str) -> None:
    with pytest.raises(RefusedError, match="this user may not"):
        await (await bus.writer(user)).send(BULK, b"forged")

    assert await (await bus.reader("ingest")).bounds(BULK) == (0, 0)


@pytest.mark.parametrize("user", ["collector", "ingest"])
async def test_only_retention_makes_topics_and_forgets(bus: Bus, user: str) -> None:
    await (await bus.writer("collector")).send(BULK, b"evidence")
    keeper = await bus.keeper(user)

    with pytest.raises(RefusedError, match="may not make topics"):
        await keeper.create_topics({"ashiato.more": 1})
    with pytest.raises(RefusedError, match="may not delete records"):
        await keeper.free(BULK, 1)

    assert await keeper.bounds(BULK) == (0, 1)


async def test_the_collector_writes_to_its_topics_alone(bus: Bus, kafka: KafkaPart) -> None:
    kafka.create_topics({"someone.elses": 1})

    with pytest.raises(RefusedError):
        await (await bus.writer("collector")).partitions("someone.elses")


async def _poll_until_something(reader: KafkaReader) -> list[BusRecord]:
    async with asyncio.timeout(30):
        while not (found := await reader.poll(bytes_max=1 << 20, wait_ns=200_000_000)):
            pass
    return found


@pytest.fixture(scope="module")
def buckets(s3: SeaweedPart) -> Buckets:
    return s3.fresh_buckets()


Archive = Callable[[str], S3Governor]


@pytest.fixture(scope="module")
def archive(s3: SeaweedPart, buckets: Buckets) -> Archive:
    """The archive, as whom one likes: the adapter can do everything, the credentials cannot."""
    return lambda identity: S3Governor(archive_settings(s3, identity, buckets))


@pytest.fixture(scope="module")
def held(archive: Archive) -> dict[Bucket, ObjectRef]:
    ingest = archive("ingest")
    return {"evidence": ingest.put("evidence", "pack", b"evidence"), "work": ingest.put("work", "filter", b"work")}


@pytest.mark.parametrize("identity", ["ingest", "index", "query", "retention"])
def test_every_service_reads_both_buckets_and_knows_what_they_are(
    archive: Archive, held: dict[Bucket, ObjectRef], identity: str
) -> None:
    reader = archive(identity)

    for bucket, ref in held.items():
        assert reader.get(bucket, ref.path)[1] == ref
        assert reader.get_range(ref, 0, 2)
        assert ref.path in [found.path for found in reader.list(bucket, "")]
        assert ref.path in [found.ref.path for found in reader.list_versions(bucket, "")]
    facts = reader.check()
    assert facts.versioned
    assert facts.locked


def test_ingest_puts_in_both(archive: Archive) -> None:
    ingest = archive("ingest")

    assert ingest.put_if_absent("evidence", "_delta_log/0.json", b"{}").version_id
    assert ingest.put("work", "frontier/page", b"{}").version_id


@pytest.mark.parametrize("bucket", ["evidence", "work"])
@pytest.mark.parametrize("identity", ["ingest", "index", "query"])
def test_only_retention_deletes(archive: Archive, held: dict[Bucket, ObjectRef], identity: str, bucket: Bucket) -> None:
    with pytest.raises(RefusedError, match="may not delete"):
        archive(identity).delete(held[bucket])

    assert archive("retention").get(bucket, held[bucket].path)[1] == held[bucket]


@pytest.mark.parametrize("bucket", ["evidence", "work"])
@pytest.mark.parametrize("identity", ["ingest", "index", "query"])
def test_nobody_hides_an_object_behind_a_delete_marker(
    archive: Archive, held: dict[Bucket, ObjectRef], s3: SeaweedPart, buckets: Buckets, identity: str, bucket: Bucket
) -> None:
    client = s3.client(identity)
    name = buckets.evidence if bucket == "evidence" else buckets.work

    with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
        client.delete_object(Bucket=name, Key=held[bucket].path)

    assert held[bucket].path in [found.path for found in archive("query").list(bucket, "")]


@pytest.mark.parametrize("identity", ["index", "query"])
def test_who_does_not_archive_puts_nothing_in_evidence(archive: Archive, identity: str) -> None:
    writer = archive(identity)

    with pytest.raises(RefusedError, match="may not put"):
        writer.put("evidence", "forged", b"forged")
    with pytest.raises(RefusedError, match="may not put"):
        writer.put_if_absent("evidence", "_delta_log/9.json", b"{}")
    with pytest.raises(RefusedError, match="may not put"):
        writer.put("evidence", "workspace/forged", b"forged")


def test_index_puts_nothing_in_work(archive: Archive) -> None:
    with pytest.raises(RefusedError, match="may not put"):
        archive("index").put("work", "workspace/x", b"x")


def test_query_puts_under_workspace_alone(archive: Archive) -> None:
    query = archive("query")

    assert query.put("work", "workspace/cases/1", b"{}").version_id
    assert query.put_if_absent("work", "workspace/cases/2", b"{}").version_id
    for path in ("frontier/page", "filters/x", "workspaces/x"):
        with pytest.raises(RefusedError, match="may not put"):
            query.put("work", path, b"{}")


def test_retention_deletes_what_is_not_locked(archive: Archive) -> None:
    retention = archive("retention")
    refs = [retention.put("work", "old", b"old"), retention.put("evidence", "old", b"old")]

    for ref in refs:
        retention.delete(ref)

    assert "old" not in [found.path for found in retention.list("evidence", "")]


def test_not_even_retention_deletes_what_is_locked(s3: SeaweedPart) -> None:
    retention = S3Governor(archive_settings(s3, "retention", s3.fresh_buckets(lock_days=1)))
    ref = retention.put("evidence", "pack", b"bytes")

    with pytest.raises(RefusedError, match="may not delete"):
        retention.delete(ref)

    assert retention.get("evidence", "pack")[1] == ref


def test_the_collector_has_no_key_to_the_archive(s3: SeaweedPart) -> None:
    with pytest.raises(FileNotFoundError):
        s3.client("collector")

"""The bus at scale: Apache Kafka through aiokafka.

A writer has one frame of a partition under way at a time, with acks=all and an idempotent session. A frame whose
fate is unknown stops its partition until :meth:`KafkaWriter.reset` has closed the session: aiokafka never gives up a
batch of an idempotent producer, and a batch that is tried for ever behind the caller's back could arrive after the
frames that the caller sent again (C4). What the dead session had already handed to a broker may still be appended
there once more; it holds bytes that are sent again anyway, and the receiver trims them by its frontier (J4).

A reader belongs to no group, has no memory of its own, and starts where it is told: positions live in the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from ashiato.adapters.bus import BusSettings
from ashiato.adapters.kafka_client import (
    UNANSWERED,
    TopicFacts,
    as_ours,
    configuration_of,
    connection,
    explain,
    facts_of,
    translated,
)
from ashiato.core.errors import NotHeldError, RejectedError, SettingsError, TransientError
from ashiato.core.limits import FRAME_BYTES_MAX, MIB
from ashiato.core.ports import BusRecord, Partition

RECORD_OVERHEAD_BYTES = 1024
"""What a record and its batch add to a frame, generously."""
FETCH_BYTES = 8 * MIB
"""What one fetch brings at the most, and so what a reader holds beside what it has handed out."""
PARTITION_FETCH_BYTES = 2 * MIB
REPLICAS = 3
"""Copies of a topic where the cluster has that many brokers; all but one must have a frame before it is kept."""
LOOK_S = 10.0
"""How often a reader makes sure that the log it reads is still the one that it was given."""


class KafkaWriter:
    """The collector's side."""

    def __init__(self, settings: BusSettings) -> None:
        self._settings = settings
        self._session: _Session | None = None
        self._opening = asyncio.Lock()
        self._partitions: dict[str, int] = {}
        self._closed = False

    @classmethod
    async def open(cls, settings: BusSettings) -> Self:
        """Connect; where nobody answers, do so when it is used. Raises SettingsError, RefusedError."""
        writer = cls(settings)
        with contextlib.suppress(TransientError):
            writer._session = await _Session.open(settings)
        return writer

    async def partitions(self, topic: str) -> int:
        """Return how many partitions ``topic`` has; the first time, make sure that it takes our frames.

        Raises:
            NotHeldError: no such topic.
            SettingsError: its ``max.message.bytes`` is too small.
            TransientError: no answer.

        """
        session = await self._ready()
        facts = await facts_of(session.producer.client, topic, timeout_s=self._settings.request_timeout_s)
        if topic not in self._partitions:
            taken = int((await configuration_of(self._settings, topic))["max.message.bytes"])
            if taken < FRAME_BYTES_MAX + RECORD_OVERHEAD_BYTES:
                raise SettingsError(
                    f"topic {topic} takes records of {taken} bytes: set its max.message.bytes to"
                    f" {FRAME_BYTES_MAX + RECORD_OVERHEAD_BYTES} or more"
                )
        self._partitions[topic] = facts.partitions
        return facts.partitions

    async def incarnation(self, topic: str) -> str:
        """Return the cluster's id and the topic's."""
        session = await self._ready()
        client = session.producer.client
        return (await facts_of(client, topic, timeout_s=self._settings.request_timeout_s)).incarnation

    async def send(self, partition: Partition, value: bytes) -> int:
        """Return the position of ``value`` once all in-sync replicas have it."""
        if len(value) > FRAME_BYTES_MAX:
            raise RejectedError("record is larger than the bus takes", size=len(value), size_max=FRAME_BYTES_MAX)
        if partition.topic not in self._partitions:
            await self.partitions(partition.topic)
        if not 0 <= partition.number < self._partitions[partition.topic]:
            raise NotHeldError("no such partition", topic=partition.topic, partition=partition.number)
        session = await self._ready()
        return await session.send(partition, value)

    async def reset(self) -> None:
        """Close a session in which a send failed, and open a new one; one that is sound is left as it is.

        Two partitions that failed together both ask: the second finds a new session, which it must not close under
        the first one's feet.
        """
        async with self._opening:
            if self._session is not None and self._session.failed:
                await self._session.abandon()
                self._session = None
            if self._session is None:
                self._session = await _Session.open(self._settings)

    async def close(self) -> None:
        """Let go of the connection; what was not acknowledged is not kept."""
        async with self._opening:
            self._closed = True
            if self._session is not None:
                await self._session.abandon()
                self._session = None

    async def _ready(self) -> _Session:
        """Return the session; where there is none, because nobody answered, open it now."""
        async with self._opening:
            if self._session is None:
                if self._closed:
                    raise TransientError("the writer is closed")
                self._session = await _Session.open(self._settings)
            return self._session


class _Producer(AIOKafkaProducer):  # type: ignore[misc]  # the driver is untyped
    """A producer that can be given up: ``stop`` would first deliver what is pending, however long that takes."""

    async def abandon(self) -> None:
        """Fail what is pending and close the connections; on return nothing of it is under way in this process."""
        self._closed = True
        task = self._sender.sender_task
        if task is not None:
            task.cancel()
        self._message_accumulator.fail_all(kafka_errors.ProducerClosed())
        await self.client.close()
        # Who fetched metadata is gone now, and who waits for it would wait for ever.
        news = self.client._md_update_fut  # noqa: SLF001 - the driver leaves it unanswered
        if news is None:
            self.client._md_update_fut = news = asyncio.get_running_loop().create_future()  # noqa: SLF001 - as above
        if not news.done():
            news.set_result(False)
        if task is not None:
            # A request that was about to leave ends within its time-out; it may have opened a connection meanwhile.
            await asyncio.wait([task])
            await self.client.close()


@dataclass(slots=True)
class _Session:
    """One idempotent producer, from its start to the first failure."""

    settings: BusSettings
    producer: _Producer
    failed: set[Partition] = field(default_factory=set)
    locks: dict[Partition, asyncio.Lock] = field(default_factory=dict)

    @classmethod
    async def open(cls, settings: BusSettings) -> _Session:
        producer = _Producer(
            **connection(settings), acks="all", enable_idempotence=True, linger_ms=0,
            max_request_size=FRAME_BYTES_MAX + RECORD_OVERHEAD_BYTES,
        )  # fmt: skip
        try:
            # The driver waits without end for a producer id.
            async with asyncio.timeout(2 * settings.request_timeout_s):
                await producer.start()
        except UNANSWERED as error:
            await producer.abandon()
            await explain(settings)
            raise as_ours(error, "open a session", {"bootstrap_servers": settings.bootstrap_servers}) from error
        except asyncio.CancelledError:
            await producer.abandon()
            raise
        return cls(settings, producer)

    async def send(self, partition: Partition, value: bytes) -> int:
        facts = {"topic": partition.topic, "partition": partition.number}
        async with self.locks.setdefault(partition, asyncio.Lock()):
            if partition in self.failed:
                raise TransientError("an earlier send to this partition failed: reset first", **facts)
            # Whatever ends this before the answer leaves the frame's fate unknown, a cancelled task included.
            self.failed.add(partition)
            with translated("keep the frame", **facts):
                # An idempotent batch is tried again without end, so that the end is ours.
                async with asyncio.timeout(2 * self.settings.request_timeout_s):
                    sent = await self.producer.send_and_wait(partition.topic, value, partition=partition.number)
            if sent.offset < 0:
                raise TransientError("Kafka has the frame and does not say where", **facts)
            self.failed.discard(partition)
            return int(sent.offset)

    async def abandon(self) -> None:
        """Give the producer up. Raises TransientError where a request does not end."""
        with translated("end a request"):
            async with asyncio.timeout(4 * self.settings.request_timeout_s):
                await self.producer.abandon()


class KafkaReader:
    """Ingest's side."""

    def __init__(self, settings: BusSettings, consumer: AIOKafkaConsumer, asker: AIOKafkaConsumer) -> None:
        self._settings = settings
        self._consumer = consumer
        # A broker answers one connection in order, and a fetch that finds nothing waits for half a second: so
        # questions go another way.
        self._asker = asker
        self._ready: deque[BusRecord] = deque()
        self._incarnations: dict[str, str] = {}
        self._checked: set[str] = set()
        self._looked = 0.0

    @classmethod
    async def open(cls, settings: BusSettings) -> Self:
        """Connect. Raises SettingsError, RefusedError, TransientError."""
        consumer = await _consumer(settings)
        try:
            return cls(settings, consumer, await _asker(settings))
        except BaseException:
            await consumer.stop()
            raise

    async def partitions(self, topic: str) -> int:
        """Return how many partitions ``topic`` has; the first time, make sure that it forgets nothing in between.

        Raises:
            NotHeldError: no such topic.
            SettingsError: its ``cleanup.policy`` is not ``delete`` (J5).
            TransientError: no answer.

        """
        facts = await self._facts(topic)
        if topic not in self._checked:
            policy = (await configuration_of(self._settings, topic))["cleanup.policy"]
            if policy != "delete":
                raise SettingsError(
                    f'topic {topic} has cleanup.policy "{policy}", which loses records: set it to "delete"'
                )
            self._checked.add(topic)
        return facts.partitions

    async def incarnation(self, topic: str) -> str:
        """Return the cluster's id and the topic's: a topic that was deleted and made again has another one."""
        return (await self._facts(topic)).incarnation

    async def bounds(self, partition: Partition) -> tuple[int, int]:
        """Return (first readable position, next position)."""
        return await _bounds(self._asker, self._settings, partition)

    async def assign(self, starts: Mapping[Partition, int]) -> None:
        """Read from these positions on."""
        self._ready.clear()
        self._incarnations = {topic: await self.incarnation(topic) for topic in {at.topic for at in starts}}
        self._looked = asyncio.get_running_loop().time()
        places = {_place(partition): position for partition, position in starts.items()}
        self._consumer.assign(list(places))
        for place, position in places.items():
            self._consumer.seek(place, position)

    async def poll(self, *, bytes_max: int, wait_ns: int) -> list[BusRecord]:
        """Return what is there, or wait for it.

        Raises:
            NotHeldError: a position lies outside of its log, or the topic was deleted or made anew meanwhile.
            RefusedError: this user may not read.
            TransientError: Kafka does not answer.

        """
        if not self._ready:
            await self._fetch(wait_ns)
        found: list[BusRecord] = []
        room = bytes_max
        while self._ready and (not found or len(self._ready[0].value) <= room):
            found.append(self._ready.popleft())
            room -= len(found[-1].value)
        return found

    async def read_one(self, partition: Partition, position: int) -> BusRecord | None:
        """Return one record, or None."""
        start, end = await self.bounds(partition)
        if not start <= position < end:
            return None
        place = _place(partition)
        with translated("read a record", topic=partition.topic, partition=partition.number, position=position):
            if place not in self._asker.assignment():
                self._asker.assign([place])
            else:
                self._asker.resume(place)
            self._asker.seek(place, position)
            try:
                async with asyncio.timeout(self._settings.request_timeout_s):
                    record = await self._asker.getone(place)
            except kafka_errors.OffsetOutOfRangeError:
                return None  # freed between the two questions
            finally:
                self._asker.pause(place)  # it fetches nothing that nobody asked for
        # A log whose records were taken from its middle gives the next one that is left.
        return _record(partition, record.offset, record.value) if record.offset == position else None

    async def close(self) -> None:
        """Let go of the connections."""
        await self._consumer.stop()
        await self._asker.stop()

    async def _fetch(self, wait_ns: int) -> None:
        await self._look()
        with translated("read"):
            try:
                batches = await self._consumer.getmany(timeout_ms=wait_ns // 1_000_000)
            except kafka_errors.OffsetOutOfRangeError as error:
                (place, position), *_ = error.args[0].items()
                raise NotHeldError(
                    "position is outside of the log", topic=place.topic, partition=place.partition, position=position
                ) from error
        for place, records in batches.items():
            partition = Partition(place.topic, place.partition)
            self._ready.extend(_record(partition, record.offset, record.value) for record in records)

    async def _look(self) -> None:
        """Ask now and then for what the driver keeps to itself: that nobody answers, that the log is another one."""
        now = asyncio.get_running_loop().time()
        if now - self._looked < LOOK_S:
            return
        for topic, incarnation in self._incarnations.items():
            if (await self._facts(topic)).incarnation != incarnation:
                raise NotHeldError("the topic was made anew", topic=topic)
        self._looked = now

    async def _facts(self, topic: str) -> TopicFacts:
        return await facts_of(self._asker._client, topic, timeout_s=self._settings.request_timeout_s)  # noqa: SLF001 - no other way to the connection


class KafkaKeeper:
    """Retention's side."""

    def __init__(self, settings: BusSettings, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer) -> None:
        self._settings = settings
        self._admin = admin
        self._consumer = consumer

    @classmethod
    async def open(cls, settings: BusSettings) -> Self:
        """Connect. Raises SettingsError, RefusedError, TransientError."""
        consumer = await _consumer(settings)
        admin = AIOKafkaAdminClient(**connection(settings))
        try:
            with translated("answer", bootstrap_servers=settings.bootstrap_servers):
                async with asyncio.timeout(2 * settings.request_timeout_s):
                    await admin.start()
        except BaseException:
            await admin.close()
            await consumer.stop()
            raise
        return cls(settings, admin, consumer)

    async def create_topics(self, topics: Mapping[str, int]) -> None:
        """Make what does not exist: no limit of time or size, since only what the archive has may be forgotten.

        Raises:
            RefusedError: this user may not.
            TransientError: no answer.

        """
        with translated("make topics"):
            async with asyncio.timeout(2 * self._settings.request_timeout_s):
                brokers = len((await self._admin.describe_cluster())["brokers"])
                replicas = min(REPLICAS, brokers)
                configs = {
                    "cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1",
                    "max.message.bytes": str(MIB), "min.insync.replicas": str(max(1, replicas - 1)),
                }  # fmt: skip
                new = [
                    NewTopic(topic, num_partitions=partitions, replication_factor=replicas, topic_configs=configs)
                    for topic, partitions in topics.items()
                ]
                response = await self._admin.create_topics(new)
            for _, error_code, *_ in response.topic_errors:
                error = kafka_errors.for_code(error_code)
                if error_code and error is not kafka_errors.TopicAlreadyExistsError:
                    raise error
        for topic in topics:
            await self._until_there(topic)

    async def free(self, partition: Partition, before: int) -> None:
        """Forget positions below ``before``."""
        start, end = await self.bounds(partition)
        upto = min(before, end)
        if upto <= start:
            return
        with translated("delete records", topic=partition.topic, partition=partition.number):
            async with asyncio.timeout(2 * self._settings.request_timeout_s):
                await self._admin.delete_records({_place(partition): RecordsToDelete(before_offset=upto)})

    async def bounds(self, partition: Partition) -> tuple[int, int]:
        """Return (first readable position, next position)."""
        return await _bounds(self._consumer, self._settings, partition)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._admin.close()
        await self._consumer.stop()

    async def _until_there(self, topic: str) -> None:
        """Wait until a broker knows the topic: the controller answers before the brokers have heard of it."""
        client = self._consumer._client  # noqa: SLF001 - no other way to the connection
        with translated(f"make topic {topic}", topic=topic):
            async with asyncio.timeout(self._settings.request_timeout_s):
                while True:
                    with contextlib.suppress(NotHeldError):
                        await facts_of(client, topic, timeout_s=self._settings.request_timeout_s)
                        return
                    await asyncio.sleep(0.05)


async def _asker(settings: BusSettings) -> AIOKafkaConsumer:
    """Return a consumer that fetches one record when it is asked to, and waits for none."""
    return await _consumer(settings, partition_fetch_bytes=FRAME_BYTES_MAX + RECORD_OVERHEAD_BYTES, wait_ms=10)


async def _consumer(
    settings: BusSettings, *, partition_fetch_bytes: int = PARTITION_FETCH_BYTES, wait_ms: int = 500
) -> AIOKafkaConsumer:
    consumer = AIOKafkaConsumer(
        **connection(settings), group_id=None, enable_auto_commit=False, auto_offset_reset="none",
        fetch_max_bytes=FETCH_BYTES, max_partition_fetch_bytes=partition_fetch_bytes,
        fetch_max_wait_ms=wait_ms,
    )  # fmt: skip
    try:
        async with asyncio.timeout(2 * settings.request_timeout_s):
            await consumer.start()
    except UNANSWERED as error:
        await consumer.stop()
        await explain(settings)
        raise as_ours(error, "answer", {"bootstrap_servers": settings.bootstrap_servers}) from error
    except asyncio.CancelledError:
        await consumer.stop()
        raise
    return consumer


async def _bounds(consumer: AIOKafkaConsumer, settings: BusSettings, partition: Partition) -> tuple[int, int]:
    place = _place(partition)
    named = {"topic": partition.topic, "partition": partition.number}
    facts = await facts_of(consumer._client, partition.topic, timeout_s=settings.request_timeout_s)  # noqa: SLF001 - no other way to the connection
    if not 0 <= partition.number < facts.partitions:
        raise NotHeldError("no such partition", **named)
    with translated("tell the bounds of a log", **named):
        async with asyncio.timeout(2 * settings.request_timeout_s):
            # The start first: what is freed between the two questions makes it lower than it is, never higher.
            start = (await consumer.beginning_offsets([place]))[place]
            end = (await consumer.end_offsets([place]))[place]
    return int(start), int(end)


def _place(partition: Partition) -> TopicPartition:
    return TopicPartition(partition.topic, partition.number)


def _record(partition: Partition, position: int, value: bytes | None) -> BusRecord:
    return BusRecord(partition=partition, position=position, value=value or b"")

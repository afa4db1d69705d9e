"""What lies in the topic at the end: every value, with the time at which the broker appended it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition

from ashiato.core import frame
from ashiato.core.chunk import Chunk

if TYPE_CHECKING:
    from tests.parts.kafka import KafkaPart

T = TypeVar("T")
MAGIC = frame.MAGIC


class Topic:
    """One topic of a running broker, read as its admin."""

    def __init__(self, kafka: KafkaPart, name: str) -> None:
        self._kafka = kafka
        self._name = name

    def anew(self, partitions: int) -> None:
        """Make all topics anew and empty; the broker stamps what it appends, and unpacks what comes packed."""
        self._kafka.delete_topics()
        told = {"retention.ms": "-1", "message.timestamp.type": "LogAppendTime", "compression.type": "uncompressed"}
        self._kafka.create_topics({"ashiato.priority": 1, self._name: partitions}, configs=told)

    def records(self) -> int:
        """Return how many records it holds."""

        async def ask(consumer: AIOKafkaConsumer) -> int:
            places = self._places(consumer)
            return sum((await consumer.end_offsets(places)).values())

        return self._run(ask)

    def values(self) -> list[tuple[int, bytes]]:
        """Return (appended in ms, value) of every record."""

        async def read(consumer: AIOKafkaConsumer) -> list[tuple[int, bytes]]:
            places = self._places(consumer)
            ends = await consumer.end_offsets(places)
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            found: list[tuple[int, bytes]] = []
            while len(found) < sum(ends.values()):
                for records in (await consumer.getmany(timeout_ms=1000)).values():
                    found += [(record.timestamp, record.value) for record in records]
            return found

        return self._run(read)

    def _places(self, consumer: AIOKafkaConsumer) -> list[TopicPartition]:
        return [TopicPartition(self._name, number) for number in consumer.partitions_for_topic(self._name) or ()]

    def _run(self, work: Callable[[AIOKafkaConsumer], Awaitable[T]]) -> T:
        async def run() -> T:
            consumer = AIOKafkaConsumer(
                self._name, bootstrap_servers=self._kafka.bootstrap_servers, security_protocol="SASL_SSL",
                ssl_context=ssl.create_default_context(cafile=self._kafka.ca_file), sasl_mechanism="PLAIN",
                sasl_plain_username="admin", sasl_plain_password=self._kafka.secret("admin"),
                enable_auto_commit=False, max_partition_fetch_bytes=8 << 20,
            )  # fmt: skip
            await consumer.start()
            consumer.unsubscribe()
            try:
                return await work(consumer)
            finally:
                await consumer.stop()

        return asyncio.run(run())


def texts(values: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Yield (appended in ms, text): a frame is opened, anything else is text already."""
    for at_ms, value in values:
        if value.startswith(MAGIC):
            chunks: list[Chunk] = frame.decode(value)
            yield from ((at_ms, chunk.payload) for chunk in chunks)
        else:
            yield at_ms, value

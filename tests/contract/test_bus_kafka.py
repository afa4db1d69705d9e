"""The Kafka bus keeps the contract on a real broker, with the real rights of each service, and survives its absence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from ashiato.adapters.bus import BusSettings
from ashiato.adapters.bus_kafka import KafkaKeeper, KafkaReader, KafkaWriter
from ashiato.core.errors import NotHeldError, RefusedError, SettingsError, TransientError
from tests.contract.bus_contract import FIRST, SECOND, TOPIC, WAIT_NS, BusContract, House, read, values
from tests.parts import certificates
from tests.parts.kafka import KafkaPart
from tests.parts.stack import bus_settings

pytestmark = pytest.mark.live

IMPATIENT_S = 1.0


class _KafkaHouse(House):
    """The bus of a broker whose topics were removed."""

    def __init__(self, part: KafkaPart, *, timeout_s: float = 15.0) -> None:
        super().__init__()
        self.part = part
        self._timeout_s = timeout_s

    async def open_writer(self) -> KafkaWriter:
        return await KafkaWriter.open(self.settings("collector"))

    async def open_reader(self) -> KafkaReader:
        return await KafkaReader.open(self.settings("ingest"))

    async def open_keeper(self) -> KafkaKeeper:
        return await KafkaKeeper.open(self.settings("retention"))

    def settings(self, user: str) -> BusSettings:
        return msgspec.structs.replace(bus_settings(self.part, user), request_timeout_s=self._timeout_s)


@pytest.fixture
async def house(kafka: KafkaPart) -> AsyncIterator[House]:
    kafka.delete_topics()
    house = _KafkaHouse(kafka)
    yield house
    await house.close()


class TestKafkaBus(BusContract):
    async def test_a_topic_that_was_made_anew_is_another_incarnation(self, house: House, kafka: KafkaPart) -> None:
        await house.keeper()
        reader = await house.reader()
        before = await reader.incarnation(TOPIC)

        kafka.delete_topics()
        await house.keeper()

        assert await reader.incarnation(TOPIC) != before

    async def test_a_topic_that_compacts_is_not_read(self, house: House, kafka: KafkaPart) -> None:
        kafka.create_topics({TOPIC: 1}, configs={"cleanup.policy": "compact"})
        reader = await house.reader()

        with pytest.raises(SettingsError, match=r"cleanup\.policy"):
            await reader.partitions(TOPIC)

    async def test_a_topic_that_takes_only_small_records_is_not_written(self, house: House, kafka: KafkaPart) -> None:
        kafka.create_topics({TOPIC: 1}, configs={"max.message.bytes": "100000"})
        writer = await house.writer()

        with pytest.raises(SettingsError, match=r"max\.message\.bytes"):
            await writer.partitions(TOPIC)


@pytest.mark.parametrize("side", [KafkaWriter, KafkaReader, KafkaKeeper])
async def test_a_wrong_password_is_refused_and_not_tried_for_ever(
    kafka: KafkaPart, tmp_path: Path, side: type[KafkaWriter | KafkaReader | KafkaKeeper]
) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"username": "ingest", "password": "wrong"}')
    settings = msgspec.structs.replace(bus_settings(kafka, "ingest"), credentials_file=str(wrong))

    with pytest.raises(RefusedError, match="refuses the credentials"):
        await side.open(settings)


async def test_a_certificate_of_another_ca_is_not_trusted(kafka: KafkaPart, tmp_path: Path) -> None:
    certificates.make(tmp_path)
    settings = msgspec.structs.replace(bus_settings(kafka, "ingest"), ca_file=str(tmp_path / "ca.pem"))

    with pytest.raises(SettingsError, match="not trusted"):
        await KafkaReader.open(settings)


@pytest.mark.parametrize(
    "change", [{"bootstrap_servers": ""}, {"ca_file": "/nowhere/ca.pem"}, {"credentials_file": "/nowhere/user.json"}]
)
async def test_settings_that_cannot_work_are_said(kafka: KafkaPart, change: dict[str, str]) -> None:
    with pytest.raises(SettingsError):
        await KafkaReader.open(msgspec.structs.replace(bus_settings(kafka, "ingest"), **change))


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaPart]:
    """A broker that tests may stop."""
    part = KafkaPart(tmp_path_factory.mktemp("own") / "kafka")
    part.start()
    yield part
    part.kill()


@pytest.fixture
async def own_house(own_kafka: KafkaPart) -> AsyncIterator[_KafkaHouse]:
    """Its bus, and callers who do not wait for long."""
    own_kafka.start()
    own_kafka.delete_topics()
    house = _KafkaHouse(own_kafka, timeout_s=IMPATIENT_S)
    yield house
    own_kafka.resume()
    await house.close()


async def test_a_bus_that_is_away_is_a_bad_moment_and_comes_back_with_everything(
    own_kafka: KafkaPart, own_house: _KafkaHouse
) -> None:
    await own_house.keeper()
    writer, reader = await own_house.writer(), await own_house.reader()
    await writer.send(FIRST, b"before")
    incarnation = await reader.incarnation(TOPIC)

    own_kafka.kill()
    with pytest.raises(TransientError):
        await writer.send(FIRST, b"meanwhile")
    with pytest.raises(TransientError):
        await writer.send(FIRST, b"not before a reset")
    with pytest.raises(TransientError):
        await writer.reset()
    with pytest.raises(TransientError):
        await reader.bounds(FIRST)
    late = await KafkaWriter.open(own_house.settings("collector"))
    with pytest.raises(TransientError):
        await late.partitions(TOPIC)

    own_kafka.start()
    assert await late.partitions(TOPIC) == await reader.partitions(TOPIC)
    await late.close()
    await writer.reset()
    assert await writer.send(FIRST, b"after") == 1
    await reader.assign({FIRST: 0})
    assert values(await read(reader, 2)) == [b"before", b"after"]
    assert await reader.incarnation(TOPIC) == incarnation


async def test_a_frozen_bus_does_not_hold_its_callers(own_kafka: KafkaPart, own_house: _KafkaHouse) -> None:
    """Connections stay open and nobody answers: what was sent may still be kept, and is never out of order."""
    await own_house.keeper()
    writer, reader = await own_house.writer(), await own_house.reader()
    await writer.send(FIRST, b"1")
    await writer.send(SECOND, b"other")

    own_kafka.pause()
    with pytest.raises(TransientError):
        await writer.send(FIRST, b"2")
    own_kafka.resume()

    await writer.reset()
    async with asyncio.timeout(30):
        sent = [await writer.send(FIRST, value) for value in (b"2", b"3")]
    await reader.assign({FIRST: 0})
    found = values(await read(reader, sent[-1] + 1))
    assert found in ([b"1", b"2", b"3"], [b"1", b"2", b"2", b"3"])


async def test_two_partitions_that_fail_together_need_one_reset(own_kafka: KafkaPart, own_house: _KafkaHouse) -> None:
    await own_house.keeper()
    writer = await own_house.writer()
    await writer.send(FIRST, b"0")
    await writer.send(SECOND, b"0")
    own_kafka.pause()
    results = await asyncio.gather(writer.send(FIRST, b"1"), writer.send(SECOND, b"1"), return_exceptions=True)
    assert [type(result) for result in results] == [TransientError, TransientError]
    own_kafka.resume()

    await writer.reset()
    session = writer._session  # type: ignore[attr-defined]
    under_way = asyncio.create_task(writer.send(FIRST, b"1"))
    await writer.reset()

    assert await under_way >= 1
    assert writer._session is session  # type: ignore[attr-defined]


async def test_a_reader_notices_that_its_topic_was_made_anew(
    house: House, kafka: KafkaPart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ashiato.adapters.bus_kafka.LOOK_S", 0.0)
    await house.keeper()
    reader = await house.reader()
    await reader.assign({FIRST: 0})
    assert await reader.poll(bytes_max=1 << 20, wait_ns=WAIT_NS) == []

    kafka.delete_topics()
    await house.keeper()

    with pytest.raises(NotHeldError, match="made anew"):
        await reader.poll(bytes_max=1 << 20, wait_ns=WAIT_NS)

"""Which bus: settings, and the adapter they name. Drivers are imported only where they are used."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from ashiato.core.errors import SettingsError
from ashiato.core.ports import BusKeeper, BusReader, BusWriter


class BusSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``kind = "sqlite"`` needs ``path``; ``kind = "kafka"`` needs ``bootstrap_servers``."""

    kind: Literal["sqlite", "kafka"] = "sqlite"
    """Which bus: one file on one machine, or Kafka."""
    path: str = ""
    """File of the SQLite bus."""
    bootstrap_servers: str = ""
    """``host:port,host:port`` of Kafka."""
    ca_file: str = ""
    """CA of Kafka's certificates; with it, connections are TLS."""
    credentials_file: str = ""
    """JSON ``{"username": ..., "password": ...}`` for SASL; '' for none."""
    sasl_mechanism: str = "PLAIN"
    """SASL mechanism of the credentials."""
    client_id: str = "ashiato"
    """Name under which Kafka's own logs know this client."""
    request_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 15.0
    """What Kafka may take for one answer before the call fails and is tried again."""


async def open_writer(settings: BusSettings) -> BusWriter:
    """Return the collector's side. Raises SettingsError, TransientError."""
    if settings.kind == "kafka":
        from ashiato.adapters.bus_kafka import KafkaWriter  # noqa: PLC0415 - only its users need the driver

        return await KafkaWriter.open(settings)
    from ashiato.adapters.bus_sqlite import SqliteWriter  # noqa: PLC0415 - only its users need the driver

    return SqliteWriter(_path(settings))


async def open_reader(settings: BusSettings) -> BusReader:
    """Return ingest's side. Raises SettingsError, TransientError."""
    if settings.kind == "kafka":
        from ashiato.adapters.bus_kafka import KafkaReader  # noqa: PLC0415 - only its users need the driver

        return await KafkaReader.open(settings)
    from ashiato.adapters.bus_sqlite import SqliteReader  # noqa: PLC0415 - only its users need the driver

    return SqliteReader(_path(settings))


async def open_keeper(settings: BusSettings) -> BusKeeper:
    """Return retention's side. Raises SettingsError, TransientError."""
    if settings.kind == "kafka":
        from ashiato.adapters.bus_kafka import KafkaKeeper  # noqa: PLC0415 - only its users need the driver

        return await KafkaKeeper.open(settings)
    from ashiato.adapters.bus_sqlite import SqliteKeeper  # noqa: PLC0415 - only its users need the driver

    return SqliteKeeper(_path(settings))


def _path(settings: BusSettings) -> str:
    if not settings.path:
        raise SettingsError('bus kind "sqlite" needs a path')
    return settings.path

"""What every side of the Kafka bus shares: the connection's settings, whose fault an error was, and topic facts.

aiokafka asks for metadata in a version that knows no topic ids, and a topic that was deleted and made again has
another id and the same name: so the request that tells them apart (J5) is written out here.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import create_conn
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

from ashiato.adapters.bus import BusSettings
from ashiato.core.errors import (
    AshiatoError,
    NotHeldError,
    RefusedError,
    RejectedError,
    SettingsError,
    TransientError,
)

# The driver logs each failed attempt to connect; our events say it once, with what is done about it.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)

UNANSWERED: Final = (kafka_errors.KafkaError, OSError, TimeoutError, NotImplementedError)
"""What the driver raises where a broker does not do what it was asked to; the last for a broker that is too old."""
_REFUSED: Final = (
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.GroupAuthorizationFailedError,
    kafka_errors.ClusterAuthorizationFailedError,
    kafka_errors.TransactionalIdAuthorizationFailed,
    kafka_errors.AuthenticationFailedError,
    kafka_errors.SaslAuthenticationFailed,
    kafka_errors.PolicyViolationError,
)
_TOO_LARGE: Final = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)
_UNFIT: Final = (
    kafka_errors.UnsupportedVersionError,
    kafka_errors.IncompatibleBrokerVersion,
    kafka_errors.UnsupportedSaslMechanismError,
    NotImplementedError,
)


class _Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    username: str
    password: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicFacts:
    """What a broker says of one topic."""

    cluster_id: str
    topic_id: str
    partitions: int

    @property
    def incarnation(self) -> str:
        """The log's identity (J5): the same name on another cluster, or made anew, is another log."""
        return f"{self.cluster_id}/{self.topic_id}"


def connection(settings: BusSettings) -> dict[str, Any]:
    """Return the keyword arguments by which each of aiokafka's clients connects.

    Raises:
        SettingsError: no servers, or a file that cannot be read.

    """
    if not settings.bootstrap_servers:
        raise SettingsError('bus kind "kafka" needs bootstrap_servers')
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "client_id": settings.client_id,
        "request_timeout_ms": int(settings.request_timeout_s * 1000),
    }
    if settings.ca_file:
        arguments["ssl_context"] = _context(settings.ca_file)
    if settings.credentials_file:
        credentials = _credentials(settings.credentials_file)
        arguments["sasl_mechanism"] = settings.sasl_mechanism
        arguments["sasl_plain_username"] = credentials.username
        arguments["sasl_plain_password"] = credentials.password
    protocols = {
        (False, False): "PLAINTEXT", (True, False): "SSL", (False, True): "SASL_PLAINTEXT", (True, True): "SASL_SSL",
    }  # fmt: skip
    arguments["security_protocol"] = protocols[bool(settings.ca_file), bool(settings.credentials_file)]
    return arguments


def _context(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"cannot read the CA of Kafka's certificates: {error}", ca_file=ca_file) from error


def _credentials(file: str) -> _Credentials:
    try:
        return msgspec.json.decode(Path(file).read_bytes(), type=_Credentials)
    except OSError as error:
        raise SettingsError(f"cannot read Kafka's credentials: {error.strerror}", credentials_file=file) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # The decoder's words may quote what it read, so they are not passed on.
        raise SettingsError(
            'Kafka\'s credentials must be JSON {"username": ..., "password": ...}', credentials_file=file
        ) from error


@contextmanager
def translated(what: str, **facts: object) -> Iterator[None]:
    """Raise what Kafka's client raises inside as one of our errors; time-outs are transient."""
    try:
        yield
    except AshiatoError:
        raise
    except UNANSWERED as error:
        raise as_ours(error, what, facts) from error


def as_ours(error: Exception, what: str, facts: Mapping[str, object]) -> AshiatoError:
    """Return the error that says whose fault ``error`` was."""
    if isinstance(error, _REFUSED):
        return RefusedError(f"Kafka refuses: this user may not {what}", **facts)
    if isinstance(error, _TOO_LARGE):
        return RejectedError("record is larger than the bus takes", **facts)
    if isinstance(error, kafka_errors.UnknownTopicOrPartitionError):
        return NotHeldError("no such topic or partition", **facts)
    if isinstance(error, kafka_errors.OffsetOutOfRangeError):
        return NotHeldError("position is outside of the log", **facts)
    if isinstance(error, _UNFIT):
        return SettingsError("this Kafka is too old, or does not speak what the settings name (3.1 or newer is needed)")
    reason = type(error).__name__ if isinstance(error, TimeoutError) or not str(error) else str(error)
    return TransientError(f"Kafka does not {what}: {reason}", **facts)


async def explain(settings: BusSettings) -> None:
    """Say why nobody could be reached, where the reason is not a bad moment: the client itself only logs it.

    Raises:
        RefusedError: the credentials are refused.
        SettingsError: the certificate is not of the CA.

    """
    arguments = connection(settings)
    first = str(arguments.pop("bootstrap_servers")).split(",")[0].strip()
    host, _, port = first.rpartition(":")
    try:
        conn = await asyncio.wait_for(create_conn(host, int(port), **arguments), settings.request_timeout_s)
    except ssl.SSLCertVerificationError as error:
        raise SettingsError(
            f"Kafka's certificate is not trusted: {error.verify_message}", ca_file=settings.ca_file
        ) from error
    except _REFUSED as error:
        raise RefusedError("Kafka refuses the credentials", credentials_file=settings.credentials_file) from error
    except ValueError as error:
        raise SettingsError("bootstrap_servers must be host:port", bootstrap_servers=first) from error
    except (OSError, TimeoutError, kafka_errors.KafkaError):
        return
    conn.close()


async def facts_of(client: AIOKafkaClient, topic: str, *, timeout_s: float) -> TopicFacts:
    """Ask a broker for a topic's id and partitions.

    Raises:
        NotHeldError: there is no such topic.
        RefusedError: this user may not see it.
        TransientError: no answer.

    """
    with translated(f"describe topic {topic}", topic=topic):
        async with asyncio.timeout(timeout_s):
            response = await client.send(client.get_random_node(), _TopicsRequest(topic))
        error_code, _, high, low, _, partitions, *_ = response.topics[0]
        if error_code:
            raise kafka_errors.for_code(error_code)
    return TopicFacts(
        cluster_id=response.cluster_id or "",
        topic_id=f"{high & _64_BITS:016x}{low & _64_BITS:016x}",
        partitions=len(partitions),
    )


async def configuration_of(settings: BusSettings, topic: str) -> Mapping[str, str]:
    """Return a topic's settings. Raises as :func:`facts_of`."""
    admin = AIOKafkaAdminClient(**connection(settings))
    try:
        with translated(f"read the configuration of topic {topic}", topic=topic):
            async with asyncio.timeout(settings.request_timeout_s):
                await admin.start()
                responses = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
            for response in responses:
                for error_code, _, _, _, entries in response.resources:
                    if error_code:
                        raise kafka_errors.for_code(error_code)
                    return {entry[0]: entry[1] for entry in entries}
        raise TransientError("Kafka does not say how a topic is configured", topic=topic)
    finally:
        await admin.close()


_64_BITS: Final = (1 << 64) - 1


class _TopicsResponse_v12(Response):  # type: ignore[misc]  # noqa: N801 - the driver is untyped, and names them so
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32), ("host", CompactString("utf-8")), ("port", Int32),
                ("rack", CompactString("utf-8")), ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id_high", Int64),
                ("topic_id_low", Int64),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16), ("partition", Int32), ("leader", Int32), ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)), ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)), ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )  # fmt: skip


class _TopicsRequest_v12(RequestStruct):  # type: ignore[misc]  # noqa: N801 - as above
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _TopicsResponse_v12
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("topic_id_high", Int64), ("topic_id_low", Int64), ("name", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )  # fmt: skip


class _TopicsRequest(Request[_TopicsRequest_v12]):  # type: ignore[misc]  # as above
    """Metadata of one topic, in the version that brought topic ids."""

    API_KEY = 3

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: type[_TopicsRequest_v12]) -> _TopicsRequest_v12:
        return request_struct_class([(0, 0, self._topic, {})], False, False, {})

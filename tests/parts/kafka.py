"""Apache Kafka, one KRaft node: TLS, SASL, one user per service, and ACLs that give each no more than it needs."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, TypeVar

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.admin import CreateAclsRequest

from tests.parts import artifacts, certificates
from tests.parts.process import Part, PartError, listens

T = TypeVar("T")

USERS = ("admin", "collector", "ingest", "retention")
TOPICS = ("ashiato.priority", "ashiato.bulk")
TOPIC_PREFIX = "ashiato."

_TOPIC, _PREFIXED, _ALLOW = 2, 4, 3
_READ, _WRITE, _CREATE, _DELETE, _DESCRIBE, _DESCRIBE_CONFIGS = 3, 4, 5, 6, 8, 10

GRANTS: Mapping[str, Sequence[int]] = {
    "collector": (_WRITE, _DESCRIBE, _DESCRIBE_CONFIGS),
    "ingest": (_READ, _DESCRIBE, _DESCRIBE_CONFIGS),
    # Kafka has one right, DELETE, for both deleting records and deleting topics: a broker that serves people sets
    # delete.topic.enable=false, which this one does not, because tests want fresh topics. It reads the one record that
    # tells whether this is the log that the archive holds (J5), before it deletes from it.
    "retention": (_READ, _CREATE, _DELETE, _DESCRIBE, _DESCRIBE_CONFIGS),
}

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners=SASL_SSL://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=SASL_SSL://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
inter.broker.listener.name=SASL_SSL
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
username="admin" password="{admin_password}" {users};
ssl.keystore.type=PEM
ssl.keystore.location={folder}/server.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:admin;User:ANONYMOUS
auto.create.topics.enable=false
log.dirs={folder}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
log.retention.check.interval.ms=1000
file.delete.delay.ms=1000
"""


class KafkaPart(Part):
    """A broker. ``bootstrap_servers``, ``ca_file`` and ``credentials_file(user)`` are what a client needs."""

    name: ClassVar[str] = "kafka"
    ports: ClassVar[Sequence[str]] = ("broker", "controller")

    @property
    def bootstrap_servers(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self.port('broker')}"

    @property
    def ca_file(self) -> Path:
        """CA of its certificate."""
        return self.folder / "ca.pem"

    def credentials_file(self, user: str) -> Path:
        """JSON with ``username`` and ``password`` of one of USERS."""
        return self.folder / f"{user}.json"

    def fresh_topics(self, partitions: int = 2) -> None:
        """Make both topics anew and empty: their logs begin again at 0, under other topic ids."""
        self.delete_topics()
        self.create_topics(dict.fromkeys(TOPICS, partitions))

    def delete_topics(self) -> None:
        """Delete every topic of ours."""
        self.ask(_delete)

    def create_topics(self, topics: Mapping[str, int], *, configs: Mapping[str, str] | None = None) -> None:
        """Make topics (name -> partitions) as the broker's admin; ``configs`` may be as wrong as a test wants."""
        self.ask(lambda admin: _create(admin, topics, configs or {"retention.ms": "-1"}))

    def ask(self, work: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
        """Run ``work`` with the admin's client; from a running event loop too."""

        async def run() -> T:
            admin = AIOKafkaAdminClient(
                bootstrap_servers=self.bootstrap_servers, security_protocol="SASL_SSL", sasl_mechanism="PLAIN",
                ssl_context=ssl.create_default_context(cafile=self.ca_file), sasl_plain_username="admin",
                sasl_plain_password=self.secret("admin"), request_timeout_ms=20_000,
            )  # fmt: skip
            try:
                await admin.start()
                return await work(admin)
            finally:
                await admin.close()

        with ThreadPoolExecutor(max_workers=1) as thread:
            return thread.submit(lambda: asyncio.run(run())).result()

    def prepare(self) -> None:
        """Certificates, credentials, configuration, and a formatted log folder."""
        certificates.make(self.folder)
        for user in USERS:
            self._write_json(f"{user}.json", {"username": user, "password": self.secret(user)})
        properties = self.folder / "server.properties"
        properties.write_text(
            _PROPERTIES.format(
                folder=self.folder, broker=self.port("broker"), controller=self.port("controller"),
                admin_password=self.secret("admin"),
                users=" ".join(f'user_{user}="{self.secret(user)}"' for user in USERS),
            ),
            encoding="utf-8",
        )  # fmt: skip
        properties.chmod(0o600)
        command = [*self._java(), "kafka.tools.StorageTool", "format", "--cluster-id", self.cluster_id]
        command += ["--config", str(properties), "--standalone"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise PartError(f"Kafka's storage could not be formatted:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")

    @property
    def cluster_id(self) -> str:
        """Its id: 22 characters of base64, as Kafka wants them."""
        return self.secret("kafka").removeprefix("kafka-")[:22]

    def command(self) -> Sequence[str]:
        """Kafka's own main class."""
        return [*self._java(), "kafka.Kafka", str(self.folder / "server.properties")]

    def answers(self) -> bool:
        """Whether the cluster that answers with our certificate is ours and has its controller."""
        if not listens(self.port("broker")):
            return False
        try:
            cluster = self.ask(lambda admin: admin.describe_cluster())
        except (KafkaError, OSError, TimeoutError):
            return False
        if cluster["cluster_id"] != self.cluster_id:
            raise PartError(f"another Kafka answers at {self.bootstrap_servers}")
        return bool(cluster["brokers"])

    def settle(self) -> None:
        """Grant rights and make the topics."""
        self.ask(_grant)
        self.fresh_topics()

    def _java(self) -> Sequence[str]:
        lib = artifacts.jars(self.name, artifacts.KAFKA)
        return [
            str(artifacts.java()), "-Xms128m", "-Xmx512m", *self.java_options,
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{lib}/*",
        ]  # fmt: skip


async def _grant(admin: AIOKafkaAdminClient) -> None:
    wanted = [(user, operation) for user, operations in GRANTS.items() for operation in operations]
    for user, operation in wanted:
        request = CreateAclsRequest(_TOPIC, TOPIC_PREFIX, _PREFIXED, f"User:{user}", "*", operation, _ALLOW)
        response = await admin._send_to_controller(request)
        for error_code, message in response.creation_responses:
            if error_code:
                raise PartError(f"Kafka refused a grant: {for_code(error_code).__name__} {message}")


async def _delete(admin: AIOKafkaAdminClient) -> None:
    present = {topic for topic in await admin.list_topics() if topic.startswith(TOPIC_PREFIX)}
    if present:
        await admin.delete_topics(sorted(present))
    await _until(admin, lambda names: not names & present)


async def _create(admin: AIOKafkaAdminClient, topics: Mapping[str, int], configs: Mapping[str, str]) -> None:
    new = [
        NewTopic(topic, num_partitions=partitions, replication_factor=1, topic_configs=dict(configs))
        for topic, partitions in topics.items()
    ]
    response = await admin.create_topics(new)
    for topic, error_code, message in response.topic_errors:
        if error_code:
            raise PartError(f"Kafka did not make {topic}: {message}")
    await _until(admin, lambda names: names >= set(topics))


async def _until(admin: AIOKafkaAdminClient, true: Callable[[set[str]], bool]) -> None:
    deadline = asyncio.get_running_loop().time() + 30
    while not true(set(await admin.list_topics())):
        if asyncio.get_running_loop().time() > deadline:
            raise PartError("Kafka's topics do not become what was asked for")
        await asyncio.sleep(0.05)

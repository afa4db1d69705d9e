"""The collectors that people run, each with the configuration that it needs to ship the same files to the same Kafka.

All write with acks=all, zstd and TLS, and keep their positions in a folder. Ours has its usual settings. vlagent is
named where it is found and not run: it writes to VictoriaLogs only.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.kit.processes import Measured, free_port

TOPIC: Final = "ashiato.bulk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a tool works."""

    folder: Path
    """Its own."""
    logs: Path
    """The folder that holds ``namespace_pod_uid``."""
    bootstrap_servers: str
    ca_file: Path
    credentials_file: Path

    @property
    def user(self) -> tuple[str, str]:
        """Name and password."""
        told = json.loads(self.credentials_file.read_bytes())
        return told["username"], told["password"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tailer:
    """One tool."""

    name: str
    program: str
    """'' where it is ours."""
    start: Callable[[Place], Measured]
    version: tuple[str, ...] = ()

    def found(self) -> str:
        """Return what of it is installed; '' where it is not."""
        if not self.program:
            return "this commit"
        path = shutil.which(self.program) or shutil.which(self.program, path="/usr/sbin:/usr/local/bin:/opt/bin")
        if path is None:
            return ""
        done = subprocess.run([path, *self.version], capture_output=True, text=True, check=False, timeout=20)
        return (done.stdout or done.stderr).splitlines()[0].strip()


def _ours(place: Place) -> Measured:
    port = free_port()
    settings = place.folder / "collector.toml"
    settings.write_text(
        f"""
        [collector]
        state_dir = "{place.folder}/state"
        node = "bench"
        roots = ["{place.logs}"]
        metrics_port = {port}
        [collector.bus]
        kind = "kafka"
        bootstrap_servers = "{place.bootstrap_servers}"
        ca_file = "{place.ca_file}"
        credentials_file = "{place.credentials_file}"
        """
    )
    return Measured.start(
        "collector", ["collector", "--config", str(settings)], place.folder / "log", metrics_port=port
    )


def _rsyslog(place: Place) -> Measured:
    user, password = place.user
    config = place.folder / "rsyslog.conf"
    config.write_text(
        f"""
        global(workDirectory="{place.folder}" maxMessageSize="64k")
        module(load="imfile")
        module(load="omkafka")
        template(name="line" type="string" string="%$!metadata!filename% %msg%")
        input(type="imfile" File="{place.logs}/*/*/*.log" Tag="cri:" addMetadata="on" ruleset="ship")
        ruleset(name="ship" queue.type="LinkedList" queue.size="100000" queue.dequeueBatchSize="1024"
                queue.workerThreads="1") {{
          action(type="omkafka" broker=["{place.bootstrap_servers}"] topic="{TOPIC}" partitions.auto="on"
                 template="line" resubmitOnFailure="on" keepFailedMessages="on"
                 failedMsgFile="{place.folder}/failed" action.resumeRetryCount="-1"
                 confParam=["security.protocol=SASL_SSL", "ssl.ca.location={place.ca_file}", "sasl.mechanisms=PLAIN",
                            "sasl.username={user}", "sasl.password={password}", "acks=all", "compression.codec=zstd",
                            "queue.buffering.max.ms=300", "queue.buffering.max.messages=200000"])
        }}
        """
    )
    program = shutil.which("rsyslogd", path="/usr/sbin:/sbin:/usr/local/sbin") or "rsyslogd"
    command = [program, "-n", "-f", str(config), "-i", str(place.folder / "pid")]
    return Measured.start_command("rsyslog", command, place.folder / "log")


def _fluent_bit(place: Place) -> Measured:
    user, password = place.user
    config = place.folder / "fluent-bit.conf"
    config.write_text(
        f"""
[SERVICE]
    flush 0.3
    storage.path {place.folder}/chunks
[INPUT]
    name tail
    path {place.logs}/*/*/*.log
    read_from_head true
    refresh_interval 1
    db {place.folder}/positions.db
    storage.type filesystem
[OUTPUT]
    name kafka
    match *
    brokers {place.bootstrap_servers}
    topics {TOPIC}
    format raw
    raw_log_key log
    rdkafka.security.protocol SASL_SSL
    rdkafka.ssl.ca.location {place.ca_file}
    rdkafka.sasl.mechanisms PLAIN
    rdkafka.sasl.username {user}
    rdkafka.sasl.password {password}
    rdkafka.acks all
    rdkafka.compression.codec zstd
    retry_limit no_limits
"""
    )
    return Measured.start_command("fluent-bit", ["fluent-bit", "-c", str(config)], place.folder / "log")


def _vector(place: Place) -> Measured:
    user, password = place.user
    config = place.folder / "vector.toml"
    config.write_text(
        f"""
        data_dir = "{place.folder}"
        [sources.logs]
        type = "file"
        include = ["{place.logs}/*/*/*.log"]
        read_from = "beginning"
        glob_minimum_cooldown_ms = 1000
        [sinks.kafka]
        type = "kafka"
        inputs = ["logs"]
        bootstrap_servers = "{place.bootstrap_servers}"
        topic = "{TOPIC}"
        compression = "zstd"
        encoding.codec = "text"
        acknowledgements.enabled = true
        tls.enabled = true
        tls.ca_file = "{place.ca_file}"
        sasl.enabled = true
        sasl.mechanism = "PLAIN"
        sasl.username = "{user}"
        sasl.password = "{password}"
        [sinks.kafka.librdkafka_options]
        "acks" = "all"
        """
    )
    return Measured.start_command("vector", ["vector", "--quiet", "--config", str(config)], place.folder / "log")


OURS: Final = Tailer(name="ashiato", program="", start=_ours)
OTHERS: Final = (
    Tailer(name="rsyslog", program="rsyslogd", start=_rsyslog, version=("-v",)),
    Tailer(name="fluent-bit", program="fluent-bit", start=_fluent_bit, version=("--version",)),
    Tailer(name="vector", program="vector", start=_vector, version=("--version",)),
)
INSTALL: Final = "apt-get install -y --no-install-recommends rsyslog rsyslog-kafka"

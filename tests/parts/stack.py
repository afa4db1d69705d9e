"""The three parts together, and what the settings of a service need to reach them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from ashiato import standalone
from ashiato.adapters.archive import ArchiveSettings
from ashiato.adapters.bus import BusSettings
from ashiato.adapters.opensearch_settings import OpenSearchSettings
from tests.parts import artifacts
from tests.parts.kafka import KafkaPart
from tests.parts.opensearch import OpenSearchPart
from tests.parts.seaweed import Buckets, SeaweedPart

SHARED = artifacts.STATE / "run"
"""Where ``python -m tests.parts up`` keeps its parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Three running parts. ``buckets`` says which archive; :meth:`fresh` gives an empty bus and archive."""

    kafka: KafkaPart
    opensearch: OpenSearchPart
    s3: SeaweedPart
    buckets: Buckets = field(default_factory=lambda: Buckets(evidence="evidence", work="work"))

    def fresh(self, *, partitions: int = 2, lock_days: int = 0) -> Stack:
        """Return the same parts with new buckets, after the bus's topics were made anew."""
        self.kafka.fresh_topics(partitions)
        return replace(self, buckets=self.s3.fresh_buckets(lock_days=lock_days))

    def bus(self, user: str) -> BusSettings:
        """Return a bus's settings for ``collector``, ``ingest``, ``retention`` or ``admin``."""
        return bus_settings(self.kafka, user)

    def archive(self, identity: str) -> ArchiveSettings:
        """Return an archive's settings for ``ingest``, ``index``, ``query``, ``retention`` or ``admin``."""
        return archive_settings(self.s3, identity, self.buckets)

    def index(self) -> OpenSearchSettings:
        """Return the hot index's settings."""
        return OpenSearchSettings(urls=(self.opensearch.url,))

    def describe(self) -> str:
        """Say where everything is."""
        return "\n".join(
            (
                f"Kafka       {self.kafka.bootstrap_servers}  (SASL_SSL; credentials {self.kafka.folder}/USER.json)",
                f"OpenSearch  {self.opensearch.url}",
                f"S3          {self.s3.endpoint_url}  (credentials {self.s3.folder}/IDENTITY.json)",
                f"Archive     {self.address('query')}",
            )
        )

    def address(self, identity: str) -> str:
        """Return the archive's address as a person types it."""
        return (
            f"s3://{self.buckets.evidence}?endpoint={self.s3.endpoint_url}&work={self.buckets.work}"
            f"&credentials={self.s3.credentials_file(identity)}&ca={self.s3.ca_file}"
        )


def parts_in(
    folder: Path, *, survives: bool = False, lasts: bool = False
) -> tuple[KafkaPart, OpenSearchPart, SeaweedPart]:
    """Return the three parts that live below ``folder``, running or not."""
    return (
        KafkaPart(folder / "kafka", survives=survives, lasts=lasts),
        OpenSearchPart(folder / "opensearch", survives=survives, lasts=lasts),
        SeaweedPart(folder / "seaweedfs", survives=survives, lasts=lasts),
    )


def stack_of(kafka: KafkaPart, opensearch: OpenSearchPart, s3: SeaweedPart) -> Stack:
    """Return the stack of three running parts."""
    return Stack(kafka=kafka, opensearch=opensearch, s3=s3)


def bus_settings(kafka: KafkaPart, user: str) -> BusSettings:
    """Return what reaches ``kafka`` as ``user``."""
    return BusSettings(
        kind="kafka", bootstrap_servers=kafka.bootstrap_servers, ca_file=str(kafka.ca_file),
        credentials_file=str(kafka.credentials_file(user)), client_id=user,
    )  # fmt: skip


def archive_settings(s3: SeaweedPart, identity: str, buckets: Buckets) -> ArchiveSettings:
    """Return what reaches ``buckets`` as ``identity``."""
    return ArchiveSettings(
        evidence_bucket=buckets.evidence, work_bucket=buckets.work, endpoint_url=s3.endpoint_url, region=s3.region,
        ca_file=str(s3.ca_file), credentials_file=str(s3.credentials_file(identity)),
    )  # fmt: skip


def toml(tables: Mapping[str, object]) -> str:
    """Return a settings file: a table for each name, of mappings or settings structs, as deep as they go."""
    return standalone.toml({name: _told(msgspec.to_builtins(table)) for name, table in tables.items()})


def _told(values: Mapping[str, object]) -> dict[str, object]:
    """Return what is set: TOML has no word for nothing."""
    return {
        key: _told(value) if isinstance(value, Mapping) else value for key, value in values.items() if value is not None
    }

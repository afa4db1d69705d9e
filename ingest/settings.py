"""Settings of ingest."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ashiato.adapters.archive import ArchiveSettings
from ashiato.adapters.bus import BusSettings
from ashiato.adapters.opensearch_settings import OpenSearchSettings
from ashiato.core.limits import COMMIT_AGE_NS, COMMIT_RAW_BYTES, MIB, PACK_RAW_BYTES_MAX


class IngestSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Both consumers; each uses what it needs and nothing else."""

    bus: BusSettings
    """The bus, as what may read its topics."""
    """Where frames come from; read, never written."""
    archive: ArchiveSettings
    """The archive: the archiving consumer puts, the indexing one only reads."""
    """Where packs and commits go; the indexing consumer only reads it."""
    opensearch: OpenSearchSettings | None = None
    """Where the indexing consumer writes; the archiving one never asks."""
    scratch_dir: str
    """Where packs are written and read back before they are put."""
    tail_dir: str = ""
    """Embedded: where tail segments are published; '' publishes none."""
    keeps_inventory: bool = False
    """Embedded: the archiving process keeps the pod inventory too; at scale the inventory role does."""
    actor: str = "ingest"
    """Who commits say that they are."""
    commit_raw_bytes: Annotated[int, msgspec.Meta(ge=MIB, le=PACK_RAW_BYTES_MAX)] = COMMIT_RAW_BYTES
    """A commit is made at this many raw bytes ..."""
    commit_age_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = COMMIT_AGE_NS / 1e9
    """... or at this age, whichever is first."""
    stop_grace_s: Annotated[float, msgspec.Meta(ge=0, le=600)] = 15.0
    """At shutdown, what was admitted is committed within this time; what is not stays on the bus."""
    metrics_port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    """Port of /metrics on loopback; 0 serves none."""

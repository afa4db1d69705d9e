"""Settings of query."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ashiato.adapters.archive import ArchiveSettings
from ashiato.adapters.opensearch_settings import OpenSearchSettings


class QuerySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the records lie, and who may ask."""

    archive: ArchiveSettings
    """The archive, as what may only read."""
    """What is asked."""
    tail_dir: str = ""
    """Embedded: where ingest publishes tail segments; '' where there are none."""
    opensearch: OpenSearchSettings | None = None
    """The hot index; none where the packs and the tail are the index."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    """Port to listen on; 0 takes a free one."""
    address_file: str = ""
    """Where ``{"url": ...}`` is written once the service answers; '' writes none."""
    token_file: str = ""
    """File with the token that every question carries, readable by its owner alone."""
    tls_certificate_file: str = ""
    """PEM chain of the service; '' serves plain HTTP, for loopback or behind a proxy."""
    tls_key_file: str = ""
    """PEM key of the certificate."""
    access_dir: str = ""
    """Where it is written who asked what; a collector ships it like any other log. '' writes it nowhere."""
    answer_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 100.0
    """A question that takes longer is given up."""
    answers_at_once: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4
    """Questions that are answered at the same time; others wait."""
    metrics_port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    """A further port of /metrics on loopback; 0 serves it at the service's own port only."""

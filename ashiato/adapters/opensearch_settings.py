"""Where OpenSearch is. Apart from the driver, which takes half a second to load: most processes only name it."""

from __future__ import annotations

from typing import Annotated

import msgspec


class OpenSearchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where OpenSearch is and as whom it is asked."""

    urls: tuple[str, ...]
    """``https://host:9200`` of each node to ask; they are asked in turn."""
    ca_file: str = ""
    """CA of the servers' certificates; '' trusts the system's. Plain http needs none."""
    credentials_file: str = ""
    """JSON ``{"username": ..., "password": ...}``; '' for none."""
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 30.0
    """One request takes no longer."""

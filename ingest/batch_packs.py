"""From a batch to its packs, one per retention class, on scratch disk."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from ashiato.adapters import files
from ashiato.core.limits import PACK_NAME_BYTES
from ingest.batch import Batch
from ingest.contracts import BuiltPack, LineState
from ingest.pack import PackBuilder


def build_packs(
    batch: Batch, folder: Path, before: Mapping[str, LineState]
) -> tuple[list[BuiltPack], dict[str, LineState]]:
    """Return the packs, and how the lines of their files stand behind the batch.

    I1 is checked inside: a pack that comes out was read back.

    Raises:
        InvariantError: I1.
        TransientError: no room for packs before they are put.

    """
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        return _built(batch, folder, before)
    except OSError as error:
        raise files.disk_error(error, folder) from error


def _built(batch: Batch, folder: Path, before: Mapping[str, LineState]) -> tuple[list[BuiltPack], dict[str, LineState]]:
    built: list[BuiltPack] = []
    after: dict[str, LineState] = {}
    for retention_class, pieces in batch.by_source():
        builder = PackBuilder(folder, retention_class, secrets.token_bytes(PACK_NAME_BYTES), before)
        builder.add(pieces)
        if (pack := builder.finish()) is not None:
            built.append(pack)
        after.update(builder.states)
    return built, after

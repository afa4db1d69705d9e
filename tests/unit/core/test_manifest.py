"""The manifest: canonical bytes, one version, a name beside its pack."""

from __future__ import annotations

import json

import msgspec
import pytest

from ashiato.core import manifest
from ashiato.core.errors import RejectedError
from ashiato.core.manifest import FileHeld, Manifest, RangeHeld, RowGroup


def _manifest() -> Manifest:
    path = "retention_class=container/day=2026-11-25/aa.parquet"
    return Manifest(
        path=path, sha256="aa", size=3, rows=2, raw_bytes=10, retention_class="container", day="2026-11-25",
        time_min_unix_nano=1, time_max_unix_nano=2, observed_min_unix_nano=3, observed_max_unix_nano=4,
        files=(
            FileHeld(
                file_id="F1", source="file/c/n/x", path="/x", ranges=(RangeHeld(start=0, end=10),), rows=2,
                row_groups=(0,), salts=((0, b"\x00\xff"),),
            ),
        ),
        row_groups=(RowGroup(rows=2, raw_bytes=10, time_min_unix_nano=1, time_max_unix_nano=2),),
    )  # fmt: skip


def test_a_manifest_reads_back_and_its_bytes_are_canonical() -> None:
    content = manifest.encode(_manifest())
    assert manifest.decode(content) == _manifest()
    assert content == json.dumps(json.loads(content), sort_keys=True, separators=(",", ":")).encode()
    assert manifest.path_of(_manifest().path) == "retention_class=container/day=2026-11-25/aa.manifest.json"


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b"[1]", manifest.encode(_manifest())[:-1]])
def test_a_damaged_manifest_is_rejected(content: bytes) -> None:
    with pytest.raises(RejectedError):
        manifest.decode(content)


def test_a_manifest_of_another_version_is_not_read() -> None:
    with pytest.raises(RejectedError, match="version"):
        manifest.decode(manifest.encode(msgspec.structs.replace(_manifest(), v=2)))

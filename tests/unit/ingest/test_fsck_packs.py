"""``ingest fsck`` of packs: bytes, manifests and rows that do not agree are named, and so are bytes held twice."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ashiato.adapters.archive_directory import DirectoryReader, DirectoryWriter, version_of
from ashiato.core import manifest
from ashiato.core.sidecar_names import path_of
from ingest.sidecars import sidecars_of
from tests.unit.ingest.damage import flip, kinds, pack_file, packs_of, repin, two


def test_a_pack_of_another_size_is_named(archive: Path) -> None:
    with pack_file(archive).open("ab") as file:
        file.write(b"x")
    assert kinds(archive, full=False) == {"pack"}


def test_a_changed_byte_of_a_pack_is_named_when_all_is_read(archive: Path) -> None:
    flip(pack_file(archive))
    assert kinds(archive) == {"pack"}


def _restated(root: Path, how: Callable[[manifest.Manifest], manifest.Manifest]) -> None:
    """Give the first pack another manifest, and have its commit pin it: a writer that lies from the start."""
    pack = packs_of(root)[0]
    file = root / "evidence" / pack.manifest_path
    content = manifest.encode(how(manifest.decode(file.read_bytes())))
    file.write_bytes(content)
    repin(root, pack, manifest_sha256=manifest.sha256(content))


def _wider(told: manifest.Manifest) -> manifest.Manifest:
    file = told.files[0]
    last = file.ranges[-1]
    ranges = (*file.ranges[:-1], manifest.RangeHeld(start=last.start, end=last.end + 1))
    return msgspec.structs.replace(told, files=(msgspec.structs.replace(file, ranges=ranges), *told.files[1:]))


def _one_row_more(told: manifest.Manifest) -> manifest.Manifest:
    file = msgspec.structs.replace(told.files[0], rows=told.files[0].rows + 1)
    return msgspec.structs.replace(told, files=(file, *told.files[1:]))


def _without_a_file(told: manifest.Manifest) -> manifest.Manifest:
    return msgspec.structs.replace(told, files=told.files[1:])


def _other_times(told: manifest.Manifest) -> manifest.Manifest:
    group = msgspec.structs.replace(told.row_groups[0], time_max_unix_nano=told.row_groups[0].time_max_unix_nano + 1)
    return msgspec.structs.replace(told, row_groups=(group, *told.row_groups[1:]))


def _other_group(told: manifest.Manifest) -> manifest.Manifest:
    return msgspec.structs.replace(
        told, files=(msgspec.structs.replace(told.files[0], row_groups=(99,)), *told.files[1:])
    )


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (_wider, {"manifest", "rows", "held_twice"}),
        (_one_row_more, {"manifest", "rows"}),
        (_without_a_file, {"manifest", "rows", "frontier"}),
        (_other_times, {"rows"}),
        (_other_group, {"rows"}),
        (lambda told: msgspec.structs.replace(told, day="1999-01-01"), {"manifest"}),
        (lambda told: msgspec.structs.replace(told, v=99), {"manifest"}),
    ],
)
def test_a_manifest_that_was_wrong_from_the_start_is_named(
    archive: Path, how: Callable[[manifest.Manifest], manifest.Manifest], expected: set[str]
) -> None:
    _restated(archive, how)
    named = kinds(archive)
    assert named & expected
    assert named <= expected | {"manifest"}


def _rewritten(root: Path, how: Callable[[pa.Table], pa.Table]) -> None:
    """Give the first pack other rows under its own name, and have commit, manifest and sidecars agree with it."""
    pack = packs_of(root)[0]
    file = root / "evidence" / pack.path
    source = pq.ParquetFile(file)
    written = BytesIO()
    with pq.ParquetWriter(written, source.schema_arrow, compression="zstd", store_schema=False) as writer:
        for number in range(source.num_row_groups):
            rows = source.read_row_group(number)
            writer.write_table(how(rows) if number == 0 else rows)
        metadata = source.metadata.metadata or {}
        writer.add_key_value_metadata({key.decode(): value.decode() for key, value in metadata.items()})
    content = written.getvalue()
    file.write_bytes(content)
    sha256 = manifest.sha256(content)
    told = root / "evidence" / pack.manifest_path
    stated = msgspec.structs.replace(manifest.decode(told.read_bytes()), sha256=sha256, size=len(content))
    told.write_bytes(manifest.encode(stated))
    repin(
        root, pack, manifest_sha256=manifest.sha256(manifest.encode(stated)), sha256=sha256, size=len(content),
        version_id=version_of(sha256),
    )  # fmt: skip
    again = next(one for one in packs_of(root) if one.path == pack.path)
    for made in sidecars_of(DirectoryReader(root), again):
        DirectoryWriter(root).put("work", path_of(made.kind, sha256), made.content)


def _shorter_body(rows: pa.Table) -> pa.Table:
    bodies: list[Any] = rows["body"].to_pylist()
    at = next(n for n, (body, raw) in enumerate(zip(bodies, rows["raw"].to_pylist(), strict=True)) if body and not raw)
    bodies[at] = bodies[at][:-1]
    return rows.set_column(rows.schema.get_field_index("body"), "body", pa.array(bodies, pa.string()))


def _moved(rows: pa.Table) -> pa.Table:
    offsets: list[Any] = rows["offset_start"].to_pylist()
    offsets[-1] += 1
    return rows.set_column(rows.schema.get_field_index("offset_start"), "offset_start", pa.array(offsets, pa.int64()))


@pytest.mark.parametrize("how", [_shorter_body, _moved])
def test_rows_that_are_not_the_bytes_are_named(archive: Path, how: Callable[[pa.Table], pa.Table]) -> None:
    _rewritten(archive, how)
    assert "rows" not in kinds(archive, full=False)
    assert "rows" in kinds(archive)


def test_bytes_that_two_packs_hold_are_named(archive: Path) -> None:
    # given a manifest that states what another pack holds already
    first, other = two(archive)
    told = manifest.decode((archive / "evidence" / first.manifest_path).read_bytes())
    file = archive / "evidence" / other.manifest_path
    stated = manifest.decode(file.read_bytes())
    content = manifest.encode(msgspec.structs.replace(stated, files=(*stated.files, told.files[0])))
    file.write_bytes(content)
    repin(archive, other, manifest_sha256=manifest.sha256(content))
    assert "held_twice" in kinds(archive, full=False)

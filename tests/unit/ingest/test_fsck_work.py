"""``ingest fsck`` of what lies beside packs: frontiers, sidecars, and objects that nobody names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ashiato.adapters.archive_directory import DirectoryReader, DirectoryWriter
from ashiato.adapters.journal import Journal
from ashiato.core import frontier, manifest, sidecar
from ashiato.core.commit import Commit
from ashiato.core.frontier import Frontier
from ashiato.core.sidecar_names import path_of
from ingest.filters import fuse
from tests.unit.ingest.damage import change, flip, found, kinds, manifest_file, packs_of, two


def test_a_frontier_that_claims_what_no_pack_holds_is_named(archive: Path) -> None:
    # given a frontier that says of a file that a pack holds one byte more
    last = Journal(DirectoryReader(archive)).refresh().next_n - 1

    def lying(one: Commit) -> Commit:
        txns = []
        for txn in one.txns:
            ref = txn.frontier
            content, _ = DirectoryReader(archive).get("work", ref.path)
            known = frontier.decode(content, ref.sha256)
            written = frontier.encode(_claiming(known))
            sha256 = frontier.digest(written)
            stored = DirectoryWriter(archive).put("work", frontier.path_of(sha256), written)
            pinned = msgspec.structs.replace(ref, path=stored.path, version_id=stored.version_id, sha256=sha256)
            txns.append(msgspec.structs.replace(txn, frontier=pinned))
        return replace(one, txns=tuple(txns))

    change(archive, last, lying)
    assert "frontier" in kinds(archive, full=False)


def _claiming(known: Frontier) -> Frontier:
    files = [
        msgspec.structs.replace(
            file, ranges=tuple(msgspec.structs.replace(held, end=held.end + 1) for held in file.ranges)
        )
        for file in known.files
    ]
    return msgspec.structs.replace(known, files=tuple(files))


def test_missing_and_damaged_sidecars_are_named(archive: Path) -> None:
    first, second = two(archive)
    (archive / "work" / path_of("filters", first.sha256)).unlink()
    flip(archive / "work" / path_of("entities", second.sha256))
    named = [(finding.kind, finding.path) for finding in found(archive, full=False)]
    assert named == [("sidecar", first.path), ("sidecar", second.path)]


def test_filters_that_lack_tokens_are_named_when_all_is_read(archive: Path) -> None:
    pack = packs_of(archive)[0]
    told = manifest.decode(manifest_file(archive).read_bytes())
    empty = sidecar.encode_filters(pack.sha256, [fuse(np.zeros(0, np.uint64))] * len(told.row_groups))
    (archive / "work" / path_of("filters", pack.sha256)).write_bytes(empty)
    assert kinds(archive, full=False) == set()
    assert kinds(archive) == {"sidecar"}


def test_entities_that_are_not_the_rows_are_named_when_all_is_read(archive: Path) -> None:
    first, second = two(archive)
    content, _ = DirectoryReader(archive).get("work", path_of("entities", second.sha256))
    start = sidecar.header_size(content[: sidecar.PREAMBLE_BYTES])
    lying = sidecar.encode_entities(first.sha256, content[start:], ())
    (archive / "work" / path_of("entities", first.sha256)).write_bytes(lying)
    assert kinds(archive, full=False) == set()
    assert kinds(archive) == {"sidecar"}


@pytest.mark.parametrize(
    "path",
    [
        "evidence/retention_class=container/day=2026-11-24/" + "ab" * 32 + ".parquet",
        "evidence/retention_class=container/day=2026-11-24/" + "ab" * 32 + ".manifest.json",
        "work/frontier/" + "ab" * 32 + ".json.zst",
        "work/filters/ab/" + "ab" * 32 + ".v1",
        "work/entities/ab/" + "ab" * 32 + ".v1",
    ],
)
def test_what_no_commit_names_is_listed_and_is_no_damage(archive: Path, path: str) -> None:
    (archive / path).parent.mkdir(parents=True, exist_ok=True)
    (archive / path).write_bytes(b"left by somebody who lost")
    findings = found(archive, full=False)
    assert [(finding.kind, finding.path, finding.is_orphan) for finding in findings] == [
        ("orphan", path.partition("/")[2], True)
    ]

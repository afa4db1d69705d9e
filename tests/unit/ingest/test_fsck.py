"""``ingest fsck``: every way in which an archive can be damaged is named, and nothing else is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ashiato.adapters.archive_directory import DirectoryReader, DirectoryWriter, version_of
from ashiato.adapters.journal import Journal
from ashiato.core import commit as commits
from ashiato.core import frontier, manifest, sidecar
from ashiato.core.commit import AddedPack, Commit, Condemned
from ashiato.core.frontier import Frontier
from ashiato.core.sidecar_names import path_of
from ingest.filters import fuse
from ingest.fsck import Fsck
from ingest.fsck_told import Finding
from ingest.sidecars import sidecars_of
from tests.simulation.memory_archive import MemoryArchive
from tests.unit.adapters.pack_corpus import build

Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("packs")).root


@pytest.fixture
def archive(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "archive")
    return tmp_path / "archive"


def found(root: Path, *, full: bool = True) -> list[Finding]:
    run = Fsck(DirectoryReader(root), full=full)
    findings = list(run.run())
    assert run.report.clean == all(finding.is_orphan for finding in findings)
    assert sum(run.report.findings.values()) == sum(not finding.is_orphan for finding in findings)
    return findings


def kinds(root: Path, *, full: bool = True) -> set[str]:
    return {finding.kind for finding in found(root, full=full)}


def packs_of(root: Path) -> list[AddedPack]:
    return list(Journal(DirectoryReader(root)).refresh().packs.values())


def commit_file(root: Path, n: int) -> Path:
    return root / "evidence" / commits.path_of(n)


def change(root: Path, n: int, how: Callable[[Commit], Commit]) -> None:
    """Write commit ``n`` anew, as somebody who holds the folder can."""
    file = commit_file(root, n)
    file.write_bytes(commits.encode(how(commits.decode(file.read_bytes(), n))))


def first_archiving(root: Path) -> Commit:
    return next(one for n in range(1, 9) if (one := commits.decode(commit_file(root, n).read_bytes(), n)).adds)


# -- what is whole -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("full", [False, True])
def test_a_whole_archive_is_clean(whole: Path, *, full: bool) -> None:
    run = Fsck(DirectoryReader(whole), full=full)
    assert list(run.run()) == []
    assert run.report.clean
    assert run.report.full == full
    state = Journal(DirectoryReader(whole)).refresh()
    assert (run.report.commits, run.report.packs) == (state.next_n, len(state.packs))
    assert run.report.rows == sum(pack.rows for pack in state.packs.values()) > 0
    assert run.report.raw_bytes == sum(pack.raw_bytes for pack in state.packs.values())


def test_nothing_is_written(archive: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in archive.rglob("*")}
    found(archive)
    assert {path: path.stat().st_mtime_ns for path in archive.rglob("*")} == before


def test_an_empty_archive_proves_nothing_and_is_not_clean(tmp_path: Path) -> None:
    DirectoryWriter(tmp_path / "archive")
    assert kinds(tmp_path / "archive") == {"empty"}


def test_an_archive_whose_packs_are_all_removed_is_not_clean_by_default(archive: Path) -> None:
    state = Journal(DirectoryReader(archive)).refresh()
    removes = tuple(
        commits.RemovedPack(
            path=pack.path, version_id=pack.version_id, retention_class=pack.retention_class, day=pack.day,
            size=pack.size, manifest_path=pack.manifest_path, manifest_version_id=pack.manifest_version_id,
        )
        for pack in state.packs.values()
    )  # fmt: skip
    _append(archive, kind="expire", removes=removes)
    assert {finding.kind for finding in found(archive) if not finding.is_orphan} == {"empty"}


# -- the journal ---------------------------------------------------------------------------------------------


def _append(root: Path, **more: Any) -> Commit:
    n = Journal(DirectoryReader(root)).refresh().next_n
    commit = replace(Commit(n=n, act_id="ab" * 16, kind="archive", actor="x", time_unix_nano=1), **more)
    commit_file(root, n).write_bytes(commits.encode(commit))
    return commit


def _cut_commit(root: Path) -> None:
    file = commit_file(root, 2)
    file.write_bytes(file.read_bytes()[:-40])


def _move_back(root: Path) -> None:
    change(root, 3, lambda one: replace(one, txns=tuple(msgspec.structs.replace(t, next=0) for t in one.txns)))


def _older_incarnation(root: Path) -> None:
    last = Journal(DirectoryReader(root)).refresh().next_n - 1
    change(
        root, last,
        lambda one: replace(one, txns=tuple(msgspec.structs.replace(t, incarnation="other#0") for t in one.txns)),
    )  # fmt: skip


def _other_frontier(root: Path) -> None:
    change(root, 3, lambda one: replace(one, txns=tuple(msgspec.structs.replace(t, follows="cd") for t in one.txns)))


def _added_twice(root: Path) -> None:
    _append(root, kind="archive", adds=first_archiving(root).adds[:1])


def _name_condemned(root: Path) -> None:
    pack = packs_of(root)[-1]
    condemned = Condemned(bucket="evidence", path=pack.path, version_id=pack.version_id)
    change(root, 1, lambda one: replace(one, kind="condemn", condemned=(condemned,)))


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda root: commit_file(root, 2).unlink(), "hole"),
        (_cut_commit, "commit"),
        (lambda root: commit_file(root, 2).write_bytes(b"{}\n"), "commit"),
        (lambda root: (root / "evidence" / "_delta_log" / "note.txt").write_text("x"), "stranger"),
        (lambda root: change(root, 0, lambda one: replace(one, kind="archive")), "order"),
        (_move_back, "txn"),
        (_older_incarnation, "txn"),
        (_other_frontier, "txn"),
        (_added_twice, "order"),
        (_name_condemned, "condemned"),
    ],
)
def test_damage_of_the_journal_is_named(archive: Path, damage: Damage, kind: str) -> None:
    damage(archive)
    assert kind in kinds(archive, full=False)


def test_second_versions_and_delete_markers_are_named_and_hide_nothing(whole: Path) -> None:
    # given the same archive in a store with versions
    memory = _uploaded(whole)
    assert [finding for finding in Fsck(memory).run() if not finding.is_orphan] == []
    content, _ = memory.get("evidence", commits.path_of(2))
    memory.put("evidence", commits.path_of(2), content.replace(b"archive", b"archivE"))
    memory.mark_deleted("evidence", commits.path_of(1))
    # then both are findings, and the commits are read all the same
    run = Fsck(memory)
    findings = [finding for finding in run.run() if not finding.is_orphan]
    assert {(finding.kind, finding.path) for finding in findings} == {
        ("second_version", commits.path_of(2)), ("delete_marker", commits.path_of(1)),
    }  # fmt: skip
    assert run.report.commits == Journal(DirectoryReader(whole)).refresh().next_n


def test_a_delete_marker_over_a_pack_is_named(whole: Path) -> None:
    memory = _uploaded(whole)
    pack = packs_of(whole)[0]
    memory.mark_deleted("evidence", pack.path)
    assert ("delete_marker", pack.path) in {(finding.kind, finding.path) for finding in Fsck(memory).run()}


def test_a_version_that_no_commit_names_is_an_orphan(whole: Path) -> None:
    memory = _uploaded(whole)
    pack = packs_of(whole)[0]
    memory.put("evidence", pack.path, b"other bytes")
    assert [(finding.kind, finding.path) for finding in Fsck(memory, full=True).run()] == [("orphan", pack.path)]


def _uploaded(root: Path) -> MemoryArchive:
    """Return the archive with versions, its commits naming them."""
    memory = MemoryArchive()
    reader = DirectoryReader(root)
    versions: dict[str, str] = {}
    for bucket in ("evidence", "work"):
        for ref in reader.list(bucket, ""):
            if not ref.path.startswith(commits.LOG_PREFIX):
                content, stored = reader.get(bucket, ref.path)
                versions[stored.version_id] = memory.put(bucket, ref.path, content).version_id
    for ref in list(reader.list("evidence", commits.LOG_PREFIX)):
        text = reader.get("evidence", ref.path)[0].decode()
        for before, after in versions.items():
            text = text.replace(f'"{before}"', f'"{after}"')
        memory.put("evidence", ref.path, text.encode())
    return memory


# -- packs and manifests -------------------------------------------------------------------------------------


def _pack_file(root: Path) -> Path:
    return root / "evidence" / packs_of(root)[0].path


def _manifest_file(root: Path) -> Path:
    return root / "evidence" / packs_of(root)[0].manifest_path


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)


def test_a_missing_pack_is_named(archive: Path) -> None:
    _pack_file(archive).unlink()
    assert kinds(archive, full=False) == {"pack"}


def test_a_pack_of_another_size_is_named(archive: Path) -> None:
    with _pack_file(archive).open("ab") as file:
        file.write(b"x")
    assert kinds(archive, full=False) == {"pack"}


def test_a_changed_byte_of_a_pack_is_named_when_all_is_read(archive: Path) -> None:
    _flip(_pack_file(archive))
    assert kinds(archive) == {"pack"}


def test_a_missing_manifest_is_named(archive: Path) -> None:
    _manifest_file(archive).unlink()
    assert kinds(archive, full=False) == {"manifest"}


def test_a_changed_manifest_is_named(archive: Path) -> None:
    _flip(_manifest_file(archive))
    assert kinds(archive, full=False) == {"manifest"}


def _restated(root: Path, how: Callable[[manifest.Manifest], manifest.Manifest]) -> None:
    """Give the first pack another manifest, and have its commit pin it: a writer that lies from the start."""
    pack = packs_of(root)[0]
    file = root / "evidence" / pack.manifest_path
    content = manifest.encode(how(manifest.decode(file.read_bytes())))
    file.write_bytes(content)
    _repin(root, pack, manifest_sha256=manifest.sha256(content))


def _repin(root: Path, pack: AddedPack, *, manifest_sha256: str, **more: Any) -> None:
    def repinned(one: Commit) -> Commit:
        changes = {**more, "manifest_sha256": manifest_sha256, "manifest_version_id": version_of(manifest_sha256)}
        adds = tuple(msgspec.structs.replace(add, **changes) if add.path == pack.path else add for add in one.adds)
        return replace(one, adds=adds)

    change(root, pack.commit, repinned)


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
    _repin(
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
    first, other = _two(archive)
    told = manifest.decode((archive / "evidence" / first.manifest_path).read_bytes())
    file = archive / "evidence" / other.manifest_path
    stated = manifest.decode(file.read_bytes())
    content = manifest.encode(msgspec.structs.replace(stated, files=(*stated.files, told.files[0])))
    file.write_bytes(content)
    _repin(archive, other, manifest_sha256=manifest.sha256(content))
    assert "held_twice" in kinds(archive, full=False)


def _two(root: Path) -> tuple[AddedPack, AddedPack]:
    packs = packs_of(root)
    return packs[0], packs[1]


# -- frontiers, sidecars, orphans ----------------------------------------------------------------------------


def _frontier_file(root: Path) -> Path:
    txn = next(iter(Journal(DirectoryReader(root)).refresh().positions.values()))
    return root / "work" / txn.frontier.path


def test_a_missing_frontier_is_named(archive: Path) -> None:
    _frontier_file(archive).unlink()
    assert kinds(archive, full=False) == {"frontier"}


def test_a_changed_frontier_is_named(archive: Path) -> None:
    _flip(_frontier_file(archive))
    assert kinds(archive, full=False) == {"frontier"}


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
    first, second = _two(archive)
    (archive / "work" / path_of("filters", first.sha256)).unlink()
    _flip(archive / "work" / path_of("entities", second.sha256))
    named = [(finding.kind, finding.path) for finding in found(archive, full=False)]
    assert named == [("sidecar", first.path), ("sidecar", second.path)]


def test_filters_that_lack_tokens_are_named_when_all_is_read(archive: Path) -> None:
    pack = packs_of(archive)[0]
    told = manifest.decode(_manifest_file(archive).read_bytes())
    empty = sidecar.encode_filters(pack.sha256, [fuse(np.zeros(0, np.uint64))] * len(told.row_groups))
    (archive / "work" / path_of("filters", pack.sha256)).write_bytes(empty)
    assert kinds(archive, full=False) == set()
    assert kinds(archive) == {"sidecar"}


def test_entities_that_are_not_the_rows_are_named_when_all_is_read(archive: Path) -> None:
    first, second = _two(archive)
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


# -- the command ---------------------------------------------------------------------------------------------


def _command(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    settings = root.parent / "ashiato.toml"
    settings.write_text(
        f'[ingest]\nbus = {{kind = "sqlite", path = "{root}/none.sqlite"}}\narchive = {{directory = "{root}"}}\n'
        f'scratch_dir = "{root.parent}/scratch"\n'
    )
    return subprocess.run(
        [sys.executable, "-m", "ingest", *arguments, "--config", str(settings)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_the_command_says_what_it_looked_at_and_ends_with_zero_where_all_is_well(archive: Path) -> None:
    done = _command(archive, "fsck", "--full")
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("clean")


def test_the_command_prints_json_and_ends_with_one_where_something_is_wrong(archive: Path) -> None:
    _pack_file(archive).unlink()
    done = _command(archive, "fsck", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert lines[0]["kind"] == "pack"
    assert lines[-1]["findings"] == {"pack": 1}
    assert lines[-1]["clean"] is False


def test_the_command_does_not_call_a_missing_archive_clean(tmp_path: Path) -> None:
    done = _command(tmp_path / "nowhere", "fsck")
    assert done.returncode == 1
    assert "no archive here" in done.stderr


def test_an_option_of_another_role_is_wrong_usage(tmp_path: Path) -> None:
    assert _command(tmp_path / "x", "archive", "--full").returncode == 2


def test_the_command_makes_sidecars_again(archive: Path) -> None:
    shutil.rmtree(archive / "work" / "filters")
    done = _command(archive, "sidecars")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["made"] == len(packs_of(archive))
    assert _command(archive, "fsck").returncode == 0

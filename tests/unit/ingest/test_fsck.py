"""``ingest fsck``: every way in which an archive can be damaged is named, and nothing else is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ashiato.adapters.archive_directory import DirectoryReader, DirectoryWriter
from ashiato.adapters.journal import Journal
from ashiato.core import commit as commits
from ashiato.core.commit import Commit, Condemned
from ingest.fsck import Fsck
from tests.simulation.memory_archive import MemoryArchive
from tests.unit.ingest.damage import (
    change,
    commit_file,
    flip,
    found,
    frontier_file,
    kinds,
    manifest_file,
    pack_file,
    packs_of,
)

Damage = Callable[[Path], None]
FileOf = Callable[[Path], Path]


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


def first_archiving(root: Path) -> Commit:
    return next(one for n in range(1, 9) if (one := commits.decode(commit_file(root, n).read_bytes(), n)).adds)


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


# -- what commits name ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file_of", "kind"), [(pack_file, "pack"), (manifest_file, "manifest"), (frontier_file, "frontier")]
)
def test_what_is_missing_is_named(archive: Path, file_of: FileOf, kind: str) -> None:
    file_of(archive).unlink()
    assert kinds(archive, full=False) == {kind}


@pytest.mark.parametrize(("file_of", "kind"), [(manifest_file, "manifest"), (frontier_file, "frontier")])
def test_what_is_changed_is_named(archive: Path, file_of: FileOf, kind: str) -> None:
    flip(file_of(archive))
    assert kinds(archive, full=False) == {kind}


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
    pack_file(archive).unlink()
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

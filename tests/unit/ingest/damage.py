"""An archive as tests damage it, and what ``fsck`` says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from ashiato.adapters.archive_directory import DirectoryReader, version_of
from ashiato.adapters.journal import Journal
from ashiato.core import commit as commits
from ashiato.core.commit import AddedPack, Commit
from ingest.fsck import Fsck
from ingest.fsck_told import Finding


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


def pack_file(root: Path) -> Path:
    return root / "evidence" / packs_of(root)[0].path


def manifest_file(root: Path) -> Path:
    return root / "evidence" / packs_of(root)[0].manifest_path


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)


def frontier_file(root: Path) -> Path:
    txn = next(iter(Journal(DirectoryReader(root)).refresh().positions.values()))
    return root / "work" / txn.frontier.path


def repin(root: Path, pack: AddedPack, *, manifest_sha256: str, **more: Any) -> None:
    def repinned(one: Commit) -> Commit:
        changes = {**more, "manifest_sha256": manifest_sha256, "manifest_version_id": version_of(manifest_sha256)}
        adds = tuple(msgspec.structs.replace(add, **changes) if add.path == pack.path else add for add in one.adds)
        return replace(one, adds=adds)

    change(root, pack.commit, repinned)


def two(root: Path) -> tuple[AddedPack, AddedPack]:
    packs = packs_of(root)
    return packs[0], packs[1]

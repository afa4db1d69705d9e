"""Sweeps that remember: what did not change is not listed again, and nothing that changed is missed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collector import discovery
from collector.discovery import Memory, Root, sweep

SECOND = 1_000_000_000


class Watch:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100 * SECOND

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the folders that are listed."""
    folders: list[str] = []
    really_list = os.scandir

    def scandir(path: Any) -> Any:
        folders.append(Path(path).name)
        return really_list(path)

    monkeypatch.setattr("collector.discovery.os.scandir", scandir)
    return folders


def pods(root: Path, *names: str) -> None:
    for name in names:
        path = root / f"pods/ns_{name}_uid/c/0.log"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x\n")


def names(root: Path, memory: Memory, **more: Any) -> list[str]:
    found = sweep([Root(path=root, cluster="c", node="n", **more)], memory).candidates
    return [f"{candidate.found.source.pod}/{Path(candidate.path).name}" for candidate in found]


def settle(root: Path, memory: Memory, watch: Watch) -> None:
    names(root, memory)
    watch.now += 3 * SECOND
    names(root, memory)


def test_a_folder_that_did_not_change_is_not_listed_again(tmp_path: Path, listed: list[str]) -> None:
    pods(tmp_path, "a", "b")
    watch = Watch()
    memory = Memory(monotonic_nano=watch)
    settle(tmp_path, memory, watch)
    listed.clear()
    assert names(tmp_path, memory) == ["a/0.log", "b/0.log"]
    assert listed == []


def test_a_file_that_comes_goes_or_moves_is_seen_at_the_next_sweep(tmp_path: Path, listed: list[str]) -> None:
    pods(tmp_path, "a", "b")
    watch = Watch()
    memory = Memory(monotonic_nano=watch)
    settle(tmp_path, memory, watch)
    folder = tmp_path / "pods/ns_a_uid/c"
    for act, expected in (
        (lambda: (folder / "0.log").rename(folder / "0.log.20261124-100000"), ["a/0.log.20261124-100000", "b/0.log"]),
        (lambda: (folder / "0.log").write_bytes(b"y"), ["a/0.log.20261124-100000", "a/0.log", "b/0.log"]),
        ((folder / "0.log.20261124-100000").unlink, ["a/0.log", "b/0.log"]),
    ):
        listed.clear()
        act()
        assert names(tmp_path, memory) == expected
        assert listed == ["c"]


def test_a_change_within_the_step_of_the_clock_is_not_missed(tmp_path: Path) -> None:
    """The folder's time may not move between two changes that are near: it is trusted only when it is old."""
    pods(tmp_path, "a")
    watch = Watch()
    memory = Memory(monotonic_nano=watch)
    folder = tmp_path / "pods/ns_a_uid/c"
    names(tmp_path, memory)
    stamp = folder.stat().st_mtime_ns
    (folder / "1.log").write_bytes(b"")
    os.utime(folder, ns=(stamp, stamp))
    assert names(tmp_path, memory) == ["a/0.log", "a/1.log"]


def test_a_hinted_sweep_lists_only_the_folders_that_the_kernel_named(tmp_path: Path, listed: list[str]) -> None:
    pods(tmp_path, "a", "b")
    watch = Watch()
    memory = Memory(monotonic_nano=watch)
    settle(tmp_path, memory, watch)
    for name in ("a", "b"):
        (tmp_path / f"pods/ns_{name}_uid/c/1.log").write_bytes(b"")
    listed.clear()
    memory.changed = {str(tmp_path / "pods/ns_b_uid/c")}
    assert names(tmp_path, memory) == ["a/0.log", "b/0.log", "b/1.log"]
    assert listed == ["c"]
    memory.changed = None
    assert names(tmp_path, memory) == ["a/0.log", "a/1.log", "b/0.log", "b/1.log"]


def test_a_link_whose_end_moved_is_seen_although_its_folder_did_not_change(tmp_path: Path) -> None:
    docker = tmp_path / "docker/containers" / ("ab" * 32)
    docker.mkdir(parents=True)
    log = docker / f"{'ab' * 32}-json.log"
    log.write_bytes(b"x\n")
    link = tmp_path / "pods/ns_a_uid/c/0.log"
    link.parent.mkdir(parents=True)
    link.symlink_to(log)
    watch = Watch()
    memory = Memory(monotonic_nano=watch)
    settle(tmp_path, memory, watch)
    before = sweep([Root(path=tmp_path, cluster="c", node="n")], memory).candidates
    log.rename(docker / f"{log.name}.1")
    log.write_bytes(b"y\n")
    after = sweep([Root(path=tmp_path, cluster="c", node="n")], memory).candidates
    assert [c.found.source.pod for c in before] == ["a"]
    assert {c.identity[1] for c in after} == {log.stat().st_ino, before[0].identity[1]}


def test_a_folder_of_very_many_names_is_bounded_and_left_alone_for_a_while(
    tmp_path: Path, listed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "FOLDER_FILES_MAX", 50)
    folder = tmp_path / "spool"
    folder.mkdir()
    for number in range(200):
        (folder / f"{number}.log").write_bytes(b"")
        (folder / f"{number}.bin").write_bytes(b"")
    watch = Watch()

    def slow() -> int:
        watch.now += SECOND
        return watch.now

    memory = Memory(monotonic_nano=slow)
    root = Root(path=tmp_path, cluster="c", node="n", all_files=True)
    swept = sweep([root], memory)
    assert len(swept.candidates) == 50
    assert swept.unreadable == {str(folder): "more than 50 logs in one folder"}
    listed.clear()
    (folder / "new.bin").write_bytes(b"")
    sweep([root], memory)
    assert listed == []
    watch.now += 100 * SECOND
    sweep([root], memory)
    assert "spool" in listed


def test_globs_name_files_whatever_they_are_called_and_their_rotations(tmp_path: Path) -> None:
    for name in ("app.out", "app.out.1", "app.out.2.gz", "other.out", "deep/app.out", "app.bin"):
        path = tmp_path / "srv" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x\n")

    def found(*globs: str) -> set[str]:
        root = Root(path=tmp_path, cluster="c", node="n", globs=tuple(str(tmp_path / glob) for glob in globs))
        return {os.path.relpath(c.path, tmp_path / "srv") for c in sweep([root]).candidates}

    assert found("srv/app.*t") == {"app.out", "app.out.1", "app.out.2.gz"}
    assert found("srv/**/app.out") == {"app.out", "app.out.1", "app.out.2.gz", "deep/app.out"}
    assert found("srv/[!a]ther.ou?") == {"other.out"}
    assert found() == set()


@pytest.mark.parametrize(
    ("pattern", "excluded"),
    [
        pytest.param(lambda root: str(root / "pods/ns_a_uid"), ["pods/ns_a_uid"], id="a folder"),
        pytest.param(lambda root: str(root / "pods/ns_*_uid"), ["pods/ns_a_uid", "pods/ns_b_uid"], id="a glob"),
        pytest.param(lambda root: str(root / "pods/ns_b_uid/*/0.log"), ["pods/ns_b_uid/c/0.log"], id="a file"),
    ],
)
def test_what_is_there_and_excluded_is_told(
    tmp_path: Path, pattern: Callable[[Path], str], excluded: list[str]
) -> None:
    pods(tmp_path, "a", "b")
    swept = sweep([Root(path=tmp_path, cluster="c", node="n", exclude=(pattern(tmp_path),))])
    assert swept.excluded == {str(tmp_path / path): pattern(tmp_path) for path in excluded}

"""A sweep: which files are logs, under which of their names, in which order."""

from __future__ import annotations

import os
from pathlib import Path

from ashiato.core.ids import Kind
from collector.discovery import DEPTH_MAX, Candidate, Root, sweep


def save(path: Path, content: bytes = b"x\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def root(path: Path, *, all_files: bool = False, kind: Kind | None = None) -> Root:
    return Root(path=path, cluster="c", node="n", all_files=all_files, kind=kind)


def names(candidates: list[Candidate]) -> list[str]:
    return [Path(candidate.path).name for candidate in candidates]


def test_the_oldest_rotation_comes_first_and_the_live_file_last(tmp_path: Path) -> None:
    folder = tmp_path / "pods/ns_p_u/c"
    order = ["0.log.20261123-101010.gz", "0.log.20261124-101010", "0.log", "1.log"]
    for name in reversed(order):
        save(folder / name)
    assert names(sweep([root(tmp_path)]).candidates) == order


def test_the_highest_number_is_the_live_ledger(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        save(tmp_path / f"ledger-{number:06d}.jsonl")
    found = sweep([root(tmp_path, kind=Kind.LEDGER)]).candidates
    assert [candidate.rotated for candidate in found] == [True, True, False]


def test_a_file_with_several_names_is_seen_once_under_the_one_that_says_most(tmp_path: Path) -> None:
    docker = save(tmp_path / "docker/containers" / ("a" * 64) / f"{'a' * 64}-json.log")
    pod = tmp_path / "pods/ns_p_u/c/0.log"
    pod.parent.mkdir(parents=True)
    pod.symlink_to(docker)
    os.link(docker, pod.with_name("1.log"))
    (found,) = sweep([root(tmp_path)]).candidates
    assert (found.found.source.pod, Path(found.path).name) == ("p", "1.log")


def test_links_out_of_the_roots_and_links_of_var_log_containers_are_not_followed(tmp_path: Path) -> None:
    secret = save(tmp_path / "secret")
    log = save(tmp_path / "log/pods/ns_p_u/c/0.log")
    (tmp_path / "log/pods/ns_p_u/c/1.log").symlink_to(secret)
    (tmp_path / "log/containers").mkdir()
    (tmp_path / "log/containers/p_ns_c-1.log").symlink_to(log)
    (tmp_path / "log/loop").symlink_to(tmp_path / "log")
    assert [c.path for c in sweep([root(tmp_path / "log", all_files=True)]).candidates] == [str(log)]


def test_plain_files_are_taken_only_when_asked_for(tmp_path: Path) -> None:
    for name in ("app.log", "app.log.1", "notes.txt", "picture.png", ".hidden.log", "data.json"):
        save(tmp_path / name)
    assert sweep([root(tmp_path)]).candidates == []
    assert set(names(sweep([root(tmp_path, all_files=True)]).candidates)) == {
        "app.log", "app.log.1", "notes.txt", "data.json",
    }  # fmt: skip


def test_a_folder_of_nodes_names_the_node(tmp_path: Path) -> None:
    save(tmp_path / "node-7/var/log/pods/ns_p_u/c/0.log")
    (found,) = sweep([root(tmp_path)]).candidates
    assert found.found.source.node == "node-7"


def test_a_missing_root_and_a_folder_too_deep_are_told(tmp_path: Path) -> None:
    deep = tmp_path / "/".join("d" * (DEPTH_MAX + 1))
    save(deep / "pods/ns_p_u/c/0.log")
    swept = sweep([root(tmp_path), root(tmp_path / "nowhere")])
    assert swept.candidates == []
    assert swept.missing == {str(tmp_path / "nowhere")}
    assert [Path(path).name for path in swept.unreadable] == ["d"]


def test_pipes_and_devices_are_no_logs(tmp_path: Path) -> None:
    folder = tmp_path / "pods/ns_p_u/c"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "0.log")
    assert sweep([root(tmp_path)]).candidates == []


def test_names_that_are_odd_are_found_and_told_as_text(tmp_path: Path) -> None:
    odd = [b"new\nline.log", b"bad\xff.log", b"tab\t'\"$`x`.log"]
    for name in odd:
        save(tmp_path / os.fsdecode(name))

    found = sweep([root(tmp_path, all_files=True)]).candidates

    assert sorted(os.fsencode(Path(one.os_path).name) for one in found) == sorted(odd)
    assert sorted(Path(one.path).name for one in found) == sorted(["new\nline.log", "bad\\xff.log", "tab\t'\"$`x`.log"])
    assert all(str(one.found.source).encode() for one in found)

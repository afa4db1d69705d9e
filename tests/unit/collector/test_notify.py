"""The kernel's hints: which folders changed, each once, and that it does not know."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.notify import Notifier


@pytest.fixture
def notifier() -> Iterator[Notifier]:
    made = Notifier()
    yield made
    made.close()


def test_a_folder_in_which_something_came_went_or_moved_is_told_once(notifier: Notifier, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert notifier.watch(str(tmp_path / "a"))
    assert notifier.watch(str(tmp_path / "b"))
    assert not notifier.watch(str(tmp_path / "a"))
    for number in range(5):
        (tmp_path / "a" / str(number)).write_bytes(b"x")
    assert notifier.changes().folders == {str(tmp_path / "a")}
    (tmp_path / "a/0").rename(tmp_path / "b/0")
    assert notifier.changes().folders == {str(tmp_path / "a"), str(tmp_path / "b")}
    (tmp_path / "b/0").unlink()
    assert notifier.changes().folders == {str(tmp_path / "b")}
    assert notifier.changes().folders == set()


def test_writing_is_never_told(notifier: Notifier, tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    log.write_bytes(b"x\n")
    notifier.watch(str(tmp_path))
    with log.open("ab") as file:
        file.write(b"y\n" * 1000)
    assert notifier.changes().folders == set()


def test_a_folder_that_moved_or_went_can_be_watched_under_its_new_name(notifier: Notifier, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    notifier.watch(str(tmp_path / "a"))
    (tmp_path / "a").rename(tmp_path / "b")
    assert notifier.changes().folders == {str(tmp_path / "a")}
    assert notifier.changes().folders == set()
    assert notifier.watch(str(tmp_path / "b"))
    (tmp_path / "b/x").write_bytes(b"")
    assert notifier.changes().folders == {str(tmp_path / "b")}
    (tmp_path / "b/x").unlink()
    (tmp_path / "b").rmdir()
    notifier.changes()
    assert len(notifier) == 0


def test_links_files_and_missing_folders_are_not_watched(notifier: Notifier, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link", "missing"):
        assert not notifier.watch(str(tmp_path / name))


def test_more_changes_than_the_queue_holds_are_told_as_such(notifier: Notifier, tmp_path: Path) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text(encoding="ascii"))
    notifier.watch(str(tmp_path))
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"")
    for _ in range(limit // 2 + 10):  # two hints each
        one.rename(two)
        two.rename(one)
    changes = notifier.changes()
    assert changes.overflowed
    assert changes.folders == {str(tmp_path)}


def test_a_watch_that_the_system_refuses_is_said(
    notifier: Notifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(notifier, "_called", refuse)
    with pytest.raises(OSError, match="No space left"):
        notifier.watch(str(tmp_path))

"""The bookmark: what a crash, a full disk and growth leave of it."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import msgspec
import pytest

from ashiato.core.errors import SettingsError, TransientError
from collector.bookmark import (
    COMPACT_BYTES,
    DONE_FILES_KEPT,
    Acked,
    Bookmark,
    Contents,
    Done,
    Entry,
    Head,
    Known,
    Moved,
    Owner,
    Stated,
    Topics,
)


def known(file_id: str) -> Known:
    return Known(
        file_id=file_id, source="file/c/n/x", path=f"/{file_id}", topic="t", partition=0, restart_count=-1, device=1,
        inode=2,
    )  # fmt: skip


ENTRIES: tuple[Entry, ...] = (
    Owner(node="n", machine="m", incarnation="i"),
    Topics(partitions={"t": 3}),
    known("A"),
    Head(file_id="A", length=3, sha256="ab"),
    Acked(file_id="A", offset=10, position=4, guard=b"g"),
    Moved(file_id="A", path="/A.1"),
    known("B"),
    Acked(file_id="B", offset=7, position=5),
    Done(file_id="B", size=7, modified_nano=9),
    Stated(n=12),
)


def reopen(path: Path) -> Bookmark:
    bookmark = Bookmark(path)
    bookmark.close()
    return bookmark


def written(path: Path) -> Contents:
    bookmark = Bookmark(path)
    bookmark.note(*ENTRIES)
    bookmark.flush()
    bookmark.close()
    return bookmark.contents


def test_what_was_flushed_is_read_back(tmp_path: Path) -> None:
    assert reopen(tmp_path / "bookmark").contents == Contents()
    assert written(tmp_path / "bookmark") == reopen(tmp_path / "bookmark").contents


def test_a_bookmark_cut_at_any_byte_is_read_to_its_last_whole_entry_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "bookmark"
    written(path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        bookmark = Bookmark(path)
        assert path.stat().st_size == length - bookmark.bytes_cut
        bookmark.note(Owner(node="later", machine="m", incarnation="j"))
        bookmark.flush()
        bookmark.close()
        after = reopen(path)
        assert after.bytes_cut == 0
        assert after.contents.owner is not None
        assert after.contents.owner.node == "later"


def test_a_changed_byte_ends_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "bookmark"
    written(path)
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(bytes(whole))
    assert reopen(path).contents.stated == 0
    assert reopen(path).contents.files.keys() == {"A", "B"}


def test_only_the_newest_of_many_acknowledgements_is_written(tmp_path: Path) -> None:
    path = tmp_path / "bookmark"
    bookmark = Bookmark(path)
    bookmark.note(*ENTRIES)
    bookmark.flush()
    size = path.stat().st_size
    for offset in range(11, 5000):
        bookmark.note(Acked(file_id="A", offset=offset, position=offset))
    bookmark.flush()
    bookmark.close()
    assert path.stat().st_size - size < 100
    assert reopen(path).contents.files["A"].offset == 4999


def test_a_full_disk_leaves_the_file_whole_and_the_entries_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bookmark"
    written(path)
    bookmark = Bookmark(path)
    really_write = os.write

    def half(descriptor: int, data: Any) -> int:
        really_write(descriptor, bytes(data)[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("collector.append_file.os.write", half)
        bookmark.note(Acked(file_id="A", offset=20, position=6))
        with pytest.raises(TransientError, match="no room"):
            bookmark.flush()
        assert reopen(path).bytes_cut == 0
    bookmark.flush()
    bookmark.close()
    assert reopen(path).contents.files["A"].offset == 20


def test_compaction_keeps_open_files_and_what_lies_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "bookmark"
    bookmark = Bookmark(path)
    bookmark.note(*ENTRIES)
    for number in range(DONE_FILES_KEPT + 50):
        bookmark.note(known(f"D{number}"), Done(file_id=f"D{number}", size=0))
    bookmark.flush()
    before = path.stat().st_size
    bookmark.compact({"B", "D0"})
    kept = bookmark.contents
    bookmark.close()
    assert path.stat().st_size < before
    assert reopen(path).contents == kept
    assert {"A", "B", "D0", f"D{DONE_FILES_KEPT + 49}"} <= kept.files.keys()
    assert "D1" not in kept.files


@pytest.mark.parametrize(
    ("called", "turn"),
    [
        ("append_file.os.open", 1), ("append_file.os.open", 2), ("append_file.os.open", 3),
        ("append_file.os.write", 1), ("append_file.os.fdatasync", 1),
        ("append_file.Path.rename", 1), ("bookmark.files.sync_folder", 1), ("bookmark.files.sync_folder", 2),
    ],
)  # fmt: skip
def test_a_compaction_that_fails_goes_on_in_a_file_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, called: str, turn: int
) -> None:
    path = tmp_path / "bookmark"
    bookmark = Bookmark(path, reserve_bytes=4096)
    bookmark.note(*ENTRIES)
    bookmark.flush()
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    really, calls = resolve_name(f"collector.{called}"), 0

    def fail(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == turn:
            raise OSError(errno.EMFILE, "Too many open files")
        return really(*arguments)

    with monkeypatch.context() as broken:
        broken.setattr(f"collector.{called}", fail)
        with pytest.raises(TransientError):
            bookmark.compact(set())
    # then: what is noted from here on is found by the next process, and nothing is left over
    bookmark.note(Acked(file_id="A", offset=20, position=6))
    bookmark.flush()
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before
    assert [one.name for one in tmp_path.iterdir()] == ["bookmark"]
    assert bookmark.reserve_left_bytes > 0
    bookmark.close()
    again = reopen(path)
    assert (again.contents, again.bytes_cut) == (bookmark.contents, 0)
    assert again.contents.files["A"].offset == 20


def test_it_asks_to_be_compacted_when_it_has_grown(tmp_path: Path) -> None:
    bookmark = Bookmark(tmp_path / "bookmark")
    sizes = [bookmark.is_large]
    bookmark.note(Topics(partitions={"x" * COMPACT_BYTES: 1}))
    bookmark.flush()
    sizes.append(bookmark.is_large)
    bookmark.compact(set())
    sizes.append(bookmark.is_large)
    bookmark.close()
    assert sizes == [False, True, False]


def test_another_owner_begins_an_empty_bookmark(tmp_path: Path) -> None:
    path = tmp_path / "bookmark"
    written(path)
    bookmark = Bookmark(path)
    bookmark.note(Owner(node="other", machine="m", incarnation="k"))
    bookmark.flush()
    bookmark.close()
    assert reopen(path).contents.files == {}
    assert reopen(path).contents.stated == 0


@pytest.mark.parametrize("payload", [msgspec.msgpack.encode({"type": "later"}), b"\xc1"])
def test_an_entry_of_another_release_is_refused_and_not_cut_off(tmp_path: Path, payload: bytes) -> None:
    """To cut it off would forget files, and send them again under new ids."""
    path = tmp_path / "bookmark"
    bookmark = Bookmark(path)
    bookmark.note(*ENTRIES)
    bookmark.flush()
    bookmark.close()
    later = path.read_bytes() + struct.pack("<II", len(payload), zlib.crc32(payload)) + payload
    path.write_bytes(later)
    with pytest.raises(SettingsError, match="another release"):
        Bookmark(path)
    assert path.read_bytes() == later


def test_zeros_where_blocks_were_never_written_are_a_torn_end(tmp_path: Path) -> None:
    path = tmp_path / "bookmark"
    written(path)
    whole = path.read_bytes()
    for zeros in (1, 8, 4096):
        path.write_bytes(whole + bytes(zeros))
        bookmark = Bookmark(path)
        assert (bookmark.bytes_cut, path.read_bytes()) == (zeros, whole)
        bookmark.close()


def test_a_bookmark_of_another_format_is_refused(tmp_path: Path) -> None:
    bookmark = Bookmark(tmp_path / "bookmark")
    bookmark.note(Owner(node="n", machine="m", incarnation="i", format=2))
    bookmark.flush()
    bookmark.close()
    with pytest.raises(SettingsError, match="format 2"):
        Bookmark(tmp_path / "bookmark")

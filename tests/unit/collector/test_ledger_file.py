"""The ledger on disk: its chain goes on over restarts, torn ends, rotations and full disks."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from ashiato.adapters.clock import FixedClock
from ashiato.core import ledger
from ashiato.core.errors import SettingsError, TransientError
from ashiato.core.ledger import Beat, Closed, Rotated
from collector import ledger_file
from collector.ledger_file import FILES_KEPT, LedgerFile


def opened(folder: Path) -> LedgerFile:
    return LedgerFile(folder, node="n", clock=FixedClock(unix_nano=1))


def lines_of(folder: Path) -> list[bytes]:
    return [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_bytes().splitlines()]


def append_until_full(file: LedgerFile) -> int:
    for count in range(10**6):
        try:
            file.append([beat(count)])
        except TransientError:
            return count
    raise AssertionError("the disk never filled")


def beat(number: int) -> Beat:
    return Beat(watermark_unix_nano=str(number))


def test_the_chain_goes_on_after_a_restart(tmp_path: Path) -> None:
    for number in range(3):
        file = opened(tmp_path)
        file.append([beat(number), beat(number)])
        file.close()
    assert ledger.verify_chain(lines_of(tmp_path)).n == 6


def test_a_torn_end_is_cut_and_its_number_is_used_once(tmp_path: Path) -> None:
    file = opened(tmp_path)
    file.append([beat(0), beat(1)])
    file.close()
    path = tmp_path / "ledger-000001.jsonl"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        again = opened(tmp_path)
        again.append([beat(9)])
        again.close()
        lines = lines_of(tmp_path)
        assert ledger.verify_chain(lines).n == len(lines) == whole[:length].count(b"\n") + 1


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = opened(tmp_path)
    file.append([beat(0)])
    really_write = os.write

    def half(descriptor: int, data: Any) -> int:
        really_write(descriptor, bytes(data)[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("collector.append_file.os.write", half)
        with pytest.raises(TransientError):
            file.append([beat(1), beat(2)])
        assert len(lines_of(tmp_path)) == 1
    file.append([beat(3)])
    file.close()
    assert ledger.verify_chain(lines_of(tmp_path)).n == 2


def test_it_rotates_by_size_and_each_file_names_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_file, "ROTATE_BYTES", 1000)
    file = opened(tmp_path)
    for number in range(30):
        file.append([beat(number)])
    names = [path.name for path in sorted(tmp_path.iterdir())]
    assert len(names) > FILES_KEPT
    firsts = [ledger.decode((tmp_path / name).read_bytes().splitlines()[0]).statement for name in names[1:]]
    assert firsts == [Rotated(predecessor=name) for name in names[:-1]]
    assert ledger.verify_chain(lines_of(tmp_path)).n == file.head.n
    # and: lines are found again over several files
    assert [line.n for line in file.since(5)] == list(range(5, file.head.n))
    # and: only what is not among the newest goes
    for name in names:
        file.forget(tmp_path / name)
    assert [path.name for path in sorted(tmp_path.iterdir())] == names[-FILES_KEPT:]
    file.close()
    again = opened(tmp_path)
    assert again.head == file.head
    again.close()


def test_since_gives_nothing_beyond_the_end(tmp_path: Path) -> None:
    file = opened(tmp_path)
    file.append([Closed(file_id="F", source="s", size="1", reason="unlinked")])
    assert list(file.since(1)) == []
    assert [line.n for line in file.since(0)] == [0]
    file.close()


def test_c3_a_ledger_of_another_release_is_not_gone_on_with(tmp_path: Path) -> None:
    file = opened(tmp_path)
    file.append([beat(1)])
    file.close()
    path = next(tmp_path.glob("*.jsonl"))
    (line,) = path.read_bytes().splitlines()
    path.write_bytes(line + b"\n" + line.replace(b'"v":2', b'"v":3') + b"\n")
    with pytest.raises(SettingsError, match="version 3"):
        opened(tmp_path)


def test_c3_zeros_of_a_torn_batch_are_cut_and_lines_that_were_durable_are_not(tmp_path: Path) -> None:
    # given: of a batch of three lines only the last block was written
    file = opened(tmp_path)
    file.append([beat(0)])
    file.append([beat(1), beat(2), beat(3)])
    file.close()
    path = next(tmp_path.glob("*.jsonl"))
    first, second, *rest = path.read_bytes().splitlines(keepends=True)
    torn = first + bytes(len(second)) + b"".join(rest)
    path.write_bytes(torn)
    # when: the bookmark says that only the first line was durable
    again = LedgerFile(tmp_path, node="n", clock=FixedClock(unix_nano=1), durable_n=1)
    again.append([beat(9)])
    again.close()
    assert ledger.verify_chain(lines_of(tmp_path)).n == 2
    # but: where it knows of all of them, a disk has lost a line that may be anywhere by now
    path.write_bytes(torn)
    damaged = LedgerFile(tmp_path, node="n", clock=FixedClock(unix_nano=1), durable_n=4)
    assert damaged.head.n == 4
    damaged.close()


def test_c8_on_a_full_disk_the_reserve_takes_statements_to_its_last_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_file, "ROTATE_BYTES", 2000)
    file = LedgerFile(tmp_path, node="n", clock=FixedClock(unix_nano=1), reserve_bytes=64 * 1024)
    if not file.is_reserved:
        pytest.skip("the file system gives no room beforehand")
    with monkeypatch.context() as full:
        full.setattr("collector.append_file._allocate", lambda *_: errno.ENOSPC)
        before = file.reserve_left_bytes
        count = append_until_full(file)
        # no half line, no rotation into a file without a reserve, and nothing given away
        assert len(list(tmp_path.iterdir())) == 1
        assert before - 1000 < (tmp_path / "ledger-000001.jsonl").stat().st_size <= before
        assert 0 <= file.reserve_left_bytes < 1000
        with pytest.raises(TransientError):
            file.append([beat(0)])
    file.append([beat(count)])
    file.append([beat(count + 1)])
    assert file.reserve_left_bytes >= 48 * 1024
    assert len(list(tmp_path.iterdir())) == 2
    assert ledger.verify_chain(lines_of(tmp_path)).n == file.head.n == count + 3
    file.close()


def test_the_size_stays_what_was_written_and_the_reserve_outlives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "ledger-000001.jsonl"
    for _ in range(2):
        file = LedgerFile(tmp_path, node="n", clock=FixedClock(unix_nano=1), reserve_bytes=1024 * 1024)
        file.append([beat(0)])
        assert path.stat().st_size == len(path.read_bytes())
        if file.is_reserved:
            assert path.stat().st_blocks * 512 >= 1024 * 1024
        file.close()
    assert b"\0" not in path.read_bytes()

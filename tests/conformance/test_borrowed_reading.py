"""Scenarios of other collectors' own tests: beginnings and ends, restarts, descriptors, bookmarks, what is no file.

:data:`~tests.conformance.borrowed.BORROWED` says which name of theirs each test plays.
"""

from __future__ import annotations

import errno
import gzip
import os
from pathlib import Path
from typing import Any

import pytest

from ashiato.core.chunk import ChunkFlags
from ashiato.core.ledger import Gap
from ashiato.core.limits import LINE_CUT_BYTES
from tests.conformance.site import Site, descriptors
from tests.simulation.collector_node import chunks_of


def test_one_file_of_two_names_is_read_once(site: Site) -> None:
    log = site.pod_log()
    site.truth.append(log, site.truth.lines("web", 10))
    os.link(log, log.with_name("0.log.20261124-100000"))
    site.start(roots=(str(site.logs), str(site.logs / "pods")))
    site.all_held()
    assert len(site.files()) == 1


def test_what_is_no_file_is_not_opened(site: Site) -> None:
    folder = site.pod_log().parent
    os.mkfifo(folder / "1.log")
    (folder / "2.log").symlink_to("/dev/zero")
    (folder / "3.log").symlink_to(folder / "4.log")
    (folder / "4.log").symlink_to(folder / "3.log")
    (folder / "loop").symlink_to(folder)
    (folder / "5.log").mkdir()
    site.truth.append(site.pod_log(), site.truth.lines("web", 10))
    site.start()
    site.all_held()
    assert len(site.files()) == 1


@pytest.mark.parametrize("end", ["stop", "kill", "power"])
def test_restarts_go_on_at_the_offset(site: Site, end: str) -> None:
    """Half a line each time, a name each second time; the rest of the line comes after the restart."""
    log = site.pod_log()
    for turn in range(8):
        site.start(drain_s=1)
        line = site.truth.lines("web", 200)
        site.truth.append(log, line[:-30])
        site.pass_time(2)
        if end == "stop":
            site.stop()
        else:
            site.kill(power=end == "power")
        site.truth.append(log, line[-30:])
        if turn % 2:
            site.truth.rename(log, log.with_name(f"0.log.20261124-10000{turn}"))
    site.start()
    verdict = site.settled()
    assert verdict.bytes_held == verdict.bytes_written
    assert not [f for f in site.files() if f.flags & ChunkFlags.UNTERMINATED]


def test_a_reply_that_is_lost_makes_no_line_come_twice(site: Site) -> None:
    """The bus keeps some bytes twice; by their address they are held once."""
    log = site.pod_log()
    site.writer.lose_replies = 4
    site.truth.append(log, site.truth.lines("web", 5000))
    site.start()
    site.pass_time(0.1)
    site.kill()
    site.start()
    site.all_held()
    assert site.judge().bytes_sent > site.judge().bytes_written


def test_stopping_while_the_bus_is_away_keeps_what_was_not_sent(site: Site) -> None:
    log = site.read_log(10, drain_s=2)
    site.writer.away = True
    site.truth.append(log, site.truth.lines("web", 5000))
    site.pass_time(1)
    site.stop()
    site.writer.away = False
    site.start()
    site.all_held()


def test_a_bookmark_that_is_garbage_is_a_declared_new_beginning(site: Site) -> None:
    site.truth.append(site.pod_log(), site.truth.lines("web", 10))
    site.start()
    site.pass_time(3)
    site.stop()
    size = (site.state / "bookmark").stat().st_size
    (site.state / "bookmark").write_bytes(os.urandom(size))
    site.start()
    verdict = site.settled()
    assert verdict.lines_declared_twice == 10
    assert [bool(file.flags & ChunkFlags.RESENT) for file in site.files()] == [False, True]


def test_a_line_that_is_written_in_pieces_is_one_line(site: Site) -> None:
    log = site.pod_log()
    pen = site.truth.open(log)
    site.start()
    for _ in range(3):
        line = site.truth.line("web", width=400)
        for at in range(0, len(line), 50):
            pen.write(line[at : at + 50])
            site.pass_time(0.4)
    site.all_held()
    borders = [chunk.payload for chunk in chunks_of(site.broker) if "/shop/" in chunk.file.source and chunk.payload]
    assert all(payload.endswith(b"\n") for payload in borders)


EDGES = {
    "no newline": b"one\ntwo", "empty line": b"one\n\ntwo\n", "empty lines only": b"\n" * 400,
    "leading empty": b"\n\none\n", "UTF-8 mark": b"\xef\xbb\xbfone\n", "UTF-16": "\ufeffone\ntwo\n".encode("utf-16"),
    "carriage returns": b"one\r\ntwo\r\n\r\n", "NULs": b"\0\0\0one\n\0", "no UTF-8": b"\xff\xfe\xfd\n",
    "one byte": b"x", "empty": b"",
}  # fmt: skip


@pytest.mark.parametrize("content", EDGES.values(), ids=EDGES.keys())
def test_beginnings_and_ends_of_every_kind(site: Site, content: bytes) -> None:
    site.truth.append(site.pod_log(), content)
    site.truth.append(site.pod_log(pod="later"), site.truth.lines("later", 1))
    site.start()
    verdict = site.settled(100)
    assert verdict.bytes_held == verdict.bytes_written
    held = [file.content for file in site.files() if file.source.pod == "web"]
    assert held == ([content] if content else [])


@pytest.mark.parametrize(
    "width",
    [4095, 4096, 4097, 8192, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 32 * 1024 + 1, LINE_CUT_BYTES - 1,
     LINE_CUT_BYTES, LINE_CUT_BYTES + 1, 3 * LINE_CUT_BYTES + 7],
)  # fmt: skip
def test_lines_of_every_length_are_held(site: Site, width: int) -> None:
    log = site.pod_log()
    site.truth.append(log, site.truth.lines("web", 2) + site.truth.line("web", width=width))
    site.start()
    site.pass_time(1)
    site.truth.append(log, site.truth.line("web", "stderr", "P", width=width) + site.truth.lines("web", 2))
    site.all_held()


def test_a_gzipped_file_that_nobody_saw_plain_is_read(site: Site) -> None:
    log = site.pod_log()
    for turn in range(3):
        site.truth.append(log, site.truth.lines("web", 50))
        site.truth.rename(log, to := log.with_name(f"0.log.20261124-10000{turn}"))
        site.truth.compress(to)
    site.truth.append(log, site.truth.lines("web", 50))
    site.start()
    site.all_held()
    assert [f.content[:60].split(b"/")[2] for f in site.files()] == [b"1", b"51", b"101", b"151"]


def test_a_gzipped_file_that_is_damaged_is_read_to_the_damage(site: Site) -> None:
    whole = gzip.compress(os.urandom(300_000).hex().encode())
    site.pod_log("0.log.20261124-100000.gz").write_bytes(whole[: len(whole) // 2])
    site.start()
    site.pass_time(40)
    (file,) = site.files()
    (gap,) = [line.statement for line in site.lines() if isinstance(line.statement, Gap)]
    assert gzip.decompress(whole).startswith(file.content)
    assert len(file.content) > 100_000
    assert (gap.reason, gap.offset_start) == ("unreadable", str(len(file.content)))


def test_what_is_excluded_is_said(site: Site) -> None:
    site.truth.append(site.pod_log(pod="told"), site.truth.lines("told", 5))
    secret = site.logs / "pods/shop_secret_uid-secret"
    (secret / "c").mkdir(parents=True)
    (secret / "c/0.log").write_bytes(b"not for you\n")
    site.start(exclude=(str(secret),))
    site.pass_time(20)
    assert [file.source.pod for file in site.files()] == ["told"]
    assert str(secret) in (site.state / "ledger/ledger-000001.jsonl").read_text()


def test_more_files_than_descriptors(site: Site) -> None:
    """A hundred files, and room to open twenty."""
    site.start()
    really_open, opened = os.open, set[int]()

    def few(path: Any, *rest: Any, **more: Any) -> int:
        opened.intersection_update(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
        is_log = str(path).startswith(str(site.logs)) and str(path).endswith(".log")
        if is_log and len(opened) >= 20:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        descriptor = really_open(path, *rest, **more)
        if is_log:
            opened.add(descriptor)
        return descriptor

    for turn in range(3):
        for number in range(100):
            site.truth.append(site.pod_log(pod=f"p{number}"), site.truth.lines(f"p{number}", 2))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "open", few)
            site.pass_time(10)
        site.pass_time(turn)
    site.all_held()
    assert len(site.files()) == 100


def test_descriptors_are_let_go_of(site: Site) -> None:
    site.start()
    site.pass_time(3)
    before = descriptors()
    for turn in range(5):
        for number in range(20):
            site.truth.append(site.pod_log(pod=f"t{turn}-{number}"), site.truth.lines("web", 2))
        site.pass_time(3)
        for number in range(20):
            site.truth.remove_all(site.pod_log(pod=f"t{turn}-{number}").parent.parent)
        site.pass_time(5)
    site.all_held()
    assert descriptors() <= before + 2

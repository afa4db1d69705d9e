"""Reading under pressure: few descriptors, huge lines, odd kinds of files, exclusions, docker hosts, lost hints."""

from __future__ import annotations

import errno
import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from ashiato.core.ids import Kind, Source
from ashiato.core.ledger import Born, Closed, Config, Gap
from collector.content import Plain
from collector.descriptors import Descriptors
from collector.notify import Notifier
from tests.simulation.collector_node import FlakyWriter, Node, chunks_of, lines, unreadable, until

FEW = 20


@pytest.fixture
def few_descriptors(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let files have only so many descriptors."""
    monkeypatch.setattr("collector.registry.for_this_process", lambda: Descriptors(FEW))
    return FEW


def held_plain(collector: Any) -> int:
    files = collector.registry.files.values()
    return sum(isinstance(file.content, Plain) and file.content.is_held for file in files)


async def test_more_files_than_descriptors_are_all_read_again_and_again(node: Node, few_descriptors: int) -> None:
    count = 3 * few_descriptors
    logs = [node.pod_log(pod=f"p{number}") for number in range(count)]
    for number, log in enumerate(logs):
        node.write(log, lines(number, 2))
    async with node.collector() as collector:
        await until(lambda: len(node.contents()) == count and all(len(c) == len(lines(0, 2)) for c in node.contents()))
        assert held_plain(collector) <= few_descriptors
        for number, log in enumerate(logs):
            node.write(log, lines(1000 + number, 1))
        await until(lambda: all(len(content) == len(lines(0, 3)) for content in node.contents()))
        # one that rotates while it has no descriptor is the same file
        for log in logs[::7]:
            log.rename(log.with_name("0.log.20261124-100000"))
            node.write(log, lines(5000, 1))
        await until(lambda: len(node.contents()) == count + len(logs[::7]))
        await until(lambda: node.contents().count(lines(5000, 1)) == len(logs[::7]))
    assert not node.stated(Gap)


async def test_a_file_without_a_name_and_a_file_behind_keep_their_descriptors(node: Node, few_descriptors: int) -> None:
    # given: a bus that is away, one file that was removed unread, and more files than there are descriptors
    writer = FlakyWriter(node.broker)
    removed = node.pod_log(pod="removed")
    node.write(removed, lines(0, 5))
    async with node.collector(writer) as collector:
        await until(lambda: node.contents() == [lines(0, 5)])
        writer.away = True
        node.write(removed, lines(5, 5))
        await until(lambda: any(file.waiting for file in collector.registry.files.values() if not file.is_ledger))
        removed.unlink()
        for number in range(2 * few_descriptors):
            node.write(node.pod_log(pod=f"p{number}"), lines(number, 1))
        await until(lambda: len(collector.registry.files) == 2 + 2 * few_descriptors)
        assert held_plain(collector) <= few_descriptors
        writer.away = False
        await until(lambda: len(node.contents()) == 1 + 2 * few_descriptors)
        await until(lambda: lines(0, 10) in node.contents() and all(node.contents()))
    assert not node.stated(Gap)


async def test_a_file_that_goes_while_its_descriptor_is_lent_is_a_gap_without_an_end(
    node: Node, few_descriptors: int
) -> None:
    first = node.pod_log(pod="first")
    node.write(first, lines(0, 5))
    async with node.collector() as collector:
        await until(lambda: node.contents() == [lines(0, 5)])
        for number in range(2 * few_descriptors):
            node.write(node.pod_log(pod=f"p{number}"), lines(number, 1))
        await until(lambda: all(node.contents()) and len(node.contents()) == 1 + 2 * few_descriptors)
        (file,) = [file for file in collector.registry.files.values() if "/first/" in file.facts.source]
        assert isinstance(file.content, Plain)
        assert not file.content.is_held
        first.unlink()
        await until(lambda: node.stated(Gap) and node.stated(Closed))
    (gap,) = node.stated(Gap)
    assert (gap.reason, gap.offset_start, gap.offset_end) == ("rotated_away", str(len(lines(0, 5))), "")
    assert gap.file_id == file.facts.file_id


async def test_a_line_of_100_mb_is_shipped_in_bounded_pieces(node: Node) -> None:
    log = node.pod_log()
    size = 100 * 1024 * 1024
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        for _ in range(100):
            file.write(b"x" * 1024 * 1024)
        file.write(b"\n")

    async with node.collector():
        await until(lambda: sum(len(chunk.payload) for chunk in chunks_of_log(node)) == size + 1)
    assert max(len(chunk.payload) for chunk in chunks_of_log(node)) <= 512 * 1024


def chunks_of_log(node: Node) -> list[Any]:
    return [chunk for chunk in chunks_of(node.broker) if "/shop/web/" in chunk.file.source]


async def test_what_is_no_file_is_never_opened(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    # given: a pipe that nobody writes (opening it would wait for ever), a link to a device, and a loop of links
    opened: list[str] = []
    really_open = os.open

    def watch(path: Any, *rest: Any, **more: Any) -> int:
        opened.append(str(path))
        return really_open(path, *rest, **more)

    folder = node.pod_log().parent
    os.mkfifo(folder / "0.log")
    (folder / "1.log").symlink_to("/dev/zero")
    (folder / "2.log").symlink_to(folder / "3.log")
    (folder / "3.log").symlink_to(folder / "2.log")
    (node.logs / "loop").symlink_to(node.logs)
    node.write(node.pod_log(pod="other"), b"x\n")
    monkeypatch.setattr("collector.content.os.open", watch)
    async with node.collector():
        await until(lambda: node.contents() == [b"x\n"])
    assert [path for path in opened if str(folder) in path] == []


async def test_a_pipe_that_took_the_place_of_a_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "0.log")
    with pytest.raises(OSError, match="not a regular file"):
        Plain(tmp_path / "0.log")


async def test_a_read_that_fails_twice_is_named_twice(node: Node) -> None:
    log = node.pod_log()
    node.write(log, lines(0, 1))
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 1)])
        for turn in (1, 2):
            with unreadable(log):
                node.write(log, lines(turn, 1))
                await until(lambda: len(node.stated(Gap)) == turn)  # noqa: B023
            await until(lambda: node.contents() == [lines(0, turn + 1)])  # noqa: B023
    assert [(gap.reason, gap.offset_start) for gap in node.stated(Gap)] == [
        ("unreadable", str(len(lines(0, 1)))), ("unreadable", str(len(lines(0, 2)))),
    ]  # fmt: skip


async def test_a_plain_rotation_and_its_gzip_are_one_file(node: Node) -> None:
    log = node.pod_log()
    node.write(log, lines(0, 50))
    rotated = log.with_name("0.log.20261124-100000")
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 50)])
    node.write(log, lines(50, 50))
    log.rename(rotated)
    log.with_name(f"{rotated.name}.gz").write_bytes(gzip.compress(rotated.read_bytes()))
    node.write(log, b"new\n")
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 100), b"new\n"])
        rotated.unlink()
        await until(lambda: len(node.stated(Closed)) == 1)
    async with node.collector():
        await until(lambda: len(node.stated(Config)) == 3)
    assert node.contents() == [lines(0, 100), b"new\n"]
    assert not node.stated(Gap)


async def test_a_late_line_of_a_rotated_file_follows_its_end(node: Node) -> None:
    log = node.pod_log()
    node.write(log, lines(0, 5))
    async with node.collector():
        await until(lambda: node.contents() == [lines(0, 5)])
        log.rename(rotated := log.with_name("0.log.20261124-100000"))
        node.write(log, b"new\n")
        await until(lambda: node.stated(Closed))
        node.write(rotated, lines(5, 1))
        await until(lambda: node.contents() == [lines(0, 6), b"new\n"])
    assert not node.stated(Gap)


async def test_what_is_excluded_and_there_is_a_gap_that_names_the_configuration(node: Node) -> None:
    node.write(node.pod_log(pod="quiet"), b"x\n")
    node.write(node.pod_log(pod="loud"), b"y\n")
    pattern = str(node.logs / "pods/shop_loud_*")
    async with node.collector(exclude=(pattern,)):
        await until(lambda: node.contents() == [b"x\n"] and node.stated(Gap))
        await until(lambda: len(node.stated(Born)) >= 2)
    (gap,) = node.stated(Gap)
    (config,) = node.stated(Config)
    assert gap.reason == "excluded"
    assert gap.source.endswith("/pods/shop_loud_uid-loud")
    assert pattern in gap.detail
    assert config.sha256 in gap.detail
    assert config.exclusions == (pattern,)


async def test_our_own_folders_are_passed_over_in_silence(node: Node) -> None:
    node.write(node.logs / "ours/archive/0.json", b"{}\n")
    node.write(node.logs / "app.log", b"x\n")
    async with node.collector(all_files=True, ours=(str(node.logs / "ours"),)):
        await until(lambda: node.contents(Kind.FILE) == [b"x\n"])
    assert not node.stated(Gap)


async def test_a_plain_docker_host_tells_names_and_images_as_a_source(node: Node) -> None:
    container = "ab" * 32
    folder = node.root / "docker/containers" / container
    node.write(folder / f"{container}-json.log", b'{"log":"x\\n"}\n')
    config = {"ID": container, "Name": "/web", "Image": "sha256:1", "Config": {"Image": "nginx", "Env": ["P=secret"]}}
    (folder / "config.v2.json").write_text(json.dumps(config))
    async with node.collector(roots=(str(node.root / "docker"),)):
        await until(lambda: node.contents(Kind.WATCH) and node.contents(Kind.WATCH)[0])
    (file,) = node.files(Kind.WATCH)
    told = json.loads(file.content)["object"]
    assert file.source == Source(kind=Kind.WATCH, cluster="c1", node="n1", path="docker.watch.jsonl")
    assert (told["metadata"]["uid"], told["metadata"]["name"], told["spec"]["image"]) == (container, "web", "nginx")
    assert b"secret" not in file.content


async def test_files_by_glob_are_followed_over_their_rotations(node: Node) -> None:
    log = node.root / "srv/app/out"
    node.write(log, b"one\n")
    async with node.collector(files=(str(node.root / "srv/*/out"),)):
        await until(lambda: node.contents(Kind.FILE) == [b"one\n"])
        log.rename(log.with_name("out.1"))
        node.write(log, b"two\n")
        await until(lambda: node.contents(Kind.FILE) == [b"one\n", b"two\n"])
    assert {file.source.path for file in node.files(Kind.FILE)} == {str(log).lstrip("/")}


@pytest.mark.parametrize("refused", ["inotify_init1", "inotify_add_watch"])
async def test_without_hints_the_sweep_finds_everything(
    node: Node, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    really = Notifier._called
    calls = 0

    def refuse(self: Notifier, result: int) -> int:
        nonlocal calls
        calls += 1
        if refused == "inotify_init1" or calls > 2:
            raise OSError(errno.EMFILE if refused == "inotify_init1" else errno.ENOSPC, os.strerror(errno.ENOSPC))
        return really(self, result)

    monkeypatch.setattr(Notifier, "_called", refuse)
    async with node.collector():
        await until(lambda: node.events("hints_lost"))
        for number in range(3):
            node.write(node.pod_log(pod=f"p{number}"), lines(number, 1))
        await until(lambda: len(node.contents()) == 3)
    assert len(node.events("hints_lost")) == 1


async def test_a_hint_finds_a_pod_before_the_next_sweep_is_due(node: Node) -> None:
    node.write(node.pod_log(), b"x\n")
    async with node.collector(sweep_interval_s=600, poll_interval_s=0.05) as collector:
        await until(lambda: node.contents() == [b"x\n"])
        await until(lambda: collector._finder._is_told_all)
        log = node.pod_log(pod="short")
        node.write(log, b"lives for a moment\n")
        await until(lambda: b"lives for a moment\n" in node.contents())
        log.unlink()
        await until(lambda: [closed.reason for closed in node.stated(Closed)] == ["unlinked"])


async def test_names_that_auditd_shifts_are_one_log(node: Node) -> None:
    log = node.logs / "audit/audit.log"
    written = []
    async with node.collector():
        for turn in range(4):
            written.append(b"type=X msg=audit(1.1:%d): x\n" % turn)
            node.write(log, written[-1])
            await until(lambda: node.contents(Kind.AUDITD) == written)
            for number in range(turn, 0, -1):
                log.with_name(f"audit.log.{number}").rename(log.with_name(f"audit.log.{number + 1}"))
            log.rename(log.with_name("audit.log.1"))
    node.write(log, b"type=X msg=audit(1.1:9): x\n")
    async with node.collector():
        await until(lambda: len(node.contents(Kind.AUDITD)) == 5)
    assert {str(file.source) for file in node.files(Kind.AUDITD)} == {f"auditd/c1/n1/{str(log).lstrip('/')}"}
    assert not node.stated(Gap)


async def test_rotations_of_the_apiserver_and_falcos_start_up_text_are_bytes_of_their_sources(node: Node) -> None:
    audit = node.logs / "kubernetes/audit/audit.log"
    event = b'{"auditID":"%d","stage":"ResponseComplete"}\n'
    node.write(audit.with_name("audit-2026-11-24T03-14-15.926.log"), event % 1)
    audit.with_name("audit-2026-11-24T02-14-15.926.log.gz").write_bytes(gzip.compress(event % 0))
    node.write(audit, event % 2)
    falco = node.logs / "falco/events.json"
    node.write(falco, b'Tue Nov 24: Falco version 0.44\n{"rule":"r","priority":"Error","output":"o"}\n')
    async with node.collector():
        await until(lambda: node.contents(Kind.AUDIT) == [event % 0, event % 1, event % 2])
        await until(lambda: node.contents(Kind.FALCO) == [falco.read_bytes()])
    assert len({str(file.source) for file in node.files(Kind.AUDIT)}) == 1

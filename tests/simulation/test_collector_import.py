"""Import: what somebody saved is read once, under ids that a second import finds again."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ashiato.adapters.bus_memory import MemoryBroker, MemoryKeeper
from ashiato.adapters.bus_sqlite import SqliteKeeper
from ashiato.adapters.clock import SystemClock
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.chunk import Chunk, ChunkFlags
from ashiato.core.frontier import FileState
from ashiato.core.ids import Kind
from collector.importer import Importer, Report
from ingest.admission import Admission
from tests.simulation.collector_node import FlakyWriter, HeldFile, chunks_of, reassemble

AUDIT = (
    b'{"kind":"Event","auditID":"1","stage":"ResponseComplete","requestReceivedTimestamp":"2026-11-24T10:00:00.5Z"}\n'
)
FALCO = b"Falco starts up\n" + b'{"rule":"r","priority":"Error","output":"o","time":"2026-11-24T10:00:00Z"}\n'
WATCH = b'{"type":"ADDED","object":{"kind":"Pod"}}\n'
AUDITD = b"type=SYSCALL msg=audit(1364481363.243:24287): arch=c000003e\n"
POD = "var/log/pods/shop_web_4a365017/app"


def cri(first: int, count: int) -> bytes:
    return b"".join(
        b"2026-11-24T10:00:%02d.%09dZ stdout F line %d\n" % (n // 1000, n, n) for n in range(first, first + count)
    )


class Desk:
    """Where somebody imports: a folder of evidence, and a bus."""

    def __init__(self, root: Path) -> None:
        self.root = root / "evidence"
        self.root.mkdir()
        self.broker = MemoryBroker()
        self.writer = FlakyWriter(self.broker)

    def save(self, name: str, content: bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    async def read(self, *paths: Path, node: str = "imported") -> Report:
        await MemoryKeeper(self.broker).create_topics({"ashiato.priority": 2, "ashiato.bulk": 2})
        importer = Importer(self.writer, clock=SystemClock(), telemetry=Telemetry("collector", stream=io.StringIO()))
        return await importer.run(paths or (self.root,), cluster="c", node=node)

    def held(self) -> dict[str, HeldFile]:
        return reassemble(chunks_of(self.broker))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def test_a_folder_of_several_nodes_is_read_whole_and_each_path_names_its_node(desk: Desk) -> None:
    # given: the shape of an evidence folder
    saved = {
        "control-plane/audit.log": (Kind.AUDIT, "imported", AUDIT * 3),
        "pods.watch.jsonl": (Kind.WATCH, "imported", WATCH),
        f"node-1/{POD}/0.log": (Kind.CONTAINER, "node-1", cri(0, 50)),
        f"node-2/{POD}/0.log": (Kind.CONTAINER, "node-2", cri(0, 50)),
        "node-1/var/log/falco/events.json": (Kind.FALCO, "node-1", FALCO),
        "node-1/var/log/audit/audit.log": (Kind.AUDITD, "node-1", AUDITD),
        "node-1/var/log/syslog": (Kind.FILE, "node-1", b"Nov 24 10:00:00 node-1 kernel: hello\n"),
    }
    for name, (_, _, content) in saved.items():
        desk.save(name, content)
    # when
    report = await desk.read()
    # then
    held = {os.path.relpath(file.path, desk.root): file for file in desk.held().values()}
    assert {name: (f.source.kind, f.source.node, f.content) for name, f in held.items()} == saved
    assert all(file.closed and file.flags & ChunkFlags.IMPORTED for file in held.values())
    assert report.skipped == []
    assert report.bytes == sum(len(content) for _, _, content in saved.values())
    assert report.by_kind["container"] == {"files": 2, "bytes": 2 * len(cri(0, 50))}
    assert {read.file_id: read.size for read in report.files} == {
        file_id: len(file.content) for file_id, file in desk.held().items()
    }


async def test_content_tells_the_kind_where_the_name_says_nothing(desk: Desk) -> None:
    for name, content in (("one.txt", AUDIT), ("two.txt", FALCO), ("three.txt", WATCH), ("four.txt", AUDITD)):
        desk.save(name, content)
    report = await desk.read()
    assert {Path(read.path).name: read.kind for read in report.files} == {
        "one.txt": "audit", "two.txt": "falco", "three.txt": "watch", "four.txt": "auditd",
    }  # fmt: skip


async def test_a_second_import_sends_the_same_ids_and_the_same_bytes(desk: Desk) -> None:
    desk.save(f"node-1/{POD}/0.log", cri(0, 20_000))
    desk.save("audit.log", AUDIT)
    first = await desk.read()
    before = {file_id: file.content for file_id, file in desk.held().items()}
    second = await desk.read()
    # then: reassemble has compared every byte that came twice
    assert first.files == second.files
    assert {file_id: file.content for file_id, file in desk.held().items()} == before


async def test_a_longer_file_adds_the_rest_and_ingest_takes_what_is_beyond_the_closed_end(desk: Desk) -> None:
    # given
    desk.save(f"node-1/{POD}/0.log", cri(0, 50))
    first = await desk.read()
    desk.save(f"node-1/{POD}/0.log", cri(0, 80))
    second = await desk.read()
    assert [read.file_id for read in first.files] == [read.file_id for read in second.files]
    # when: admitted as ingest admits it
    held = b""
    admission = Admission(find=lambda _: None)

    def admit(chunk: Chunk) -> bytes:
        admitted = admission.admit(chunk, lambda _, start, end: held[start:end])
        assert admitted.forked is None
        return b"".join(piece.chunk.payload for piece in admitted.pieces)

    for chunk in chunks_of(desk.broker):
        held += admit(chunk)
    # then
    state: FileState = admission.files[first.files[0].file_id]
    assert held == cri(0, 80)
    assert (state.offset, state.closed, state.imported) == (len(cri(0, 80)), True, True)


async def test_a_file_that_rotated_between_two_imports_keeps_its_id(desk: Desk) -> None:
    log = desk.save(f"node-1/{POD}/0.log", cri(0, 50))
    first = await desk.read()
    # when: it was saved again after it had grown, rotated and been packed, beside its successor
    desk.save(f"node-1/{POD}/0.log.20261124-101010.gz", gzip.compress(cri(0, 70)))
    log.write_bytes(cri(70, 10))
    second = await desk.read()
    assert [file.content for _, file in sorted(desk.held().items())] == [cri(0, 70), cri(70, 10)]
    assert {read.file_id for read in first.files} < {read.file_id for read in second.files}


async def test_ids_of_rotations_sort_as_the_log_was_written(desk: Desk) -> None:
    desk.save(f"{POD}/0.log", cri(3000, 10))
    desk.save(f"{POD}/0.log.20261124-100001", cri(1000, 10))
    desk.save(f"{POD}/0.log.20261124-100000.gz", gzip.compress(cri(0, 10)))
    await desk.read()
    assert [file.content for _, file in sorted(desk.held().items())] == [cri(0, 10), cri(1000, 10), cri(3000, 10)]


async def test_two_files_that_begin_alike_are_two_files(desk: Desk) -> None:
    desk.save("app/var/log/app.log", b"# header\nnew\n")
    desk.save("app/var/log/app.log.1", b"# header\nold\n")
    report = await desk.read()
    assert len({read.file_id for read in report.files}) == 2
    assert sorted(file.content for file in desk.held().values()) == [b"# header\nnew\n", b"# header\nold\n"]


async def test_what_is_no_log_is_named_and_not_read(desk: Desk) -> None:
    desk.save("README.md", b"# notes\n")
    desk.save("facts.json", b'{\n "a": 1\n}\n')
    desk.save("node-1/var/log/wtmp", b"\0\xff\0" * 400)
    desk.save("node-1/var/log/old.log.xz", b"\xfd7zXZ\0rest")
    desk.save("a.log", b"text\n")
    report = await desk.read()
    assert [Path(read.path).name for read in report.files] == ["a.log"]
    reasons = {Path(skipped["path"]).name: skipped["reason"] for skipped in report.skipped}
    assert set(reasons) == {"README.md", "facts.json", "wtmp", "old.log.xz"}
    assert "unpack" in reasons["old.log.xz"]
    assert reasons["wtmp"] == "binary"


async def test_a_link_that_leads_outside_is_not_followed(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "outside.log").write_bytes(b"secret\n")
    log = desk.save("inside.log", b"text\n")
    (desk.root / "out.log").symlink_to(tmp_path / "outside.log")
    (desk.root / "in.log").symlink_to(log)
    (desk.root / "broken.log").symlink_to(desk.root / "nowhere")
    report = await desk.read()
    assert [Path(read.path).name for read in report.files] == ["inside.log"]
    assert {Path(skipped["path"]).name for skipped in report.skipped} == {"out.log", "broken.log"}
    assert [file.content for file in desk.held().values()] == [b"text\n"]


async def test_a_file_that_cannot_be_read_is_named_and_the_others_are_read(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = desk.save("locked.log", b"x\n")
    desk.save("open.log", b"y\n")
    really_open = os.open

    def refuse(path: Any, *rest: Any, **more: Any) -> int:
        if str(path) == str(locked):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return really_open(path, *rest, **more)

    monkeypatch.setattr("collector.content.os.open", refuse)
    report = await desk.read()
    assert report.skipped == [{"path": str(locked), "reason": "Permission denied"}]
    assert [file.content for file in desk.held().values()] == [b"y\n"]


async def test_a_damaged_gzip_is_read_up_to_the_damage_and_named(desk: Desk) -> None:
    whole = gzip.compress(os.urandom(100_000).hex().encode())
    path = desk.save("node/var/log/a.log.1.gz", whole[: len(whole) // 2])
    report = await desk.read()
    (file,) = desk.held().values()
    assert 0 < len(file.content) < 200_000
    assert [skipped["path"] for skipped in report.skipped] == [str(path)]
    assert f"damaged behind byte {len(file.content)}" in report.skipped[0]["reason"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"no newline", id="no newline at its end"),
        pytest.param(b"\xff\xfe\n\0\0\n", id="invalid UTF-8 and NUL"),
        pytest.param(b"z" * 3_000_000, id="one long line"),
    ],
)
async def test_a_named_file_is_kept_whatever_it_holds(desk: Desk, content: bytes) -> None:
    path = desk.save("odd", content)
    report = await desk.read(path)
    (file,) = desk.held().values()
    assert (file.content, file.closed) == (content, True)
    assert report.files[0].size == len(content)


async def test_an_import_goes_on_where_the_bus_fails(desk: Desk) -> None:
    desk.save(f"node-1/{POD}/0.log", cri(0, 40_000))
    desk.writer.lose_replies = 2
    await desk.read()
    assert [file.content for file in desk.held().values()] == [cri(0, 40_000)]
    assert desk.writer.resets == 2


async def test_the_place_where_evidence_is_copied_to_does_not_change_its_ids(desk: Desk, tmp_path: Path) -> None:
    desk.save(f"node-1/{POD}/0.log", cri(0, 5))
    desk.save("control-plane/audit.log", AUDIT)
    first = await desk.read()
    shutil.copytree(desk.root, tmp_path / "elsewhere")
    second = await desk.read(tmp_path / "elsewhere")
    assert [read.file_id for read in first.files] == [read.file_id for read in second.files]


async def test_the_command_prints_what_it_read_and_touches_no_state(tmp_path: Path) -> None:
    keeper = SqliteKeeper(str(tmp_path / "bus.sqlite"))
    await keeper.create_topics({"ashiato.priority": 1, "ashiato.bulk": 1})
    await keeper.close()
    config = tmp_path / "ashiato.toml"
    config.write_text(
        f'[collector]\nstate_dir = "{tmp_path}/state"\nbus = {{kind = "sqlite", path = "{tmp_path}/bus.sqlite"}}\n'
    )
    (tmp_path / "logs").mkdir()

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "collector", "import", "--config", str(config), "--json", *words]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)

    # when: there is nothing to read
    empty = run(str(tmp_path / "logs"), str(tmp_path / "missing"))
    assert empty.returncode == 1
    assert json.loads(empty.stdout)["skipped"][0]["path"].endswith("missing")
    # and: there is something
    (tmp_path / "logs/audit.log").write_bytes(AUDIT)
    done = run("--cluster", "prod", "--node", "cp-1", str(tmp_path / "logs"))
    assert done.returncode == 0, done.stderr
    (read,) = json.loads(done.stdout)["files"]
    assert (read["source"], read["size"], read["kind"]) == ("audit/prod/cp-1/audit.log", len(AUDIT), "audit")
    assert not (tmp_path / "state").exists()
    assert run("--nonsense").returncode == 2


async def test_files_of_odd_names_are_read_like_any_other(desk: Desk) -> None:
    odd = [b"new\nline.log", b"bad\xff\xfe.log", b"esc\x1b]0;x\x07.log", "足跡.log".encode()]
    for name in odd:
        desk.save(os.fsdecode(name), b"from " + name.replace(b"\n", b" ") + b"\n")

    report = await desk.read()

    assert not report.skipped
    assert json.loads(json.dumps([file.path for file in report.files]))
    assert sorted(held.content for held in desk.held().values()) == sorted(
        b"from " + name.replace(b"\n", b" ") + b"\n" for name in odd
    )

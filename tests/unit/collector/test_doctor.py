"""The doctor: rights worked out from modes, faults of the node, what is unread, and exit codes for machines."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from ashiato.adapters.bus import BusSettings
from collector.__main__ import main
from collector.bookmark import Acked, Bookmark, Known
from collector.discovery import Root, sweep
from collector.doctor import access, outage, system
from collector.doctor.report import Finding, Identity, State
from collector.headroom import LogSeen, Rotation

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files to another owner")


def log_file(folder: Path, mode: int, *, owner: tuple[int, int] = (0, 0), folders: int = 0o755) -> str:
    path = folder / "pods/shop_web_u-1/c/0.log"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x\n")
    os.chown(path, *owner)
    path.chmod(mode)
    (folder / "pods").chmod(folders)
    for parent in (folder, *list(folder.parents)[:3]):
        # Pytest's own folders are for their owner alone; a node's are not.
        if parent.name.startswith("pytest-") or parent == folder:
            parent.chmod(0o755)
    return str(path)


@NEEDS_ROOT
@pytest.mark.parametrize(
    ("mode", "owner", "folders", "docker", "with_userns", "without"),
    [
        (0o640, (0, 0), 0o750, False, "userns", "gid0"),  # containerd
        (0o644, (0, 0), 0o755, False, "userns", "gid0"),
        (0o600, (0, 0), 0o755, False, "rootless-owner", "owner"),  # CRI-O of old, the audit log
        (0o640, (0, 0), 0o700, False, "rootless-owner", "owner"),
        (0o640, (0, 0), 0o700, True, "owner", "owner"),  # docker
        (0o600, (65534, 65534), 0o755, False, "dac", "dac"),  # Talos
    ],
)
def test_the_rung_that_is_needed_follows_from_owners_and_modes(
    *, tmp_path: Path, mode: int, owner: tuple[int, int], folders: int, docker: bool, with_userns: str, without: str
) -> None:
    path = log_file(tmp_path, mode, owner=owner, folders=folders)
    assert access.rung_of(path, docker=docker, user_namespaces=True) == with_userns
    assert access.rung_of(path, docker=docker, user_namespaces=False) == without


def as_uid(uid: int, gid: int, root: Path) -> dict[str, object]:
    """Examine in a process of its own that has dropped root's rights."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:  # pragma: no cover - another process
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        accesses, findings, rung = access.examine(sweep([Root(path=root, cluster="c", node="n")]), user_namespaces=True)
        told = {
            "rung": rung, "readable": [one.is_readable for one in accesses],
            "losses": [one.what for one in findings if one.state is State.LOSS],
            "uid": access.identity().uid, "capabilities": access.identity().capabilities,
        }  # fmt: skip
        os.write(writing, json.dumps(told).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return dict(json.loads(said))


@NEEDS_ROOT
def test_files_that_cannot_be_read_are_a_loss_and_name_the_rung(tmp_path: Path) -> None:
    log_file(tmp_path, 0o640)
    assert as_uid(10_001, 10_001, tmp_path) == {
        "rung": "userns", "readable": [False], "losses": ["container files"], "uid": 10_001, "capabilities": [],
    }  # fmt: skip
    # and with group 0, as that rung has it, they are read
    assert as_uid(10_001, 0, tmp_path)["losses"] == []


@NEEDS_ROOT
def test_a_folder_that_cannot_be_listed_is_a_loss(tmp_path: Path) -> None:
    log_file(tmp_path, 0o640, folders=0o700)
    told = as_uid(10_001, 0, tmp_path)
    assert told["losses"] == [f"folder {tmp_path}/pods"]
    assert told["rung"] == "rootless-owner"


def test_more_rights_than_needed_are_a_warning() -> None:
    who = Identity(uid=0, gid=0, groups=(), capabilities=("DAC_READ_SEARCH", "SYS_ADMIN"))
    (surplus,) = access.surplus(who, "userns")
    assert "DAC_READ_SEARCH, SYS_ADMIN held besides" in surplus.said
    (surplus,) = access.surplus(who, "dac")
    assert "SYS_ADMIN held besides" in surplus.said
    assert access.surplus(Identity(uid=0, gid=0, groups=(), capabilities=()), "userns") == []


# -- docker --------------------------------------------------------------------------------------------------


def states(findings: list[Finding]) -> list[tuple[str, State]]:
    return [(one.what, one.state) for one in findings]


def test_dockers_log_drivers_are_told_by_what_becomes_of_the_logs(tmp_path: Path) -> None:
    for name, config in {
        "a": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
        "b": {"Type": "json-file", "Config": {}},
        "c": {"Type": "local", "Config": None},
        "d": {"Type": "journald"},
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "hostconfig.json").write_text(json.dumps({"LogConfig": config}))
    (tmp_path / "e").mkdir()
    (tmp_path / "e/hostconfig.json").write_text("not JSON")
    found = system.docker([str(tmp_path)])
    assert states(found) == [("docker", State.LOSS), ("docker", State.WARNING), ("docker", State.LOSS)]
    assert "the journald driver" in found[0].said
    assert "without rotation" in found[1].said
    assert "binary format" in found[2].said


# -- state folder and bus ------------------------------------------------------------------------------------


def test_the_state_folder_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    assert states(system.state_folder(tmp_path, ()))[0] == ("state_dir", State.WELL)
    assert list(tmp_path.iterdir()) == []
    shared = system.state_folder(tmp_path, [str(tmp_path.parent)])
    assert any("flood of logs" in one.said for one in shared)


def test_a_state_folder_in_memory_does_not_outlive_the_machine() -> None:
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        pytest.skip("there is no /dev/shm here")
    assert State.LOSS in {one.state for one in system.state_folder(memory, ())}


async def test_asking_a_bus_that_is_not_there_does_not_make_it(tmp_path: Path) -> None:
    (found,) = await system.bus(BusSettings(path=str(tmp_path / "bus.db")))
    assert found.state is State.WARNING
    assert list(tmp_path.iterdir()) == []


# -- what would be lost --------------------------------------------------------------------------------------


def test_unread_bytes_are_those_behind_the_bookmark(tmp_path: Path) -> None:
    path = tmp_path / "pods/shop_web_u-1/c/0.log"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 100)
    stat = path.stat()
    bookmark = Bookmark(tmp_path / "bookmark")
    known = Known(
        file_id="F", source="s", path=str(path), topic="t", partition=0, restart_count=0, device=stat.st_dev,
        inode=stat.st_ino,
    )  # fmt: skip
    bookmark.note(known, Acked(file_id="F", offset=60, position=1))
    bookmark.flush()
    before = sweep([Root(path=tmp_path, cluster="c", node="n")]).candidates
    path.write_bytes(b"x" * 300)
    after = sweep([Root(path=tmp_path, cluster="c", node="n")]).candidates
    (watched,) = outage.watch(before, after, 2.0, outage.unread_of(bookmark.contents, lag_begins_unix_nano=1 << 63))
    (lagging,) = outage.watch(before, after, 2.0, outage.unread_of(bookmark.contents, lag_begins_unix_nano=0))
    bookmark.close()
    assert lagging.unread_bytes == 0
    assert (watched.unread_bytes, watched.bytes_per_s) == (240, 100.0)


def watched(rate: float, *, unread: int = 0, behind: int = 0, name: str = "/p/c/0.log") -> outage.Watched:
    log = LogSeen(key=name, live_bytes=0, rotated_files=4, unread_behind=behind)
    return outage.Watched(log=log, name=name, bytes_per_s=rate, unread_bytes=unread)


def test_the_container_with_the_least_time_decides_and_its_remedy_is_a_number() -> None:
    slow, fast = watched(1e3, name="/slow/c/0.log"), watched(1e6, name="/fast/c/0.log")
    containers, findings = outage.judge([slow, fast, watched(0.0)], Rotation())
    assert [one.log for one in containers] == ["/fast/c/0.log", "/slow/c/0.log"]
    (finding,) = findings
    assert finding.state is State.LOSS
    assert "containerLogMaxFiles 10 would double it" in finding.remedy
    _, (well,) = outage.judge([slow], Rotation())
    assert well.state is State.WELL


def test_unread_bytes_in_the_oldest_rotation_are_about_to_be_lost() -> None:
    _, findings = outage.judge([watched(1e6, unread=500, behind=4)], Rotation())
    assert ("unread bytes", State.LOSS) in states(findings)
    _, findings = outage.judge([watched(0.0, unread=500, behind=4)], Rotation())
    assert states(findings)[0] == ("unread bytes", State.WARNING)


# -- the command ---------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    (tmp_path / "state").mkdir()
    path = tmp_path / "collector.toml"
    path.write_text(
        f'[collector]\nstate_dir = "{tmp_path}/state"\nroots = ["{tmp_path}/logs"]\nnode = "n1"\n'
        f'[collector.bus]\npath = "{tmp_path}/bus.db"\n'
    )
    return path


def doctor(config: Path, *more: str) -> int:
    return main(["doctor", "--config", str(config), "--seconds", "0.1", *more])


def test_a_node_without_faults_ends_with_0_and_says_so(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(config) == 0
    assert "node n1: " in capsys.readouterr().out


def test_a_loss_ends_with_1_and_stands_in_the_json(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "logs/pods/shop_web_u-1/c/0.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"")
    stop = threading.Event()

    def flood() -> None:
        with log.open("ab") as file:
            while not stop.wait(0.005):
                file.write(b"x" * 100_000)
                file.flush()

    writer = threading.Thread(target=flood)
    writer.start()
    try:
        code = doctor(config, "--json")
    finally:
        stop.set()
        writer.join()
    told = json.loads(capsys.readouterr().out)
    assert (code, told["state"]) == (1, "loss")
    (container,) = told["containers"]
    assert container["log"] == str(log)
    assert container["bytes_per_s"] > 0
    assert {one["what"] for one in told["findings"] if one["state"] == "loss"} >= {"safe outage"}


def test_wrong_usage_ends_with_2(config: Path, tmp_path: Path) -> None:
    assert main(["doctor", "--config", str(tmp_path / "none.toml")]) == 2
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--config", str(config), "--seconds", "nan"])
    assert ended.value.code == 2

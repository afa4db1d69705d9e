"""The archive in a directory keeps the contract, between threads and between processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ashiato.adapters.archive import ArchiveSettings, open_governor, parse_address
from ashiato.adapters.archive_directory import DirectoryGovernor
from ashiato.core.errors import (
    AlreadyExistsError,
    EvidenceError,
    NotHeldError,
    RefusedError,
    RejectedError,
    SettingsError,
)
from ashiato.core.ports import ArchiveGovernor, ObjectRef
from tests.contract.archive_contract import RACES, WRITERS, ArchiveContract, Rival

RACER = """
import sys
from pathlib import Path
from ashiato.adapters.archive_directory import DirectoryWriter
from ashiato.core.errors import AlreadyExistsError

archive = DirectoryWriter(Path(sys.argv[1]))
print("ready", flush=True)
for line in sys.stdin:
    try:
        archive.put_if_absent("evidence", line.strip(), sys.argv[2].encode())
        print("won", flush=True)
    except AlreadyExistsError:
        print("lost", flush=True)
"""


@pytest.fixture
def archive(tmp_path: Path) -> ArchiveGovernor:
    return DirectoryGovernor(tmp_path / "archive")


@pytest.fixture
def rival(tmp_path: Path) -> Rival:
    return lambda: DirectoryGovernor(tmp_path / "archive")


class TestDirectoryArchive(ArchiveContract):
    def test_of_eight_racing_processes_one_wins(self, archive: ArchiveGovernor, tmp_path: Path) -> None:
        racers = [
            subprocess.Popen(
                [sys.executable, "-c", RACER, str(tmp_path / "archive"), f"racer {number}"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
            for number in range(WRITERS)
        ]  # fmt: skip
        try:
            assert [_line(racer) for racer in racers] == ["ready"] * WRITERS
            for race in range(RACES):
                path = f"_delta_log/{race:020}.json"
                for racer in racers:
                    assert racer.stdin is not None
                    racer.stdin.write(f"{path}\n")
                    racer.stdin.flush()
                outcomes = [_line(racer) for racer in racers]
                assert sorted(outcomes) == ["lost"] * (WRITERS - 1) + ["won"]
                assert archive.get("evidence", path)[0] == b"racer %d" % outcomes.index("won")
        finally:
            for racer in racers:
                racer.communicate(timeout=60)

    def test_other_bytes_under_the_same_name_are_refused(self, archive: ArchiveGovernor, tmp_path: Path) -> None:
        archive.put("evidence", "a", b"bytes")
        (tmp_path / "other").write_bytes(b"other")

        with pytest.raises(AlreadyExistsError):
            archive.put("evidence", "a", b"other")
        with pytest.raises(AlreadyExistsError):
            archive.put_file("evidence", "a", str(tmp_path / "other"))

        assert archive.get("evidence", "a")[0] == b"bytes"

    def test_bytes_that_were_changed_are_not_the_pinned_version(self, archive: ArchiveGovernor, tmp_path: Path) -> None:
        ref = archive.put("evidence", "a", b"bytes")
        (tmp_path / "archive" / "evidence" / "a").write_bytes(b"bites")

        with pytest.raises(EvidenceError):
            archive.get("evidence", "a", ref.version_id)

    def test_what_a_crashed_writer_left_is_no_object(self, archive: ArchiveGovernor, tmp_path: Path) -> None:
        archive.put("evidence", "a/b", b"bytes")
        left = tmp_path / "archive" / "evidence" / "a" / ".unfinished-0123456789abcdef"
        left.write_bytes(b"half a pa")

        assert [ref.path for ref in archive.list("evidence", "")] == ["a/b"]
        assert isinstance(archive, DirectoryGovernor)
        assert archive.clean_unfinished(older_than_unix_nano=left.stat().st_mtime_ns) == 0
        assert archive.clean_unfinished(older_than_unix_nano=left.stat().st_mtime_ns + 1) == 1
        assert not left.exists()

    def test_a_folder_is_no_object(self, archive: ArchiveGovernor) -> None:
        archive.put("evidence", "a/b", b"bytes")

        with pytest.raises(NotHeldError):
            archive.get("evidence", "a")

    def test_what_cannot_be_deleted_is_refused_and_no_bug_of_ours(self, archive: ArchiveGovernor) -> None:
        archive.put("evidence", "a/b", b"bytes")

        with pytest.raises(RefusedError):
            archive.delete(ObjectRef(bucket="evidence", path="a", version_id="v", size=0))

        assert archive.get("evidence", "a/b")[0] == b"bytes"

    def test_a_link_out_of_the_archive_is_not_followed(self, archive: ArchiveGovernor, tmp_path: Path) -> None:
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside" / "secret").write_bytes(b"secret")
        (tmp_path / "archive" / "evidence" / "link").symlink_to(tmp_path / "outside")

        with pytest.raises(RejectedError):
            archive.get("evidence", "link/secret")

    def test_it_says_that_nothing_is_locked(self, archive: ArchiveGovernor, tmp_path: Path) -> None:
        facts = archive.check()

        assert (facts.address, facts.versioned, facts.locked) == (str(tmp_path / "archive"), False, False)

    def test_a_file_that_is_not_there_is_not_put(self, archive: ArchiveGovernor, tmp_path: Path) -> None:
        with pytest.raises(RejectedError):
            archive.put_file("evidence", "a", str(tmp_path / "nowhere"))


def test_a_folder_is_an_address_and_a_mistyped_one_is_refused(tmp_path: Path) -> None:
    open_governor(parse_address(str(tmp_path))).put("work", "a", b"bytes")
    assert (tmp_path / "work" / "a").read_bytes() == b"bytes"

    for address in ("gs://bucket", "s3://", "s3://bucket?endpiont=x"):
        with pytest.raises(SettingsError):
            parse_address(address)
    with pytest.raises(SettingsError):
        open_governor(ArchiveSettings())


def _line(racer: subprocess.Popen[str]) -> str:
    assert racer.stdout is not None
    return racer.stdout.readline().strip()

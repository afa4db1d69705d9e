"""What every archive does, whichever it is. A subclass gives the fixtures ``archive`` and ``rival``."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ashiato.core.errors import AlreadyExistsError, AshiatoError, NotHeldError, RejectedError
from ashiato.core.ports import ArchiveGovernor, Bucket, ObjectRef

WRITERS = 8
RACES = 6
BUCKETS: tuple[Bucket, Bucket] = ("evidence", "work")

Rival = Callable[[], ArchiveGovernor]
"""Opens another connection to the same archive."""


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class ArchiveContract:
    """The suite of the port."""

    @pytest.mark.parametrize("bucket", BUCKETS)
    def test_what_was_put_is_got_with_its_digest_and_version(self, archive: ArchiveGovernor, bucket: Bucket) -> None:
        ref = archive.put(bucket, "a/b.parquet", b"bytes")

        assert (ref.bucket, ref.path, ref.size, ref.sha256) == (bucket, "a/b.parquet", 5, digest(b"bytes"))
        assert ref.version_id
        assert archive.get(bucket, "a/b.parquet", ref.version_id) == (b"bytes", ref)
        assert archive.get(bucket, "a/b.parquet") == (b"bytes", ref)

    def test_the_buckets_are_two(self, archive: ArchiveGovernor) -> None:
        archive.put("evidence", "name", b"evidence")
        archive.put("work", "name", b"work")

        assert archive.get("evidence", "name")[0] == b"evidence"
        assert archive.get("work", "name")[0] == b"work"

    def test_what_is_not_there_is_not_held(self, archive: ArchiveGovernor) -> None:
        nowhere = ObjectRef(bucket="evidence", path="no/where", version_id="", size=3)

        with pytest.raises(NotHeldError):
            archive.get("evidence", "no/where")
        with pytest.raises(NotHeldError):
            archive.get_range(nowhere, 0, 3)
        with pytest.raises(NotHeldError):
            archive.open(nowhere)

    def test_a_name_that_only_begins_like_an_object_is_not_held(self, archive: ArchiveGovernor) -> None:
        archive.put("evidence", "a/b.parquet.manifest.json", b"{}")

        with pytest.raises(NotHeldError):
            archive.get("evidence", "a/b.parquet")

    def test_the_same_bytes_may_be_put_again(self, archive: ArchiveGovernor) -> None:
        first = archive.put("evidence", "a/b", b"bytes")

        again = archive.put("evidence", "a/b", b"bytes")

        assert again.sha256 == first.sha256
        assert archive.get("evidence", "a/b") == (b"bytes", first)

    def test_an_empty_object_is_an_object(self, archive: ArchiveGovernor) -> None:
        ref = archive.put("work", "empty", b"")

        assert archive.get("work", "empty")[0] == b""
        assert archive.get_range(ref, 0, 10) == b""
        with archive.open(ref) as file:  # type: ignore[attr-defined]
            assert file.read() == b""

    def test_a_file_is_put_whole(self, archive: ArchiveGovernor, tmp_path: Path) -> None:
        content = bytes(range(256)) * (9 * 4096 + 1)
        (tmp_path / "pack").write_bytes(content)

        ref = archive.put_file("evidence", "packs/one", str(tmp_path / "pack"))

        assert (ref.size, ref.sha256) == (len(content), digest(content))
        assert archive.get("evidence", "packs/one", ref.version_id) == (content, ref)

    def test_ranges_are_half_open_and_end_with_the_object(self, archive: ArchiveGovernor) -> None:
        ref = archive.put("evidence", "a", b"0123456789")

        assert archive.get_range(ref, 0, 3) == b"012"
        assert archive.get_range(ref, 9, 10) == b"9"
        assert archive.get_range(ref, 8, 99) == b"89"
        assert archive.get_range(ref, 5, 5) == b""

    def test_an_open_object_reads_like_a_file(self, archive: ArchiveGovernor) -> None:
        content = bytes(range(256)) * 8192
        ref = archive.put("evidence", "a", content)
        plain = io.BytesIO(content)

        with archive.open(ref) as file:  # type: ignore[attr-defined]
            for offset, whence, size in (
                (0, 0, 10), (-8, 2, 8), (1_000_000, 0, 100_000), (5, 1, 7), (-100, 1, 300_000), (0, 2, 5), (3, 0, -1),
            ):  # fmt: skip
                assert file.seek(offset, whence) == plain.seek(offset, whence)
                assert file.read(size) == plain.read(size)
                assert file.tell() == plain.tell()
        assert file.closed

    def test_parquet_is_read_from_an_open_object(self, archive: ArchiveGovernor) -> None:
        table = pa.table({"n": pa.array(range(200_000), pa.int64()), "text": [f"line {n}" for n in range(200_000)]})
        sink = io.BytesIO()
        pq.write_table(table, sink, row_group_size=20_000)
        ref = archive.put("evidence", "a.parquet", sink.getvalue())

        with archive.open(ref) as file:  # type: ignore[attr-defined]
            opened = pq.ParquetFile(file)
            assert opened.read_row_group(7, columns=["text"])["text"][0].as_py() == "line 140000"
            assert opened.read().equals(table)

    def test_the_first_to_take_a_name_has_it(self, archive: ArchiveGovernor) -> None:
        first = archive.put_if_absent("evidence", "_delta_log/0.json", b"first")

        with pytest.raises(AlreadyExistsError):
            archive.put_if_absent("evidence", "_delta_log/0.json", b"second")
        with pytest.raises(AlreadyExistsError):
            archive.put_if_absent("evidence", "_delta_log/0.json", b"first")

        assert archive.get("evidence", "_delta_log/0.json") == (b"first", first)

    def test_of_eight_racing_writers_one_wins(self, archive: ArchiveGovernor, rival: Rival) -> None:
        writers = [rival() for _ in range(WRITERS)]
        together = threading.Barrier(WRITERS)

        def put(number: int, path: str) -> ObjectRef | AshiatoError:
            together.wait()
            try:
                return writers[number].put_if_absent("evidence", path, b"writer %d" % number)
            except AshiatoError as error:
                return error

        with ThreadPoolExecutor(WRITERS) as threads:
            for race in range(RACES):
                path = f"_delta_log/{race:020}.json"
                outcomes = list(threads.map(put, range(WRITERS), [path] * WRITERS))

                won = [outcome for outcome in outcomes if isinstance(outcome, ObjectRef)]
                lost = [type(outcome) for outcome in outcomes if outcome not in won]
                assert len(won) == 1
                assert lost == [AlreadyExistsError] * (WRITERS - 1)
                assert archive.get("evidence", path) == (b"writer %d" % outcomes.index(won[0]), won[0])

    def test_a_list_is_in_path_order_and_below_its_prefix(self, archive: ArchiveGovernor) -> None:
        paths = ["a/b/1", "a/b/2", "a/c", "ab", "b/1"]
        for path in reversed(paths):
            archive.put("evidence", path, path.encode())

        def listed(prefix: str, start_after: str = "") -> list[str]:
            return [ref.path for ref in archive.list("evidence", prefix, start_after=start_after)]

        assert listed("") == paths
        assert listed("a/") == ["a/b/1", "a/b/2", "a/c"]
        assert listed("a/b") == ["a/b/1", "a/b/2"]
        assert listed("a/", "a/b/1") == ["a/b/2", "a/c"]
        assert listed("nothing/") == []
        assert [ref.size for ref in archive.list("evidence", "a/c")] == [3]

    def test_the_journal_is_followed_by_listing_behind_the_last_number(self, archive: ArchiveGovernor) -> None:
        for n in range(12):
            archive.put_if_absent("evidence", f"_delta_log/{n:020}.json", b"{}")

        after = archive.list("evidence", "_delta_log/", start_after=f"_delta_log/{9:020}.json")

        assert [ref.path for ref in after] == [f"_delta_log/{n:020}.json" for n in (10, 11)]

    def test_a_version_listing_names_what_can_be_got_and_deleted(self, archive: ArchiveGovernor) -> None:
        ref = archive.put("work", "a/b", b"bytes")

        (version,) = archive.list_versions("work", "a/")

        assert (version.ref.path, version.ref.version_id, version.ref.size) == ("a/b", ref.version_id, 5)
        assert version.is_latest
        assert not version.is_delete_marker
        assert version.modified_unix_nano > 0

    def test_a_version_is_deleted_once_and_for_all(self, archive: ArchiveGovernor) -> None:
        ref = archive.put("work", "a/b/c", b"bytes")
        kept = archive.put("work", "a/kept", b"kept")

        archive.delete(ref)
        archive.delete(ref)

        with pytest.raises(NotHeldError):
            archive.get("work", "a/b/c")
        assert [found.path for found in archive.list("work", "")] == ["a/kept"]
        assert archive.get("work", "a/kept") == (b"kept", kept)

    def test_a_name_can_be_taken_again_after_its_version_was_deleted(self, archive: ArchiveGovernor) -> None:
        archive.delete(archive.put_if_absent("work", "slot", b"one"))

        archive.put_if_absent("work", "slot", b"two")

        assert archive.get("work", "slot")[0] == b"two"

    @pytest.mark.parametrize("path", ["", "/a", "a//b", "../a", "a/../../b", "a/.", "a\0b"])
    def test_a_path_that_leaves_the_archive_is_rejected(self, archive: ArchiveGovernor, path: str) -> None:
        with pytest.raises(RejectedError):
            archive.put("work", path, b"bytes")
        with pytest.raises(RejectedError):
            archive.get("work", path)

    def test_names_may_hold_what_paths_of_packs_hold(self, archive: ArchiveGovernor) -> None:
        path = "retention_class=container/day=2026-11-24/足跡 +%20.parquet"

        ref = archive.put("evidence", path, b"bytes")

        assert archive.get("evidence", path) == (b"bytes", ref)
        assert [found.path for found in archive.list("evidence", "retention_class=")] == [path]

    def test_it_says_what_it_is(self, archive: ArchiveGovernor) -> None:
        assert archive.check().address

    def test_a_pinned_size_that_is_not_the_objects_is_noticed(self, archive: ArchiveGovernor) -> None:
        ref = archive.put("evidence", "a", b"0123456789")

        with pytest.raises(AshiatoError):
            archive.open(replace(ref, size=12))

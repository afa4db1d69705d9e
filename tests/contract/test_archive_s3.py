"""The S3 archive keeps the contract on a real server with versions and Object Lock."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path

import msgspec
import pytest

from ashiato.adapters.archive import ArchiveSettings, open_governor, parse_address
from ashiato.adapters.archive_directory import DirectoryGovernor
from ashiato.adapters.archive_s3 import S3Governor, S3Reader
from ashiato.core.errors import NotHeldError, RefusedError, RejectedError, SettingsError, TransientError
from ashiato.core.ports import ArchiveGovernor, ObjectRef
from tests.contract.archive_contract import ArchiveContract, Rival, digest
from tests.parts.process import free_ports
from tests.parts.seaweed import Buckets, SeaweedPart
from tests.parts.stack import archive_settings

pytestmark = pytest.mark.live


@pytest.fixture
def buckets(s3: SeaweedPart) -> Buckets:
    return s3.fresh_buckets()


@pytest.fixture
def settings(s3: SeaweedPart, buckets: Buckets) -> ArchiveSettings:
    return archive_settings(s3, "retention", buckets)


@pytest.fixture
def archive(settings: ArchiveSettings) -> ArchiveGovernor:
    return S3Governor(settings)


@pytest.fixture
def rival(settings: ArchiveSettings) -> Rival:
    return lambda: S3Governor(settings)


class TestS3Archive(ArchiveContract):
    def test_the_oldest_version_is_the_object(
        self, archive: ArchiveGovernor, s3: SeaweedPart, buckets: Buckets
    ) -> None:
        first = archive.put_if_absent("evidence", "_delta_log/0.json", b"the commit")
        s3.client().put_object(Bucket=buckets.evidence, Key="_delta_log/0.json", Body=b"an impostor")

        assert archive.get("evidence", "_delta_log/0.json") == (b"the commit", first)
        found = list(archive.list_versions("evidence", "_delta_log/"))
        assert [version.ref.version_id for version in found][1:] == [first.version_id]
        assert [version.is_latest for version in found] == [True, False]

    def test_a_delete_marker_hides_nothing_from_a_reader(
        self, archive: ArchiveGovernor, s3: SeaweedPart, buckets: Buckets
    ) -> None:
        first = archive.put("evidence", "a", b"bytes")
        s3.client().delete_object(Bucket=buckets.evidence, Key="a")

        assert archive.get("evidence", "a") == (b"bytes", first)
        assert list(archive.list("evidence", "")) == []
        assert [version.is_delete_marker for version in archive.list_versions("evidence", "")] == [True, False]

    def test_the_store_keeps_the_digest_of_the_whole_object(
        self, archive: ArchiveGovernor, s3: SeaweedPart, buckets: Buckets
    ) -> None:
        content = b"x" * (20 << 20)
        ref = archive.put("evidence", "large", content)

        head = s3.client().head_object(
            Bucket=buckets.evidence, Key="large", VersionId=ref.version_id, ChecksumMode="ENABLED"
        )

        assert bytes.fromhex(digest(content)) == b64decode(head["ChecksumSHA256"])

    def test_it_says_that_it_is_versioned_and_locked(self, s3: SeaweedPart) -> None:
        locked = S3Reader(archive_settings(s3, "retention", s3.fresh_buckets(lock_days=3)))

        facts = locked.check()

        assert (facts.versioned, facts.locked, facts.default_lock_days) == (True, True, 3)

    def test_a_locked_version_cannot_be_deleted(self, s3: SeaweedPart) -> None:
        archive = S3Governor(archive_settings(s3, "retention", s3.fresh_buckets(lock_days=1)))
        ref = archive.put("evidence", "a", b"bytes")

        with pytest.raises(RefusedError):
            archive.delete(ref)

        assert archive.get("evidence", "a") == (b"bytes", ref)

    def test_a_deletion_that_names_no_version_is_rejected(self, archive: ArchiveGovernor) -> None:
        ref = archive.put("work", "a", b"bytes")

        with pytest.raises(RejectedError):
            archive.delete(ObjectRef(bucket="work", path="a", version_id="", size=5))

        assert archive.get("work", "a") == (b"bytes", ref)

    def test_an_address_that_a_person_types_opens_it(
        self, archive: ArchiveGovernor, s3: SeaweedPart, buckets: Buckets
    ) -> None:
        archive.put("evidence", "a", b"bytes")

        address = (
            f"s3://{buckets.evidence}?endpoint={s3.endpoint_url}&work={buckets.work}"
            f"&credentials={s3.credentials_file('query')}&ca={s3.ca_file}"
        )

        assert open_governor(parse_address(address)).get("evidence", "a")[0] == b"bytes"

    def test_a_server_that_is_away_is_a_bad_moment(self, settings: ArchiveSettings) -> None:
        nobody = f"https://127.0.0.1:{free_ports(['nobody'])['nobody']}"
        archive = S3Governor(msgspec.structs.replace(settings, endpoint_url=nobody, connect_timeout_s=1))

        with pytest.raises(TransientError):
            archive.get("evidence", "a")
        with pytest.raises(TransientError):
            archive.put_if_absent("evidence", "a", b"bytes")
        with pytest.raises(TransientError):
            archive.check()

    def test_settings_that_cannot_work_say_what_to_change(self, settings: ArchiveSettings, tmp_path: Path) -> None:
        for change, message in (
            ({"ca_file": ""}, "certificate"),
            ({"credentials_file": str(tmp_path)}, "credentials"),
            ({"evidence_bucket": "no-such-bucket"}, "no bucket no-such-bucket|refuses"),
        ):
            with pytest.raises((SettingsError, RefusedError), match=message):
                S3Reader(msgspec.structs.replace(settings, **change)).check()

    def test_wrong_keys_are_refused(self, settings: ArchiveSettings, tmp_path: Path) -> None:
        wrong = tmp_path / "wrong.json"
        wrong.write_text('{"access_key_id": "key-ingest", "secret_access_key": "wrong"}')

        with pytest.raises(RefusedError):
            S3Reader(msgspec.structs.replace(settings, credentials_file=str(wrong))).get("evidence", "a")

    def test_a_missing_object_of_a_pinned_version_is_not_held(self, archive: ArchiveGovernor) -> None:
        ref = archive.put("work", "a", b"bytes")
        archive.delete(ref)

        with pytest.raises(NotHeldError):
            archive.get("work", "a", ref.version_id)
        with pytest.raises(NotHeldError):
            archive.open(ref)

    def test_an_uploaded_directory_is_read_by_the_versions_that_its_journal_names(
        self, archive: ArchiveGovernor, s3: SeaweedPart, buckets: Buckets, tmp_path: Path
    ) -> None:
        local = DirectoryGovernor(tmp_path)
        refs = [local.put("evidence", f"pack-{n}", b"%d" % n * 100_000) for n in range(3)]
        archive.put("evidence", "pack-0", local.get("evidence", "pack-0")[0])
        s3.client().put_object(Bucket=buckets.evidence, Key="pack-1", Body=local.get("evidence", "pack-1")[0])
        archive.put("evidence", "pack-2", b"other bytes")

        for ref in refs[:2]:
            assert archive.get("evidence", ref.path, ref.version_id)[0] == local.get("evidence", ref.path)[0]
            assert archive.get_range(ref, 5, 9) == local.get_range(ref, 5, 9)
            assert archive.open(ref).read() == local.get("evidence", ref.path)[0]
        with pytest.raises(NotHeldError):
            archive.get("evidence", "pack-2", refs[2].version_id)

"""The archive on S3 through boto3: ``evidence`` is versioned and locked, ``work`` lies beside it.

Every PUT carries the SHA-256 of its bytes and is sent once; the store holds it against what arrived. An object goes
up in one piece, however large: only then is the checksum that the store keeps the digest of the whole object, and
not of its parts. Version ids are kept, so that a reader never sees a later version in an earlier one's place.
"""

from __future__ import annotations

import hashlib
import io
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import botocore.exceptions as boto_errors

from ashiato.adapters.archive import ArchiveSettings
from ashiato.adapters.s3_client import connect, translated
from ashiato.core.errors import EvidenceError, NotHeldError, RejectedError, SettingsError
from ashiato.core.limits import KIB, MIB
from ashiato.core.ports import ArchiveFacts, Bucket, ObjectRef, ObjectVersion

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

READ_ATTEMPTS: Final = 3
READ_AHEAD_BYTES: Final = 512 * KIB
"""A read of a file fetches at least this much: a request costs as much time as some hundred KiB."""
TAIL_BYTES: Final = 64 * KIB
"""Fetched when a file is opened: a Parquet footer with its page index, mostly."""
PUT_BYTES_MAX: Final = 5 * 1024 * MIB
"""S3's limit for an object in one piece."""
_DIRECTORY_VERSION: Final = re.compile("[0-9a-f]{32}")
_UNVERSIONED: Final = "null"
"""What S3 calls the version of an object in a bucket without versions."""


class S3Reader:
    """Get and list."""

    def __init__(self, settings: ArchiveSettings) -> None:
        self._settings = settings
        self._names: dict[Bucket, str] = {"evidence": settings.evidence_bucket, "work": settings.work_bucket}
        self._reads: S3Client = connect(settings, attempts=READ_ATTEMPTS)
        self._uploads: dict[tuple[Bucket, str, str], str] = {}

    def get(self, bucket: Bucket, path: str, version_id: str | None = None) -> tuple[bytes, ObjectRef]:
        """Return the bytes of a version; None asks for the oldest that is no delete marker (J6)."""
        version = self._oldest(bucket, path) if version_id is None else version_id
        content = self._content(bucket, path, version)
        return content, self._ref(bucket, path, version, hashlib.sha256(content).hexdigest(), len(content))

    def get_range(self, ref: ObjectRef, start: int, end: int) -> bytes:
        """Return bytes ``[start, end)``."""
        end = min(end, ref.size)
        if start >= end:
            return b""
        content, size = self._range(ref, f"bytes={start}-{end - 1}")
        if size != ref.size or len(content) != end - start:
            raise EvidenceError("object has not the size that was pinned", bucket=ref.bucket, path=ref.path)
        return content

    def open(self, ref: ObjectRef) -> S3File:
        """Return a file over ranges; its end is fetched at once."""
        if not ref.size:
            return S3File(self, ref, tail=self._content(ref.bucket, ref.path, ref.version_id))
        return S3File(self, ref, tail=self.get_range(ref, max(0, ref.size - TAIL_BYTES), ref.size))

    def list(self, bucket: Bucket, prefix: str, *, start_after: str = "") -> Iterator[ObjectRef]:
        """Yield the present objects in path order."""
        arguments: dict[str, Any] = {"Bucket": self._names[bucket], "Prefix": prefix}
        if start_after:
            arguments["StartAfter"] = start_after
        pages = iter(self._reads.get_paginator("list_objects_v2").paginate(**arguments))
        while True:
            with translated("list", bucket=bucket, prefix=prefix):
                page = next(pages, None)
            if page is None:
                return
            for entry in page.get("Contents", ()):
                yield ObjectRef(bucket=bucket, path=entry["Key"], version_id="", size=entry["Size"])

    def list_versions(self, bucket: Bucket, prefix: str) -> Iterator[ObjectVersion]:
        """Yield versions and delete markers, by path, the newest of each first."""
        pages = self._reads.get_paginator("list_object_versions").paginate(Bucket=self._names[bucket], Prefix=prefix)
        for_page = iter(pages)
        while True:
            with translated("list versions", bucket=bucket, prefix=prefix):
                page = next(for_page, None)
            if page is None:
                return
            found = [_version(bucket, entry, is_delete_marker=False) for entry in page.get("Versions", ())]
            found += [_version(bucket, entry, is_delete_marker=True) for entry in page.get("DeleteMarkers", ())]
            found.sort(key=lambda version: (version.ref.path, not version.is_latest, -version.modified_unix_nano))
            yield from found

    def check(self) -> ArchiveFacts:
        """Reach both buckets and say what they are."""
        for bucket in self._names:
            try:
                next(self.list(bucket, ""), None)
            except NotHeldError as error:
                raise SettingsError(f"there is no bucket {self._names[bucket]}") from error
        with translated("ask for versions", bucket="evidence"):
            status = self._reads.get_bucket_versioning(Bucket=self._names["evidence"]).get("Status")
        locked, days = self._lock()
        address = f"s3://{self._names['evidence']}"
        return ArchiveFacts(address=address, versioned=status == "Enabled", locked=locked, default_lock_days=days)

    def _lock(self) -> tuple[bool, int]:
        with translated("ask for the lock", bucket="evidence"):
            try:
                answer = self._reads.get_object_lock_configuration(Bucket=self._names["evidence"])
            except boto_errors.ClientError as error:
                if error.response.get("Error", {}).get("Code") == "ObjectLockConfigurationNotFoundError":
                    return False, 0
                raise
        lock = answer.get("ObjectLockConfiguration", {})
        default = lock.get("Rule", {}).get("DefaultRetention", {})
        days = int(default.get("Days", 0)) or 365 * int(default.get("Years", 0))
        return lock.get("ObjectLockEnabled") == "Enabled", days

    def _oldest(self, bucket: Bucket, path: str) -> str:
        oldest: ObjectVersion | None = None
        for version in self.list_versions(bucket, self._key(path)):
            if version.ref.path != path:
                break  # the path itself sorts before whatever it is a prefix of
            if not version.is_delete_marker and (
                oldest is None or version.modified_unix_nano <= oldest.modified_unix_nano
            ):
                oldest = version
        if oldest is None:
            raise NotHeldError("no such object", bucket=bucket, path=path)
        return oldest.ref.version_id

    def _content(self, bucket: Bucket, path: str, version_id: str) -> bytes:
        answer = self._answer(bucket, path, version_id)
        with translated("get", bucket=bucket, path=path), answer["Body"] as body:
            return body.read()

    def _range(self, ref: ObjectRef, wanted: str) -> tuple[bytes, int]:
        """Return the bytes, and the size of the object that they are of."""
        answer = self._answer(ref.bucket, ref.path, ref.version_id, Range=wanted)
        with translated("get", bucket=ref.bucket, path=ref.path), answer["Body"] as body:
            return body.read(), int(answer["ContentRange"].rpartition("/")[2])

    def _answer(self, bucket: Bucket, path: str, version_id: str, **more: Any) -> GetObjectOutputTypeDef:
        def ask(version: str) -> GetObjectOutputTypeDef:
            with translated("get", bucket=bucket, path=path):
                return self._reads.get_object(
                    Bucket=self._names[bucket], Key=self._key(path), **_versioned(version), **more
                )

        uploaded = self._uploads.get((bucket, path, version_id))
        try:
            return ask(uploaded or version_id)
        except NotHeldError:
            if uploaded or not _DIRECTORY_VERSION.fullmatch(version_id):
                raise
            if (found := self._uploaded(bucket, path, version_id)) is None:
                raise
        self._uploads[bucket, path, version_id] = found
        return ask(found)

    def _uploaded(self, bucket: Bucket, path: str, version_id: str) -> str | None:
        """Return the version that holds what a directory's version id names: an uploaded archive is pinned by hash."""
        oldest = self._oldest(bucket, path)
        with translated("ask for a checksum", bucket=bucket, path=path):
            head = self._reads.head_object(
                Bucket=self._names[bucket], Key=path, ChecksumMode="ENABLED", **_versioned(oldest)
            )
        kept = head.get("ChecksumSHA256", "")
        if kept and "-" not in kept:
            sha256 = b64decode(kept).hex()
        else:
            # Uploaded by other hands, without a checksum of the whole: the bytes themselves tell.
            sha256 = hashlib.sha256(self._content(bucket, path, oldest)).hexdigest()
        return oldest if sha256[: len(version_id)] == version_id else None

    def _ref(self, bucket: Bucket, path: str, version_id: str | None, sha256: str, size: int) -> ObjectRef:
        return ObjectRef(bucket=bucket, path=path, version_id=version_id or _UNVERSIONED, size=size, sha256=sha256)

    def _key(self, path: str) -> str:
        if not path or "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
            raise RejectedError("not an object's path", path=path)
        return path


class S3Writer(S3Reader):
    """Put; never delete."""

    def __init__(self, settings: ArchiveSettings) -> None:
        super().__init__(settings)
        self._writes: S3Client = connect(settings, attempts=1)

    def put(self, bucket: Bucket, path: str, content: bytes) -> ObjectRef:
        """Store a write-once object; the same bytes again are another version of the same."""
        return self._put(bucket, path, content, hashlib.sha256(content), len(content))

    def put_file(self, bucket: Bucket, path: str, file: str) -> ObjectRef:
        """Store a local file, read twice: for its digest, which travels first, and for its bytes."""
        try:
            with Path(file).open("rb") as source:
                digest = hashlib.file_digest(source, "sha256")
                size = source.tell()
                source.seek(0)
                return self._put(bucket, path, source, digest, size)
        except FileNotFoundError as error:
            raise RejectedError("no such file to put", file=file) from error

    def put_if_absent(self, bucket: Bucket, path: str, content: bytes) -> ObjectRef:
        """Store only if the name is free: the store is the arbiter of the race."""
        return self._put(bucket, path, content, hashlib.sha256(content), len(content), if_absent=True)

    def _put(
        self,
        bucket: Bucket,
        path: str,
        content: bytes | IO[bytes],
        digest: hashlib._Hash,
        size: int,
        *,
        if_absent: bool = False,
    ) -> ObjectRef:
        if size > PUT_BYTES_MAX:
            raise RejectedError("object is larger than S3 takes in one piece", size=size, size_max=PUT_BYTES_MAX)
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if if_absent else {}
        with translated("put", writes=if_absent, bucket=bucket, path=path):
            answer = self._writes.put_object(
                Bucket=self._names[bucket], Key=self._key(path), Body=content, ContentLength=size,
                ChecksumSHA256=b64encode(digest.digest()).decode(), **condition,
            )  # fmt: skip
        return self._ref(bucket, path, answer.get("VersionId"), digest.hexdigest(), size)


class S3Governor(S3Writer):
    """Retention's side: deletion included."""

    def delete(self, ref: ObjectRef) -> None:
        """Delete exactly this version; one that is gone already is success."""
        if not ref.version_id:
            raise RejectedError("a deletion names the version that it deletes", bucket=ref.bucket, path=ref.path)
        try:
            with translated("delete", bucket=ref.bucket, path=ref.path, version=ref.version_id):
                self._writes.delete_object(
                    Bucket=self._names[ref.bucket], Key=self._key(ref.path), VersionId=ref.version_id
                )
        except NotHeldError:
            return


class S3File(io.RawIOBase):
    """A seekable file over one version of an object: ranges underneath, with one block read ahead and the end kept."""

    def __init__(self, archive: S3Reader, ref: ObjectRef, *, tail: bytes) -> None:
        super().__init__()
        self._archive = archive
        self._ref = ref
        self._at = 0
        self._blocks = [(ref.size - len(tail), tail), (0, b"")]

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it has places."""
        return True

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._ref.size}[whence]
        if base + offset < 0:
            raise ValueError("negative place in a file")
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        """Return ``size`` bytes, fewer only at the end."""
        if self.closed:
            raise ValueError("file is closed")
        end = self._ref.size if size is None or size < 0 else min(self._ref.size, self._at + size)
        content = self._between(self._at, end)
        self._at += len(content)
        return content

    def readall(self) -> bytes:
        """Return what is left."""
        return self.read(-1)

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer."""
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def _between(self, start: int, end: int) -> bytes:
        if start >= end:
            return b""
        for at, block in self._blocks:
            if at <= start and end <= at + len(block):
                return block[start - at : end - at]
        content = self._archive.get_range(self._ref, start, max(end, start + READ_AHEAD_BYTES))
        self._blocks[1] = (start, content)
        return content[: end - start]


def _versioned(version_id: str) -> dict[str, Any]:
    return {"VersionId": version_id} if version_id else {}


def _version(bucket: Bucket, entry: Any, *, is_delete_marker: bool) -> ObjectVersion:
    return ObjectVersion(
        ref=ObjectRef(bucket=bucket, path=entry["Key"], version_id=entry["VersionId"], size=entry.get("Size", 0)),
        modified_unix_nano=_nanoseconds(entry["LastModified"]),
        is_delete_marker=is_delete_marker,
        is_latest=bool(entry.get("IsLatest", False)),
    )


def _nanoseconds(time: datetime) -> int:
    return int(time.replace(microsecond=0).timestamp()) * 1_000_000_000 + time.microsecond * 1000

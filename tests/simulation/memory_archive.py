"""An archive in memory that behaves as a versioned S3 bucket: every put is a new version, 412 where a name is taken,
a delete marker makes a name free again and hides nothing from who asks for the oldest version."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock

from ashiato.core.errors import AlreadyExistsError, EvidenceError, NotHeldError
from ashiato.core.ports import ArchiveFacts, Bucket, ObjectRef, ObjectVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class _Version:
    ref: ObjectRef
    content: bytes
    moment: int
    marker: bool = False


@dataclass(slots=True, kw_only=True)
class MemoryArchive:
    """Both buckets. Threads may share it."""

    _objects: dict[tuple[Bucket, str], list[_Version]] = field(default_factory=dict)
    _puts: int = 0
    _lock: RLock = field(default_factory=RLock)

    def get(self, bucket: Bucket, path: str, version_id: str | None = None) -> tuple[bytes, ObjectRef]:
        with self._lock:
            for version in self._objects.get((bucket, path), []):
                if not version.marker and version_id in (None, version.ref.version_id):
                    return version.content, version.ref
        raise NotHeldError("no such object version", bucket=bucket, path=path, version_id=version_id)

    def get_range(self, ref: ObjectRef, start: int, end: int) -> bytes:
        return self.get(ref.bucket, ref.path, ref.version_id)[0][start:end]

    def open(self, ref: ObjectRef) -> io.BytesIO:
        content, found = self.get(ref.bucket, ref.path, ref.version_id)
        if found.size != ref.size:
            raise EvidenceError("object has not the size that was pinned", path=ref.path)
        return io.BytesIO(content)

    def list(self, bucket: Bucket, prefix: str, *, start_after: str = "") -> Iterator[ObjectRef]:
        with self._lock:
            present = [
                versions[-1].ref
                for (place, path), versions in sorted(self._objects.items())
                if place == bucket and path.startswith(prefix) and path > start_after and not versions[-1].marker
            ]
        yield from present

    def list_versions(self, bucket: Bucket, prefix: str) -> Iterator[ObjectVersion]:
        with self._lock:
            found = [
                ObjectVersion(
                    ref=version.ref, modified_unix_nano=version.moment, is_delete_marker=version.marker,
                    is_latest=version is versions[-1],
                )
                for (place, path), versions in sorted(self._objects.items())
                if place == bucket and path.startswith(prefix)
                for version in reversed(versions)
            ]  # fmt: skip
        yield from found

    def check(self) -> ArchiveFacts:
        return ArchiveFacts(address="memory", versioned=True, locked=False)

    def put(self, bucket: Bucket, path: str, content: bytes) -> ObjectRef:
        with self._lock:
            self._puts += 1
            sha256 = hashlib.sha256(content).hexdigest()
            ref = ObjectRef(bucket=bucket, path=path, version_id=f"v{self._puts}", size=len(content), sha256=sha256)
            version = _Version(ref=ref, content=content, moment=self._puts)
            self._objects.setdefault((bucket, path), []).append(version)
            return ref

    def put_file(self, bucket: Bucket, path: str, file: str) -> ObjectRef:
        return self.put(bucket, path, Path(file).read_bytes())

    def put_if_absent(self, bucket: Bucket, path: str, content: bytes) -> ObjectRef:
        with self._lock:
            versions = self._objects.get((bucket, path))
            if versions and not versions[-1].marker:
                raise AlreadyExistsError("the name is taken", bucket=bucket, path=path)
            return self.put(bucket, path, content)

    def mark_deleted(self, bucket: Bucket, path: str) -> None:
        """Put a delete marker, as an S3 delete without a version id does."""
        with self._lock:
            self._puts += 1
            ref = ObjectRef(bucket=bucket, path=path, version_id=f"v{self._puts}", size=0)
            self._objects[bucket, path].append(_Version(ref=ref, content=b"", moment=self._puts, marker=True))

    def delete(self, ref: ObjectRef) -> None:
        with self._lock:
            versions = self._objects.get((ref.bucket, ref.path), [])
            versions[:] = [version for version in versions if version.ref.version_id != ref.version_id]
            if not versions:
                self._objects.pop((ref.bucket, ref.path), None)

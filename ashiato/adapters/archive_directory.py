"""The archive in a directory: ``evidence/`` is a Delta table's folder, ``work/`` lies beside it.

Objects are written once. The version id of an object is the first 32 hex digits of its SHA-256: a directory has no
versions of its own, and an archive that was uploaded is pinned by hash anyway. Nothing locks a directory: whoever
holds the folder can delete, and every answer from it says so.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from ashiato.adapters import files
from ashiato.core.errors import (
    AlreadyExistsError,
    EvidenceError,
    NotHeldError,
    RefusedError,
    RejectedError,
    TransientError,
)
from ashiato.core.ports import ArchiveFacts, Bucket, ObjectRef, ObjectVersion

_BUCKETS: tuple[Bucket, Bucket] = ("evidence", "work")


def version_of(sha256: str) -> str:
    """Return the version id of an object by its content's digest."""
    return sha256[:32]


class DirectoryReader:
    """Get and list."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, bucket: Bucket, path: str, version_id: str | None = None) -> tuple[bytes, ObjectRef]:
        """Return the bytes, held against ``version_id`` where one is given."""
        with _read_errors(bucket, path):
            content = self._where(bucket, path).read_bytes()
        ref = _ref(bucket, path, hashlib.sha256(content).hexdigest(), len(content))
        if version_id is not None and version_id != ref.version_id and len(version_id) == len(ref.version_id):
            raise EvidenceError("object is not the version that was pinned", bucket=bucket, path=path)
        return content, ref

    def get_range(self, ref: ObjectRef, start: int, end: int) -> bytes:
        """Return bytes ``[start, end)``."""
        with self._open(ref) as file, _read_errors(ref.bucket, ref.path):
            return os.pread(file.fileno(), max(0, end - start), start)

    def open(self, ref: ObjectRef) -> BufferedReader:
        """Return the file."""
        return self._open(ref)

    def list(self, bucket: Bucket, prefix: str, *, start_after: str = "") -> Iterator[ObjectRef]:
        """Yield objects in path order. Only folders that can hold the prefix are read."""
        root = self.root / bucket
        folder = prefix.rpartition("/")[0]
        for path in _walk(root, folder):
            if path.startswith(prefix) and path > start_after:
                try:
                    size = (root / path).stat().st_size
                except FileNotFoundError:
                    continue
                yield ObjectRef(bucket=bucket, path=path, version_id="", size=size)

    def list_versions(self, bucket: Bucket, prefix: str) -> Iterator[ObjectVersion]:
        """Yield the one version of each object."""
        for ref in self.list(bucket, prefix):
            try:
                with self._open(ref) as file, _read_errors(bucket, ref.path):
                    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                    modified = os.fstat(file.fileno()).st_mtime_ns
            except NotHeldError:
                continue  # deleted since it was listed
            yield ObjectVersion(ref=_ref(bucket, ref.path, sha256, ref.size), modified_unix_nano=modified)

    def check(self) -> ArchiveFacts:
        """Say what a directory is."""
        if not self.root.is_dir():
            raise NotHeldError("no archive here: the folder does not exist", path=str(self.root))
        return ArchiveFacts(address=str(self.root), versioned=False, locked=False)

    def _open(self, ref: ObjectRef) -> BufferedReader:
        with _read_errors(ref.bucket, ref.path):
            file = self._where(ref.bucket, ref.path).open("rb")
        if os.fstat(file.fileno()).st_size != ref.size:
            file.close()
            raise EvidenceError("object has not the size that was pinned", bucket=ref.bucket, path=ref.path)
        return file

    def _where(self, bucket: Bucket, path: str) -> Path:
        parts = path.split("/")
        if bucket not in _BUCKETS or not path or "\0" in path or any(part in ("", ".", "..") for part in parts):
            raise RejectedError("not an object's path", bucket=bucket, path=path)
        where = (self.root / bucket).joinpath(*parts)
        inside = (self.root / bucket).resolve()
        if not where.parent.resolve().is_relative_to(inside):
            raise RejectedError("path leaves the archive", bucket=bucket, path=path)
        return where


class DirectoryWriter(DirectoryReader):
    """Put; never delete."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        for bucket in _BUCKETS:
            files.make_folder(root / bucket)

    def put(self, bucket: Bucket, path: str, content: bytes) -> ObjectRef:
        """Store a write-once object; the same bytes again are success."""
        try:
            return self.put_if_absent(bucket, path, content)
        except AlreadyExistsError:
            held, ref = self.get(bucket, path)
            if held != content:
                raise
            # Whoever put it first may not have come to this yet.
            files.sync_folder(self._where(bucket, path).parent)
            return ref

    def put_file(self, bucket: Bucket, path: str, file: str) -> ObjectRef:
        """Store a copy of a local file."""
        final = self._where(bucket, path)
        if not Path(file).is_file():
            raise RejectedError("no such file to put", file=file)
        temporary = final.parent / f"{files.TEMPORARY_PREFIX}{secrets.token_hex(8)}"
        try:
            files.make_folder(final.parent)
            with Path(file).open("rb") as source, files.open_new(temporary) as target:
                shutil.copyfileobj(source, target, 1 << 20)
                target.flush()
                os.fsync(target.fileno())
            ref = self._file_ref(bucket, path, temporary)
            try:
                files.link_new(temporary, final)
            except AlreadyExistsError:
                if self._file_ref(bucket, path, final) != ref:
                    raise
                files.sync_folder(final.parent)
        except OSError as error:
            raise files.disk_error(error, final) from error
        finally:
            temporary.unlink(missing_ok=True)
        return ref

    def put_if_absent(self, bucket: Bucket, path: str, content: bytes) -> ObjectRef:
        """Store only if the name is free: ``link`` is the arbiter of the race."""
        files.write_new(self._where(bucket, path), content)
        return _ref(bucket, path, hashlib.sha256(content).hexdigest(), len(content))

    def _file_ref(self, bucket: Bucket, path: str, file: Path) -> ObjectRef:
        with file.open("rb") as opened:
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
        return _ref(bucket, path, sha256, file.stat().st_size)


class DirectoryGovernor(DirectoryWriter):
    """Retention's side: deletion included."""

    def delete(self, ref: ObjectRef) -> None:
        """Delete the object; one that is gone already is success. Folders that become empty go with it."""
        where = self._where(ref.bucket, ref.path)
        with _write_errors(ref.bucket, ref.path):
            where.unlink(missing_ok=True)
        folder, top = where.parent, self.root / ref.bucket
        while folder != top:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent

    def clean_unfinished(self, *, older_than_unix_nano: int) -> int:
        """Remove what crashed writers left under temporary names; return how many."""
        count = 0
        for bucket in _BUCKETS:
            for path in (self.root / bucket).rglob(f"{files.TEMPORARY_PREFIX}*"):
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime_ns < older_than_unix_nano:
                        path.unlink()
                        count += 1
        return count


@contextmanager
def _read_errors(bucket: Bucket, path: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise NotHeldError("no such object", bucket=bucket, path=path) from error
    except PermissionError as error:
        raise RefusedError("this user may not read the object", bucket=bucket, path=path) from error
    except OSError as error:
        raise TransientError(f"cannot read: {error.strerror}", bucket=bucket, path=path) from error


@contextmanager
def _write_errors(bucket: Bucket, path: str) -> Iterator[None]:
    try:
        yield
    except (PermissionError, IsADirectoryError) as error:
        raise RefusedError("this user may not delete the object", bucket=bucket, path=path) from error
    except OSError as error:
        raise TransientError(f"cannot delete: {error.strerror}", bucket=bucket, path=path) from error


def _ref(bucket: Bucket, path: str, sha256: str, size: int) -> ObjectRef:
    return ObjectRef(bucket=bucket, path=path, version_id=version_of(sha256), size=size, sha256=sha256)


def _walk(root: Path, folder: str) -> Iterator[str]:
    """Yield file paths below ``folder``, relative to ``root``, in path order."""
    try:
        entries = list(os.scandir(root / folder if folder else root))
    except (FileNotFoundError, NotADirectoryError):
        return
    # A folder sorts as its path with the slash, so that the order is the one of whole paths.
    entries.sort(key=lambda entry: entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name)
    for entry in entries:
        path = f"{folder}/{entry.name}" if folder else entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(root, path)
        elif entry.is_file(follow_symlinks=False) and not entry.name.startswith(files.TEMPORARY_PREFIX):
            yield path

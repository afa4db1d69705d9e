"""The ports: what the services need from the world, as small Protocols. Every adapter passes its port's suite.

Vocabulary: a *position* is a place on the bus; ``next`` means the first position that was not read yet.
Bus and Index are asynchronous (their drivers are); Archive is synchronous and is called from worker threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable


class Partition(NamedTuple):
    """One ordered log of the bus."""

    topic: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BusRecord:
    """One frame at its position."""

    partition: Partition
    position: int
    value: bytes


class BusWriter(Protocol):
    """The collector's side: write, and know that it is kept."""

    async def partitions(self, topic: str) -> int:
        """Return how many partitions ``topic`` has. Raises NotHeldError if there is no such topic."""
        ...

    async def incarnation(self, topic: str) -> str:
        """As :meth:`BusReader.incarnation`: of which log the positions are that :meth:`send` returns."""
        ...

    async def send(self, partition: Partition, value: bytes) -> int:
        """Return the position of ``value`` once it is durable (acks=all; fsync).

        Raises TransientError where it is unknown or known to have failed: the caller stops the partition,
        calls :meth:`reset`, and sends everything unacknowledged again in order (C4). Raises RejectedError
        where the broker will never take this value (too large).
        """
        ...

    async def reset(self) -> None:
        """Close the session so that nothing of it can arrive later, and open a new one (C4)."""
        ...

    async def close(self) -> None:
        """Let go of the connection; what was not acknowledged is not kept."""
        ...


class BusReader(Protocol):
    """Ingest's side: read from positions that the journal holds, never from the bus's own memory."""

    async def partitions(self, topic: str) -> int:
        """Return how many partitions ``topic`` has."""
        ...

    async def incarnation(self, topic: str) -> str:
        """Return the id of this bus and topic (J5): another id means another log, whatever its positions."""
        ...

    async def bounds(self, partition: Partition) -> tuple[int, int]:
        """Return (first position that can be read, position that the next record will get)."""
        ...

    async def assign(self, starts: Mapping[Partition, int]) -> None:
        """Read exactly these partitions from exactly these positions from now on."""
        ...

    async def poll(self, *, bytes_max: int, wait_ns: int) -> list[BusRecord]:
        """Return the next records, per partition in order, or [] after ``wait_ns``.

        Raises NotHeldError (facts: topic, partition, position) where a position lies outside the bounds.
        """
        ...

    async def read_one(self, partition: Partition, position: int) -> BusRecord | None:
        """Return the record at ``position`` or None where it is no longer (or not yet) held."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


class BusKeeper(Protocol):
    """Retention's side: make topics, and forget what the archive has."""

    async def create_topics(self, topics: Mapping[str, int]) -> None:
        """Make the topics (name -> partitions) that do not exist; leave the others as they are."""
        ...

    async def free(self, partition: Partition, before: int) -> None:
        """Forget positions below ``before``. Retention passes the committed position - 1 (J5 keeps next-1)."""
        ...

    async def bounds(self, partition: Partition) -> tuple[int, int]:
        """As :meth:`BusReader.bounds`."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


Bucket = Literal["evidence", "work"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRef:
    """One version of one object, as stored. ``sha256`` is lower-case hex; empty only in listings that lack it."""

    bucket: Bucket
    path: str
    version_id: str
    size: int
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectVersion:
    """One line of a version listing."""

    ref: ObjectRef
    modified_unix_nano: int
    is_delete_marker: bool = False
    is_latest: bool = True


@runtime_checkable
class ReadableObject(Protocol):
    """A seekable read-only file over one object version (range requests underneath), fit for pyarrow."""

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes, all that is left where it is negative."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move, as ``io.IOBase.seek``."""
        ...

    def tell(self) -> int:
        """Return the place."""
        ...

    def close(self) -> None:
        """Let go."""
        ...

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        ...


class ArchiveReader(Protocol):
    """Get and list."""

    def get(self, bucket: Bucket, path: str, version_id: str | None = None) -> tuple[bytes, ObjectRef]:
        """Return the bytes and their ref. None means the *oldest* version that is not a delete marker (J6).

        Raises NotHeldError; TransientError.
        """
        ...

    def get_range(self, ref: ObjectRef, start: int, end: int) -> bytes:
        """Return bytes ``[start, end)`` of exactly this version. Raises NotHeldError; TransientError."""
        ...

    def open(self, ref: ObjectRef) -> ReadableObject:
        """Return a seekable file over exactly this version. Raises NotHeldError."""
        ...

    def list(self, bucket: Bucket, prefix: str, *, start_after: str = "") -> Iterator[ObjectRef]:
        """Yield the present objects below ``prefix`` with path > ``start_after``, in path order."""
        ...

    def list_versions(self, bucket: Bucket, prefix: str) -> Iterator[ObjectVersion]:
        """Yield every version and delete marker below ``prefix``."""
        ...

    def check(self) -> ArchiveFacts:
        """Reach both buckets and say what they are. Raises TransientError, RefusedError, SettingsError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveFacts:
    """What an archive is, for start-up lines, exports and warnings."""

    address: str
    versioned: bool
    locked: bool
    """False for a directory: nothing there refuses deletion, and every answer of it says so."""
    default_lock_days: int = 0


class ArchiveWriter(ArchiveReader, Protocol):
    """Put; never delete."""

    def put(self, bucket: Bucket, path: str, content: bytes) -> ObjectRef:
        """Store a write-once object whose path is made from its content. Durable on return.

        The store checks the SHA-256. Putting the same bytes at the same path again succeeds (S3: another
        version; directory: the same file). Raises AlreadyExistsError (directory) where the path holds other
        bytes; TransientError.
        """
        ...

    def put_file(self, bucket: Bucket, path: str, file: str) -> ObjectRef:
        """As :meth:`put` for a local file too large for memory."""
        ...

    def put_if_absent(self, bucket: Bucket, path: str, content: bytes) -> ObjectRef:
        """Store ``content`` only if ``path`` holds nothing; one of many racing writers wins (J1).

        Raises AlreadyExistsError where the name is taken (S3: 412, which after botocore's own retry may be
        our own object: the caller reads it and compares the act_id); OutcomeUnknownError on 409, 5xx and
        time-outs; TransientError where nothing was sent.
        """
        ...


class ArchiveGovernor(ArchiveWriter, Protocol):
    """Retention's side: everything, deletion included."""

    def delete(self, ref: ObjectRef) -> None:
        """Delete exactly this version; a version that is gone already is success.

        Raises RefusedError where the store's lock forbids it.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexOutcome:
    """What became of one batch: every row is in exactly one of the counts."""

    created: int = 0
    already_there: int = 0
    projected: int = 0
    """Refused as it was, taken in a safe projection."""
    refused: tuple[tuple[str, str], ...] = ()
    """(uid, reason) of rows that the index took in no form: counted and said, never silent."""


Document = Mapping[str, object]
"""A row at the rim: dotted OTel names to JSON values; ``log.record.uid`` is the id. See ``core.record``."""


class IndexWriter(Protocol):
    """Ingest's side of the hot index: create documents in indices made beforehand."""

    async def write(self, documents: Sequence[Document]) -> IndexOutcome:
        """Create the documents under deterministic ids; 409 is success. Raises TransientError for the whole."""
        ...

    async def publish_position(self, positions: Mapping[Partition, int]) -> None:
        """Make what was written visible, then publish the next positions as a document (I4)."""
        ...

    async def positions(self) -> Mapping[Partition, int]:
        """Return the published next positions, {} where none were."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


class IndexKeeper(Protocol):
    """Retention's side: create and delete daily indices."""

    async def prepare(self, days: Sequence[str], classes: Sequence[str]) -> None:
        """Make the template and the indices of these UTC days (``2026-11-24``) and classes, and the fixed ones."""
        ...

    async def days(self) -> Sequence[tuple[str, str]]:
        """Return (day, class) of every daily index."""
        ...

    async def drop(self, day: str, retention_class: str) -> None:
        """Delete one daily index; one that is gone already is success."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


class Signer(Protocol):
    """Holds one Ed25519 key."""

    @property
    def key_id(self) -> str:
        """The first 32 hex digits of the SHA-256 of the public key."""
        ...

    @property
    def public_key(self) -> bytes:
        """The 32 bytes of the public key."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of the signature."""
        ...


VerifySignature = Callable[[bytes, bytes, bytes], bool]
"""(public key, signature, message) to whether the signature is that key's over that message; never raises."""


class Clock(Protocol):
    """Time, told."""

    def now_unix_nano(self) -> int:
        """Return the wall clock in ns, UTC."""
        ...

    def monotonic_nano(self) -> int:
        """Return a clock that never steps back, in ns."""
        ...

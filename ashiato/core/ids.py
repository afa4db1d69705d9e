"""Ids and names: sources, partitions, topics, file ids, record ids, retention classes (CONTRACTS section 1)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from ashiato.core.errors import RejectedError, SettingsError

FileId = NewType("FileId", str)
"""26 characters of a ULID (birth in ms, then 80 random bits); a fork of one carries ``~1``, ``~2`` ... behind."""

RecordUid = NewType("RecordUid", str)

TOPIC_PRIORITY = "ashiato.priority"
TOPIC_BULK = "ashiato.bulk"
TOPICS = (TOPIC_PRIORITY, TOPIC_BULK)

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Kind(StrEnum):
    """What a source is."""

    CONTAINER = "container"
    AUDIT = "audit"
    FALCO = "falco"
    AUDITD = "auditd"
    WATCH = "watch"
    LEDGER = "ledger"
    ACCESS = "access"
    FILE = "file"


CLASS_OF_KIND = {
    Kind.CONTAINER: "container",
    Kind.AUDIT: "audit",
    Kind.FALCO: "security",
    Kind.AUDITD: "security",
    Kind.WATCH: "lifecycle",
    Kind.LEDGER: "ledger",
    Kind.ACCESS: "access",
    Kind.FILE: "file",
}
"""The default retention class of each kind."""

CLASSES = tuple(dict.fromkeys(CLASS_OF_KIND.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What one container, or one log of a node, writes over its files.

    Container sources have the pod fields and no path; all others have a path and no pod fields.
    """

    kind: Kind
    cluster: str
    node: str
    namespace: str = ""
    pod: str = ""
    pod_uid: str = ""
    container: str = ""
    path: str = ""
    _text: str = field(default="", init=False, repr=False, compare=False)
    """What ``str`` gave: one string for all who ask, for a node has thousands of these."""

    def __str__(self) -> str:
        if not self._text:
            object.__setattr__(self, "_text", self._spelled())
        return self._text

    def _spelled(self) -> str:
        if self.kind is Kind.CONTAINER:
            return f"{self.kind}/{self.cluster}/{self.node}/{self.namespace}/{self.pod}/{self.pod_uid}/{self.container}"
        return "/".join((self.kind, self.cluster, self.node, self.path.lstrip("/")))

    @classmethod
    def parse(cls, text: str) -> Source:
        """Read back what ``str(source)`` gave.

        Raises:
            RejectedError: the text has not the form of a source.

        """
        parts = text.split("/")
        try:
            kind = Kind(parts[0])
        except ValueError as error:
            raise RejectedError("not a source: unknown kind", source=text) from error
        if kind is Kind.CONTAINER:
            if len(parts) != 7:
                raise RejectedError("not a container source: seven parts are needed", source=text)
            _, cluster, node, namespace, pod, pod_uid, container = parts
            return cls(
                kind=kind,
                cluster=cluster,
                node=node,
                namespace=namespace,
                pod=pod,
                pod_uid=pod_uid,
                container=container,
            )
        if len(parts) < 4:
            raise RejectedError("not a source: kind/cluster/node/path is needed", source=text)
        return cls(kind=kind, cluster=parts[1], node=parts[2], path="/".join(parts[3:]))

    @property
    def topic(self) -> str:
        """The lane: container output and plain files are bulk, all else goes first."""
        return TOPIC_BULK if self.kind in (Kind.CONTAINER, Kind.FILE) else TOPIC_PRIORITY

    @property
    def retention_class(self) -> str:
        """The class by default; a policy may say otherwise."""
        return CLASS_OF_KIND[self.kind]


def check_name(name: str, what: str) -> str:
    """Return the name of a cluster or a node.

    Raises:
        SettingsError: it cannot stand in a source, whose parts are divided by slashes.

    """
    if not name or "/" in name or not name.isprintable():
        raise SettingsError(f"the {what} cannot be called {name!r}: a name has no slash and no control character")
    return name


def partition_of(source: Source, partitions: int) -> int:
    """Return the partition of a source: the first 8 bytes of SHA-256(source), big endian, mod ``partitions``."""
    return int.from_bytes(hashlib.sha256(str(source).encode()).digest()[:8], "big") % partitions


def ulid(birth_unix_ms: int, randomness: bytes) -> FileId:
    """Return a ULID: 48 bits of milliseconds, then the 10 bytes of ``randomness`` (https://github.com/ulid/spec)."""
    assert len(randomness) == 10
    number = (birth_unix_ms & ((1 << 48) - 1)) << 80 | int.from_bytes(randomness, "big")
    return FileId("".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5)))


def next_ulid(before: str) -> FileId:
    """Return the smallest ULID that is greater than ``before``."""
    number = 0
    for character in before:
        number = number << 5 | _CROCKFORD.index(character)
    number += 1
    return FileId("".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5)))


def imported_file_id(*, cluster: str, node: str, relative_path: str, head_sha256: bytes, birth_unix_ms: int) -> FileId:
    """Return the file id that a second import of the same file finds again (CONTRACTS section 1).

    ``birth_unix_ms`` must itself be a function of the file's content or 0, never of the moment of import.
    """
    seed = f"import\x00{cluster}\x00{node}\x00{relative_path}".encode() + b"\0" + head_sha256
    return ulid(birth_unix_ms, hashlib.sha256(seed).digest()[:10])


def record_uid(file_id: str, offset: int) -> RecordUid:
    """Return ``<file_id>-<16 hex digits of the offset of the record's first byte>``."""
    return RecordUid(f"{file_id}-{offset:016x}")


def join_uid(file_id: str, first_offset: int) -> RecordUid:
    """Return the uid of the empty row that closes a join left open at its file's end."""
    return RecordUid(f"{file_id}-{first_offset:016x}-j")


def fork_of(file_id: str, number: int) -> FileId:
    """Return the id under which bytes go that contradict what is held of ``file_id`` (J4)."""
    return FileId(f"{file_id.split('~', 1)[0]}~{number}")

"""What is remembered of one object: claims, each with the moments it held and the rows that say so.

A claim is a field and a value (``IP`` is ``10.2.3.4``). Of the moments at which it was said to hold, the first and the
last are kept, and the one from which it became known first: so a claim has valid time and knowledge time, and grows no
larger however often it is repeated. Taking in is a join: any order, any repetition gives the same record, to the byte.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

import msgspec

from ashiato.core.errors import EvidenceError

FOLD_VERSION: Final = 1
"""Raised where the same rows would make other claims: inventories of another version are made again."""
APART: Final = "\0"
"""Between the parts of a value; nothing that Kubernetes names may hold it."""
_LEVEL: Final = 6
_WINDOW: Final = -13
_COMMON: Final = (
    b"RunningSucceededPendingFailedhostNetworkhostPIDprivileged capability hostPath secret app=name=k8s-app="
    b"app.kubernetes.io/name=app.kubernetes.io/instance=app.kubernetes.io/component=app.kubernetes.io/managed-by="
    b"helm.sh/chart=controller-revision-hash=batch.kubernetes.io/job-name=statefulset.kubernetes.io/pod-name="
    b"pod-template-hash=deployment/statefulset/daemonset/job/replicaset/kube-system/default/docker.io/library/"
    b"registry.k8s.io/quay.io/ghcr.io/registry.@sha256:containerd://cri-o://docker-pullable://Completed:latest"
    b"-00000000000000"
)
"""What records are full of: a record is too short to learn it. Part of the format."""


class Told(IntEnum):
    """Who says so."""

    WATCH = 1
    LIST = 2
    """Everything was listed: the object was there, and when it changed is not known."""
    ABSENCE = 3
    """It was known, and is in no list."""
    AUDIT = 4
    PATH = 5
    """The path of a log."""
    DOCKER = 6
    EVENT = 7
    """A Kubernetes event about it."""


class Field(IntEnum):
    """What a claim is of. Numbers are stored: they are added to, never changed."""

    NAME = 1
    """``<namespace>/<name>``."""
    CLUSTER = 2
    NODE = 3
    IP = 4
    HOST_IP = 5
    ACCOUNT = 6
    """Service account, ``<namespace>/<name>``."""
    OWNER = 7
    """``<kind>/<name>/<uid>``, the kind in lower case; the controller alone, where one is."""
    LABEL = 8
    """``<name>=<value>``."""
    IMAGE = 9
    """container, reference as it was asked for."""
    DIGEST = 10
    """container, reference as it runs, digest or id."""
    CONTAINER = 11
    """container, restart, container id."""
    STARTED = 12
    """container, restart; at its moment."""
    EXITED = 13
    """container, restart, exit code, signal, reason; at its moment."""
    CREATED = 14
    """ns since 1970; at that moment."""
    DELETION = 15
    """Who asked for it, where that is known; at the moment it was asked for."""
    GONE = 16
    """The earliest moment at which it may have gone, in ns; at the latest one."""
    SPEC = 17
    """Digest of the spec: the first row has it in full."""
    POSTURE = 18
    """What of the spec is a right or a way out: ``privileged web``, ``hostPath /`` ..."""
    PHASE = 19
    LOGGED = 20
    """container, restart; from the first line that is held to the last one."""
    ACTED = 21
    """user, address: it spoke to the API server under its own token."""
    ENTERED = 22
    """user, subresource, container: somebody went in."""
    TOKEN = 23
    """``<namespace>/<name>``: a token of this account was made for it."""
    ALIAS = 24
    """Another uid of the same pod: that of a static pod's log path."""
    SEEN = 25
    """It was there."""
    REVISION = 26
    """Of a node: boot id, kernel, runtime, provider id."""


class Point(NamedTuple):
    """A moment at which a claim held, and the row that says so."""

    time_unix_nano: int
    observed_unix_nano: int
    """When the row was read: from then on it could be known."""
    told: int
    row: str
    """``log.record.uid``."""


class Claim(NamedTuple):
    """Where in time a claim is said to hold."""

    first: Point
    last: Point
    known: Point
    """The one that was observed first."""

    def joined(self, other: Claim) -> Claim:
        """Return what both say."""
        return Claim(
            min(self.first, other.first), max(self.last, other.last), min(self.known, other.known, key=_known_order)
        )


Key = tuple[int, str]
"""(field, value)."""
Claims = dict[Key, Claim]


@dataclass(frozen=True, slots=True)
class Line:
    """One row, as far as it matters here."""

    row: str
    source: str
    cluster: str
    observed_unix_nano: int
    time_unix_nano: int | None
    uncertainty_ns: int
    action: str
    body: str


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one row says of one object."""

    key: str
    """``pod:<uid>``, ``replicaset:<uid>`` ..., or ``pod@<cluster>/<namespace>/<name>`` where no uid is told."""
    row: str
    observed_unix_nano: int
    told: Told
    says: tuple[tuple[Field, str, int], ...]
    """(field, value, moment)."""


@dataclass(frozen=True, slots=True)
class WatchGap:
    """A time of which the watch does not know all that happened."""

    source: str
    resource: str
    reason: str
    start_unix_nano: int
    end_unix_nano: int
    observed_unix_nano: int
    row: str


def take(claims: Claims, sighting: Sighting) -> None:
    """Join what a row says into what is claimed."""
    observed, told, row = sighting.observed_unix_nano, int(sighting.told), sighting.row
    for field, value, moment in sighting.says:
        point = Point(moment, observed, told, row)
        key = (int(field), value)
        claim = claims.get(key)
        if claim is None:
            claims[key] = Claim(point, point, point)
        elif point < claim.first or point > claim.last or _known_order(point) < _known_order(claim.known):
            claims[key] = claim.joined(Claim(point, point, point))


def join(claims: Claims, other: Mapping[Key, Claim]) -> None:
    """Join two records of one object."""
    for key, claim in other.items():
        mine = claims.get(key)
        claims[key] = claim if mine is None else mine.joined(claim)


def as_known(claims: Mapping[Key, Claim], known_unix_nano: int) -> Claims:
    """Return what of the claims was known at a moment.

    Between what was known first and what is known last no steps are kept: a claim that was known by then, and of which
    more became known since, is given as far as the points that are kept were known.
    """
    found: Claims = {}
    for key, claim in claims.items():
        points = [point for point in claim if point.observed_unix_nano <= known_unix_nano]
        if points:
            found[key] = Claim(min(points), max(points), min(points, key=_known_order))
    return found


def of_field(claims: Mapping[Key, Claim], field: Field) -> Iterator[tuple[str, Claim]]:
    """Yield the values of a field, in the order of their first moments."""
    found = [(claim.first, value, claim) for (number, value), claim in claims.items() if number == field]
    for _, value, claim in sorted(found):
        yield value, claim


# -- stored ----------------------------------------------------------------------------------------------------

_ENCODE: Final = msgspec.msgpack.Encoder().encode
_Row = tuple[int, int, str]
_Stored = tuple[list[_Row], list[tuple[int, str, int, int, int, int, int, int]]]
_DECODE: Final = msgspec.msgpack.Decoder(_Stored).decode


def encode(claims: Mapping[Key, Claim]) -> bytes:
    """Return a record's bytes: a function of what it claims alone."""
    ordered = sorted({point[1:] for claim in claims.values() for point in claim})
    rows = {row: number for number, row in enumerate(ordered)}
    stored = [
        (
            field, value, first[0], rows[first[1:]], last[0] - first[0], rows[last[1:]], known[0] - first[0],
            rows[known[1:]],
        )
        for (field, value), (first, last, known) in sorted(claims.items())
    ]  # fmt: skip
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW, zdict=_COMMON)
    return deflate.compress(_ENCODE((ordered, stored))) + deflate.flush()


def decode(content: bytes) -> Claims:
    """Read a record back.

    Raises:
        EvidenceError: damaged.

    """
    claims: Claims = {}
    try:
        rows, stored = _DECODE(_inflated(content))
        for field, value, first, first_row, lasted, last_row, known, known_row in stored:
            claims[field, value] = Claim(
                Point(first, *rows[first_row]),
                Point(first + lasted, *rows[last_row]),
                Point(first + known, *rows[known_row]),
            )
    except (zlib.error, msgspec.DecodeError, IndexError) as error:
        raise EvidenceError("record of the inventory is damaged") from error
    return claims


def _inflated(content: bytes) -> bytes:
    return zlib.decompressobj(_WINDOW, zdict=_COMMON).decompress(content)


def keys(content: bytes) -> dict[Key, None]:
    """Return what a record claims, without when. Raises EvidenceError where it is damaged."""
    try:
        _, stored = _DECODE(_inflated(content))
    except (zlib.error, msgspec.DecodeError) as error:
        raise EvidenceError("record of the inventory is damaged") from error
    return {(claim[0], claim[1]): None for claim in stored}


def _known_order(point: Point) -> tuple[int, Point]:
    return point.observed_unix_nano, point

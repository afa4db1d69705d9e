"""The worlds of the model as values: what is on the bus, in the archive, and in each archiver's head."""

from __future__ import annotations

from functools import cache
from typing import Generic, NamedTuple, TypeVar

from ashiato.core.frontier import FileState

T = TypeVar("T")


class One(Generic[T]):
    """A value of which there is one object, so that worlds are compared and hashed by identity."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value


@cache
def one(value: T) -> One[T]:
    """Return the one object of ``value``."""
    return One(value)


class Sent(NamedTuple):
    """One record of the bus: bytes ``[start, end)`` of a file."""

    file: int
    start: int
    end: int


Files = One[tuple[FileState, ...]]
"""The entries of a frontier."""


class Piece(NamedTuple):
    """Bytes that were admitted, under the file id that admission gave them."""

    file_id: str
    start: int
    end: int


class Pack(NamedTuple):
    """An object in the archive: who put it, as whose which batch, and what it holds."""

    archiver: int
    batch: int
    pieces: tuple[Piece, ...]


class Reached(NamedTuple):
    """A partition's frontier: content, so that equal frontiers are one object."""

    where: int
    incarnation: str
    next: int
    record: tuple[str, Sent] | None
    files: Files


class Move(NamedTuple):
    """One partition's txn."""

    reached: One[Reached]
    follows: One[Reached] | None


class Act(NamedTuple):
    """One commit of the journal."""

    name: str
    moves: tuple[Move, ...] = ()
    packs: tuple[One[Pack], ...] = ()
    condemned: tuple[One[Pack], ...] = ()


class Lane(NamedTuple):
    """One partition as an archiver sees it."""

    incarnation: str
    next: int
    record: tuple[str, Sent] | None
    files: Files
    follows: One[Reached] | None


class Sealed(NamedTuple):
    """A batch on its way to a commit."""

    act: One[Act]
    put: bool = False
    number: int = -1
    """The number that it tries; -1 before the first try."""


class Archiver(NamedTuple):
    """``lanes`` is None while it is down."""

    batches: int = 0
    lanes: tuple[Lane, ...] | None = None
    known: int = 0
    """How many commits it has folded in."""
    pieces: tuple[Piece, ...] = ()
    moved: frozenset[int] = frozenset()
    sealed: Sealed | None = None


class Bus(NamedTuple):
    """The logs of one incarnation, and how much of each is forgotten."""

    name: str
    logs: tuple[tuple[Sent, ...], ...]
    starts: tuple[int, ...]


Journal = One[tuple[One[Act], ...]]


class World(NamedTuple):
    """Everything."""

    bus: One[Bus]
    archivers: tuple[Archiver, ...]
    journal: Journal
    objects: frozenset[One[Pack]] = frozenset()
    crashes: int = 0
    lost_replies: int = 0
    renewals: int = 0
    condemnations: int = 0
    holds: int = 0

"""One partition as the indexer reads it: where it stands, what it took, and what it waits for.

A lane decides what of an arriving chunk is new by the archiver's own rule. Where the archiver's decision cannot be
foreseen (a fork, a damaged record), the lane waits for its packs, and the position that may be published waits with
it, so that a published position always means: everything below can be searched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from ashiato.core.chunk import Chunk
from ashiato.core.frontier import FileState, Frontier, Page
from ashiato.core.ports import Partition
from ingest.admission import Admission, HeldBytes
from ingest.contracts import LineState, Piece
from ingest.packed_rows import is_from_packs_only


@dataclass(frozen=True, slots=True)
class Place:
    """Bytes ``[start, end)`` of a file were read at this position of the bus."""

    start: int
    end: int
    position: int


@dataclass(slots=True, kw_only=True)
class Lane:
    """The state of one partition. Made anew whenever a partition is read again from a commit."""

    where: Partition
    incarnation: str
    next: int
    """The first position that was not taken yet."""
    admission: Admission
    published: int = 0
    """The published position that still holds while the lane catches up with it."""
    pages: tuple[Page, ...] = ()
    states: dict[str, LineState] = field(default_factory=dict)
    places: dict[str, list[Place]] = field(default_factory=dict)
    """Where on the bus the bytes lie that no pack is known to hold, by file."""
    waits: list[int] = field(default_factory=list)
    """Positions, ascending, of which some rows are to come from packs."""
    doubted: dict[str, int] = field(default_factory=dict)
    """Files whose bytes came twice and could not be found equal, with the position: the archiver decides, of these
    bytes and of all that follow."""

    @property
    def reached(self) -> int:
        """The position below which everything was written."""
        return max(self.published, min([self.next, *self.waits[:1]]))

    def take(self, position: int, chunks: Iterable[Chunk], held: HeldBytes) -> list[Piece]:
        """Take the chunks of one record in; return what of them is to be made rows of now."""
        pieces: list[Piece] = []
        for chunk in chunks:
            if chunk.file.file_id in self.doubted:
                # What is new of it depends on a decision that is not known yet.
                self.wait_for_packs(position)
                continue
            admitted = self.admission.admit(chunk, held)
            if admitted.forked is not None:
                self.doubted.setdefault(admitted.forked.file_id, position)
            for piece in admitted.pieces:
                if is_from_packs_only(piece.chunk.file.file_id, piece.chunk.file.source):
                    self.wait_for_packs(position)
                else:
                    self._remember(piece.chunk, position)
                    pieces.append(piece)
        return pieces

    def wait_for_packs(self, position: int) -> None:
        """Hold the published position until the packs of ``position`` were followed."""
        if not self.waits or self.waits[-1] != position:
            self.waits.append(position)

    def place_of(self, file_id: str, offset: int) -> Place | None:
        """Return where on the bus the byte at ``offset`` was read, None where that is not remembered."""
        return next((p for p in self.places.get(file_id, ()) if p.start <= offset < p.end), None)

    def followed(self, next_position: int) -> bool:
        """Take note that every pack of positions below ``next_position`` was looked through.

        Returns whether that settles a doubt: then only a new lane, begun at that commit, knows what is true.
        """
        self.waits = [position for position in self.waits if position >= next_position]
        return self.next >= next_position and any(position < next_position for position in self.doubted.values())

    def learn(self, known: Frontier, files_of: Callable[[Page], Mapping[str, FileState]]) -> bool:
        """Take over from a commit that the lane has read past which packs hold what, and forget their places.

        Returns False where the archiver forked a file that this lane went on with: the lane is to be made anew.
        """
        assert self.next >= known.next
        for file in known.files:
            live = self.admission.files.get(file.file_id)
            if live is None:
                continue
            if file.forks > live.forks:
                return False
            self.admission.files[file.file_id] = msgspec.structs.replace(live, ranges=file.ranges)
        for page in known.pages:
            if page not in self.pages:
                self._let_go(files_of(page).values())
        self.pages = known.pages
        self.places = {
            file_id: kept
            for file_id, places in self.places.items()
            if (kept := [place for place in places if place.position >= known.next])
        }
        return True

    def _let_go(self, paged: Iterable[FileState]) -> None:
        """Forget files that stand in a page as they stand here: they are found there again."""
        for file in paged:
            live = self.admission.files.get(file.file_id)
            if live is not None and _standing(live) == _standing(file):
                del self.admission.files[file.file_id]
                if file.closed:
                    self.states.pop(file.file_id, None)

    def _remember(self, chunk: Chunk, position: int) -> None:
        if not chunk.payload:
            return
        places = self.places.setdefault(chunk.file.file_id, [])
        last = places[-1] if places else None
        if last is not None and last.position == position and last.end == chunk.offset_start:
            places[-1] = Place(last.start, chunk.offset_end, position)
        else:
            places.append(Place(chunk.offset_start, chunk.offset_end, position))


def _standing(file: FileState) -> tuple[object, ...]:
    return file.offset, file.closed, file.forks, tuple((held.start, held.end) for held in file.early)

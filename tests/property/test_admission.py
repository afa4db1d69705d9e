"""Whatever arrives, however often and in whatever order: every byte is taken once or is equal to one that was (J4)."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from ashiato.core.chunk import Chunk, ChunkFlags
from ashiato.core.record import RowFlags
from ingest.admission import Admission
from tests.unit.ingest.files import chunk, file_id, new_admission

SIZE = 40
TRUTH = bytes(range(SIZE))


@dataclass(slots=True)
class Store:
    """Every admitted byte, by file id."""

    held: dict[str, dict[int, int]] = field(default_factory=dict)
    early: set[int] = field(default_factory=set)

    def take(self, admission: Admission, arriving: Chunk) -> None:
        admitted = admission.admit(arriving, self.bytes_of)
        taken = sum(len(piece.chunk.payload) for piece in admitted.pieces)
        assert taken + admitted.bytes_trimmed == len(arriving.payload)
        for piece in admitted.pieces:
            known = self.held.setdefault(piece.chunk.file.file_id, {})
            for at, byte in enumerate(piece.chunk.payload, piece.chunk.offset_start):
                assert at not in known, "a byte is held twice"
                known[at] = byte
                if piece.row_flags & RowFlags.EARLY:
                    self.early.add(at)

    def bytes_of(self, name: str, start: int, end: int) -> bytes | None:
        known = self.held.get(name, {})
        return bytes(known[at] for at in range(start, end)) if all(at in known for at in range(start, end)) else None


_RANGES = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(sorted)


@given(ranges=st.lists(_RANGES, max_size=25))
@settings(deadline=None, max_examples=400)
def test_resends_in_any_order_and_with_any_borders_leave_each_byte_once(ranges: list[list[int]]) -> None:
    store, admission = Store(), new_admission()
    for start, end in ranges:
        store.take(admission, chunk(TRUTH[start:end], start))
    sent = {at for start, end in ranges for at in range(start, end)}
    assert store.held.get(file_id(), {}) == {at: TRUTH[at] for at in sent}
    # then what is held without a hole, and beyond it, is what was sent
    state = admission.files.get(file_id())
    if state is not None:
        beyond = {at for held in state.early for at in range(held.start, held.end)}
        assert set(range(state.offset)) | beyond == sent
        assert state.offset not in sent


@given(ranges=st.lists(st.tuples(_RANGES, st.booleans()), max_size=25))
@settings(deadline=None, max_examples=400)
def test_bytes_that_contradict_are_kept_under_forks(ranges: list[tuple[list[int], bool]]) -> None:
    store, admission = Store(), new_admission()
    lies = bytes(255 - byte for byte in TRUTH)
    wanted: set[tuple[int, int]] = set()
    for (start, end), true in ranges:
        payload = (TRUTH if true else lies)[start:end]
        store.take(admission, chunk(payload, start))
        wanted |= set(zip(range(start, end), payload, strict=True))
    held = {(at, byte) for known in store.held.values() for at, byte in known.items()}
    assert held == wanted
    assert all(name == file_id() or name.startswith(f"{file_id()}~") for name in store.held)


@given(ranges=st.lists(_RANGES, max_size=12))
@settings(deadline=None, max_examples=200)
def test_a_file_is_closed_when_its_end_was_seen_and_nothing_lies_behind_it(ranges: list[list[int]]) -> None:
    store, admission = Store(), new_admission()
    for start, end in ranges:
        store.take(admission, chunk(TRUTH[start:end], start))
    store.take(admission, chunk(b"", SIZE, flags=ChunkFlags.FILE_CLOSED))
    assert admission.files[file_id()].closed
    # when it grows after all
    store.take(admission, chunk(b"more", SIZE))
    assert not admission.files[file_id()].closed
    assert store.bytes_of(file_id(), SIZE, SIZE + 4) == b"more"

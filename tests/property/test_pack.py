"""A pack gives back its chunks byte for byte (P1), and its manifest says which (J8)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ashiato.core import manifest
from ashiato.core.chunk import Chunk
from ashiato.core.invariants import InvariantError
from ingest import pack as pack_room
from tests.property.content import contents, cuts_of
from tests.unit.ingest.files import admitted, chunk, chunks, cri, file_id
from tests.unit.ingest.packs import build_pack, bytes_by_file, rows_of


@given(data=st.data(), files=st.lists(contents(), min_size=1, max_size=4), group_bytes=st.integers(1, 300))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_pack_gives_back_every_chunk(
    data: st.DataObject, files: list[bytes], group_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_room, "ROW_GROUP_BYTES", group_bytes)
    arriving: list[Chunk] = []
    for number, content in enumerate(files):
        cuts = data.draw(cuts_of(content, anywhere=True))
        arriving += chunks(content, cuts, number=number, closed=data.draw(st.booleans()))
    pack, _ = build_pack(tmp_path, admitted(arriving))
    expected = {file_id(number): content for number, content in enumerate(files) if content}
    if pack is None:
        assert expected == {}
        return
    assert bytes_by_file(pack) == expected
    told = pack.manifest
    assert told.sha256 == hashlib.sha256(pack.file.read_bytes()).hexdigest()
    assert told.raw_bytes == sum(map(len, expected.values()))
    assert told.rows == rows_of(pack).num_rows == sum(file.rows for file in told.files)
    assert {file.file_id: [(r.start, r.end) for r in file.ranges] for file in told.files} == {
        name: [(0, len(content))] for name, content in expected.items()
    }
    assert manifest.decode(manifest.encode(told)) == told


@pytest.mark.parametrize(
    "spoil",
    [
        lambda payload: payload.replace(b"y", b"z"),
        lambda payload: payload[:-2] + b"\n",
        lambda payload: payload + payload,
    ],
)
def test_a_pack_whose_rows_do_not_give_the_bytes_is_refused(spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    builder = pack_room.PackBuilder(tmp_path, "container", bytes(32), {})
    (piece,) = admitted([chunk(cri("xyz"))])
    builder.add([piece])
    builder._write()
    # given that something else was written than what came
    (other,) = admitted([chunk(spoil(cri("xyz")))])
    builder._written[0] = pack_room._ranges_of_pieces([other])
    with pytest.raises(InvariantError, match="I1"):
        builder.finish()


def test_two_packs_of_the_same_bytes_have_names_of_their_own(tmp_path: Path) -> None:
    pieces = admitted([chunk(cri("xyz"))])
    names = set()
    for number in range(2):
        builder = pack_room.PackBuilder(tmp_path, "container", bytes([number]) * 32, {})
        builder.add(pieces)
        pack = builder.finish()
        assert pack is not None
        names.add(pack.manifest.path)
        metadata = pq.read_metadata(pack.file).metadata
        assert metadata is not None
        assert metadata[pack_room.RANDOM_KEY.encode()] == bytes([number]).hex().encode() * 32
        assert metadata[b"ashiato.row_version"] == b"1"
    assert len(names) == 2

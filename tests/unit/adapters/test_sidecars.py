"""Token filters beside packs: what they spare, and that they never cost a match."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ashiato.adapters import sidecars
from ashiato.adapters.archive_directory import DirectoryReader, DirectoryWriter
from ashiato.adapters.entity_index import EntityIndex
from ashiato.adapters.index_packs import PackIndex
from ashiato.adapters.journal import Journal
from ashiato.adapters.pack_reader import PackReader
from ashiato.adapters.sidecars import SidecarReader, UnusableError
from ashiato.core import sidecar
from ashiato.core.entities import KINDS, Seen
from ashiato.core.journal import AddedPack
from ashiato.core.ports import ObjectRef
from ashiato.core.predicate import select
from ashiato.core.query import And, Query, Term
from ashiato.core.search import Leg
from ashiato.core.sidecar_names import KINDS as KINDS_OF_SIDECARS
from ashiato.core.sidecar_names import SidecarKind, path_of
from ashiato.core.table import order_times, uids
from ingest.filters import fuse
from ingest.sidecars import rebuild, sidecars_of
from tests.unit.adapters.pack_corpus import Corpus, CountingArchive, all_rows

NEEDLE = Query(where=And(nodes=(Term(field="", value="cart"), Term(field="", value="timeout"))), limit=10_000)
ABSENT = Query(where=Term(field="", value="10.99.98.97"), limit=10_000)


@pytest.fixture
def copy(built: Corpus, tmp_path: Path) -> Corpus:
    """Return the same archive, for damaging."""
    shutil.copytree(built.root, tmp_path / "archive")
    none = tmp_path / "none"
    none.mkdir()
    return Corpus(root=tmp_path / "archive", tail=none, rows=all_rows(built.archive, none))


def packs_of(corpus: Corpus) -> list[AddedPack]:
    return list(Journal(corpus.archive).refresh().packs.values())


def file_of(corpus: Corpus, pack: AddedPack, kind: SidecarKind = "filters") -> Path:
    return corpus.root / "work" / path_of(kind, pack.sha256)


async def search(corpus: Corpus, query: Query) -> tuple[Leg, CountingArchive]:
    archive = CountingArchive(corpus.root)
    index = PackIndex(archive)
    leg = await index.search(query)
    await index.close()
    return leg, archive


async def test_a_word_that_no_pack_holds_opens_no_pack(copy: Corpus) -> None:
    leg, archive = await search(copy, ABSENT)
    assert not leg.rows.num_rows
    assert not leg.unfiltered
    assert archive.opened == []


async def test_only_packs_that_hold_the_words_are_opened(copy: Corpus) -> None:
    # given which packs a match lies in
    expected = select(NEEDLE, copy.rows)
    assert expected.num_rows
    # when it is searched
    leg, archive = await search(copy, NEEDLE)
    # then fewer were opened than there are, and nothing is missing
    assert uids(leg.rows) == uids(expected)
    assert 0 < len(set(archive.opened)) < len(packs_of(copy))
    assert not leg.findings


async def test_without_filters_every_pack_is_read_and_counted(copy: Corpus) -> None:
    shutil.rmtree(copy.root / "work" / "filters")
    leg, archive = await search(copy, NEEDLE)
    assert uids(leg.rows) == uids(select(NEEDLE, copy.rows))
    assert leg.unfiltered == len(packs_of(copy)) == len(set(archive.opened))
    assert not leg.findings


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_a_damaged_filter_costs_no_match_and_is_a_finding(copy: Corpus, data: st.DataObject) -> None:
    # given one bit of one pack's filters that is not what it was, or an end that is gone
    pack = data.draw(st.sampled_from(packs_of(copy)))
    file = file_of(copy, pack)
    whole = file.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1) | st.integers(0, 400))
    damaged = bytearray(whole)
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(whole[:at] if data.draw(st.booleans()) else damaged)
    try:
        # when something is asked that is nowhere, so that every filter is asked
        leg, _ = await search(copy, ABSENT)
        found, _ = await search(copy, NEEDLE)
    finally:
        file.write_bytes(whole)
    # then the pack is read, counted and named
    assert leg.unfiltered == 1
    assert any(pack.path in finding for finding in leg.findings)
    assert uids(found.rows) == uids(select(NEEDLE, copy.rows))


async def test_filters_of_other_rows_would_be_seen_as_missing_rows(copy: Corpus) -> None:
    # given filters that are whole in themselves and lack every word: what a wrong tokeniser would write
    for pack in packs_of(copy):
        count = _groups(copy, pack)
        empty = fuse(np.zeros(0, np.uint64))
        file_of(copy, pack).write_bytes(sidecar.encode_filters(pack.sha256, [empty] * count))
    # then a search that is held against the predicate over all rows, as the property tests do, cannot pass
    leg, _ = await search(copy, NEEDLE)
    assert leg.rows.num_rows == 0 < select(NEEDLE, copy.rows).num_rows


async def test_filters_of_another_pack_are_not_used(copy: Corpus) -> None:
    first, second = packs_of(copy)[:2]
    shutil.copy(file_of(copy, first), file_of(copy, second))
    with pytest.raises(UnusableError, match="damaged"):
        SidecarReader(copy.archive).filters_of(second.sha256, second.size, [0])


async def test_filters_of_another_tokeniser_are_not_used(copy: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ashiato.core.sidecar.TOKENISER_VERSION", 99)
    leg, _ = await search(copy, NEEDLE)
    assert leg.unfiltered == len(packs_of(copy))
    assert uids(leg.rows) == uids(select(NEEDLE, copy.rows))


async def test_a_large_pack_s_filters_are_read_by_range(copy: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a pack of several row groups that counts as large, and filters that are far apart
    pack = max(packs_of(copy), key=lambda pack: _groups(copy, pack))
    whole = SidecarReader(copy.archive).filters_of(pack.sha256, pack.size, range(_groups(copy, pack)))
    monkeypatch.setattr(sidecars, "WHOLE_PACK_BYTES_MAX", 0)
    monkeypatch.setattr(sidecars, "GAP_BYTES_MAX", 0)
    monkeypatch.setattr(sidecars, "HEAD_BYTES", 64)
    archive = _Ranges(copy.root)
    # when two of them are read
    wanted = [0, max(whole)]
    found = SidecarReader(archive).filters_of(pack.sha256, pack.size, wanted)
    # then they are the same, and less than the object was read
    assert found == {number: whole[number] for number in wanted}
    assert sum(archive.lengths) < file_of(copy, pack).stat().st_size


async def test_filters_that_were_read_are_kept_within_bounds(copy: Corpus) -> None:
    archive = _Ranges(copy.root)
    pack = packs_of(copy)[0]
    reader = SidecarReader(archive)
    once = reader.filters_of(pack.sha256, pack.size, [0])
    asked = len(archive.lengths)
    assert reader.filters_of(pack.sha256, pack.size, [0]) == once
    assert len(archive.lengths) == asked
    # and with no room nothing is kept
    none = SidecarReader(archive, bytes_max=0)
    none.filters_of(pack.sha256, pack.size, [0])
    none.filters_of(pack.sha256, pack.size, [0])
    assert len(archive.lengths) == asked + 2


def test_sidecars_come_out_of_packs_in_the_same_bytes(copy: Corpus) -> None:
    before = {path: path.read_bytes() for path in _files(copy)}
    assert len(before) == 2 * len(packs_of(copy))
    for kind in ("filters", "entities"):
        shutil.rmtree(copy.root / "work" / kind)
    told = rebuild(DirectoryWriter(copy.root))
    assert (told.packs, told.made, told.unreadable) == (len(packs_of(copy)), len(before), [])
    assert {path: path.read_bytes() for path in _files(copy)} == before
    # and again there is nothing to do
    assert rebuild(DirectoryWriter(copy.root)).made == 0
    assert rebuild(DirectoryWriter(copy.root), again=True).made == 0


async def test_what_is_made_again_beside_a_damaged_one_is_used(copy: Corpus) -> None:
    pack = packs_of(copy)[0]
    for kind in KINDS_OF_SIDECARS:
        file_of(copy, pack, kind).write_bytes(b"not a sidecar")
    assert rebuild(DirectoryWriter(copy.root)).made == 2
    leg, _ = await search(copy, ABSENT)
    assert (leg.unfiltered, leg.findings) == (0, ())
    assert rebuild(DirectoryWriter(copy.root)).sound == len(packs_of(copy))
    assert file_of(copy, pack).read_bytes() == b"not a sidecar"


async def test_what_is_wrong_and_whole_is_replaced_when_all_are_made_again(copy: Corpus) -> None:
    pack = packs_of(copy)[0]
    empty = [fuse(np.zeros(0, np.uint64))] * _groups(copy, pack)
    file_of(copy, pack).write_bytes(sidecar.encode_filters(pack.sha256, empty))
    assert rebuild(DirectoryWriter(copy.root)).made == 0
    assert rebuild(DirectoryWriter(copy.root), again=True).made == 1
    leg, _ = await search(copy, NEEDLE)
    assert uids(leg.rows) == uids(select(NEEDLE, copy.rows))


def test_a_pack_that_is_gone_has_no_sidecars_made(copy: Corpus) -> None:
    pack = packs_of(copy)[0]
    (copy.root / "evidence" / pack.path).unlink()
    file_of(copy, pack).unlink()
    assert rebuild(DirectoryWriter(copy.root)).unreadable == [pack.path]


@pytest.mark.parametrize("kind", KINDS)
def test_an_entity_is_seen_alike_by_index_and_by_rows(copy: Corpus, kind: str) -> None:
    # given all that the indexes list of one kind
    listed: dict[str, Seen] = {}
    for pack in packs_of(copy):
        for value, seen in (SidecarReader(copy.archive).entities_of(pack.sha256, kind).seen or {}).items():
            listed[value] = seen.and_(listed.get(value, seen))
    by_index = _named(copy, kind, list(listed)[:25])
    assert {value: seen for value, (seen, read) in by_index.items() if not read} == {
        value: listed[value] for value in list(listed)[:25]
    }
    # when there are no indexes
    shutil.rmtree(copy.root / "work")
    # then the rows say the same
    by_rows = _named(copy, kind, list(listed)[:25])
    assert {v: seen for v, (seen, _) in by_rows.items()} == {v: seen for v, (seen, _) in by_index.items()}
    assert all(read == len(packs_of(copy)) for _, read in by_rows.values())


def test_the_incident_names_what_it_is_known_to_name(copy: Corpus) -> None:
    by_column = {"pod_uid": "k8s_pod_uid", "node": "k8s_node_name"}
    for kind, column in by_column.items():
        values = {value for value in copy.rows[column].unique().to_pylist() if value}
        assert values
        for value in values:
            own = copy.rows.filter(pa.array([name == value for name in copy.rows[column].to_pylist()]))
            times = [int(str(time)) for time in order_times(own).to_pylist()]
            assert _named(copy, kind, [value])[value][0] == Seen(min(times), max(times))


def _named(corpus: Corpus, kind: str, values: list[str]) -> dict[str, tuple[Seen | None, int]]:
    index = EntityIndex(PackReader(corpus.archive), SidecarReader(corpus.archive))
    found = {}
    for value in values:
        named = index.named(packs_of(corpus), kind, value)
        assert named.unreadable == ()
        found[value] = (named.seen, named.read)
    return found


def _groups(corpus: Corpus, pack: AddedPack) -> int:
    return len(PackReader(corpus.archive).manifest_of(pack).row_groups)


def _files(corpus: Corpus) -> Iterator[Path]:
    for kind in ("filters", "entities"):
        yield from sorted(path for path in (corpus.root / "work" / kind).rglob("*") if path.is_file())


class _Ranges(DirectoryReader):
    """Notes how much is read by range."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.lengths: list[int] = []

    def get_range(self, ref: ObjectRef, start: int, end: int) -> bytes:
        content = super().get_range(ref, start, end)
        self.lengths.append(len(content))
        return content


def test_the_sidecars_of_a_pack_do_not_depend_on_who_makes_them(copy: Corpus) -> None:
    pack = packs_of(copy)[0]
    made = {one.kind: one.content for one in sidecars_of(copy.archive, pack)}
    assert made == {kind: file_of(copy, pack, kind).read_bytes() for kind in made}

"""Packs and tail as an index: what is read, and what is said of what could not be."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Final, Literal

import pyarrow as pa
import pytest

from ashiato.adapters.archive_directory import DirectoryGovernor, DirectoryReader
from ashiato.adapters.bus_memory import MemoryBroker
from ashiato.adapters.clock import FixedClock
from ashiato.adapters.index_packs import PackIndex
from ashiato.adapters.journal import JournalWriter, new_act_id
from ashiato.adapters.tail_folder import TailReader
from ashiato.core.errors import RejectedError, TransientError
from ashiato.core.journal import AddedPack, Commit, JournalState, RemovedPack
from ashiato.core.ports import ObjectRef, Partition
from ashiato.core.predicate import select
from ashiato.core.query import All, Query, Regex, Term
from ashiato.core.table import SCHEMA, uids
from ingest.tail import TailFolder
from tests.simulation.house import make_topics, send
from tests.unit.adapters.pack_corpus import (
    NOON,
    SECOND,
    Corpus,
    CountingArchive,
    CountingFile,
    archiver,
    chunk,
    container,
)

WEB: Final = Term(field="pod", value="web-1")
DAYS: Final = ("2026-11-24", "2026-11-25")
EVERYTHING: Final = 100_000


@pytest.fixture
def corpus(built: Corpus, tmp_path: Path) -> Corpus:
    """A copy that a test may damage."""
    shutil.copytree(built.root, tmp_path / "archive")
    shutil.copytree(built.tail, tmp_path / "tail")
    return Corpus(root=tmp_path / "archive", tail=tmp_path / "tail", rows=built.rows)


def packs_of(index: PackIndex, source_kind: str) -> list[AddedPack]:
    return [pack for pack in index.refresh().packs.values() if pack.retention_class == source_kind]


async def test_rows_in_the_tail_and_in_a_pack_are_told_once(corpus: Corpus) -> None:
    index = PackIndex(corpus.archive, tail=corpus.tail)
    snapshot = await index.snapshot()
    # given segments that were committed already, and some that were not
    assert any(segment.end <= snapshot.state.positions[segment.where].next for segment in snapshot.segments)
    assert any(segment.end > snapshot.state.positions[segment.where].next for segment in snapshot.segments)
    # when everything is searched
    leg = await index.search(Query(limit=EVERYTHING))
    # then no row is missing, and none is there twice
    assert sorted(uids(leg.rows)) == sorted(uids(corpus.rows))
    assert len(set(uids(leg.rows))) == leg.rows.num_rows
    assert not leg.cut


async def test_a_damaged_segment_is_said(corpus: Corpus) -> None:
    index = PackIndex(corpus.archive, tail=corpus.tail)
    newest = (await index.snapshot()).segments[-1]
    (corpus.tail / newest.name).write_bytes(b"")
    leg = await index.search(Query(limit=1))
    assert newest.name in leg.findings[0]


async def test_an_archive_without_a_commit_holds_nothing(tmp_path: Path) -> None:
    leg = await PackIndex(DirectoryReader(tmp_path / "none"), tail=tmp_path / "neither").search(Query())
    assert leg.rows.num_rows == 0


class RemovingArchive(DirectoryReader):
    """Removes a pack, as retention does, between a search's snapshot and its reading."""

    def __init__(self, root: Path, *, committed: bool) -> None:
        super().__init__(root)
        self.gone: list[str] = []
        self._committed = committed

    def open(self, ref: ObjectRef) -> BufferedReader:
        if not self.gone and "retention_class=container" in ref.path:
            self.gone.append(ref.path)
            governor = DirectoryGovernor(self.root)
            if self._committed:
                removal = RemovedPack(path=ref.path, version_id=ref.version_id, retention_class="container", day="")
                JournalWriter(governor).append_checked(lambda state: expiry(state, removal))
            governor.delete(ref)
        return super().open(ref)


def expiry(state: JournalState, removal: RemovedPack) -> Commit:
    return Commit(
        n=state.next_n, act_id=new_act_id(), kind="expire", actor="retention", time_unix_nano=NOON, removes=(removal,)
    )


@pytest.mark.parametrize("committed", [True, False])
async def test_a_pack_that_is_gone_was_removed_or_is_missing(corpus: Corpus, *, committed: bool) -> None:
    query = Query(where=WEB, limit=EVERYTHING)
    before = await PackIndex(corpus.archive).search(query)
    archive = RemovingArchive(corpus.root, committed=committed)
    leg = await PackIndex(archive).search(query)
    # then the rows of the others are answered, and the one is named for what it is
    assert 0 < leg.rows.num_rows < before.rows.num_rows
    assert (leg.expired, leg.unreadable) == ((tuple(archive.gone), ()) if committed else ((), tuple(archive.gone)))
    assert ["missing" in finding for finding in leg.findings] == ([] if committed else [True])


async def test_a_damaged_pack_is_a_finding_and_hides_no_other(corpus: Corpus) -> None:
    index = PackIndex(corpus.archive)
    first, second, *_ = packs_of(index, "container")
    # given one pack with a flipped bit in its first page, and one that is shorter than its commit says
    path = corpus.root / "evidence" / first.path
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    path = corpus.root / "evidence" / second.path
    path.write_bytes(path.read_bytes()[:-1])
    # when they are searched
    leg = await index.search(Query(limit=EVERYTHING))
    # then both are named, and all others are in the answer
    assert set(leg.unreadable) == {first.path, second.path}
    assert len(leg.findings) == 2
    assert leg.rows.num_rows > 0


async def test_a_pack_without_its_manifest_is_searched_whole(corpus: Corpus) -> None:
    index = PackIndex(corpus.archive, tail=corpus.tail)
    first, second, *_ = packs_of(index, "container")
    (corpus.root / "evidence" / first.manifest_path).unlink()
    (corpus.root / "evidence" / second.manifest_path).write_bytes(b"{}")
    leg = await index.search(Query(where=WEB, limit=EVERYTHING))
    assert leg.rows.equals(select(Query(where=WEB, limit=EVERYTHING), corpus.rows))
    assert len(leg.findings) == 2
    assert not leg.unreadable


async def test_a_segment_that_vanishes_starts_the_snapshot_again(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a segment that is removed after it was listed
    listed = sorted(corpus.tail.iterdir())
    scandir, listings = os.scandir, 0

    @contextmanager
    def losing() -> Iterator[list[os.DirEntry[str]]]:
        nonlocal listings
        listings += 1
        with scandir(corpus.tail) as entries:
            names = list(entries)
        if listings == 1:
            listed[0].unlink()
        yield names

    def listing(folder: Path) -> AbstractContextManager[Iterable[os.DirEntry[str]]]:
        return losing() if folder == corpus.tail else scandir(folder)

    monkeypatch.setattr("os.scandir", listing)
    snapshot = await PackIndex(corpus.archive, tail=corpus.tail).snapshot()
    # then the second listing counts
    assert listings == 2
    assert len(snapshot.segments) == len(listed) - 1


async def test_a_tail_that_never_stands_still_is_given_up(corpus: Corpus) -> None:
    (corpus.tail / "ashiato.bulk-0-0-1.arrow").symlink_to(corpus.tail / "nothing")
    with pytest.raises(TransientError):
        await PackIndex(corpus.archive, tail=corpus.tail).snapshot()


async def test_a_snapshot_stays_readable_when_its_segments_are_removed(corpus: Corpus) -> None:
    index = PackIndex(corpus.archive, tail=corpus.tail)
    snapshot = await index.snapshot()
    shutil.rmtree(corpus.tail)
    leg = await index.search_in(snapshot, Query(limit=EVERYTHING))
    assert sorted(uids(leg.rows)) == sorted(uids(corpus.rows))


async def test_a_query_that_cannot_be_evaluated_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RejectedError):
        await PackIndex(DirectoryReader(tmp_path)).search(Query(where=Regex(field="", pattern="(")))


class FailingArchive(CountingArchive):
    """A store that stops answering in the middle of a read."""

    def open(self, ref: ObjectRef) -> BufferedReader:
        file = super().open(ref)
        assert isinstance(file, CountingFile)
        file.reads_left = 1
        return file


async def test_a_store_that_stops_answering_is_transient_and_no_damage(corpus: Corpus) -> None:
    with pytest.raises(TransientError, match="connection lost"):
        await PackIndex(FailingArchive(corpus.root)).search(Query())


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One commit of 200,000 rows of ten pods, in row groups of the ordinary size."""
    folder = tmp_path_factory.mktemp("large")
    asyncio.run(_build_large(folder / "archive"))
    return folder / "archive"


def line_of(*numbers: int) -> str:
    """Return a line that does not compress well."""
    return hashlib.sha256(repr(numbers).encode()).hexdigest()


async def _build_large(root: Path) -> None:
    broker, clock = MemoryBroker(bus_id="bus"), FixedClock(unix_nano=NOON)
    await make_topics(broker)
    for pod in range(10):
        source, offset = container(f"pod-{pod}"), 0
        for part in range(10):
            lines = [
                f"{DAYS[pod % 2]}T{pod:02}:{part:02}:{at // 100:02}.{at % 100:09}Z stdout F {line_of(pod, part, at)}\n"
                for at in range(2000)
            ]
            payload = "".join(lines).encode()
            await send(broker, [chunk(source, f"01J0000000000000000000L{pod:03d}", offset, payload, NOON)])
            offset += len(payload)
    await archiver(root, broker, clock).drain()


async def test_a_search_reads_only_the_row_groups_that_can_match(large: Path) -> None:
    archive = CountingArchive(large)
    index = PackIndex(archive)
    (pack,) = packs_of(index, "container")
    manifest = json.loads((large / "evidence" / pack.manifest_path).read_bytes())
    assert pack.rows == 200_000
    assert len(manifest["row_groups"]) == 5
    # when one pod is searched
    leg = await index.search(Query(where=Term(field="pod", value="pod-3"), limit=EVERYTHING))
    # then all its rows are found, in a small part of the pack
    assert leg.rows.num_rows == 20_000
    assert sum(archive.reads) < pack.size // 2


async def test_the_newest_rows_are_found_without_the_older_row_groups(large: Path) -> None:
    archive = CountingArchive(large)
    index = PackIndex(archive)
    (pack,) = packs_of(index, "container")
    leg = await index.search(Query(where=All(), limit=10))
    assert leg.cut
    newest = sum(archive.reads)
    assert newest < pack.size // 2
    # and what is before the first row or behind the last is not opened at all
    archive.opened.clear()
    for query in (Query(time_end_unix_nano=pack.time_min_unix_nano), Query(time_start_unix_nano=NOON + SECOND)):
        assert (await index.search(query)).rows.num_rows == 0
    assert not archive.opened


@pytest.mark.parametrize(("order", "expected"), [("newest_first", "node-2"), ("oldest_first", "node-1")])
async def test_rows_of_one_moment_in_two_packs_keep_their_order(
    tmp_path: Path, order: Literal["newest_first", "oldest_first"], expected: str
) -> None:
    # given two packs with rows of the same moment, of which the first holds more than the limit
    broker, clock = MemoryBroker(bus_id="bus"), FixedClock(unix_nano=NOON)
    await make_topics(broker)
    works = archiver(tmp_path / "archive", broker, clock)
    for number in (1, 2) if order == "newest_first" else (2, 1):
        source = container("web-1", node=f"node-{number}")
        payload = b"2026-11-24T03:14:15Z stdout F same\n" * 3
        await send(broker, [chunk(source, f"01J0000000000000000000N00{number}", 0, payload, NOON)])
        await works.drain()
    # when one row is asked for
    leg = await PackIndex(DirectoryReader(tmp_path / "archive")).search(Query(limit=1, order=order))
    # then it is the one that stands first in the total order
    assert leg.rows["k8s_node_name"].to_pylist() == [expected]
    assert leg.cut


async def test_columns_are_read_only_where_something_matches(large: Path) -> None:
    archive = CountingArchive(large)
    index = PackIndex(archive)
    (pack,) = packs_of(index, "container")
    leg = await index.search(Query(where=Term(field="user", value="nobody")))
    assert leg.rows.num_rows == 0
    assert sum(archive.reads) < pack.size // 4


def test_the_tail_is_written_and_read_under_the_same_names(built: Corpus, tmp_path: Path) -> None:
    where = Partition("ashiato.bulk", 3)
    TailFolder(tmp_path).publish(where, 5, 9, built.rows.slice(0, 4))
    (tmp_path / "ashiato.bulk-3-9-12.unfinished").write_bytes(b"")
    (segment,) = TailReader(tmp_path).read()
    assert (segment.where, segment.start, segment.end) == (where, 5, 9)
    assert segment.rows.equals(built.rows.slice(0, 4))


def test_a_segment_is_read_once_while_it_stands_and_again_when_it_is_another(built: Corpus, tmp_path: Path) -> None:
    folder, reader, where = TailFolder(tmp_path), TailReader(tmp_path), Partition("ashiato.bulk", 3)
    folder.publish(where, 5, 9, built.rows.slice(0, 4))
    (first,) = reader.read()
    assert reader.read()[0] is first
    # when the same positions are published again, with other rows
    folder.publish(where, 5, 9, built.rows.slice(0, 2))
    assert reader.read()[0].rows.num_rows == 2
    # and when they are committed
    folder.forget(where, 9)
    assert reader.read() == ()


async def test_rows_of_another_version_are_not_read_as_if_they_were_of_this(corpus: Corpus) -> None:
    # given: a tail segment as a later release writes it
    later = SCHEMA.with_metadata({b"ashiato.row_version": b"2"})
    name = "ashiato.bulk-0-900000-900001.arrow"
    with pa.OSFile(str(corpus.tail / name), "wb") as sink, pa.ipc.new_file(sink, later) as writer:
        writer.write_table(corpus.rows.slice(0, 1).replace_schema_metadata(later.metadata))
    leg = await PackIndex(corpus.archive, tail=corpus.tail).search(Query(limit=1))
    assert any(name in finding for finding in leg.findings)
    # and a pack
    index = PackIndex(corpus.archive)
    pack = packs_of(index, "container")[0]
    path = corpus.root / "evidence" / pack.path
    written = path.read_bytes()
    key = written.rindex(b"ashiato.row_version")
    changed = written[:key] + written[key:].replace(b"\x011", b"\x012", 1)
    assert changed != written
    path.write_bytes(changed)
    leg = await index.search(Query(limit=EVERYTHING))
    assert leg.unreadable == (pack.path,)
    assert "version" in " ".join(leg.findings)


class _SlowArchive(CountingArchive):
    """A store that does not answer until it is told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked, self.answers = threading.Event(), threading.Event()

    def open(self, ref: ObjectRef) -> BufferedReader:
        self.asked.set()
        assert self.answers.wait(30)
        return super().open(ref)


async def test_a_search_that_nobody_waits_for_reads_no_more(corpus: Corpus) -> None:
    archive = _SlowArchive(corpus.root)
    search = asyncio.create_task(PackIndex(archive).search(Query(limit=EVERYTHING)))
    assert await asyncio.to_thread(archive.asked.wait, 30)
    # when it is given up while the first pack is asked for
    search.cancel()
    with pytest.raises(asyncio.CancelledError):
        await search
    archive.answers.set()
    # then the thread ends there: what is asked next is answered by the same few threads
    await asyncio.get_running_loop().shutdown_default_executor()
    assert len(archive.opened) == 1
    assert len(PackIndex(corpus.archive).refresh().packs) > 1

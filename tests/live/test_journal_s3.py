"""The journal and the archiver on a real S3 server that loses replies and goes away: nothing lost, nothing doubled."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ashiato.adapters.archive import ArchiveSettings
from ashiato.adapters.archive_s3 import S3Writer
from ashiato.adapters.bus_memory import MemoryBroker, MemoryReader
from ashiato.adapters.journal import Journal, JournalWriter, Lost, Won
from ashiato.core import journal
from ashiato.core.ports import ArchiveWriter
from ingest.archiver import Archiver
from tests.parts.seaweed import Buckets, SeaweedPart
from tests.simulation.house import LogFile, cri_file, make_topics, new_archiver, new_broker, pod_in, read_held, send
from tests.simulation.proxy import Loss, Proxy, Request
from tests.unit.core.commits import commit, txn

pytestmark = pytest.mark.live

_RACES = 5
_RETRY_NS = 50_000_000


@pytest.fixture
def proxy(s3: SeaweedPart) -> Iterator[Proxy]:
    made = Proxy(
        host="127.0.0.1", port=s3.port("s3"), ca_file=s3.ca_file, certificate=s3.folder / "server.crt",
        key=s3.folder / "server.key",
    )  # fmt: skip
    made.start()
    yield made
    made.stop()


@pytest.fixture
def buckets(s3: SeaweedPart) -> Buckets:
    return s3.fresh_buckets()


def _writer(s3: SeaweedPart, buckets: Buckets, url: str = "") -> ArchiveWriter:
    return S3Writer(
        ArchiveSettings(
            evidence_bucket=buckets.evidence, work_bucket=buckets.work, endpoint_url=url or s3.endpoint_url,
            ca_file=str(s3.ca_file), credentials_file=str(s3.credentials_file("ingest")),
        )
    )  # fmt: skip


def _journal(archive: ArchiveWriter) -> JournalWriter:
    opened = JournalWriter(archive)
    opened.ensure_created(actor="test", time_unix_nano=1)
    return opened


def _versions(archive: ArchiveWriter, n: int) -> int:
    return len(list(archive.list_versions("evidence", journal.path_of(n))))


@pytest.mark.parametrize("loss", [Loss.REPLY, Loss.REQUEST])
@pytest.mark.parametrize("times", [1, 2])
def test_j1_a_commit_whose_reply_or_request_is_lost_stands_once(
    s3: SeaweedPart, buckets: Buckets, proxy: Proxy, loss: Loss, times: int
) -> None:
    own = _journal(_writer(s3, buckets, proxy.url))
    mine = commit(1, "hold", act="mine")
    # when the put of the commit is lost, before or after it took effect
    proxy.lose_next(loss, path=journal.path_of(1), times=times)
    outcome = own.try_append(mine)
    # then the act_id that stands under the number decides
    assert outcome == Won(commit=mine)
    assert [lost for lost, _ in proxy.lost] == [loss] * (times if loss is Loss.REQUEST else 1)
    direct = _writer(s3, buckets)
    assert _versions(direct, 1) == 1
    assert Journal(direct).refresh().next_n == 2


def test_j1_a_request_that_arrives_after_another_took_the_number_changes_nothing(
    s3: SeaweedPart, buckets: Buckets, proxy: Proxy
) -> None:
    own, other = _journal(_writer(s3, buckets, proxy.url)), _journal(_writer(s3, buckets))
    # given a put that hangs on its way, while another archiver takes the number
    theirs = commit(1, "hold", act="theirs")

    def decide(request: Request) -> Loss | None:
        if request.method == "PUT" and journal.path_of(1) in request.path and not proxy.lost:
            assert other.try_append(theirs) == Won(commit=theirs)
            return Loss.LATE
        return None

    proxy.decide = decide
    assert own.try_append(commit(1, "hold", act="mine")) == Lost(winner=theirs)
    # when it arrives at last
    assert proxy.release() == [412]
    # then the commit is what it was
    assert own.read(1) == theirs
    assert _versions(_writer(s3, buckets), 1) == 1


def test_j1_eight_racing_writers_have_one_winner_per_number(s3: SeaweedPart, buckets: Buckets) -> None:
    archives = [_writer(s3, buckets) for _ in range(8)]
    writers = [_journal(archive) for archive in archives]
    barrier = threading.Barrier(8)

    def race(own: JournalWriter, name: int) -> list[tuple[int, bool]]:
        outcomes = []
        for n in range(1, _RACES + 1):
            barrier.wait()
            outcome = own.try_append(commit(n, "hold", act=f"{name} {n}"))
            outcomes.append((n, isinstance(outcome, Won)))
        return outcomes

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(race, writers, range(8)))
    won = [n for outcomes in results for n, win in outcomes if win]
    assert sorted(won) == list(range(1, _RACES + 1))
    assert all(own.state.next_n == _RACES + 1 for own in writers)
    assert [_versions(archives[0], n) for n in range(1, _RACES + 1)] == [1] * _RACES


def test_j6_a_delete_marker_makes_the_number_free_and_the_journal_stays_as_it_was(
    s3: SeaweedPart, buckets: Buckets
) -> None:
    archive = _writer(s3, buckets)
    own = _journal(archive)
    own.try_append(commit(1, txns=(txn(0, 5, "a"),)))
    # when an administrator deletes the newest commit without a version
    s3.client().delete_object(Bucket=buckets.evidence, Key=journal.path_of(1))
    # then whoever reads sees it, whoever writes finds the number taken, and the marker is a finding
    reader = Journal(archive)
    assert reader.refresh().next_n == 2
    late = JournalWriter(archive)
    late.refresh()
    late.state.next_n = 1
    late.state.positions.clear()
    assert isinstance(late.try_append(commit(1, "hold", act="late")), Lost)
    found = {(version.ref.path, version.is_delete_marker) for version in reader.disturbed()}
    assert (journal.path_of(1), True) in found


async def _send_all(broker: MemoryBroker, files: list[LogFile], *, twice: bool) -> None:
    for file in files:
        borders = file.lines()
        for start, end in itertools.pairwise(borders[::4]):
            await send(broker, [file.chunk(start, end)])
        if twice:
            # a collector that lost its replies sends again, cut elsewhere
            for start, end in itertools.pairwise(borders[::6]):
                await send(broker, [file.chunk(start, end)])


@pytest.mark.parametrize("loss", [Loss.REPLY, Loss.REQUEST])
async def test_j3_an_archiver_that_loses_every_third_reply_archives_every_byte_once(
    s3: SeaweedPart, buckets: Buckets, proxy: Proxy, tmp_path: Path, loss: Loss
) -> None:
    # given a server of whose answers to puts every third is lost
    puts = itertools.count(1)
    proxy.decide = lambda request: loss if request.method == "PUT" and next(puts) % 3 == 0 else None
    broker, files = new_broker(), [cri_file(pod_in(n), n, 24) for n in range(2)]
    await make_topics(broker)
    # when two archivers race over it
    await _send_all(broker, files, twice=True)
    archivers = [
        new_archiver(
            _writer(s3, buckets, proxy.url),
            MemoryReader(broker),
            tmp_path / name,
            actor=name,
            raw_bytes=600,
            retry_ns=_RETRY_NS,
        )
        for name in ("first", "second")
    ]
    await asyncio.gather(*(archiver.drain() for archiver in archivers))
    # then every byte is held exactly once
    assert len(proxy.lost) >= 3
    held = await asyncio.to_thread(read_held, _writer(s3, buckets))
    assert held.doubles() == []
    for file in files:
        assert held.of(file.file_id) == file.content


def _waits(archiver: Archiver) -> bool:
    return b"part_unavailable_total{" in archiver._telemetry.exposition()


async def test_an_archiver_waits_for_a_server_that_goes_away_and_comes_back(
    s3: SeaweedPart, buckets: Buckets, tmp_path: Path
) -> None:
    broker, file = new_broker(), cri_file(pod_in(0), 0, 24)
    await make_topics(broker)
    archive = _writer(s3, buckets)
    archiver = new_archiver(archive, MemoryReader(broker), tmp_path, raw_bytes=600, retry_ns=_RETRY_NS)
    await archiver.open()
    await _send_all(broker, [file], twice=False)
    # given a server that is killed while there is a batch to commit
    await asyncio.to_thread(s3.kill)
    draining = asyncio.create_task(archiver.drain())
    deadline = asyncio.get_running_loop().time() + 60
    while not _waits(archiver):
        assert not draining.done(), draining
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)
    assert not draining.done()
    # when it is started again
    await asyncio.to_thread(s3.start)
    await asyncio.wait_for(draining, 120)
    # then everything is there, once
    held = await asyncio.to_thread(read_held, archive)
    assert held.doubles() == []
    assert held.of(file.file_id) == file.content

"""Filters, entities and ``fsck`` on a real S3 server, each service with its own rights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from ashiato.adapters.archive import ArchiveSettings
from ashiato.adapters.archive_s3 import S3Reader, S3Writer
from ashiato.adapters.bus_memory import MemoryReader
from ashiato.adapters.entity_index import EntityIndex
from ashiato.adapters.index_packs import PackIndex
from ashiato.adapters.journal import Journal
from ashiato.adapters.pack_reader import PackReader
from ashiato.adapters.sidecars import SidecarReader
from ashiato.core import commit
from ashiato.core.query import Query, Term
from ashiato.core.sidecar_names import path_of
from ingest.fsck import Fsck
from ingest.sidecars import rebuild
from tests.parts.seaweed import Buckets, SeaweedPart
from tests.simulation.house import audit_file, cri_file, make_topics, new_archiver, new_broker, pod_in, send

pytestmark = pytest.mark.live

ABSENT = Query(where=Term(field="", value="10.99.98.97"))
PRESENT = Query(where=Term(field="", value="mallory"))


@pytest.fixture
async def buckets(s3: SeaweedPart, tmp_path: Path) -> Buckets:
    """Return buckets with packs of two classes in two commits, archived with the rights of ingest."""
    made = s3.fresh_buckets()
    broker = new_broker()
    await make_topics(broker)
    archiver = new_archiver(S3Writer(_settings(s3, made, "ingest")), MemoryReader(broker), tmp_path)
    for files in ([cri_file(pod_in(0), 0, 40), audit_file(30)], [cri_file(pod_in(0), 1, 40)]):
        for file in files:
            await send(broker, [file.chunk(0, len(file.content))])
        await archiver.drain()
    return made


def _settings(s3: SeaweedPart, buckets: Buckets, identity: str) -> ArchiveSettings:
    return ArchiveSettings(
        evidence_bucket=buckets.evidence, work_bucket=buckets.work, endpoint_url=s3.endpoint_url,
        ca_file=str(s3.ca_file), credentials_file=str(s3.credentials_file(identity)),
    )  # fmt: skip


async def test_query_prunes_by_what_ingest_wrote(s3: SeaweedPart, buckets: Buckets) -> None:
    index = PackIndex(S3Reader(_settings(s3, buckets, "query")))
    absent, present = await index.search(ABSENT), await index.search(PRESENT)
    assert (absent.rows.num_rows, absent.unfiltered, absent.findings) == (0, 0, ())
    assert present.rows.num_rows == 30
    await index.close()


async def test_entities_are_named_from_the_bucket(s3: SeaweedPart, buckets: Buckets) -> None:
    archive = S3Reader(_settings(s3, buckets, "query"))
    packs = Journal(archive).refresh().packs.values()
    named = EntityIndex(PackReader(archive), SidecarReader(archive)).named(packs, "user", "mallory")
    assert named.seen is not None
    assert (named.packs, named.read, named.unreadable) == (1, 0, ())


async def test_a_damaged_object_is_named_and_made_again(s3: SeaweedPart, buckets: Buckets) -> None:
    # given an archive that is clean, all of it read
    writer = S3Writer(_settings(s3, buckets, "ingest"))
    run = Fsck(writer, full=True)
    assert list(run.run()) == []
    assert run.report.clean
    # when somebody overwrites a filter, and leaves a version over a commit and a delete marker on a pack
    pack, other = list(Journal(writer).refresh().packs.values())[:2]
    client = s3.client()
    client.put_object(Bucket=buckets.work, Key=path_of("filters", pack.sha256), Body=b"damaged")
    client.put_object(Bucket=buckets.evidence, Key=commit.path_of(1), Body=b"{}")
    client.delete_object(Bucket=buckets.evidence, Key=other.path)
    # then each is named, and answers are what they were
    found: Mapping[str, str] = {finding.kind: finding.path for finding in Fsck(writer, full=True).run()}
    assert found == {"sidecar": pack.path, "second_version": commit.path_of(1), "delete_marker": other.path}
    index = PackIndex(S3Reader(_settings(s3, buckets, "query")))
    assert (await index.search(ABSENT)).unfiltered == 1
    # and what can be made again is
    assert rebuild(writer).made == 1
    assert (await index.search(ABSENT)).unfiltered == 0
    await index.close()

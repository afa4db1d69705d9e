"""What is known of a snapshot is read once: memory remembers what never changes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from ashiato.adapters.archive_directory import DirectoryReader
from ashiato.adapters.index_packs import PackIndex
from ashiato.core import frontier
from ashiato.core.ports import Bucket, ObjectRef
from query.known import Inventory
from tests.unit.query.house import House, container, cri


class _Counting(DirectoryReader):
    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.read: Counter[str] = Counter()

    def get(self, bucket: Bucket, path: str, version_id: str | None = None) -> tuple[bytes, ObjectRef]:
        self.read[path] += 1
        return super().get(bucket, path, version_id)


async def test_a_page_of_a_frontier_is_read_once_whatever_is_committed_after_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: closed files of one partition, in pages
    monkeypatch.setattr(frontier, "FRONTIER_ACTIVE_FILES_MAX", 0)
    archive = _Counting(house.root / "archive")
    index, inventory = PackIndex(archive), Inventory(archive)
    for number in range(5):
        web = await house.born(container("web-1"), restart=number)
        await house.send(web, cri(f"file {number}"))
        await house.close(web)
        await house.commit()
        # when: a question is asked after each commit
        known = inventory.known(await index.snapshot())
        assert sum(source.startswith("container/") for source in (file.source for file in known.files.values())) == (
            number + 1
        )
    # then: no frontier and no page was fetched twice
    assert {count for path, count in archive.read.items() if path.startswith("frontier/")} == {1}

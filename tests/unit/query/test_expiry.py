"""What retention removed is told as expired: by the packs that held it, and by day where that is forgotten (Q2, Q4)."""

from __future__ import annotations

import msgspec
import pytest

from ashiato.adapters.archive_directory import DirectoryGovernor
from ashiato.adapters.journal import JournalWriter, new_act_id
from ashiato.core import frontier
from ashiato.core.ids import ulid
from ashiato.core.journal import AddedPack, Commit, JournalState, RemovedPack
from ashiato.core.ports import ObjectRef
from ashiato.core.query import Query, Term
from tests.unit.query.house import NOON, SECOND, House, container, cri, documents, seen

WEB = container("web-1")
OUTPUT = Query(where=Term(field="source_kind", value="container"), order="oldest_first")


def expire(house: House, pack: AddedPack, *, delete: bool = True) -> None:
    """Remove a pack as retention does: the numbered act first, then the object."""
    removed = RemovedPack(
        path=pack.path, version_id=pack.version_id, retention_class=pack.retention_class, day=pack.day
    )

    def build(_: JournalState) -> Commit:
        return Commit(n=0, act_id=new_act_id(), kind="expire", actor="test", time_unix_nano=NOON, removes=(removed,))

    governor = DirectoryGovernor(house.root / "archive")
    JournalWriter(governor).append_checked(build)
    if delete:
        forget(house, pack)


def forget(house: House, pack: AddedPack) -> None:
    DirectoryGovernor(house.root / "archive").delete(
        ObjectRef(bucket="evidence", path=pack.path, version_id=pack.version_id, size=pack.size, sha256=pack.sha256)
    )


def container_packs(house: House) -> list[AddedPack]:
    packs = house.archiver.journal.refresh().packs.values()
    return sorted((pack for pack in packs if pack.retention_class == "container"), key=lambda pack: pack.commit)


async def test_removed_bytes_are_expired_and_what_is_left_is_searched(house: House) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one"))
    await house.commit()
    old = web.offset
    await house.send(web, cri("two", start=NOON + SECOND))
    await house.beat(web)
    await house.commit()
    expire(house, container_packs(house)[0])

    answer = await house.engine().search(OUTPUT)

    assert [one["body"] for one in documents(answer)] == ["two"]
    assert ("container", "expired", "retention", old) in seen(answer)
    searched = next(one for one in answer.coverage.intervals if one.seen == "searched")
    assert searched.bytes == web.offset - old
    assert not answer.coverage.complete


async def test_a_window_behind_what_was_removed_is_complete(house: House) -> None:
    day = 86_400 * SECOND
    web = await house.born(WEB)
    await house.send(web, cri("one"))
    await house.commit()
    expire(house, container_packs(house)[0])
    house.clock.advance(2 * day)
    await house.beat(web)
    await house.commit()

    answer = await house.engine().search(
        Query(where=OUTPUT.where, time_start_unix_nano=NOON + day, time_end_unix_nano=NOON + day + SECOND)
    )

    assert answer.coverage.complete


async def test_a_pack_that_is_missing_without_a_removal_is_a_finding(house: House) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one"))
    await house.beat(web)
    await house.commit()
    forget(house, container_packs(house)[0])

    answer = await house.engine().search(OUTPUT)

    assert documents(answer) == []
    assert [one[1:3] for one in seen(answer)] == [("unobservable", "pack_unreadable")]
    assert any("no commit removed it" in finding for finding in answer.coverage.findings)
    assert not answer.coverage.complete


async def test_bytes_that_may_be_removed_are_told_although_their_file_is_born_in_the_future(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its node's clock had run ahead: no removed day lies behind such a birth, and yet its bytes are gone."""
    monkeypatch.setattr(frontier, "FRONTIER_RANGES_MAX", 1)
    web = house.file(WEB)
    web.facts = msgspec.structs.replace(web.facts, file_id=ulid(2 * NOON // 1_000_000, bytes(10)))
    for text in ("one", "two"):
        await house.send(web, cri(text))
        await house.commit()
    expire(house, container_packs(house)[0])

    answer = await house.engine().search(OUTPUT)

    assert [one["body"] for one in documents(answer)] == ["two"]
    assert any(reason == "retention" for _, _, reason, _ in seen(answer))
    assert not answer.coverage.complete

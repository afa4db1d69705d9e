"""What cross-checks find on a node, followed to an answer: collector, bus, archive and query."""

from __future__ import annotations

from pathlib import Path

import pytest

from ashiato.core.ids import Kind
from ashiato.core.ledger import Gap
from ashiato.core.query import Query, Term
from query.engine import TimelineRequest
from tests.simulation.collector_node import Node, until
from tests.unit.query.house import House, documents


def events(*serials: int) -> bytes:
    return b"".join(b"type=USER_CMD msg=audit(1795600000.%03d:%d): pid=1\n" % (n % 1000, n) for n in serials)


async def gaps_of(house: House, field: str, value: str) -> set[tuple[str, str, str]]:
    answer = await house.engine().search(Query(where=Term(field=field, value=value)))
    return {
        (interval.source.partition("/")[0], interval.reason, interval.detail)
        for interval in answer.coverage.intervals
        if interval.seen == "gap"
    }


async def test_losses_that_no_file_shows_stand_in_the_coverage_of_their_source_and_in_the_timeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.crosschecks.SETTLE_NS", 100_000_000)
    # given: a node on the bus of a house; a pod of which a restart is missing beside one that is whole
    house = await House(tmp_path).open()
    node = Node(root=tmp_path / "node", broker=house.broker)
    node.write(node.pod_log("1.log", pod="web"), b"2026-11-24T10:00:00Z stdout F x\n")
    node.write(node.pod_log("0.log", pod="sound"), b"2026-11-24T10:00:00Z stdout F x\n")
    node.write(node.logs / "audit/audit.log", events(1, 2, 5))
    async with node.collector():
        await until(lambda: len(node.stated(Gap)) == 2)
        await until(lambda: sum(map(len, node.contents(Kind.LEDGER))) > 0)
    # when
    await house.commit()
    # then
    auditd = {("auditd", "lost_upstream", "auditd never wrote 2 events, 3 to 4,")}
    web = ("container", "no_inode", "restart 0 came before restart 1 and left no log that was seen")
    assert await gaps_of(house, "source_kind", "auditd") == auditd
    assert web in await gaps_of(house, "k8s_pod_uid", "uid-web")
    assert not any(gap[0] == "container" for gap in await gaps_of(house, "k8s_pod_uid", "uid-sound"))
    assert await gaps_of(house, "source_kind", "container") == {web}
    answer = await house.engine().timeline(TimelineRequest(anchor="pod:shop/web"))
    told = [row["body"] for row in documents(answer) if row["ashiato.timeline.kind"] == "gap"]
    assert any("restart 0 came before restart 1" in body for body in told)
    await house.archiver.flush()

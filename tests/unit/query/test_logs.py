"""What ``kubectl logs`` would have printed: restarts, rotations, containers, files sent twice, lines nobody parses."""

from __future__ import annotations

import pytest

from ashiato.core.chunk import ChunkFlags
from ashiato.core.coverage import Coverage
from ashiato.core.errors import NotHeldError, RejectedError
from query.answer import coverage_line
from query.engine import LogsRequest
from tests.unit.query.house import NOON, SECOND, House, container, cri, seen

WEB = container("web-1")


async def test_the_latest_restart_is_printed_with_all_its_rotations_in_order(house: House) -> None:
    before = await house.born(WEB, restart=0)
    await house.send(before, cri("restart zero"))
    newer = await house.born(WEB, restart=1, path="/var/log/pods/shop_web-1_u-1/web/1.log")
    older = await house.born(WEB, restart=1, path="/var/log/pods/shop_web-1_u-1/web/1.log.20261125-120100")
    await house.send(newer, cri("three", start=NOON + 60 * SECOND))
    await house.send(older, cri("one", "two", start=NOON + 10 * SECOND))
    await house.beat(before, newer, older)
    await house.tail()

    answer = await house.engine().logs(LogsRequest(pod="web-1"))
    previous = await house.engine().logs(LogsRequest(pod="web-1", previous=True))

    assert answer.content == b"one\ntwo\nthree\n"
    assert answer.coverage.complete
    assert previous.content == b"restart zero\n"


async def test_a_restart_that_is_not_held_is_told(house: House) -> None:
    for restart in (0, 2):
        file = await house.born(WEB, restart=restart)
        await house.send(file, cri(f"restart {restart}"))
    await house.tail()

    answer = await house.engine().logs(LogsRequest(pod="web-1", previous=True))

    assert answer.content == b"restart 0\n"
    assert "restart 1 is not held; this is restart 0" in answer.coverage.findings


async def test_a_restart_that_has_written_nothing_yet_prints_nothing(house: House) -> None:
    first = await house.born(WEB, restart=0)
    await house.send(first, cri("restart zero"))
    await house.born(WEB, restart=1)
    await house.tail()

    answer = await house.engine().logs(LogsRequest(pod="web-1"))

    assert answer.content == b""


async def test_several_containers_are_named_as_kubectl_does(house: House) -> None:
    for name in ("web", "proxy"):
        await house.send(house.file(container("web-1", name=name)), cri(name))
    await house.tail()

    with pytest.raises(RejectedError, match=r"must be specified for pod web-1, choose one of: \[proxy web\]"):
        await house.engine().logs(LogsRequest(pod="web-1"))
    answer = await house.engine().logs(LogsRequest(pod="web-1", container="proxy"))

    assert answer.content == b"proxy\n"


async def test_a_name_that_several_pods_have_lists_the_choices(house: House) -> None:
    await house.send(house.file(container("web-1", uid="u-1", namespace="a")), cri("a"))
    await house.send(house.file(container("web-1", uid="u-2", namespace="b")), cri("b"))
    await house.tail()
    engine = house.engine()

    with pytest.raises(RejectedError, match="a/web-1, b/web-1"):
        await engine.logs(LogsRequest(pod="web-1"))

    assert (await engine.logs(LogsRequest(pod="web-1", namespace="b"))).content == b"b\n"
    assert (await engine.logs(LogsRequest(pod="a/web-1"))).content == b"a\n"
    assert (await engine.logs(LogsRequest(pod="uid:u-2"))).content == b"b\n"
    with pytest.raises(NotHeldError):
        await engine.logs(LogsRequest(pod="c/web-1"))


async def test_parts_are_joined_and_a_newline_stands_after_the_last_only(house: House) -> None:
    file = house.file(WEB)
    content = (
        b"2026-11-25T12:00:00.000000001Z stdout P first \n"
        b"2026-11-25T12:00:00.000000002Z stderr F between\n"
        b"2026-11-25T12:00:00.000000003Z stdout F last\n"
    )
    await house.send(file, content)
    await house.commit()

    answer = await house.engine().logs(LogsRequest(pod="web-1"))
    raw = await house.engine().logs(LogsRequest(pod="web-1", raw=True))

    assert answer.content == b"first between\nlast\n"
    assert raw.content == content


async def test_lines_that_no_parser_took_are_printed_as_they_are_and_counted(house: House) -> None:
    file = house.file(WEB)
    await house.send(file, b"no header at all \xff\n" + cri("fine"))
    await house.tail()

    answer = await house.engine().logs(LogsRequest(pod="web-1"))

    assert answer.content == b"no header at all \xff\nfine\n"
    assert "1 lines that no parser took are printed as they are" in answer.coverage.findings


async def test_since_leaves_out_what_was_written_before(house: House) -> None:
    await house.send(house.file(WEB), cri("one", "two", "three"))
    await house.tail()

    answer = await house.engine().logs(LogsRequest(pod="web-1", time_start_unix_nano=NOON + SECOND))

    assert answer.content == b"two\nthree\n"


async def test_a_file_that_was_sent_twice_is_printed_once(house: House) -> None:
    first, again = house.file(WEB), house.file(WEB, flags=int(ChunkFlags.RESENT))
    await house.send(first, cri("one", "two"))
    await house.send(again, cri("one", "two", "three"))
    await house.commit()

    answer = await house.engine().logs(LogsRequest(pod="web-1"))

    assert answer.content == b"one\ntwo\nthree\n"
    assert "1 files were sent twice and are printed once" in answer.coverage.findings


async def test_what_is_missing_of_the_log_is_told(house: House) -> None:
    web = await house.born(WEB)
    await house.send(web, cri("one"))
    web.offset, web.position = web.offset + 11, 9
    await house.beat(web)
    await house.tail()

    answer = await house.engine().logs(LogsRequest(pod="web-1"))

    assert answer.content == b"one\n"
    assert ("container", "pending", "not_held_yet", 11) in seen(answer)


def test_a_header_stays_short_however_much_there_is_to_be_said() -> None:
    """Clients refuse headers of some ten KiB, and with them the answer."""
    coverage = Coverage(
        intervals=(),
        complete=False,
        findings=tuple(f"pack {number} cannot be read: {'x' * 999}" for number in range(5000)),
    )
    line = coverage_line(coverage)
    assert len(line) < 4096
    assert "and 4990 more" in line

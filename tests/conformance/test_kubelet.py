"""The node that the suite simulates behaves as kubelet and containerd do, and the oracle sees every kind of fault."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ashiato.core.chunk import Chunk, FileFacts
from ashiato.core.ledger import Born, Gap, Line, Statement
from tests.conformance.kubelet import Conmon, Kubelet, summer_time_ends
from tests.conformance.oracle import Verdict, judge
from tests.conformance.site import Site

SOURCE = "container/c1/n1/shop/web/uid-web/c"


def names(site: Site) -> list[str]:
    return sorted(path.name for path in site.pod_log().parent.iterdir())


def rotate(site: Site, kubelet: Kubelet, seconds: float = 1) -> None:
    site.loop.run_until_complete(kubelet.rotate_logs())
    site.pass_time(seconds)


def test_a_rotated_file_stays_plain_for_one_rotation_and_five_files_are_kept(site: Site) -> None:
    kubelet = Kubelet(truth=site.truth, max_bytes=1)
    web = kubelet.add(site.pod_log(), "web")
    for _ in range(7):
        web.say(3)
        rotate(site, kubelet)
    kinds = [name.rpartition(".")[2] == "gz" for name in names(site)]
    assert len(kinds) == 5
    assert kinds == [False, True, True, True, False]  # the live one, three packed, the newest rotation
    assert kubelet.deleted == 3


def test_a_reopen_that_fails_takes_the_rename_back(site: Site) -> None:
    kubelet = Kubelet(truth=site.truth, max_bytes=1)
    web = kubelet.add(site.pod_log(), "web")
    web.say()
    web.reopen_fails = 1
    rotate(site, kubelet)
    assert names(site) == ["0.log"]
    assert kubelet.renamed_back == 1
    assert len(site.truth.lives) == 1


def test_of_rotations_within_one_second_all_but_the_first_are_taken_for_packed_already(site: Site) -> None:
    kubelet = Kubelet(truth=site.truth, max_bytes=1)
    web = kubelet.add(site.pod_log(), "web")
    # given: the clock stands at the beginning of a second
    site.virtual.passed_ns += 1_000_000_000 - site.clock.now_unix_nano() % 1_000_000_000
    for _ in range(3):
        web.say()
        rotate(site, kubelet, 0.1)
    assert kubelet.mistaken == 1


def test_in_the_hour_that_comes_twice_the_names_go_back(site: Site) -> None:
    now = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=site.clock.now_unix_nano() // 1000)
    kubelet = Kubelet(truth=site.truth, max_bytes=1, utc_offset_s=summer_time_ends(now + timedelta(seconds=5)))
    web = kubelet.add(site.pod_log(), "web")
    web.say()
    rotate(site, kubelet, 10)
    (before,) = [name for name in names(site) if name != "0.log"]
    web.say()
    rotate(site, kubelet)
    assert min(name.removesuffix(".gz") for name in names(site) if name != "0.log") != before


def test_the_old_file_grows_when_the_new_one_has_lines_already(site: Site) -> None:
    kubelet = Kubelet(truth=site.truth, max_bytes=1)
    web = kubelet.add(site.pod_log(), "web")
    web.say()
    web.late, web.straggling, web.close_after_s = [("stdout", 100), ("stderr", 100)], 1, 0.5
    rotate(site, kubelet)
    before, after = site.truth.lives
    assert b" P #web/stdout/2/" in before.content
    assert b" F #web/stdout/3/" in after.content
    assert before.growth[-1][0] > after.growth[-1][0]


def test_a_pod_that_is_evicted_leaves_nothing_and_a_third_instance_removes_the_first(site: Site) -> None:
    kubelet = Kubelet(truth=site.truth)
    web = kubelet.add(site.pod_log(), "web")
    for _ in range(3):
        web.say()
        web = kubelet.restart(web)
    assert names(site) == ["2.log", "3.log"]
    kubelet.evict(site.pod_log().parent.parent)
    assert not site.pod_log().parent.parent.parent.joinpath("shop_web_uid-web/c/3.log").exists()
    assert all(life.gone_ns >= 0 for life in site.truth.lives)


def test_conmon_renames_a_new_file_over_the_log(site: Site) -> None:
    conmon = Conmon(truth=site.truth, path=site.pod_log(), writer="web", max_bytes=300)
    conmon.say(10)
    assert names(site) == ["0.log"]
    assert len(site.truth.lives) > 2


# -- the oracle ----------------------------------------------------------------------------------------------


def verdict_of(site: Site, *pieces: tuple[str, int, bytes], gaps: tuple[Gap, ...] = ()) -> Verdict:
    """Judge chunks (file id, offset, bytes) of one file that was written."""
    inode = site.truth.lives[0].inodes[0][1]
    born = [
        Born(
            file_id=file_id, source=SOURCE, path="0.log", partition=0, topic="ashiato.bulk", device=str(inode[0]),
            inode=str(inode[1]),
        )
        for file_id in dict.fromkeys([piece[0] for piece in pieces] + [gap.file_id for gap in gaps])
    ]  # fmt: skip
    statements: list[Statement] = [*born, *gaps]
    lines = [
        Line(n=n, prev="", time_unix_nano="1", boot_nano=str(site.clock.monotonic_nano()), node="n1", statement=told)
        for n, told in enumerate(statements)
    ]
    chunks = [
        Chunk(
            file=FileFacts(file_id=file_id, source=SOURCE, path="0.log"), offset_start=offset, flags=0,
            observed_time_unix_nano=1, payload=payload,
        )
        for file_id, offset, payload in pieces
    ]  # fmt: skip
    return judge(site.truth, chunks, lines, [])


@pytest.fixture
def written(site: Site) -> bytes:
    site.truth.append(site.pod_log(), site.truth.lines("web", 10))
    return bytes(site.truth.lives[0].content)


def test_the_oracle_is_content_with_every_byte_once_or_sent_again_with_an_overlap(site: Site, written: bytes) -> None:
    verdict = verdict_of(site, ("a", 0, written[:200]), ("a", 100, written[100:]))
    assert not verdict.faults()
    assert (verdict.bytes_held, verdict.bytes_sent) == (len(written), len(written) + 100)


def test_the_oracle_counts_what_is_lost_and_accepts_it_where_a_gap_names_it(site: Site, written: bytes) -> None:
    middle = written.index(b"#web/stdout/5/")
    pieces = (("a", 0, written[: middle - 5]), ("a", middle + 60, written[middle + 60 :]))
    lost = verdict_of(site, *pieces)
    assert [token.split(b"/")[2] for token in lost.lines_lost] == [b"5"]
    assert lost.bytes_unexplained == 65
    gap = Gap(source=SOURCE, reason="truncated", file_id="a", offset_start=str(middle - 5), offset_end=str(middle + 60))
    named = verdict_of(site, *pieces, gaps=(gap,))
    assert not named.faults()
    assert (named.lines_explained, named.bytes_in_gaps) == (1, 65)
    short = verdict_of(site, *pieces, gaps=(Gap(**{**_fields(gap), "offset_end": str(middle + 59)}),))
    assert short.bytes_unexplained == 1


def test_the_oracle_counts_duplicates_and_they_do_not_make_up_for_losses(site: Site, written: bytes) -> None:
    cut = written.index(b"\n") + 1
    verdict = verdict_of(site, ("a", 0, written[:cut]), ("b", 0, written[:cut]))
    assert len(verdict.lines_duplicated) == 1
    assert len(verdict.lines_lost) == 9


def test_the_oracle_sees_bytes_that_were_never_written(site: Site, written: bytes) -> None:
    assert verdict_of(site, ("a", 0, written.replace(b"#web/stdout/5/", b"#web/stdout/6/"))).corrupted
    assert verdict_of(site, ("a", 0, written), ("a", 0, b"x")).corrupted


def test_the_oracle_sees_order(site: Site, written: bytes) -> None:
    lines = written.splitlines(keepends=True)
    assert verdict_of(site, ("a", 0, b"".join([lines[1], lines[0], *lines[2:]]))).lines_reordered


def test_the_oracle_names_a_gap_over_bytes_that_are_held(site: Site, written: bytes) -> None:
    gap = Gap(source=SOURCE, reason="unreadable", file_id="a", offset_start="0")
    verdict = verdict_of(site, ("a", 0, written), gaps=(gap,))
    assert verdict.needless_gaps == [gap]
    assert not verdict.faults()


def test_the_oracle_knows_bytes_that_were_there_only_while_nobody_looked(site: Site) -> None:
    site.start()
    site.pass_time(2)
    site.stop()
    site.truth.append(log := site.pod_log(), site.truth.lines("web", 10))
    site.truth.unlink(log)
    site.pass_time(1)
    site.start()
    verdict = site.settled()
    assert verdict.bytes_in_silence == verdict.bytes_written > 0
    assert verdict.lines_explained == 10
    # and: the same while a collector runs, between two sweeps, is unseen
    site.truth.append(log, site.truth.lines("web", 10))
    site.truth.unlink(log)
    site.pass_time(5)
    assert site.judge().unseen == ["0.log"]


def _fields(gap: Gap) -> dict[str, str]:
    return {name: getattr(gap, name) for name in gap.__struct_fields__}

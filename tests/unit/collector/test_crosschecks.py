"""Cross-checks: what must have been and was not seen is stated once, and not before the ledger has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ashiato.core.layout import recognise
from collector.bookmark import Known
from collector.crosschecks import DUE_MAX, SETTLE_NS, CrossChecks, Passed, is_watched
from collector.discovery import Candidate

WEB = "container/c1/n1/shop/web/u-1/c"
AUDITD = "auditd/c1/n1/var/log/audit/audit.log"
LATER = 10 * SETTLE_NS


def checks(marks: dict[str, bytes] | None = None, known: Sequence[Known] = ()) -> CrossChecks:
    return CrossChecks(marks or {}, known, ())


def birth(restart: int, *, source: str = WEB) -> Known:
    return Known(
        file_id=f"F{restart}", source=source, path="", topic="t", partition=0, restart_count=restart, device=1,
        inode=restart,
    )  # fmt: skip


def rotations(*numbers: int, folder: str = "/var/log/audit", name: str = "audit.log") -> list[Candidate]:
    found = []
    for number in numbers:
        path = f"{folder}/{name}.{number}" if number else f"{folder}/{name}"
        found.append(
            Candidate(
                path=path,
                os_path=path,
                found=recognise(path, cluster="c1", node="n1"),
                identity=(1, 100 - number),
                size=9,
                modified_nano=number,
                changed_nano=number,
                rotated=bool(number),
            )
        )
    return found


def events(*serials: int) -> bytes:
    return b"".join(b"type=USER msg=audit(1700000000.%03d:%d): x\n" % (n % 1000, n) for n in serials)


def auditd(payload: bytes, at: int = 0) -> Passed:
    return Passed(source=AUDITD, file_id="A", offset_start=at, payload=payload)


def test_a_restart_whose_predecessors_left_no_log_shows_a_gap_once() -> None:
    known = checks(known=[birth(1)])
    (gap,) = known.jumps([birth(4), birth(5)], 77)
    assert (gap.reason, gap.file_id, gap.time_end_unix_nano) == ("no_inode", "F4", "77")
    assert gap.detail.startswith("restarts 2 to 3 ")
    # while the ledger does not have it, it is said again; afterwards it is not
    assert known.jumps([birth(4)], 77) == [gap]
    known.stated([gap], [birth(4), birth(5)])
    assert known.jumps([birth(6)], 78) == []
    assert checks(known=[birth(4)]).jumps([birth(5)], 79) == []


def test_restarts_that_are_all_there_are_no_gap_in_whatever_order_they_are_born() -> None:
    assert checks().jumps([birth(2), birth(0), birth(1)], 0) == []
    assert checks().jumps([birth(-1, source="container/c1/n1/docker/ab/ab/ab")], 0) == []


def test_a_rotation_between_two_others_that_is_missing_twice_is_a_gap_though_the_numbers_shift() -> None:
    known = checks()
    known.numbered(rotations(0, 1, 3), lambda _: "F3")
    assert known.due == [], "a rotation may be under way"
    known.numbered(rotations(0, 1, 3), lambda _: "F3")
    (gap,) = known.due
    assert (gap.source, gap.reason, gap.file_id) == (AUDITD, "no_inode", "F3")
    assert gap.detail.startswith("rotation .2 ")
    # the older neighbour is the same file under a new number, also after a restart
    known.stated([gap])
    shifted = rotations(0, 1, 2) + [older for older in rotations(4) for older in [replace(older, identity=(1, 97))]]
    again = checks({AUDITD: known.mark(AUDITD) or b""})
    for one in (known, again):
        one.numbered(shifted, lambda _: "F3")
        one.numbered(shifted, lambda _: "F3")
        assert one.due == []


def test_a_hole_that_a_rotation_under_way_shows_for_a_moment_is_no_gap() -> None:
    known = checks()
    for seen in (rotations(0, 1, 3), rotations(0, 1, 2, 3), rotations(0, 1, 2, 4), rotations(0, 1, 2, 3, 4)):
        known.numbered(seen, lambda _: "")
    assert known.due == []


def test_only_auditd_must_begin_at_one() -> None:
    known = checks()
    for _ in range(2):
        known.numbered([*rotations(2), *rotations(2, folder="/srv", name="app.log")], lambda _: "")
    assert [gap.source for gap in known.due] == [AUDITD]


def test_a_file_that_was_seen_and_never_opened_is_a_gap_when_it_is_gone() -> None:
    known = checks()
    one, two, three = rotations(1, 2, 3)
    known.not_opened([one, two, three])
    known.vanished({one.identity}, {one.path, f"{three.path}.gz"})
    (gap,) = known.due
    assert gap.reason == "rotated_away"
    assert two.path in gap.detail
    assert known.has_unopened


def test_missing_numbers_are_stated_when_nobody_is_behind_and_survive_a_restart() -> None:
    known = checks()
    known.passed(auditd(events(1, 2, 5)), 0)
    known.settle({AUDITD}, LATER)
    assert known.due == [], "older files are still being read"
    # given: a restart before the hole has settled
    again = checks({AUDITD: known.mark(AUDITD) or b""})
    for one in (known, again):
        one.settle((), LATER)
        (gap,) = one.due
        assert gap.reason == "lost_upstream"
        assert gap.detail == "auditd never wrote 2 events, 3 to 4,"
        one.stated([gap])
        one.passed(auditd(events(5, 6)), LATER)
        one.settle((), 2 * LATER)
        assert one.due == []


def test_a_notice_that_the_ledger_has_is_not_stated_when_its_bytes_come_again() -> None:
    falco = Passed(
        source="falco/c1/n1/var/log/falco/events.json", file_id="F", offset_start=40,
        payload=b"Falco internal: syscall event drop. 7 system calls dropped in last second.\n",
    )  # fmt: skip
    known = checks()
    known.passed(falco, 0)
    (gap,) = known.due
    assert (gap.reason, gap.file_id, gap.detail) == ("lost_upstream", "F", "Falco dropped 7 system calls (byte 40)")
    again = CrossChecks({}, (), [gap])
    again.passed(falco, 0)
    assert again.due == []


def test_gaps_wait_for_the_disk_in_bounded_memory_and_say_that_there_were_more() -> None:
    known = checks()
    for number in range(DUE_MAX + 50):
        known.not_opened(rotations(number % 9000, folder=f"/{number}"))
        known.vanished((), ())
    assert len(known.due) <= DUE_MAX + 50
    assert known.due[-1].detail == "more was lost than could be stated"


def test_only_security_logs_are_scanned() -> None:
    assert is_watched(AUDITD)
    assert is_watched("container/c1/n1/falco/falco-x/u/falco")
    assert not is_watched(WEB)
    assert not is_watched("file/c1/n1/srv/falco")

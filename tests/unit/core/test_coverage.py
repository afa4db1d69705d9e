"""Coverage as it stands in an answer's last line."""

from __future__ import annotations

from ashiato.core.coverage import Interval, Seen, judge, summary


def interval(seen: Seen, **more: object) -> Interval:
    return Interval(source="container/c/n/ns/p/u/c", seen=seen, **more)  # type: ignore[arg-type]


def judged(*intervals: Interval, cut: bool = False) -> bool:
    return judge(intervals, watermark_unix_nano=None, legs=(), commit=None, cut=cut).complete


def test_only_what_was_searched_in_full_is_complete() -> None:
    assert judged(interval(Seen.SEARCHED))
    assert not judged(interval(Seen.SEARCHED), cut=True)
    for seen in (Seen.PENDING, Seen.GAP, Seen.EXPIRED, Seen.UNOBSERVABLE):
        assert not judged(interval(Seen.SEARCHED), interval(seen))


def test_an_answer_that_searched_nothing_is_not_complete() -> None:
    assert not judged()


def test_64_bit_integers_are_strings_and_what_is_not_known_is_left_out() -> None:
    coverage = judge(
        [interval(Seen.GAP, time_start_unix_nano=2**62, bytes=2**60, reason="truncated")],
        watermark_unix_nano=2**61, legs=("archive",), commit=0,
    )  # fmt: skip
    assert coverage.to_document() == {
        "complete": False,
        "watermark_unix_nano": str(2**61),
        "commit": "0",
        "legs": ["archive"],
        "intervals": [
            {
                "source": "container/c/n/ns/p/u/c",
                "seen": "gap",
                "time_start_unix_nano": str(2**62),
                "reason": "truncated",
                "bytes": str(2**60),
            }
        ],
        "findings": [],
    }


def test_the_summary_counts_each_state() -> None:
    coverage = judge([interval(Seen.GAP), interval(Seen.GAP)], watermark_unix_nano=None, legs=(), commit=None)
    assert summary(coverage)[Seen.GAP] == 2
    assert summary(coverage)[Seen.SEARCHED] == 0

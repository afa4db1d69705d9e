"""Times as people type them."""

from __future__ import annotations

import pytest

from ashiato.cli.times import moment_ns, span_ns, written
from ashiato.core.errors import SettingsError

NOW = 1_795_295_334_171_020_123


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("1h30m", 5400), ("2d", 172_800), ("1w", 604_800), ("0.5s", 0.5)]
)
def test_a_length_of_time_is_read(text: str, seconds: float) -> None:
    assert span_ns(text) == int(seconds * 1e9)


@pytest.mark.parametrize("text", ["", "15", "m", "15 minutes", "-5m", "1h-"])
def test_what_is_no_length_of_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SettingsError, match="15m"):
        span_ns(text)


@pytest.mark.parametrize(
    ("text", "unix_nano"),
    [
        ("now", NOW),
        ("15m", NOW - 900_000_000_000),
        ("2026-11-21T21:08:54Z", 1_795_295_334_000_000_000),
        ("2026-11-21T21:08:54.171020123Z", NOW),
        ("2026-11-22T06:08:54.5+09:00", 1_795_295_334_500_000_000),
        ("2026-11-21 21:08", 1_795_295_280_000_000_000),
        ("2026-11-21", 1_795_219_200_000_000_000),
    ],
)
def test_a_moment_is_read_to_the_nanosecond(text: str, unix_nano: int) -> None:
    assert moment_ns(text, now_unix_nano=NOW) == unix_nano


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "2026-02-30T00:00:00Z", "21:08"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="not a time"):
        moment_ns(text, now_unix_nano=NOW)


def test_a_moment_is_written_in_utc() -> None:
    assert written(NOW) == "2026-11-21 21:08:54.171"
    assert written(NOW, digits=9) == "2026-11-21 21:08:54.171020123"
    assert written(NOW, digits=0) == "2026-11-21 21:08:54"

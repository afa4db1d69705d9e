"""What may happen to a pack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashiato.core.commit import AddedPack
from ashiato.core.errors import SettingsError
from ashiato.core.ids import ulid
from retention.budget import make_room
from retention.ledgers import birth_unix_nano
from retention.policy import DAY_NS, Expire, Keep, Policy, Rule, decide, decide_early, started
from retention.settings import policy_of
from tests.unit.retention.house import NOON, POLICY, House


def pack(
    *,
    observed_ns: int = NOON,
    committed_ns: int = NOON,
    retention_class: str = "container",
    day: str = "2026-11-18",
    size: int = 100,
) -> AddedPack:
    path = f"retention_class={retention_class}/day={day}/{observed_ns}-{committed_ns}-{size}.parquet"
    return AddedPack(
        path=path, version_id="v", sha256="00", size=size, rows=1, raw_bytes=1,
        retention_class=retention_class, day=day,
        time_min_unix_nano=observed_ns, time_max_unix_nano=observed_ns, observed_min_unix_nano=observed_ns,
        observed_max_unix_nano=observed_ns, manifest_path=path + ".m", manifest_version_id="m", manifest_sha256="00",
        commit=1, commit_time_unix_nano=committed_ns,
    )  # fmt: skip


times = st.integers(min_value=0, max_value=4 * NOON)
spans = st.integers(min_value=0, max_value=3650 * DAY_NS)


@given(observed=times, committed=times, now=times, keep=spans, minimum=spans, ahead=spans)
def test_nothing_goes_before_its_commit_is_as_old_as_its_class_says(
    observed: int, committed: int, now: int, keep: int, minimum: int, ahead: int
) -> None:
    minimum = min(minimum, keep)
    policy = Policy(rules={"container": Rule(keep_ns=keep, minimum_ns=minimum)}, clock_ahead_ns_max=ahead)
    one = pack(observed_ns=observed, committed_ns=committed)

    late, early = decide(one, policy, now), decide_early(one, policy, now)

    believed = max(committed, min(observed, committed + ahead))
    assert isinstance(late, Expire) == (now >= believed + keep)
    assert isinstance(early, Expire) == (now >= believed + minimum)
    if now < committed + minimum:
        assert isinstance(early, Keep)
    if isinstance(late, Keep):
        # Asked again at the time that it names, the answer is the other one.
        assert late.until_unix_nano is not None
        assert isinstance(decide(one, policy, late.until_unix_nano), Expire)


@given(
    packs=st.lists(st.tuples(times, times, st.integers(min_value=1, max_value=10**9)), max_size=12),
    now=times,
    excess=st.integers(min_value=-5, max_value=10**10),
)
def test_room_is_made_of_old_packs_only_and_of_no_more_than_needed(
    packs: list[tuple[int, int, int]], now: int, excess: int
) -> None:
    held = [pack(observed_ns=o, committed_ns=c, size=s) for o, c, s in packs]

    room = make_room(held, POLICY, now, excess_bytes=excess)

    assert all(isinstance(decide_early(one, POLICY, now), Expire) for one in room.packs)
    assert sum(one.size for one in room.packs) + room.short_bytes >= excess
    if room.packs:
        assert sum(one.size for one in room.packs[:-1]) < excess
    if room.short_bytes:
        staying = [one for one in held if one not in room.packs]
        assert not any(isinstance(decide_early(one, POLICY, now), Expire) for one in staying)


def test_a_clock_that_runs_ahead_is_believed_up_to_the_limit_and_capped_there() -> None:
    believed = started(pack(observed_ns=NOON + DAY_NS), POLICY)
    capped = started(pack(observed_ns=NOON + 400 * DAY_NS), POLICY)

    assert (believed.time_unix_nano, believed.capped_ns) == (NOON + DAY_NS, 0)
    assert (capped.time_unix_nano, capped.capped_ns) == (NOON + DAY_NS, 399 * DAY_NS)


def test_a_class_that_no_rule_names_is_kept() -> None:
    assert isinstance(decide(pack(retention_class="odd"), POLICY, NOON + 10_000 * DAY_NS), Keep)
    assert isinstance(decide_early(pack(retention_class="odd"), POLICY, NOON + 10_000 * DAY_NS), Keep)


def test_room_is_made_of_the_oldest_reading_day_first_and_never_of_the_ledger() -> None:
    held = [
        pack(day="2026-11-19", observed_ns=NOON + 2), pack(day="2026-11-17", observed_ns=NOON + 1),
        pack(day="2026-11-18", observed_ns=NOON), pack(retention_class="ledger", day="2026-01-01"),
    ]  # fmt: skip

    room = make_room(held, POLICY, NOON + 1000 * DAY_NS, excess_bytes=150)

    assert [one.day for one in room.packs] == ["2026-11-17", "2026-11-18"]
    assert room.short_bytes == 0


@pytest.mark.parametrize(
    "given_",
    [
        {"keep_days": {"odd": 1}},
        {"minimum_days": {"odd": 1}},
        {"keep_days": {"container": 3}, "minimum_days": {"container": 4}},
    ],
)
def test_settings_that_contradict_themselves_are_refused(given_: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        House(tmp_path).settings(**given_)


def test_the_ledger_is_kept_as_long_as_the_longest_class(tmp_path: Path) -> None:
    policy = policy_of(House(tmp_path).settings(keep_days={"audit": 4000, "ledger": 1}))

    assert policy.rules["ledger"].keep_ns == policy.rules["ledger"].minimum_ns == 4000 * DAY_NS


def test_a_short_keep_shortens_the_minimum_that_nobody_stated(tmp_path: Path) -> None:
    policy = policy_of(House(tmp_path).settings(keep_days={"audit": 3}))

    assert policy.rules["audit"].minimum_ns == 3 * DAY_NS


@pytest.mark.parametrize(("file_id", "birth"), [("01KAWFJ8R0" + "0" * 16, None), ("", 0), ("not an id", 0)])
def test_a_file_id_tells_its_birth(file_id: str, birth: int | None) -> None:
    if birth is None:
        assert birth_unix_nano(ulid(1_764_000_000_123, b"0123456789")) == 1_764_000_000_123_000_000
    else:
        assert birth_unix_nano(file_id) == birth

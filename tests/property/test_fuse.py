"""A filter never says that it lacks what it holds, and seldom that it holds what it lacks."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ashiato.core.fuse import FINGERPRINT_BITS, packed
from ashiato.core.token_hashes import gathered
from ingest.filters import fuse

KEYS = st.integers(0, (1 << 64) - 1)


@settings(max_examples=200, deadline=None)
@given(keys=st.sets(KEYS, max_size=300))
def test_what_it_holds_it_says(keys: set[int]) -> None:
    hashes = gathered([np.array(sorted(keys), np.uint64)])
    built = fuse(hashes)
    assert built.is_sound
    assert all(map(built.holds, keys))
    assert built.holds_all(hashes)


@pytest.mark.parametrize("count", [0, 1, 2, 100, 10_000, 200_000])
def test_what_it_lacks_it_holds_as_seldom_as_it_says(count: int) -> None:
    source = random.Random(count)
    hashes = gathered([np.array([source.getrandbits(64) for _ in range(count)], np.uint64)])
    built = fuse(hashes)
    others = [source.getrandbits(64) for _ in range(50_000)]
    assert sum(map(built.holds, others)) < 4 * len(others) / (1 << FINGERPRINT_BITS) + 10
    assert not built.holds_all(np.array(others, np.uint64))
    # and each of many asked at once is what it is asked alone
    for key in others[:200]:
        assert built.holds_all(np.array([key], np.uint64)) == built.holds(key)


def test_the_same_hashes_give_the_same_filter() -> None:
    hashes = gathered([np.arange(5000, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)])
    assert fuse(hashes) == fuse(hashes.copy())


@given(prints=st.lists(st.integers(0, 0xFFFF), min_size=4, max_size=64).filter(lambda prints: len(prints) % 4 == 0))
def test_fingerprints_lie_where_they_are_looked_for(prints: list[int]) -> None:
    kept = packed(np.array(prints, np.uint16))
    whole = int.from_bytes(kept, "little")
    mask = (1 << FINGERPRINT_BITS) - 1
    assert [whole >> (nth * FINGERPRINT_BITS) & mask for nth in range(len(prints))] == [one & mask for one in prints]
    assert len(kept) * 8 == len(prints) * FINGERPRINT_BITS


def test_numbers_that_do_not_fit_are_not_sound() -> None:
    built = fuse(np.arange(99, dtype=np.uint64))
    assert not replace(built, segment_length=built.segment_length * 2).is_sound
    assert not replace(built, segment_length=3).is_sound
    assert not replace(built, segments_length=0).is_sound
    assert not replace(built, fingerprints=built.fingerprints[:-1]).is_sound

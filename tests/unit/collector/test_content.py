"""Bytes by offset, plain and gzipped."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

from collector.content import Gzipped, Plain

CONTENT = random.Random(1).randbytes(700_000)


def test_gzipped_bytes_are_those_of_the_plain_file_wherever_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(CONTENT)
    # several members, as logrotate and concatenation leave them
    (tmp_path / "packed").write_bytes(gzip.compress(CONTENT[:300_000]) + gzip.compress(CONTENT[300_000:]))
    plain, packed = Plain(tmp_path / "plain"), Gzipped(tmp_path / "packed")
    assert (packed.look().size, packed.damage) == (len(CONTENT), "")
    rng = random.Random(2)
    for _ in range(60):
        offset, length = rng.randrange(len(CONTENT) + 10), rng.randrange(1, 300_000)
        assert packed.read(length, offset) == plain.read(length, offset)
    plain.close()
    packed.close()


def test_reading_on_holds_no_more_than_a_window(tmp_path: Path) -> None:
    (tmp_path / "packed").write_bytes(gzip.compress(b"a" * 50_000_000))
    packed = Gzipped(tmp_path / "packed")
    for offset in range(0, 50_000_000, 1_000_000):
        assert packed.read(100_000, offset) == b"a" * 100_000
        assert len(packed._window) < 1_000_000
    packed.close()


def test_a_gzip_cut_anywhere_gives_what_stands_before_the_cut(tmp_path: Path) -> None:
    whole = gzip.compress(CONTENT[:100_000])
    for length in (11, 1_000, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        (tmp_path / "cut").write_bytes(whole[:length])
        cut = Gzipped(tmp_path / "cut")
        size = cut.look().size
        assert cut.damage
        assert cut.read(200_000, 0) == CONTENT[:size]
        cut.close()


def test_bytes_that_are_no_gzip_are_damage_from_the_first_byte(tmp_path: Path) -> None:
    (tmp_path / "not").write_bytes(b"plain text")
    content = Gzipped(tmp_path / "not")
    assert (content.look().size, bool(content.damage), content.read(10, 0)) == (0, True, b"")
    content.close()


def test_a_file_is_read_through_its_descriptor_after_it_is_unlinked(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"bytes")
    content = Plain(tmp_path / "plain")
    (tmp_path / "plain").unlink()
    assert content.look().unlinked
    assert content.read(9, 1) == b"ytes"
    content.close()

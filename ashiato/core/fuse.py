"""Binary fuse filters of 16 bits, for asking: is a hash in the set? Never a wrong no, a wrong yes in 65,536.

After Graf and Lemire, "Binary Fuse Filters: Fast and Smaller Than Xor Filters" (2022): three fingerprints of a key,
in three neighbouring segments, give its own when they are joined by exclusive or. They are built in ingest, by the
authors' library; asking needs none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ashiato.core.token_hashes import U64, Hashes

_WORD_MASK: Final = (1 << 64) - 1
_FIRST_FACTOR: Final = 0xFF51AFD7ED558CCD
_SECOND_FACTOR: Final = 0xC4CEB9FE1A85EC53
_FINGERPRINT_MASK: Final = 0xFFFF
FINGERPRINT_BYTES: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Fuse16:
    """One filter."""

    seed: int
    segment_length: int
    """A power of two."""
    segments_length: int
    """Places where a key's first fingerprint may lie: all segments but the last two."""
    fingerprints: bytes
    """Little endian."""

    @property
    def is_sound(self) -> bool:
        """Whether its numbers fit each other, so that every place that is asked for is there."""
        length = self.segment_length
        return (
            length > 0
            and length & (length - 1) == 0
            and self.segments_length > 0
            and self.segments_length % length == 0
            and len(self.fingerprints) == (self.segments_length + 2 * length) * FINGERPRINT_BYTES
        )

    def holds(self, key: int) -> bool:
        """Tell whether ``key`` is in the set, or else one time in 65,536."""
        value = (key + self.seed) & _WORD_MASK
        value = ((value ^ value >> 33) * _FIRST_FACTOR) & _WORD_MASK
        value = ((value ^ value >> 33) * _SECOND_FACTOR) & _WORD_MASK
        value ^= value >> 33
        length = self.segment_length
        first = (value * self.segments_length) >> 64
        second = (first + length) ^ (value >> 18 & length - 1)
        third = (first + 2 * length) ^ (value & length - 1)
        own = (value ^ value >> 32) & _FINGERPRINT_MASK
        return own == self._at(first) ^ self._at(second) ^ self._at(third)

    def holds_all(self, keys: Hashes) -> bool:
        """Tell the same of many keys at once."""
        value = keys + U64(self.seed)
        value = (value ^ (value >> U64(33))) * U64(_FIRST_FACTOR)
        value = (value ^ (value >> U64(33))) * U64(_SECOND_FACTOR)
        value ^= value >> U64(33)
        length, mask = U64(self.segment_length), U64(self.segment_length - 1)
        first = _high(value, self.segments_length)
        second = (first + length) ^ (value >> U64(18) & mask)
        third = (first + length + length) ^ (value & mask)
        prints = np.frombuffer(self.fingerprints, "<u2")
        found = prints.take(first) ^ prints.take(second) ^ prints.take(third)
        own = (value ^ (value >> U64(32))).astype(np.uint16)
        return bool(np.array_equal(found, own))

    def _at(self, place: int) -> int:
        at = place * FINGERPRINT_BYTES
        return int.from_bytes(self.fingerprints[at : at + FINGERPRINT_BYTES], "little")


def _high(values: Hashes, factor: int) -> npt.NDArray[np.uint64]:
    """Return the upper 64 bits of the products with a factor of at most 32 bits."""
    low = (values & U64(0xFFFFFFFF)) * U64(factor)
    product: npt.NDArray[np.uint64] = ((values >> U64(32)) * U64(factor) + (low >> U64(32))) >> U64(32)
    return product

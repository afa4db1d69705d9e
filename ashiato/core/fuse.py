"""Binary fuse filters, for asking: is a hash in the set? Never a wrong no, a wrong yes in 16,384.

After Graf and Lemire, "Binary Fuse Filters: Fast and Smaller Than Xor Filters" (2022): three fingerprints of a key,
in three neighbouring segments, give its own when they are joined by exclusive or. They are built in ingest, by the
authors' library, of 16 bits; 14 of them are kept, for what is true of all bits is true of some, and an eighth of the
room is a third of a percent of the raw bytes. Asking needs no library.
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
FINGERPRINT_BITS: Final = 14
_FINGERPRINT_MASK: Final = (1 << FINGERPRINT_BITS) - 1
_TOGETHER: Final = 4
"""Fingerprints that fill whole bytes together; every segment holds a multiple of as many."""
_TOGETHER_BYTES: Final = _TOGETHER * FINGERPRINT_BITS // 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Fuse:
    """One filter."""

    seed: int
    segment_length: int
    """A power of two."""
    segments_length: int
    """Places where a key's first fingerprint may lie: all segments but the last two."""
    fingerprints: bytes
    """Fourteen bits each, the lowest first."""

    @property
    def is_sound(self) -> bool:
        """Whether its numbers fit each other, so that every place that is asked for is there."""
        length = self.segment_length
        return (
            length >= _TOGETHER
            and length & (length - 1) == 0
            and self.segments_length > 0
            and self.segments_length % length == 0
            and len(self.fingerprints) * _TOGETHER == (self.segments_length + 2 * length) * _TOGETHER_BYTES
        )

    def holds(self, key: int) -> bool:
        """Tell whether ``key`` is in the set, or else one time in 16,384."""
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
        octets = np.frombuffer(self.fingerprints + bytes(2), np.uint8)
        own = (value ^ (value >> U64(32))) & U64(_FINGERPRINT_MASK)
        for places in (first, second, third):
            own ^= _read(octets, places)
        return not own.any()

    def _at(self, place: int) -> int:
        at, shift = divmod(place * FINGERPRINT_BITS, 8)
        return int.from_bytes(self.fingerprints[at : at + 3], "little") >> shift & _FINGERPRINT_MASK


def packed(fingerprints: npt.NDArray[np.uint16]) -> bytes:
    """Return fingerprints of 16 bits as they are kept."""
    several = (fingerprints.astype(np.uint64) & U64(_FINGERPRINT_MASK)).reshape(-1, _TOGETHER)
    joined = np.zeros(len(several), "<u8")
    for nth in range(_TOGETHER):
        joined |= several[:, nth] << U64(nth * FINGERPRINT_BITS)
    return joined.view(np.uint8).reshape(-1, 8)[:, :_TOGETHER_BYTES].tobytes()


def _read(octets: npt.NDArray[np.uint8], places: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    bits = places * U64(FINGERPRINT_BITS)
    at = bits >> U64(3)
    value = np.zeros(len(places), np.uint64)
    for nth in range(3):
        value |= octets.take(at + U64(nth)).astype(np.uint64) << U64(8 * nth)
    found: npt.NDArray[np.uint64] = value >> (bits & U64(7)) & U64(_FINGERPRINT_MASK)
    return found


def _high(values: Hashes, factor: int) -> npt.NDArray[np.uint64]:
    """Return the upper 64 bits of the products with a factor of at most 32 bits."""
    low = (values & U64(0xFFFFFFFF)) * U64(factor)
    product: npt.NDArray[np.uint64] = ((values >> U64(32)) * U64(factor) + (low >> U64(32))) >> U64(32)
    return product

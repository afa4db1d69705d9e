"""The span that is open: the digest of a file's bytes since the last one was stated, taken as they pass.

An open span is a value. The one of the chunks under way takes the place of the file's own when the bus keeps them, so
that a failed frame takes nothing back. After a crash it is begun again: with the same start, and so the same salt.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ashiato.core import attest
from ashiato.core.ports import Clock

if TYPE_CHECKING:
    from hashlib import _Hash


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSpan:
    """Bytes ``[start, end)`` of one file, hashed."""

    start: int
    length: int
    salt: bytes
    begun_monotonic_nano: int
    digest: _Hash
    """Never updated in place."""

    @property
    def end(self) -> int:
        """One past the last byte."""
        return self.start + self.length

    @property
    def sha256(self) -> str:
        """The digest so far."""
        return self.digest.hexdigest()

    def behind(self, payload: bytes) -> OpenSpan:
        """Return the span with ``payload`` in it."""
        digest = self.digest.copy()
        digest.update(payload)
        return replace(self, length=self.length + len(payload), digest=digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attester:
    """Begins spans with salts of the node's secret."""

    secret: bytes
    clock: Clock

    def begin(self, file_id: str, offset: int) -> OpenSpan:
        """Return the empty span that begins at ``offset``."""
        salt = attest.salt_of(self.secret, file_id, offset)
        return OpenSpan(
            start=offset, length=0, salt=salt, begun_monotonic_nano=self.clock.monotonic_nano(),
            digest=hashlib.sha256(salt + offset.to_bytes(8, "big")),
        )  # fmt: skip

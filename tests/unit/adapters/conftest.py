"""What the tests of adapters share."""

from tests.unit.adapters.pack_corpus import built

__all__ = ["built"]

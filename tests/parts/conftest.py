"""Fixtures for the tests of the parts."""

from tests.parts.fixtures import kafka, opensearch, parts_folder, s3, stack

__all__ = ["kafka", "opensearch", "parts_folder", "s3", "stack"]

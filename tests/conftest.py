"""Fixtures for every test: the real parts, which the tests marked ``live`` ask for."""

from tests.parts.fixtures import kafka, opensearch, own_stack, parts_folder, s3, stack

__all__ = ["kafka", "opensearch", "own_stack", "parts_folder", "s3", "stack"]

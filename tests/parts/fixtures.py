"""Pytest fixtures over the parts. A part that cannot be had fails the test with a message; nothing is skipped.

Where ``python -m tests.parts up`` left parts running, the first test run uses them; another run at the same time
starts parts of its own, so that two runs never share a topic. What a run started ends with it.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from tests.parts import artifacts
from tests.parts.kafka import KafkaPart
from tests.parts.opensearch import OpenSearchPart
from tests.parts.process import Part, PartError
from tests.parts.seaweed import SeaweedPart
from tests.parts.stack import SHARED, Stack, parts_in, stack_of

P = TypeVar("P", bound=Part)


@pytest.fixture(scope="session")
def parts_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the shared parts where they run and nobody tests with them, else a new one."""
    if not any(part.running for part in parts_in(SHARED)):
        yield tmp_path_factory.mktemp("parts")
        return
    with (artifacts.STATE / "tests.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield tmp_path_factory.mktemp("parts")
            return
        yield SHARED


@pytest.fixture(scope="session")
def kafka(parts_folder: Path) -> Iterator[KafkaPart]:
    """A running Kafka with its users; ``fresh_topics()`` empties it."""
    yield from _running(KafkaPart, parts_folder / "kafka")


@pytest.fixture(scope="session")
def opensearch(parts_folder: Path) -> Iterator[OpenSearchPart]:
    """A running OpenSearch."""
    yield from _running(OpenSearchPart, parts_folder / "opensearch")


@pytest.fixture(scope="session")
def s3(parts_folder: Path) -> Iterator[SeaweedPart]:
    """A running S3 server; ``fresh_buckets()`` makes two empty buckets."""
    yield from _running(SeaweedPart, parts_folder / "seaweedfs")


@pytest.fixture
def stack(kafka: KafkaPart, opensearch: OpenSearchPart, s3: SeaweedPart) -> Stack:
    """All three, with empty topics and new buckets."""
    return stack_of(kafka, opensearch, s3).fresh()


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Stack]:
    """All three, for a test that stops them: started for it alone, with empty topics and new buckets."""
    parts = parts_in(tmp_path / "parts")
    try:
        with ThreadPoolExecutor() as threads:
            list(threads.map(Part.start, parts))
        yield stack_of(*parts).fresh()
    except PartError as error:
        pytest.fail(str(error), pytrace=False)
    finally:
        for part in parts:
            part.kill()


def _running(kind: type[P], folder: Path) -> Iterator[P]:
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    part = kind(folder)
    was_running = part.running
    try:
        part.start()
    except PartError as error:
        pytest.fail(str(error), pytrace=False)
    yield part
    if not was_running:
        part.kill()

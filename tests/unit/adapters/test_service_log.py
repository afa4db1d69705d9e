"""The log of a process that we started tells a person what matters, and cannot fill the disk."""

from __future__ import annotations

import json
from pathlib import Path

from ashiato.adapters.service_log import LOG_BYTES_MAX, ServiceLog


def line(event: str, level: str = "info", **facts: object) -> str:
    return json.dumps({"service": "ingest", **facts, "event": event, "level": level, "timestamp": "t"}) + "\n"


def append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as log:
        log.write(text)


def test_what_an_older_process_said_is_not_this_ones(tmp_path: Path) -> None:
    path = tmp_path / "ingest.log"
    append(path, line("service_started") + line("bytes_lost", "error", count=1))
    log = ServiceLog(path)

    log.begin()

    assert not log.has("service_started")
    assert log.troubles() == []
    assert log.last_words() == "it says nothing"


def test_waiting_and_errors_are_told_once_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "ingest.log"
    log = ServiceLog(path)
    log.begin()
    append(path, line("service_started") + line("part_unavailable", "warning", part="bus", error="the disk is full"))
    append(path, line("bytes_lost", "error", count=1, reason="truncated") + '{"event": "torn')

    assert log.troubles() == ["waits for its bus: the disk is full", "bytes lost: count=1, reason=truncated"]
    assert log.troubles() == []


def test_words_that_a_dead_process_left_are_told_after_the_next_has_begun(tmp_path: Path) -> None:
    path = tmp_path / "ingest.log"
    log = ServiceLog(path)
    log.begin()
    append(path, line("bytes_lost", "error", count=1))
    log.begin()

    assert log.troubles() == ["bytes lost: count=1"]


def test_the_last_words_are_those_for_a_person(tmp_path: Path) -> None:
    path = tmp_path / "ingest.log"
    log = ServiceLog(path)
    log.begin()
    append(path, line("service_stopped", reason="asked"))
    assert log.last_words() == "service stopped: reason=asked"

    append(path, "ingest: no archive here (path=/x)\n" + line("service_stopped", reason="asked"))
    assert log.last_words() == "ingest: no archive here (path=/x)"


def test_a_long_log_is_cut_and_one_older_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "ingest.log"
    log = ServiceLog(path)
    log.begin()
    append(path, "x" * (LOG_BYTES_MAX + 1))

    log.shorten()
    append(path, line("bytes_lost", "error", count=1))

    assert path.with_name("ingest.log.1").stat().st_size == LOG_BYTES_MAX + 1
    assert log.troubles() == ["bytes lost: count=1"]

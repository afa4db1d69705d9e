"""Events are typed: their metrics point at their own fields, and none can carry a log line."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator

import pytest

from ashiato.core.events import Event, Level

_ROOMS = ("ashiato.core.events", "collector.events", "ingest.events")


def _events() -> Iterator[type[Event]]:
    for room in _ROOMS:
        for value in vars(importlib.import_module(room)).values():
            if inspect.isclass(value) and issubclass(value, Event) and value.__module__ == room:
                yield value


@pytest.mark.parametrize("kind", list(_events()), ids=lambda kind: kind.__name__)
def test_an_event_has_a_sentence_and_metrics_over_its_own_fields(kind: type[Event]) -> None:
    assert kind.__doc__
    assert isinstance(kind.level, Level)
    fields = {field.name for field in dataclasses.fields(kind)}
    for metric in kind.metrics:
        assert metric.kind in {"counter", "gauge"}
        assert re.fullmatch(r"[a-z][a-z0-9_]*", metric.name)
        assert metric.kind == "gauge" or metric.name.endswith("_total")
        assert metric.value == "" or metric.value in fields
        assert set(metric.labels) <= fields


@pytest.mark.parametrize("kind", list(_events()), ids=lambda kind: kind.__name__)
def test_an_event_has_no_room_for_a_log_payload(kind: type[Event]) -> None:
    assert not {field.name for field in dataclasses.fields(kind)} & {"body", "payload", "raw", "line", "content"}
    assert all(field.type not in ("bytes", bytes) for field in dataclasses.fields(kind))

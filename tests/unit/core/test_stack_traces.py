"""Stack traces are folded by reference: every sample, between other streams, and over the borders of chunks."""

from __future__ import annotations

import textwrap
from itertools import zip_longest
from pathlib import Path
from typing import Final

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ashiato.core.stack_traces import LINES_MAX, Trace, told_by, traces
from ashiato.core.table import uids
from ingest.contracts import LineState
from ingest.rows import build_rows
from tests.unit.ingest.files import admitted, chunks, cri

FOLDER: Final = Path(__file__).parent / "stack_traces"
LANGUAGES: Final = {
    "client": "javascript", "complex": "java", "csharp": "csharp", "dart": "dart", "go": "go", "java": "java",
    "nested": "java", "node": "javascript", "php": "php", "python": "python", "rails": "ruby", "ruby": "ruby",
    "v8": "javascript",
}  # fmt: skip
NONE: Final = ("arbitrary_text", "java_exc_part1", "java_exc_part2")
SAMPLES: Final = sorted(path.stem for path in FOLDER.glob("*.txt") if path.stem not in NONE)
AROUND: Final = ["GET /cart 200", "an Error: it stands in a sentence", "I1125 12:00:00.000000       1 main.go:1] up"]


def lines_of(name: str) -> list[str]:
    return textwrap.dedent((FOLDER / f"{name}.txt").read_text()).rstrip().split("\n")


def rows_of(lines: list[tuple[str, str]], cuts: list[int] | None = None) -> pa.Table:
    """Return the rows of (stream, line) as a container wrote them, each chunk built as a batch of its own."""
    content = [cri(line, stream=stream, at=at + 1) for at, (stream, line) in enumerate(lines)]
    borders = [sum(map(len, content[:cut])) for cut in cuts or []]
    states: dict[str, LineState] = {}
    tables = []
    for piece in admitted(chunks(b"".join(content), borders)):
        rows, after, _ = build_rows([piece], states)
        states.update(after)
        tables.append(rows)
    return pa.concat_tables(tables)


def test_the_samples_are_there() -> None:
    assert len(SAMPLES) == 37
    assert {LANGUAGES[name.partition("_")[0]] for name in SAMPLES} == set(LANGUAGES.values())
    assert len(set(LANGUAGES.values())) == 8


@pytest.mark.parametrize("name", SAMPLES)
def test_a_trace_is_one_event_between_other_lines(name: str) -> None:
    trace = lines_of(name)
    lines = [*AROUND, *trace, *AROUND, *trace, *trace]
    first = len(AROUND)
    second = first + len(trace) + len(AROUND)
    language = LANGUAGES[name.partition("_")[0]]
    assert traces(lines) == [
        Trace(first=at, end=at + len(trace), language=language) for at in (first, second, second + len(trace))
    ]


def test_text_is_no_trace() -> None:
    assert traces(lines_of("arbitrary_text") + AROUND * 3) == []
    assert traces(["java.lang.RuntimeException: no frame follows", "    indented", "\tat nowhere"]) == []
    assert traces([]) == []


def test_half_a_trace_is_one_and_the_other_half_is_none_without_it() -> None:
    one, two = lines_of("java_exc_part1"), lines_of("java_exc_part2")
    indented = [f"  {line}" for line in two]
    assert traces(one + indented) == [Trace(first=0, end=len(one + two), language="java")]
    assert traces(two) == []


@pytest.mark.parametrize("name", SAMPLES)
def test_streams_are_folded_apart_and_over_the_borders_of_chunks(name: str) -> None:
    trace, other = lines_of(name), lines_of("python_exc" if name != "python_exc" else "go_exc")
    lines = [
        (stream, line)
        for pair in zip_longest(trace, other)
        for stream, line in zip(("stderr", "stdout"), pair, strict=True)
        if line is not None
    ]
    rows = rows_of(lines, cuts=list(range(1, len(lines))))
    own = uids(rows)
    heads = {
        stream: next(uid for uid, (of, _) in zip(own, lines, strict=True) if of == stream)
        for stream in ("stderr", "stdout")
    }
    told = told_by(rows)
    assert told == [
        None if uid == heads[stream] else heads[stream] for uid, (stream, _) in zip(own, lines, strict=True)
    ]
    # and in whatever order they are given
    order = list(range(rows.num_rows))[::-1]
    assert told_by(rows.take(order)) == told[::-1]


def test_a_line_that_came_in_parts_is_one_line_of_its_trace() -> None:
    content = (
        cri("java.lang.IllegalStateException: ", part="P", at=1, stream="stderr")
        + cri("other", at=2)
        + cri("broken", at=3, stream="stderr")
        + cri("\tat com.shop.Cart.add(Cart.java:5)", at=4, stream="stderr")
    )
    rows, _, _ = build_rows(admitted(chunks(content)), {})
    own = uids(rows)
    assert told_by(rows) == [None, None, None, own[2]]


def test_causes_and_what_python_chains_belong_to_the_trace() -> None:
    python = [
        "Traceback (most recent call last):",
        '  File "a.py", line 1, in f',
        "    1 / 0",
        "    ~~^~~",
        "ZeroDivisionError: division by zero",
        "",
        "During handling of the above exception, another exception occurred:",
        "",
        "Traceback (most recent call last):",
        '  File "a.py", line 3, in <module>',
        "KeyError",
    ]
    assert traces([*python, "next"]) == [Trace(first=0, end=len(python), language="python")]
    java = ["a.B: x", "\tat a.B.c(B.java:1)", "Caused by: a.C: y", "\tat a.C.d(C.java:2)", "\t... 3 more"]
    assert traces([*java, "next"]) == [Trace(first=0, end=len(java), language="java")]


def test_a_trace_has_a_bound() -> None:
    lines = ["java.lang.StackOverflowError", *["\tat a.B.c(B.java:1)"] * (3 * LINES_MAX)]
    assert traces(lines) == [Trace(first=0, end=LINES_MAX, language="java")]


@given(st.lists(st.one_of(st.sampled_from([line for name in SAMPLES for line in lines_of(name)]), st.text(max_size=9))))
@example(["Traceback (most recent call last):", "Error", "    at bls (<anonymous>:3:9)"])
@settings(deadline=None, max_examples=200)
def test_traces_stand_behind_each_other_and_begin_where_they_begin_alone(lines: list[str]) -> None:
    at = 0
    for trace in traces(lines):
        assert at <= trace.first < trace.end - 1 < len(lines)
        assert traces(lines[trace.first : trace.end])[0] == Trace(
            first=0, end=trace.end - trace.first, language=trace.language
        )
        at = trace.end

"""Stack traces, folded for view by reference: which consecutive lines of one stream are one exception. Pure.

Rows stay what they are, one a line; :func:`told_by` names for each line of a trace the row that begins it. Eight
languages: Java, Python, Go, JavaScript, C#, PHP, Ruby, Dart. A line that could begin a trace begins none before a
frame follows it, so a sentence about an error is never swallowed, nor is what stands behind the last frame.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from ashiato.core.table import uids

LINES_MAX: Final = 4096
"""Lines of one trace: a stack overflow in Java prints 1,024 frames, a dump of all goroutines some thousands."""
_START: Final = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The lines ``[first, end)`` are one exception."""

    first: int
    end: int
    language: str


@dataclass(frozen=True, slots=True)
class _Rule:
    states: tuple[str, ...]
    line: re.Pattern[str]
    next: str
    confirms: bool = False
    """What was read so far is a trace for certain."""


def _rule(states: str, line: str, behind: str, *, confirms: bool = False) -> _Rule:
    """Return a rule; ``-`` among ``states`` stands for the start."""
    return _Rule(
        tuple(_START if state == "-" else state for state in states.split()), re.compile(line), behind, confirms
    )


#: A state is named after its language; the language of a trace is its first word. Java's rules are also those of C#
#: and JavaScript, whose frames begin alike: the frame tells which it is.
_RULES: Final = (
    # -- Java, C#, JavaScript
    _rule("- java_nested", r"(?:Exception|Error|Throwable|V8 errors stack trace)(?:: | ---> |:?$)", "java_head"),
    _rule("- java_nested", r"^(?:Exception in thread .*|(?:[a-z][\w$]*\.)+[A-Z][\w$]*(?::.*)?)$", "java_head"),
    _rule("- java_nested", r"^(?:Uncaught )?[A-Z]\w*(?:Error|Exception)\b.*$", "java_head"),
    _rule("java_head", r"^[\t ]*nested exception is:[\t ]*", "java_nested"),
    _rule("java_head", r"^$", "java_head"),
    _rule("java_head java_frame", r"^[\t ]+(?:eval )?at .", "java_frame", confirms=True),
    _rule("java_frame", r"^[\t ]*--- End of .*stack trace.* ---$", "java_frame", confirms=True),
    _rule("java_frame", r"^[\t ]*(?:Caused by|Suppressed|\[CIRCULAR REFERENCE): ?", "java_head", confirms=True),
    _rule("java_frame", r"^[\t ]*\.\.\. \d+ (?:more|common frames omitted)", "java_frame", confirms=True),
    # -- Python
    _rule("- python_link", r"^(?:Exception in thread .*|.*\b)?Traceback \(most recent call last\):$", "python"),
    _rule("python", r"^[\t ]+(?:File \".*\", line \d+|\[Previous line repeated )", "python_code", confirms=True),
    _rule("python_code", r"^[\t ]+File \".*\", line \d+", "python_code", confirms=True),
    _rule("python_code", r"^[\t ]+", "python_code", confirms=True),
    _rule("python_code", r"^(?:[^\s.():]+\.)*[^\s.():]+(?::|$)", "python_told", confirms=True),
    _rule("python", r"^(?:[^\s.():]+\.)*[^\s.():]+(?::|$)", "python_told"),
    _rule("python_told python_link", r"^$", "python_link"),
    _rule("python_link", r"^(?:During handling of|The above exception was) ", "python_link"),
    # -- Go
    _rule("-", r"http: panic serving", "go_routine"),
    _rule("-", r"\b(?:panic|fatal error): ", "go_panic"),
    _rule("go_panic", r"^\[signal |^\t?panic: |^\t", "go_panic"),
    _rule("go_panic go_frame go_routine", r"^$", "go_routine"),
    _rule("go_panic go_routine", r"^goroutine \d+ (?:\w+=\S+ ){0,3}\[[^\]]+\]:$", "go_frame", confirms=True),
    _rule("go_frame", r"^(?:[^\s.:]+\.)*[^\s.():]+\(|^\S+\(.*\)$|^created by |^\.\.\.", "go_place", confirms=True),
    _rule("go_place", r"^\s", "go_frame", confirms=True),
    _rule("go_frame", r"^exit status \d+$", _START, confirms=True),
    # -- PHP
    _rule("-", r"PHP (?:Notice|Parse error|Fatal error|Warning):|exception '[^']+' with message '", "php_head"),
    _rule("-", r"Uncaught [\w\\]+(?:Exception|Error)\b", "php_head"),
    _rule("php_head", r"^Stack trace:", "php_frame", confirms=True),
    _rule("php_frame", r"^#\d", "php_frame", confirms=True),
    _rule("php_frame", r"^\s+thrown in ", _START, confirms=True),
    # -- Ruby
    _rule("-", r"Error \(.*\):$", "ruby_head"),
    _rule("-", r"^.*\.rb:\d+:in [`'].*\(\S*(?:Error|Exception)\)$", "ruby_head"),
    _rule("ruby_head", r"^\s*$", "ruby_head"),
    _rule("ruby_head ruby_frame", r"^[\t ]+(?:from )?.*?\.rb:\d+:in [`']", "ruby_frame", confirms=True),
    # -- Dart
    _rule("-", r"^Unhandled exception:$", "dart_head"),
    _rule("dart_head", r"^#0\s", "dart_frame", confirms=True),
    _rule("dart_head dart_text", r"^(?!#\d)", "dart_text"),
    _rule("dart_text dart_frame", r"^#\d+\s", "dart_frame", confirms=True),
    _rule("dart_frame", r"^<asynchronous suspension>$", "dart_frame", confirms=True),
)  # fmt: skip
_BY_STATE: Final = {
    state: tuple(rule for rule in _RULES if state in rule.states) for rule in _RULES for state in rule.states
}
_CHARS_MAX: Final = 4096
"""Characters of one line that are looked at."""
_FRAMES_BEGIN: Final = frozenset((" ", "\t", "#", "g", "S"))
"""How lines begin that make a trace certain: frames, ``goroutine``, ``Stack trace:``."""
_HEAD_LINES_MAX: Final = 32
"""Lines before the first frame: a message may have some, and no more is held back for it."""
_C_SHARP: Final = re.compile(r"\) in .*:(?:line )?\d+$|^[\t ]+at [\w.<>`\[\], ]+\(.*\) \[0x")
_JAVASCRIPT: Final = re.compile(r":\d+:\d+\)?$|\((?:native|unknown location)\)$|\(<anonymous>")


def traces(lines: Sequence[str]) -> list[Trace]:
    """Return the traces in consecutive lines of one stream."""
    lines = [line[:_CHARS_MAX] for line in lines]
    # A trace has a frame soon behind its first line, and few lines of a log look like frames from afar.
    frames = [at for at, line in enumerate(lines) if line[:1] in _FRAMES_BEGIN]
    found: list[Trace] = []
    at = 0
    while (near := bisect_right(frames, at)) < len(frames):
        at = max(at, frames[near] - _HEAD_LINES_MAX - 1)
        trace = _trace_at(lines, at)
        if trace is None:
            at += 1
        else:
            found.append(trace)
            at = trace.end
    return found


def told_by(rows: pa.Table) -> list[str | None]:
    """Return for each row the uid of the row that begins its stack trace, None where it begins or is in none.

    The rows may come in any order, of any files; those of one file and stream are taken to stand behind each other.
    A part that waits for its join and a piece of a long line are no lines of their own.
    """
    names = ("file_id", "log_iostream", "offset_start", "length", "part", "join_offset", "body")
    columns = list(zip(*(rows[name].to_pylist() for name in names), strict=True))
    told: list[str | None] = [None] * rows.num_rows
    own = uids(rows)
    for members in _streams(columns):
        for trace in traces([columns[row][6] or "" for row in members]):
            for row in members[trace.first + 1 : trace.end]:
                told[row] = own[members[trace.first]]
    return told


def _streams(
    columns: Sequence[tuple[str, str | None, int, int, str | None, int | None, str | None]],
) -> Iterable[list[int]]:
    """Yield the rows of each stream of each file in their order."""
    streams: dict[tuple[str, str | None], list[int]] = {}
    for row in sorted(range(len(columns)), key=lambda row: columns[row][2:4]):
        file_id, stream, _, _, part, joined, _ = columns[row]
        if part != "C" and not (part == "P" and joined is None):
            streams.setdefault((file_id, stream), []).append(row)
    return streams.values()


def _trace_at(lines: Sequence[str], first: int) -> Trace | None:
    """Return the trace that begins at ``first``, None where none does.

    Of several languages that a line may begin a trace of, the one whose trace is longest is right.
    """
    ends = [
        (end, rule.next.partition("_")[0])
        for rule in _BY_STATE[_START]
        if rule.line.search(lines[first]) and (end := _end_of(lines, first, rule.next)) > first
    ]
    if not ends:
        return None
    end, language = max(ends, key=lambda one: one[0])
    return Trace(first=first, end=end, language=_named(language, lines[first:end]))


def _end_of(lines: Sequence[str], first: int, state: str) -> int:
    """Return where a trace ends whose first line led to ``state``; ``first`` where no frame follows."""
    confirmed = first
    for at in range(first + 1, min(len(lines), first + LINES_MAX)):
        rule = next((rule for rule in _BY_STATE.get(state, ()) if rule.line.search(lines[at])), None)
        if rule is None or (confirmed == first and at - first > _HEAD_LINES_MAX):
            break
        state = rule.next
        if rule.confirms:
            confirmed = at + 1
        if state == _START:
            break
    return confirmed


def _named(language: str, lines: Sequence[str]) -> str:
    if language != "java":
        return language
    frames = [line for line in lines if line.lstrip().startswith(("at ", "eval at "))]
    if any(_C_SHARP.search(line) for line in frames):
        return "csharp"
    return "javascript" if any(_JAVASCRIPT.search(line) for line in frames) else "java"

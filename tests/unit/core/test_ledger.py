"""The chain: a line that is missing, doubled, changed or written otherwise breaks it."""

from __future__ import annotations

import pytest

from ashiato.core import ledger
from ashiato.core.errors import EvidenceError, RejectedError
from ashiato.core.ledger import Acknowledged, Beat, Born, Closed, Config, Gap, Head, Rotated, Span

STATEMENTS: list[ledger.Statement] = [
    Config(sha256="ab", incarnation="1"),
    Born(file_id="F", source="audit/c/n/x", path="/x\u3042", partition=3, topic="ashiato.priority"),
    Span(file_id="F", offset_start="0", offset_end="9", sha256="cd"),
    Gap(source="audit/c/n/x", reason="truncated", file_id="F", offset_start="9", offset_end=str(2**63)),
    Closed(file_id="F", source="audit/c/n/x", size="9", reason="unlinked"),
    Beat(
        watermark_unix_nano="1",
        moved=(Acknowledged(file_id="F", offset="9", incarnation="", topic="t", partition=3, position="7"),),
    ),
    Rotated(predecessor="ledger-000001.jsonl"),
]


def chain() -> list[bytes]:
    head, lines = Head(), []
    for at, statement in enumerate(STATEMENTS):
        line, head = ledger.append(head, statement, node="n", time_unix_nano=at, boot_nano=at)
        lines.append(line)
    return lines


def test_statements_read_back_and_the_chain_verifies() -> None:
    assert [ledger.decode(line).statement for line in chain()] == STATEMENTS
    assert ledger.verify_chain(chain()).n == len(STATEMENTS)


def test_a_line_is_canonical_json_on_one_line() -> None:
    first = chain()[0]
    assert first.startswith(b'{"boot_nano":"0","n":0,"node":"n","prev":"000')
    assert first.count(b"\n") == 1


@pytest.mark.parametrize("at", range(len(STATEMENTS)))
def test_a_chain_with_a_line_missing_doubled_or_changed_is_broken(at: int) -> None:
    lines = chain()
    missing, doubled = lines[:at] + lines[at + 1 :], lines[: at + 1] + lines[at:]
    changed = [*lines[:at], lines[at].replace(b'"time_unix_nano":"', b'"time_unix_nano":"9'), *lines[at + 1 :]]
    if at < len(lines) - 1:  # the last line's absence or change shows only in the line behind it, or in a beat
        for broken in (missing, changed):
            with pytest.raises(EvidenceError):
                ledger.verify_chain(broken)
    with pytest.raises(EvidenceError):
        ledger.verify_chain(doubled)


def test_a_line_that_is_not_canonical_is_refused() -> None:
    first, *rest = chain()
    with pytest.raises(EvidenceError):
        ledger.verify_chain([first.replace(b'":', b'": ', 1), *rest])


@pytest.mark.parametrize("line", [b"", b"{}", b"\xff", b"[]", chain()[0].replace(b'"v":2', b'"v":3')])
def test_what_is_no_ledger_line_is_rejected(line: bytes) -> None:
    with pytest.raises(RejectedError):
        ledger.decode(line)

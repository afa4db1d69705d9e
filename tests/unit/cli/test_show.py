"""What a person is shown of an answer."""

from __future__ import annotations

import io
from typing import Any

from ashiato.cli.show import coverage_sentences, entry, folded, print_records
from ashiato.cli.voice import safe


def output(number: int, **more: Any) -> dict[str, Any]:
    return {
        "log.record.uid": f"F-{number:016x}", "ashiato.timeline.kind": "output", "time_unix_nano": str(number * 10**9),
        "k8s.namespace.name": "shop", "k8s.pod.name": "web", "k8s.container.name": "app", "body": f"line {number}",
        **more,
    }  # fmt: skip


def test_no_terminal_obeys_what_came_out_of_a_log() -> None:
    hostile = "\x1b]0;owned\x07 \x1b[2J \u202eevil \x9b31m"

    shown = safe(hostile)

    assert shown.isprintable()
    assert "\\x1b]0;owned\\x07" in shown
    assert "\\u202e" in shown


def test_an_audit_event_reads_as_a_sentence() -> None:
    shown = entry({
        "ashiato.timeline.kind": "exec", "time_unix_nano": "1795295481663864000", "user.name": "system:sa",
        "event.action": "create", "ashiato.object.resource": "pods/exec", "ashiato.object.namespace": "shop",
        "ashiato.object.name": "web", "http.response.status_code": 101, "source.address": "203.0.113.66",
        "ashiato.audit.stage": "ResponseStarted",
    })  # fmt: skip

    assert shown.what == "system:sa create pods/exec shop/web -> 101 from 203.0.113.66 [ResponseStarted]"
    assert shown.where == "shop/pods/exec/web"


def test_a_run_of_plain_output_is_folded_and_counted() -> None:
    documents = [output(n) for n in range(10)]

    lines = list(folded(documents))

    assert lines == [documents[0], 8, documents[9]]


def test_an_error_and_a_security_event_are_never_folded() -> None:
    warning, alert = output(4, severity_number=13), {**output(8), "ashiato.timeline.kind": "alert"}
    documents = [*(output(n) for n in range(4)), warning, *(output(n) for n in range(5, 8)), alert]

    lines = list(folded(documents))

    assert warning in lines
    assert alert in lines
    assert sum(line if isinstance(line, int) else 1 for line in lines) == len(documents)


def test_an_incomplete_answer_names_what_is_missing() -> None:
    coverage = {
        "complete": False, "watermark_unix_nano": "1795295481000000000", "legs": ["tail", "archive"],
        "intervals": [
            {"source": "container/c/n/shop/web/u/app", "seen": "searched"},
            {"source": "container/c/n/shop/web/u/app", "seen": "gap", "reason": "truncated", "bytes": "12"},
        ],
        "findings": ["nothing locks this archive"],
    }  # fmt: skip

    sentences = list(coverage_sentences(coverage))

    assert sentences[0].startswith("coverage: NOT complete up to 2026-11-21 21:11:21.000 UTC; 1 source searched")
    assert "gap (truncated), 12 bytes: container/c/n/shop/web/u/app" in sentences[1]
    assert "nothing locks this archive" in sentences[2]


def test_off_a_terminal_each_record_is_one_plain_line() -> None:
    out = io.StringIO()

    print_records([output(1), output(2)], {"complete": True, "intervals": [], "legs": ["tail"]}, out=out, fold=True)

    lines = out.getvalue().splitlines()
    assert lines[0] == "1970-01-01 00:00:01.000  output     shop/web/app  line 1"
    assert lines[-1].startswith("coverage: complete")


def read(number: int, **more: Any) -> dict[str, Any]:
    return {
        "ashiato.timeline.kind": "audit", "time_unix_nano": str(number * 10**9), "user.name": "system:sa",
        "event.action": "get", "ashiato.object.resource": "configmaps", "ashiato.object.name": "settings",
        "http.response.status_code": 200, **more,
    }  # fmt: skip


def test_a_read_that_is_repeated_is_folded_and_counted() -> None:
    documents = [read(n) for n in range(30)]

    assert list(folded(documents)) == [documents[0], documents[1], 27, documents[29]]


def test_a_refused_read_a_write_and_a_read_of_secrets_are_always_told() -> None:
    refused = [read(n, **{"http.response.status_code": 403}) for n in range(9)]
    written = [read(n, **{"event.action": "patch"}) for n in range(9)]
    secret = [read(n, **{"ashiato.object.resource": "secrets"}) for n in range(9)]

    assert list(folded([*refused, *written, *secret])) == [*refused, *written, *secret]


def test_a_line_break_in_a_name_forges_no_line() -> None:
    shown = entry(output(1, **{"k8s.pod.name": "web\n1970-01-01 00:00:02.000  alert  forged", "body": "a\nb\r"}))

    assert "\n" not in shown.where
    assert shown.what == "a\\nb\\x0d"


def test_what_is_no_character_is_written_out() -> None:
    assert safe("\udcff") == "\\udcff"


def test_an_answer_that_lacks_much_says_how_much_and_names_some() -> None:
    interval = {"source": "container/c/n/shop/web/u/app", "seen": "pending", "reason": "no_beat"}
    coverage = {"complete": False, "legs": ["archive"], "intervals": [interval] * 1000}

    sentences = list(coverage_sentences(coverage))

    assert len(sentences) == 22
    assert "980 more" in sentences[-1]

"""What lines of every named format say: severity, time, ids and who did what to which object."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ashiato.core.ids import Kind, Source
from ashiato.core.render import render_file
from ingest.rows import build_rows
from tests.unit.ingest.files import PLAIN, admitted, chunks, cri

TRACE = "0123456789abcdef0123456789abcdef"


def rows_of(lines: list[str] | list[bytes], source: Source = PLAIN) -> list[dict[str, Any]]:
    content = b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines)
    rows, _, _ = build_rows(admitted(chunks(content, source=source)), {})
    assert render_file(rows) == content
    return rows.to_pylist()


def row_of(line: str | bytes, kind: Kind = Kind.FILE) -> dict[str, Any]:
    source = Source(kind=kind, cluster="c1", node="node-1", path="x")
    (row,) = rows_of([line] if isinstance(line, bytes) else [line.encode()], source)
    return row


@pytest.mark.parametrize(
    ("line", "severity"),
    [
        ('{"level":"warn","msg":"zap, zerolog, logrus"}', 13),
        ('{"level":50,"msg":"pino"}', 17),
        ('{"@t":"2026-11-25T12:00:00Z","@l":"Fatal","@m":"serilog"}', 21),
        ('{"log.level":"error","message":"ecs"}', 17),
        ('{"log":{"level":"debug"},"message":"ecs, nested"}', 5),
        ('{"levelname":"CRITICAL","message":"python"}', 18),
        ('{"levelno":30,"message":"python"}', 13),
        ('{"version":"1.1","short_message":"gelf","level":3}', 17),
        ('{"PRIORITY":"4","MESSAGE":"journald"}', 13),
        ('{"t":{"$date":"2026-11-25T12:00:00.5Z"},"s":"W","c":"NETWORK","msg":"mongodb"}', 13),
        ('{"t":{"$date":"2026-11-25T12:00:00.5Z"},"s":"D2","c":"NETWORK","msg":"mongodb"}', 5),
        ('{"severity":"NOTICE","message":"cloud logging"}', 10),
        ('{"SeverityNumber":11,"Body":"otel"}', 11),
        ('{"LogLevel":"Information","Message":"dotnet"}', 9),
        ('{"level":"loud"}', None),
        ('{"level":true}', None),
        ('{"level":{"a":1},"lvl":"error"}', 17),
        ("I1121 21:08:56.089641       1 settle.go:88] klog", 9),
        ("F1121 21:08:56.089641       1 settle.go:88] klog", 21),
        ("E no klog, and no level", None),
        ("level=error msg=logfmt", 17),
        ('ts=2026-11-25T12:00:00.5Z caller=main.go:5 level=info msg="logfmt"', 9),
        ('time="2026-11-25T12:00:00Z" level="warning" msg=quoted', 13),
        ("[2016-12-20 00:00:38,325] INFO Deleting segment (kafka.log.Log)", 9),
        ("2015-07-29 17:41:44,747 - WARN  [QuorumPeer] - Zookeeper", 13),
        ("081109 203615 148 INFO dfs.DataNode$PacketResponder: HDFS", 9),
        ("2026/11/25 12:00:00 [error] 31#31: *1 nginx", 17),
        ("ERROR: it begins with the word", 17),
        ("SEVERE: java.util.logging", 17),
        ("12:00:00.123 [main] DEBUG c.e.App - logback", 5),
        ("2026-11-25 12:00:00.123 UTC [42] FATAL:  postgres", 21),
        ("TRACE and then ERROR: the first counts", 1),
        ("an error in a sentence tells nothing", None),
        ("GET /INFORMATION/ERRORS nothing", None),
        ("what=error is no level", None),
        ("", None),
        ("x" * 70 + " ERROR far behind the head", None),
    ],
)
def test_a_severity_is_one_number_however_it_was_written(line: str, severity: int | None) -> None:
    assert row_of(line)["severity_number"] == severity
    (in_container,) = rows_of([cri(line, at=1)[:-1]], Source.parse("container/c/n/ns/p/u/c"))
    assert in_container["severity_number"] == severity
    assert in_container["time_uncertainty_ns"] == 1


@pytest.mark.parametrize(
    ("line", "time", "uncertainty"),
    [
        ('{"ts":"2026-11-25T12:00:00.123456789Z"}', 1_795_608_000_123_456_789, 1),
        ('{"ts":1795608000.1234567}', 1_795_608_000_123_456_700, 100),
        ('{"ts":1795608000}', 1_795_608_000_000_000_000, 10**9),
        ('{"time":1795608000123}', 1_795_608_000_123_000_000, 10**6),
        ('{"time":1795608000123456}', 1_795_608_000_123_456_000, 10**3),
        ('{"time":1795608000123456789}', 1_795_608_000_123_456_789, 1),
        ('{"@timestamp":"2026-11-25T21:00:00.5+0900"}', 1_795_608_000_500_000_000, 10**8),
        ('{"t":{"$date":"2026-11-25T12:00:00.500+00:00"}}', 1_795_608_000_500_000_000, 10**6),
        ('{"time":"2026-11-25 12:00:00"}', None, None),
        ('{"time":1e400}', None, None),
        ('{"time":-5}', None, None),
        ('1.2.3.4 - - [25/Nov/2026:21:00:00 +0900] "GET / HTTP/1.1" 200 5', 1_795_608_000_000_000_000, 10**9),
        ('[2026-11-25T12:00:00.310Z] "GET / HTTP/2" 204 - 154', 1_795_608_000_310_000_000, 10**6),
        ("2026-11-25T12:00:00Z INFO up", 1_795_608_000_000_000_000, 10**9),
        ("ts=2026-11-25T12:00:00.5Z level=info", 1_795_608_000_500_000_000, 10**8),
        ("2015-07-29 17:41:44,747 - INFO no zone, no time", None, None),
    ],
)
def test_a_time_is_an_integer_with_its_resolution(line: str, time: int | None, uncertainty: int | None) -> None:
    row = row_of(line)
    assert (row["time_unix_nano"], row["time_uncertainty_ns"]) == (time, uncertainty)


@pytest.mark.parametrize(
    "line",
    [
        f'{{"trace_id":"{TRACE.upper()}"}}',
        f'{{"traceId":"{TRACE}"}}',
        f'{{"traceparent":"00-{TRACE}-0123456789abcdef-01"}}',
        f'{{"logging.googleapis.com/trace":"projects/p/traces/{TRACE}"}}',
        f'{{"@tr":"{TRACE}"}}',
        f"level=info trace_id={TRACE} msg=x",
        f'level=info msg="a b" traceID="{TRACE}"',
    ],
)
def test_a_trace_id_is_found_under_each_of_its_names(line: str) -> None:
    assert row_of(line)["trace_id"] == TRACE


def test_access_lines_tell_status_address_and_user() -> None:
    lines = [
        '83.149.9.216 - - [17/May/2015:10:05:03 +0000] "GET /a.png HTTP/1.1" 200 203023 "http://a/" "Mozilla/5.0"',
        '2001:db8::1 - frank [10/Oct/2000:13:55:36 -0700] "POST /b HTTP/2.0" 503 2326',
        '[2016-04-15T20:17:00.310Z] "POST /api/v1/locations HTTP/2" 204 - 154 0 226 100 "10.0.35.28" "nsq2http"',
        'host.example - - [10/Oct/2000:13:55:36 -0700] "GET /c HTTP/1.0" 404',
        '10.0.0.1 - - "GET /unfinished HTTP/1.1" 20',
        'he said "HTTP/1.1" 200 times',
    ]
    told = [
        (row["event_name"], row["http_status_code"], row["source_address"], row["user_name"])
        for row in rows_of([cri(line, at=1)[:-1] for line in lines], Source.parse("container/c/n/ns/p/u/c"))
    ]
    assert told == [
        ("http.access", 200, "83.149.9.216", None),
        ("http.access", 503, "2001:db8::1", "frank"),
        ("http.access", 204, None, None),
        ("http.access", 404, None, None),
        (None, None, None, None),
        (None, None, None, None),
    ]


def test_a_joined_line_is_read_as_a_whole() -> None:
    log = [cri('{"msg":"long","le', part="P", at=1)[:-1], cri('vel":"error"}', at=2)[:-1]]
    part, whole = rows_of(log, Source.parse("container/c/n/ns/p/u/c"))
    assert (part["severity_number"], whole["severity_number"]) == (None, 17)


def test_docker_lines_are_read_like_others() -> None:
    line = json.dumps(
        {"log": '1.2.3.4 - - [x] "GET / HTTP/1.1" 500 1\n', "stream": "stderr", "time": "2026-11-25T12:00:00Z"}
    )
    (row,) = rows_of([line], Source.parse("container/c/n/ns/p/u/c"))
    assert (row["http_status_code"], row["source_address"], row["log_iostream"]) == (500, "1.2.3.4", "stderr")


# -- audit ---------------------------------------------------------------------------------------------------

EVENT = {
    "kind": "Event", "apiVersion": "audit.k8s.io/v1", "auditID": "a-1", "stage": "ResponseStarted", "verb": "create",
    "user": {"username": "eve"}, "sourceIPs": ["192.0.2.1"], "responseStatus": {"code": 101},
    "objectRef": {"resource": "pods", "subresource": "exec", "namespace": "shop", "name": "web-1"},
    "stageTimestamp": "2026-11-25T12:00:00.123456Z", "requestReceivedTimestamp": "2026-11-25T11:59:59.000000Z",
}  # fmt: skip
LATER = {**EVENT, "auditID": "a-2", "verb": "delete", "stageTimestamp": "2026-11-25T12:00:01.123456Z"}


def _told(row: dict[str, Any]) -> tuple[Any, ...]:
    names = ("event_action", "object_resource", "object_namespace", "object_name", "http_status_code", "user_name",
             "source_address", "audit_stage")  # fmt: skip
    return tuple(row[name] for name in names)


EXEC = ("create", "pods/exec", "shop", "web-1", 101, "eve", "192.0.2.1", "ResponseStarted")


def test_an_exec_is_told_by_the_moment_it_begins() -> None:
    row = row_of(json.dumps(EVENT), Kind.AUDIT)
    assert _told(row) == EXEC
    assert row["time_unix_nano"] == 1_795_608_000_123_456_000
    assert row["time_uncertainty_ns"] == 1_000


def test_an_old_event_without_version_or_stage_time_has_the_time_of_its_metadata() -> None:
    old = {key: value for key, value in EVENT.items() if "Timestamp" not in key and key != "apiVersion"}
    row = row_of(json.dumps({**old, "metadata": {"creationTimestamp": "2026-11-25T12:00:00Z"}}), Kind.AUDIT)
    assert row["time_unix_nano"] == 1_795_608_000_000_000_000
    assert row["time_uncertainty_ns"] == 10**9


@pytest.mark.parametrize(
    "line",
    [
        {"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": [EVENT]},
        {"messageType": "DATA_MESSAGE", "logGroup": "/aws/eks/c/cluster", "logEvents": [
            {"id": "1", "timestamp": 1_795_608_000_123, "message": json.dumps(EVENT)}]},
        {"timestamp": 1_795_608_000_123, "message": json.dumps(EVENT)},
        {"category": "kube-audit", "properties": {"log": json.dumps(EVENT), "pod": "kube-apiserver-1"}},
        {"records": [{"category": "kube-audit", "properties": {"log": json.dumps(EVENT)}}]},
    ],
)  # fmt: skip
def test_an_envelope_says_what_the_event_in_it_says(line: dict[str, Any]) -> None:
    row = row_of(json.dumps(line), Kind.AUDIT)
    assert _told(row) == EXEC
    assert row["flags"] == 0
    assert row["audit_id"] == "a-1"


def test_a_line_with_several_events_stays_one_row_that_says_what_they_agree_on() -> None:
    row = row_of(json.dumps({"kind": "EventList", "items": [EVENT, LATER]}), Kind.AUDIT)
    assert _told(row) == (None, *EXEC[1:])
    assert row["audit_id"] is None
    assert (row["time_unix_nano"], row["time_uncertainty_ns"]) == (1_795_608_000_123_456_000, 10**9)


def test_an_envelope_with_a_line_that_is_no_event_is_quarantined() -> None:
    line = {"messageType": "CONTROL_MESSAGE", "logEvents": [{"message": json.dumps(EVENT)}, {"message": '{"a":1}'}]}
    assert row_of(json.dumps(line), Kind.AUDIT)["flags"] == 8


def test_a_log_entry_of_gke_is_an_audit_event() -> None:
    entry = {
        "insertId": "i", "timestamp": "2026-11-25T12:00:00.5Z", "operation": {"id": "op", "first": True},
        "protoPayload": {
            "serviceName": "k8s.io", "methodName": "io.k8s.core.v1.pods.exec.create",
            "resourceName": "core/v1/namespaces/shop/pods/web-1/exec", "status": {"code": 7},
            "authenticationInfo": {"principalEmail": "eve@example.com"}, "requestMetadata": {"callerIp": "192.0.2.1"},
        },
    }  # fmt: skip
    row = row_of(json.dumps(entry), Kind.AUDIT)
    expected = ("create", "pods/exec", "shop", "web-1", 403, "eve@example.com", "192.0.2.1", "ResponseStarted")
    assert _told(row) == expected
    assert (row["audit_id"], row["time_unix_nano"]) == ("op", 1_795_608_000_500_000_000)


# -- falco, auditd -------------------------------------------------------------------------------------------


def test_falco_times_are_integers_of_ns() -> None:
    line = (
        '{"rule":"r","priority":"Critical","time":"2026-11-25T12:00:00Z","output_fields":'
        '{"evt.time":1795295413755812429,"k8s.pod.name":"<NA>","user.name":"root"}}'
    )
    row = row_of(line, Kind.FALCO)
    assert row["time_unix_nano"] == 1_795_295_413_755_812_429
    assert (row["severity_number"], row["object_name"], row["user_name"]) == (18, None, "root")


def test_auditd_records_keep_their_serial_and_what_they_tell() -> None:
    syscall = (
        'type=SYSCALL msg=audit(1492037291.036:59): arch=c000003e syscall=59 success=yes comm="grep" '
        'exe="/usr/bin/grep" key="user_commands"\x1dSYSCALL=execve AUID="andrew"'
    )
    path = "type=PATH msg=audit(1492037291.036:59): item=0 name=2F746D702F6120622E7368 inode=2512"
    login = (
        "node=n1 type=USER_LOGIN msg=audit(1492037291.036:60): pid=1 uid=0 "
        'msg=\'op=login acct="root" exe="/usr/sbin/sshd" addr=192.0.2.9 res=failed\''
    )
    lines = [syscall, path, login]
    rows = rows_of(lines, Source(kind=Kind.AUDITD, cluster="c1", node="n", path="x"))
    assert [row["audit_id"] for row in rows] == ["59", "59", "60"]
    assert rows[0]["time_unix_nano"] == 1_492_037_291_036_000_000
    names = ("event_name", "user_name", "event_action", "object_name", "source_address", "rule_name")
    assert [tuple(row[name] for name in names) for row in rows] == [
        ("auditd.syscall", "andrew", "execve", "/usr/bin/grep", None, "user_commands"),
        ("auditd.path", None, None, "/tmp/a b.sh", None, None),
        ("auditd.user_login", "root", "login", "/usr/sbin/sshd", "192.0.2.9", None),
    ]

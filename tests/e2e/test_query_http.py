"""The query service as a process of its own, asked over HTTP: answers, refusals, the access log, a clean end."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from ashiato.core.limits import QUERY_ROWS_MAX
from ashiato.standalone import toml
from tests.parts import certificates
from tests.unit.query.house import FACTS, INCIDENT, House, stripped

TOKEN = "a-token-that-nobody-guesses"
WEB: str = FACTS["web_deleted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    url: str
    root: Path
    process: subprocess.Popen[bytes]

    def client(self, token: str = TOKEN) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=60)

    def accesses(self) -> list[dict[str, Any]]:
        files = sorted((self.root / "access").glob("access-*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_bytes().splitlines()]


def settings(root: Path, **more: object) -> Path:
    token = root / "token"
    if not token.exists():
        token.write_text(TOKEN + "\n")
        token.chmod(0o600)
    table = {
        "archive": {"directory": str(root / "archive")},
        "tail_dir": str(root / "tail"),
        "access_dir": str(root / "access"),
        "token_file": str(token),
        "address_file": str(root / "address.json"),
        **more,
    }
    file = root / "settings.toml"
    file.write_text(toml({"query": table}))
    return file


def start(root: Path, **more: object) -> Running:
    with (root / "query.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "query", "--config", str(settings(root, **more))], stderr=log)
    deadline = time.monotonic() + 30
    address = root / "address.json"
    while not address.exists():
        assert process.poll() is None, (root / "query.log").read_text()
        assert time.monotonic() < deadline, "no address was written"
        time.sleep(0.05)
    return Running(url=json.loads(address.read_bytes())["url"], root=root, process=process)


def stop(running: Running) -> int:
    if running.process.poll() is None:
        running.process.send_signal(signal.SIGTERM)
    return running.process.wait(20)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("query")

    async def archived() -> None:
        house = await House(root).open()
        await house.take([INCIDENT], cluster="incident", node="control-plane")

    asyncio.run(archived())
    running = start(root)
    yield running
    stop(running)


def lines(answer: httpx.Response) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.content.endswith(b"\n")
    read = [json.loads(line) for line in answer.content.splitlines()]
    return read[:-1], read[-1]["coverage"]


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    assert told["status"] == status
    assert {"type", "title", "detail", "code"} <= told.keys()
    return told


# -- answers -------------------------------------------------------------------------------------------------


def test_pods_are_listed_with_the_moment_of_their_end(service: Running) -> None:
    with service.client() as client:
        records, coverage = lines(client.get("/v1/pods", params={"namespace": "shop"}))
        refused = client.get("/v1/pods", params={"at": "2026-11-21T21:10:00Z", "start": "2026-11-21"})
    assert WEB in {one["k8s.pod.name"] for one in records}
    assert [one["ashiato.pod.end"] for one in records if one["k8s.pod.name"] == WEB]
    assert coverage["intervals"]
    assert refused.status_code == 400


def test_a_timeline_is_records_and_then_its_coverage(service: Running) -> None:
    with service.client() as client:
        records, coverage = lines(client.get("/v1/timeline", params={"anchor": f"pod:shop/{WEB}"}))
    assert {"output", "exec", "alert", "lifecycle", "event", "audit"} == {
        one["ashiato.timeline.kind"] for one in records
    }
    assert coverage["complete"] is True
    assert {one["seen"] for one in coverage["intervals"]} == {"searched"}


def test_integers_of_64_bits_leave_as_strings(service: Running) -> None:
    with service.client() as client:
        records, coverage = lines(client.get("/v1/search", params={"q": "kind:container", "limit": 5}))
    assert len(records) == 5
    for record in records:
        assert isinstance(record["time_unix_nano"], str)
        assert isinstance(record["ashiato.offset"], str)
        assert isinstance(record["severity_number"], int) or "severity_number" not in record
    assert all(isinstance(one["bytes"], str) for one in coverage["intervals"])
    assert coverage["complete"] is False, "five of many rows are not all"


def test_parameters_and_a_body_ask_the_same(service: Running) -> None:
    asked: dict[str, str | int] = {"q": "rule:*", "order": "oldest_first", "limit": 10}
    with service.client() as client:
        by_get = lines(client.get("/v1/search", params=asked))
        by_post = lines(client.post("/v1/search", json=asked))
    assert by_get == by_post
    assert by_get[0][0]["security_rule.name"] == "Run shell untrusted"


def test_times_are_instants_or_nanoseconds(service: Running) -> None:
    instants = {"start": "2026-11-21T21:11:00Z", "end": "2026-11-21T21:11:10Z"}
    numbers = {"start": "1795295460000000000", "end": "1795295470000000000"}
    with service.client() as client:
        by_instant = lines(client.get("/v1/search", params={"q": "rule:*", **instants}))
        by_number = lines(client.get("/v1/search", params={"q": "rule:*", **numbers}))
    assert by_instant == by_number
    assert [one["security_rule.name"] for one in by_instant[0]] == ["Launch Privileged Container"]


def test_logs_are_bytes_with_their_coverage_in_a_header(service: Running) -> None:
    namespace, uid, node = FACTS["pods"][WEB]
    log = INCIDENT / f"{node}/var/log/pods/{namespace}_{WEB}_{uid}/web/0.log"
    with service.client() as client:
        raw = client.get("/v1/logs", params={"pod": WEB, "namespace": "shop", "raw": "true"})
        printed = client.get("/v1/logs", params={"pod": WEB})
    assert raw.content == log.read_bytes()
    assert printed.content == b"".join(map(stripped, log.read_bytes().splitlines(keepends=True)))
    assert printed.headers["content-type"] == "text/plain"
    assert json.loads(printed.headers["ashiato-coverage"])["complete"] is True


def test_every_route_is_in_the_openapi_document(service: Running) -> None:
    document = httpx.get(f"{service.url}/openapi.json").json()
    for route in ("/v1/search", "/v1/timeline", "/v1/logs"):
        assert set(document["paths"][route]) == {"get", "post"}
    assert httpx.get(f"{service.url}/docs").status_code == 200


def test_health_and_metrics_need_no_token_and_tell_nothing_of_what_is_held(service: Running) -> None:
    assert httpx.get(f"{service.url}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{service.url}/readyz").json() == {"status": "ok"}
    with service.client() as client:
        lines(client.get("/v1/search", params={"q": "db-credentials"}))
    metrics = httpx.get(f"{service.url}/metrics").text
    assert 'ashiato_query_questions_total{route="/v1/search",status="200"}' in metrics
    assert "db-credentials" not in metrics


# -- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header", [None, "Bearer wrong-token-of-some-length", "Basic dXNlcjpwYXNz", f"bearer{TOKEN}", ""]
)
def test_without_the_token_nothing_is_told(service: Running, header: str | None) -> None:
    headers = {"Authorization": header} if header is not None else {}
    for path in ("/v1/search", "/v1/timeline?anchor=pod:x", "/v1/logs?pod=x", "/nothing"):
        answer = httpx.get(f"{service.url}{path}", headers=headers)
        assert problem(answer, 401)["code"] == "unauthenticated"
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("/v1/search?q=(", 400, "character"),
        ("/v1/search?start=yesterday", 400, "not a time"),
        ("/v1/search?start=2026-11-25&end=2026-11-24", 400, "ends before it begins"),
        ("/v1/timeline?anchor=pod:x&start=1000&end=1000", 400, "ends before it begins"),
        (f"/v1/search?limit={QUERY_ROWS_MAX + 1}", 400, "limit"),
        ("/v1/search?limit=0", 400, "limit"),
        ("/v1/search?lmit=5", 400, "lmit"),
        ("/v1/timeline", 400, "anchor"),
        ("/v1/timeline?anchor=nonsense:x", 400, "no such kind"),
        ("/v1/logs?pod=nobody", 404, "not found"),
        ("/v1/logs?pod=" + WEB + "&container=nothing", 404, "not valid"),
        ("/v1/nothing", 404, "Not Found"),
    ],
)
def test_each_error_is_a_problem_that_says_what_to_change(service: Running, path: str, status: int, told: str) -> None:
    with service.client() as client:
        answer = client.get(path)
    assert told in problem(answer, status)["detail"]


def test_a_method_that_a_route_has_not_is_a_problem(service: Running) -> None:
    with service.client() as client:
        problem(client.delete("/v1/search"), 405)


def test_a_body_that_is_too_long_or_no_json_is_refused(service: Running) -> None:
    with service.client() as client:
        problem(client.post("/v1/search", content=b"{" + b" " * 70_000 + b"}"), 413)
        problem(client.post("/v1/search", content=b"{", headers={"Content-Type": "application/json"}), 400)
        assert "no JSON object" in problem(client.post("/v1/search", content=b"[" * 30_000), 400)["detail"]


def test_who_leaves_before_the_answer_is_no_failure_of_ours(service: Running) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    request = f"GET /v1/search?q=*&limit={QUERY_ROWS_MAX} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    for _ in range(20):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(request.encode())

    with service.client() as client:
        assert client.get("/v1/search", params={"q": "*", "limit": 1}).status_code == 200
        assert 'answer_failed_total{code="transient"}' not in client.get("/metrics").text


# -- the access log ------------------------------------------------------------------------------------------


def test_it_is_written_who_asked_what_and_never_a_token(service: Running) -> None:
    with service.client() as client:
        client.get("/v1/search", params={"q": "the question of this test", "limit": 3})
        client.post("/v1/timeline", json={"anchor": "pod:shop/of-this-test"})
    httpx.get(f"{service.url}/v1/search", params={"q": "asked by a stranger", "access_token": TOKEN})

    written = service.accesses()
    (search,) = [one for one in written if "the question of this test" in one["asked"]]
    (timeline,) = [one for one in written if "of-this-test" in one["asked"]]
    (refused,) = [one for one in written if "asked by a stranger" in one["asked"]]
    assert (search["path"], search["method"], search["status"], search["user"]) == ("/v1/search", "GET", 200, "token")
    assert json.loads(search["asked"]) == {"q": "the question of this test", "limit": "3"}
    assert (timeline["method"], json.loads(timeline["asked"])) == ("POST", {"anchor": "pod:shop/of-this-test"})
    assert (refused["status"], refused["user"]) == (401, "")
    for file in (service.root / "access").iterdir():
        assert TOKEN.encode() not in file.read_bytes()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert TOKEN.encode() not in (service.root / "query.log").read_bytes()


# -- the process ---------------------------------------------------------------------------------------------


def test_it_ends_cleanly_when_it_is_asked_to(tmp_path: Path) -> None:
    running = start(tmp_path)
    assert httpx.get(f"{running.url}/healthz").status_code == 200

    assert stop(running) == 0

    events = [json.loads(line)["event"] for line in (tmp_path / "query.log").read_bytes().splitlines()]
    assert events == ["service_started", "service_stopped"]
    assert not (tmp_path / "address.json").exists()


def test_an_archive_that_is_not_there_yet_is_waited_for_not_taken_for_empty(tmp_path: Path) -> None:
    running = start(tmp_path)
    try:
        with running.client() as client:
            told = problem(client.get("/v1/search"), 503)
            ready = client.get("/readyz").status_code
            asyncio.run(House(tmp_path).open())
            records, coverage = lines(client.get("/v1/search"))
    finally:
        stop(running)
    assert "no archive here" in told["detail"]
    assert str(tmp_path) not in told["detail"]
    assert ready == 503
    assert records == []
    assert coverage["complete"] is False
    assert coverage["intervals"][0]["seen"] == "unobservable"


def test_a_hot_index_that_is_not_there_costs_nothing_that_the_archive_has(service: Running, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
        running = start(
            tmp_path, archive={"directory": str(service.root / "archive")}, tail_dir="",
            opensearch={"urls": [nobody], "timeout_s": 5.0},
        )  # fmt: skip
        try:
            with running.client() as client:
                records, coverage = lines(client.get("/v1/search", params={"q": "rule:*"}))
        finally:
            stop(running)
    assert len(records) == 4
    assert any("the hot index does not answer" in finding for finding in coverage["findings"])
    assert coverage["legs"] == ["archive"]


def test_it_serves_tls_with_a_certificate_of_ours(tmp_path: Path) -> None:
    certificates.make(tmp_path)
    running = start(
        tmp_path, tls_certificate_file=str(tmp_path / "server.crt"), tls_key_file=str(tmp_path / "server.key")
    )
    try:
        assert running.url.startswith("https://")
        trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        assert httpx.get(f"{running.url}/healthz", verify=trusting).status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{running.url}/healthz")
    finally:
        stop(running)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"tls_certificate_file": "/nowhere.pem"}, "cannot serve TLS"),
        ({"token_file": ""}, "token_file"),
        ({"host": "192.0.2.1"}, "cannot listen"),
        ({"prot": 1}, "unknown query setting: prot"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path: Path, more: dict[str, object], told: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "query", "--config", str(settings(tmp_path, **more))], capture_output=True, check=False,
        timeout=30,
    )  # fmt: skip
    assert done.returncode == 2
    assert told in done.stderr.decode()


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = settings(tmp_path)
    (tmp_path / "token").chmod(0o644)
    done = subprocess.run(
        [sys.executable, "-m", "query", "--config", str(file)], capture_output=True, check=False, timeout=30
    )
    assert done.returncode == 2
    assert "chmod 600" in done.stderr.decode()

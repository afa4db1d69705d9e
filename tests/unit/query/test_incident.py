"""The recorded incident, imported and archived, asked about: the facts that a responder would look for."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from ashiato.core.errors import NotHeldError, RejectedError
from ashiato.core.query import Query, Term
from ashiato.core.query_text import parse
from query.answer import Answer
from query.engine import Engine, LogsRequest, TimelineRequest
from tests.unit.query.house import FACTS, INCIDENT, House, documents, seen, stripped

WEB: Final[str] = FACTS["web_deleted"]
EVIL: Final[str] = FACTS["evil"]

Documents = Sequence[Mapping[str, Any]]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    async def archived() -> Engine:
        house = await House(tmp_path_factory.mktemp("incident")).open()
        await house.take([INCIDENT], cluster="incident", node="control-plane")
        return house.engine()

    return asyncio.run(archived())


def log_of(pod: str) -> Path:
    namespace, uid, node = FACTS["pods"][pod]
    (log,) = INCIDENT.glob(f"{node}/var/log/pods/{namespace}_{pod}_{uid}/*/0.log")
    return log


def kind(records: Documents, name: str) -> Documents:
    return [record for record in records if record["ashiato.timeline.kind"] == name]


def bodies(records: Documents) -> list[Any]:
    return [json.loads(record["body"]) for record in records]


def nine_digits(line: bytes) -> bytes:
    """Return a line's time as kubelet prints it, with all nine digits."""
    head, _, fraction = line.partition(b" ")[0].removesuffix(b"Z").partition(b".")
    return head + b"." + fraction.ljust(9, b"0") + b"Z"


async def timeline(engine: Engine, anchor: str) -> tuple[Answer, Documents]:
    answer = await engine.timeline(TimelineRequest(anchor=anchor))
    return answer, documents(answer)


# -- the dead pod --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def web(engine: Engine) -> tuple[Answer, Documents]:
    return asyncio.run(timeline(engine, f"pod:shop/{WEB}"))


async def test_a_dead_pods_timeline_holds_every_line_that_it_wrote(web: tuple[Answer, Documents]) -> None:
    output = kind(web[1], "output")
    assert [record["body"].encode() + b"\n" for record in output] == [
        stripped(line) for line in log_of(WEB).read_bytes().splitlines(keepends=True)
    ]
    assert {record["k8s.pod.name"] for record in output} == {WEB}


async def test_it_tells_the_exec_into_it_and_tells_it_when_it_began(web: tuple[Answer, Documents]) -> None:
    execs = [record for record in kind(web[1], "exec") if record["ashiato.object.name"] == WEB]
    told = [record for record in execs if "ashiato.timeline.told_by" not in record]
    assert [(one["ashiato.audit.id"], one["ashiato.audit.stage"]) for one in told] == [
        ("ba2f0abb-67e2-47d5-bdcb-2b09bc7dc927", "ResponseStarted")
    ]
    assert told[0]["http.response.status_code"] == 101
    assert told[0]["user.name"] == "system:serviceaccount:shop:storefront"
    assert told[0]["source.address"] == "203.0.113.66"
    assert [one["ashiato.timeline.told_by"] for one in execs if one not in told] == [told[0]["log.record.uid"]]


async def test_an_exec_elsewhere_is_told_where_the_pods_own_account_did_it(web: tuple[Answer, Documents]) -> None:
    elsewhere = [one for one in kind(web[1], "exec") if one["ashiato.object.name"] != WEB]
    assert {(one["ashiato.object.name"], one["user.name"]) for one in elsewhere} == {
        (EVIL, "system:serviceaccount:shop:storefront")
    }


async def test_it_tells_what_falco_saw_in_it_and_in_no_other(web: tuple[Answer, Documents]) -> None:
    alerts = kind(web[1], "alert")
    assert [one["security_rule.name"] for one in alerts] == ["Run shell untrusted"]


async def test_it_tells_how_the_pod_came_and_went(web: tuple[Answer, Documents]) -> None:
    lifecycle = kind(web[1], "lifecycle")
    actions = [one["event.action"] for one in lifecycle]
    assert actions[0] == "ADDED"
    assert actions[-1] == "DELETED"
    assert {body["object"]["metadata"]["uid"] for body in bodies(lifecycle)} == {FACTS["pods"][WEB][1]}
    reasons = {body["object"]["reason"] for body in bodies(kind(web[1], "event"))}
    assert reasons == {"Scheduled", "Pulled", "Started", "Killing"}


async def test_it_tells_what_the_pods_account_did_within_its_life(web: tuple[Answer, Documents]) -> None:
    did = {
        (one["event.action"], one.get("ashiato.object.resource"), one.get("ashiato.object.name"))
        for one in kind(web[1], "audit")
        if one["user.name"] == "system:serviceaccount:shop:storefront"
    }
    assert ("get", "secrets", "db-credentials") in did
    assert ("create", "pods", EVIL) in did
    assert ("deletecollection", "events", None) in did
    assert ("delete", "pods", WEB) in did


async def test_one_row_tells_each_audit_event_and_the_others_point_at_it(web: tuple[Answer, Documents]) -> None:
    audit = [*kind(web[1], "audit"), *kind(web[1], "exec")]
    ids = {one["ashiato.audit.id"] for one in audit}
    tellers = [one for one in audit if "ashiato.timeline.told_by" not in one]
    assert len(tellers) == len(ids) < len(audit)
    uids = {one["log.record.uid"] for one in tellers}
    assert {one["ashiato.timeline.told_by"] for one in audit if one not in tellers} <= uids


async def test_it_is_in_the_total_order(web: tuple[Answer, Documents]) -> None:
    keys = [
        (
            int(one.get("time_unix_nano", one["observed_time_unix_nano"])), one["k8s.node.name"],
            one["ashiato.file.id"], int(one["ashiato.offset"]),
        )
        for one in web[1]
    ]  # fmt: skip
    assert keys == sorted(keys)
    assert len({one["log.record.uid"] for one in web[1]}) == len(web[1])


async def test_its_coverage_is_complete_and_names_every_source(web: tuple[Answer, Documents]) -> None:
    coverage = web[0].coverage
    assert coverage.complete
    assert seen(web[0]) == []
    kinds = [one.source.partition("/")[0] for one in coverage.intervals]
    assert kinds == ["audit", "container", "falco", "watch", "watch"]
    sizes = {one.source.partition("/")[0]: one.bytes for one in coverage.intervals}
    assert sizes["container"] == log_of(WEB).stat().st_size
    assert sizes["audit"] == (INCIDENT / "control-plane" / "audit.log").stat().st_size
    assert coverage.watermark_unix_nano is None
    assert "the archive is a folder: nothing there refuses deletion" in coverage.findings


# -- the privileged pod --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evil(engine: Engine) -> tuple[Answer, Documents]:
    return asyncio.run(timeline(engine, f"pod:{EVIL}"))


async def test_the_privileged_pods_timeline_tells_output_exec_alerts_and_its_end(
    evil: tuple[Answer, Documents],
) -> None:
    answer, records = evil
    assert [one["body"] for one in kind(records, "output")] == ["node-1 kubelet-client-current.pem copied"]
    assert {one["ashiato.audit.id"] for one in kind(records, "exec")} == {"0f978c07-30b4-4e3b-ae9f-28aa58b3330b"}
    assert [one["security_rule.name"] for one in kind(records, "alert")] == [
        "Launch Privileged Container", "Terminal shell in container", "Read sensitive file untrusted",
    ]  # fmt: skip
    assert [one["event.action"] for one in kind(records, "lifecycle")][-1] == "DELETED"
    assert answer.coverage.complete


async def test_its_creation_through_the_api_is_told(evil: tuple[Answer, Documents]) -> None:
    created = [one for one in kind(evil[1], "audit") if one["event.action"] == "create"]
    assert "4f26e252-8086-4e74-ac4c-38e02a47e728" in {one["ashiato.audit.id"] for one in created}


# -- other anchors -------------------------------------------------------------------------------------------


async def test_a_uid_tells_the_same_as_the_name(engine: Engine, web: tuple[Answer, Documents]) -> None:
    _, records = await timeline(engine, f"uid:{FACTS['pods'][WEB][1]}")
    assert records == web[1]


@pytest.mark.parametrize(
    ("anchor", "pods"),
    [
        ("workload:shop/deployment/storefront", {WEB, FACTS["web_kept"], FACTS["web_new"]}),
        ("workload:shop/replicaset/storefront-7d9c5b6f8", {WEB, FACTS["web_kept"], FACTS["web_new"]}),
        ("image:registry.example.com/shop/storefront", {WEB, FACTS["web_kept"], FACTS["web_new"]}),
    ],
)
async def test_a_workload_and_an_image_mean_all_their_pods(engine: Engine, anchor: str, pods: set[str]) -> None:
    _, records = await timeline(engine, anchor)
    assert {one["k8s.pod.name"] for one in kind(records, "output")} == pods


async def test_a_service_account_and_its_user_name_tell_what_it_did(engine: Engine) -> None:
    _, by_account = await timeline(engine, "sa:shop/storefront")
    _, by_user = await timeline(engine, "user:system:serviceaccount:shop:storefront")
    others = [one for one in by_account if one not in by_user]
    assert [one for one in by_account if one in by_user] == by_user
    with (INCIDENT / "expected.csv").open() as file:
        wanted = {
            row["auditID"] for row in csv.DictReader(file) if row["user"] == "system:serviceaccount:shop:storefront"
        }
    assert wanted <= {one["ashiato.audit.id"] for one in by_user}
    assert {one["user.name"] for one in by_user} == {"system:serviceaccount:shop:storefront"}
    assert {one["ashiato.object.name"] for one in others} == {WEB, FACTS["web_kept"], FACTS["web_new"]}
    assert kind(others, "output") == []
    assert {one["ashiato.timeline.kind"] for one in others} >= {"lifecycle", "event", "audit"}


async def test_an_address_tells_the_pod_that_had_it_and_when(engine: Engine) -> None:
    answer, records = await timeline(engine, "ip:10.244.1.14")
    uid = FACTS["pods"][FACTS["evil"]][1]
    assert {one["k8s.pod.name"] for one in kind(records, "output")} >= {FACTS["evil"]}
    assert kind(records, "exec")
    assert any(f"was pod shop/{FACTS['evil']} ({uid})" in finding for finding in answer.coverage.findings)


async def test_a_node_follows_the_pods_that_ran_there_without_their_output(engine: Engine) -> None:
    _, records = await timeline(engine, "node:node-1")
    acted = {one.get("ashiato.object.name") for one in [*kind(records, "audit"), *kind(records, "exec")]}
    assert {WEB, FACTS["evil"]} <= acted
    assert FACTS["web_kept"] not in {one.get("ashiato.object.name") for one in kind(records, "lifecycle")}
    assert kind(records, "output") == []


async def test_an_address_tells_who_came_from_it_and_who_wrote_of_it(engine: Engine) -> None:
    _, records = await timeline(engine, "ip:203.0.113.66")
    with (INCIDENT / "expected.csv").open() as file:
        wanted = {row["auditID"] for row in csv.DictReader(file) if row["source_ip"] == "203.0.113.66"}
    assert wanted <= {one.get("ashiato.audit.id") for one in records}
    assert WEB in {one.get("k8s.pod.name") for one in kind(records, "output")}


async def test_a_node_tells_its_alerts_and_its_cordon(engine: Engine) -> None:
    _, records = await timeline(engine, "node:node-1")
    assert len(kind(records, "alert")) == 4
    assert ("alice@example.com", "patch") in {
        (one["user.name"], one["event.action"])
        for one in kind(records, "audit")
        if one.get("ashiato.object.resource") == "nodes"
    }


async def test_a_pod_that_nothing_knows_gets_no_complete_answer_and_a_hint(engine: Engine) -> None:
    answer, records = await timeline(engine, f"pod:shop/{WEB[:-1]}")
    assert records == []
    assert not answer.coverage.complete
    assert any(WEB in finding for finding in answer.coverage.findings)
    assert ("container", "unobservable", "no_source", 0) in seen(answer)


async def test_a_window_narrows_a_timeline(engine: Engine, web: tuple[Answer, Documents]) -> None:
    exec_time = int(kind(web[1], "exec")[0]["time_unix_nano"])
    answer = await engine.timeline(
        TimelineRequest(
            anchor=f"pod:shop/{WEB}", time_start_unix_nano=exec_time, time_end_unix_nano=exec_time + 1_000_000_000
        )
    )
    whole = [one for one in web[1] if exec_time <= int(one["time_unix_nano"]) < exec_time + 1_000_000_000]
    assert documents(answer) == whole
    assert len(whole) > 1
    assert answer.coverage.complete


# -- search --------------------------------------------------------------------------------------------------


async def test_every_expected_audit_event_is_found_by_its_id(engine: Engine) -> None:
    with (INCIDENT / "expected.csv").open() as file:
        expected = list(csv.DictReader(file))
    assert len(expected) > 20
    for row in expected:
        answer = await engine.search(Query(where=Term(field="audit_id", value=row["auditID"])))
        last = next(one for one in documents(answer) if one["ashiato.audit.stage"] == row["last_stage"])
        assert last["user.name"] == row["user"]
        assert str(last["http.response.status_code"]) == row["code"]
        assert last["source.address"] == row["source_ip"]


async def test_a_search_over_everything_is_complete_and_counts_every_byte(engine: Engine) -> None:
    answer = await engine.search(Query(where=parse("*"), limit=100_000))
    held = sum(one.bytes for one in answer.coverage.intervals)
    files = [*INCIDENT.glob("node-*/var/log/**/*.*"), *INCIDENT.glob("control-plane/*"), *INCIDENT.glob("*.jsonl")]
    assert answer.coverage.complete
    assert held == sum(file.stat().st_size for file in files if file.is_file())


# -- logs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pod", sorted(FACTS["pods"]))
async def test_logs_are_the_bytes_that_kubectl_would_have_printed(engine: Engine, pod: str) -> None:
    lines = log_of(pod).read_bytes().splitlines(keepends=True)

    answer = await engine.logs(LogsRequest(pod=pod))

    assert answer.content == b"".join(stripped(line) for line in lines)
    assert answer.coverage.complete


async def test_raw_logs_are_the_files_own_bytes(engine: Engine) -> None:
    answer = await engine.logs(LogsRequest(pod=f"shop/{WEB}", raw=True))
    assert answer.content == log_of(WEB).read_bytes()


async def test_timestamps_stand_before_each_line(engine: Engine) -> None:
    answer = await engine.logs(LogsRequest(pod=WEB, namespace="shop", timestamps=True))
    lines = log_of(WEB).read_bytes().splitlines(keepends=True)
    assert answer.content == b"".join(nine_digits(line) + b" " + stripped(line) for line in lines)


async def test_a_pod_that_no_log_is_held_of_is_not_found(engine: Engine) -> None:
    with pytest.raises(NotHeldError, match="not found"):
        await engine.logs(LogsRequest(pod="nobody"))
    with pytest.raises(NotHeldError, match="previous terminated container"):
        await engine.logs(LogsRequest(pod=WEB, previous=True))
    with pytest.raises(NotHeldError, match="container nothing is not valid"):
        await engine.logs(LogsRequest(pod=WEB, container="nothing"))


async def test_a_limit_out_of_bounds_is_refused(engine: Engine) -> None:
    with pytest.raises(RejectedError, match="between 1 and"):
        await engine.search(Query(limit=100_001))

"""``collector watch`` against an API server that does what real ones were measured to do, and what they do at worst."""

from __future__ import annotations

import stat
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from ashiato.core.errors import SettingsError
from tests.parts import certificates
from tests.parts.apiserver import ApiServer, serving
from tests.parts.watcher import Watcher, pod, until

PODS = {"resources": ("pods",)}


def synced(watcher: Watcher, api: ApiServer) -> bool:
    return bool(watcher.lines("SYNC")) and set(watcher.standing()) == api.uids("pods")


# -- lists and watches ---------------------------------------------------------------------------------------


def test_what_is_there_and_what_happens_is_written(api: ApiServer, watcher: Watcher) -> None:
    api.put("pods", pod("web-1"))
    with watcher.running():
        until(lambda: synced(watcher, api))
        api.put("pods", pod("web-1", phase="Failed"))
        api.put("pods", pod("web-2"))
        api.delete("pods", "web-1", "shop")
        until(lambda: watcher.lines("DELETED"))

    told = [
        (line["type"], line["source"], line["object"]["metadata"]["name"])
        for line in watcher.lines()
        if line.get("source")
    ]
    assert told == [
        ("ADDED", "list", "web-1"), ("MODIFIED", "watch", "web-1"), ("ADDED", "watch", "web-2"),
        ("DELETED", "watch", "web-1"),
    ]  # fmt: skip
    assert not watcher.lines("GAP")
    assert [(line["object"]["reason"], line["object"]["mode"]) for line in watcher.lines("SYNC")] == [
        ("first", "watch_list")
    ]
    assert watcher.telemetry.value("relists_total", reason="first") == 1


def test_a_change_of_nothing_that_is_kept_is_not_written(api: ApiServer, watcher: Watcher) -> None:
    with watcher.running():
        until(lambda: watcher.lines("SYNC"))
        made = api.put("pods", pod("web-1"))
        again = {**made, "metadata": {**made["metadata"], "managedFields": [{"manager": "other"}]}}
        api.put("pods", again)
        api.put("pods", pod("web-2"))
        until(lambda: synced(watcher, api))

    assert [line["type"] for line in watcher.lines(resource="pods") if line.get("source")] == ["ADDED", "ADDED"]


def test_a_restart_goes_on_where_it_was_and_sees_what_came_and_went_meanwhile(api: ApiServer, watcher: Watcher) -> None:
    api.put("pods", pod("web-1"))
    with watcher.running():
        until(lambda: synced(watcher, api))

    api.put("pods", pod("brief"))
    api.delete("pods", "brief", "shop")
    api.delete("pods", "web-1", "shop")
    asked = len(api.requests)
    with watcher.running():
        until(lambda: len(watcher.lines("DELETED")) == 2)

    assert all("resourceVersion" in query for _, query in api.requests[asked:])
    assert len(watcher.lines("SYNC")) == 1
    assert not watcher.lines("GAP")
    assert [line["object"]["metadata"]["name"] for line in watcher.lines("DELETED")] == ["brief", "web-1"]


def test_a_first_list_that_a_crash_cut_short_is_a_gap(api: ApiServer, watcher: Watcher) -> None:
    api.faults.no_watch_list = True
    for name in ("goes", "stays"):
        api.put("pods", pod(name))
    api.faults.status_after_pages = 1
    with watcher.running(page_objects=1):
        until(lambda: watcher.telemetry.value("watch_broken_total", resource="pods") >= 2)
    assert list(watcher.standing().values()) == ["goes"]

    api.delete("pods", "goes", "shop")
    api.faults.status_after_pages = 0
    with watcher.running():
        until(lambda: synced(watcher, api))

    (gap,) = watcher.lines("GAP")
    assert gap["object"]["reason"] == "first"
    assert [line["source"] for line in watcher.lines("DELETED")] == ["absence"]


@pytest.mark.parametrize("streams", [True, False], ids=["watch_list", "paged_list"])
def test_pods_that_went_while_the_watch_was_away_are_a_gap(api: ApiServer, watcher: Watcher, *, streams: bool) -> None:
    api.faults.no_watch_list = not streams
    for name in ("stays", "goes"):
        api.put("pods", pod(name))
    with watcher.running():
        until(lambda: synced(watcher, api))

    gone = next(uid for uid, name in watcher.standing().items() if name == "goes")
    api.put("pods", pod("brief"))
    api.delete("pods", "brief", "shop")
    api.delete("pods", "goes", "shop")
    api.compact()
    with watcher.running():
        until(lambda: len(watcher.lines("SYNC")) == 2)

    (gap,) = watcher.lines("GAP")
    (ended,) = watcher.lines("DELETED")
    assert gap["object"]["reason"] == "expired"
    assert gap["object"]["resource"] == "pods"
    assert int(gap["object"]["from_unix_nano"]) < int(gap["object"]["to_unix_nano"])
    assert (ended["object"]["metadata"]["uid"], ended["source"]) == (gone, "absence")
    assert ended["end_unknown"] == {
        "from_unix_nano": gap["object"]["from_unix_nano"], "to_unix_nano": gap["object"]["to_unix_nano"]
    }  # fmt: skip
    assert set(watcher.standing()) == api.uids("pods")
    assert watcher.telemetry.value("relists_total", reason="expired") == 1
    assert watcher.telemetry.value("watch_gap_seconds_total") > 0
    assert "brief" not in {line["object"].get("metadata", {}).get("name") for line in watcher.lines()}


@pytest.mark.parametrize("status", [410, 500, 429, 503, 401])
def test_an_error_of_the_server_ends_no_watch_for_good(api: ApiServer, watcher: Watcher, status: int) -> None:
    with watcher.running():
        until(lambda: watcher.lines("SYNC"))
        api.faults.status["pods"] = status
        api.break_off()
        until(lambda: watcher.telemetry.value("watch_broken_total", resource="pods") >= 2)
        api.put("pods", pod("web-1"))
        api.faults.status.clear()
        until(lambda: synced(watcher, api))

    assert len(watcher.lines("GAP")) == (1 if status == 410 else 0)


def test_an_error_500_within_the_stream_is_no_reason_to_list(api: ApiServer, watcher: Watcher) -> None:
    with watcher.running():
        until(lambda: watcher.lines("SYNC"))
        api.faults.stream_error["pods"] = 500
        api.break_off()
        until(lambda: not api.faults.stream_error)
        api.put("pods", pod("web-1"))
        until(lambda: synced(watcher, api))

    assert len(watcher.lines("SYNC")) == 1


@pytest.mark.parametrize("fault", ["no_watch_list", "forbid_watch_list", "ignore_watch_list"])
def test_a_server_that_streams_no_lists_is_read_in_pages(api: ApiServer, watcher: Watcher, fault: str) -> None:
    setattr(api.faults, fault, True)
    for number in range(7):
        api.put("pods", pod(f"web-{number}"))
    with watcher.running(page_objects=3, silence_s=0.3):
        until(lambda: watcher.lines("SYNC"))

    assert watcher.lines("SYNC")[0]["object"]["mode"] == "paged_list"
    assert watcher.lines("SYNC")[0]["object"]["objects"] == 7
    assert len([query for _, query in api.requests if query.get("limit") == "3"]) == 3
    assert synced(watcher, api)


def test_a_page_that_is_gone_makes_one_list_without_pages(api: ApiServer, watcher: Watcher) -> None:
    api.faults.no_watch_list = True
    api.faults.gone_after_pages = 2
    for number in range(7):
        api.put("pods", pod(f"web-{number}"))
    with watcher.running(page_objects=3):
        until(lambda: watcher.lines("SYNC"))

    assert synced(watcher, api)
    assert len(watcher.lines("ADDED")) == 7
    assert len(watcher.lines("SYNC")) == 1


def test_an_event_that_breaks_off_is_read_again(api: ApiServer, watcher: Watcher) -> None:
    with watcher.running():
        until(lambda: watcher.lines("SYNC"))
        api.faults.garbage = True
        api.put("pods", pod("web-1"))
        until(lambda: synced(watcher, api))

    assert len(watcher.lines("ADDED")) == 1
    assert not watcher.lines("GAP")


def test_a_connection_whose_other_end_is_gone_is_given_up_after_silence(api: ApiServer, watcher: Watcher) -> None:
    with watcher.running(silence_s=0.3):
        until(lambda: watcher.lines("SYNC"))
        api.faults.hang = True
        api.put("pods", pod("web-1"))
        until(lambda: "nothing came for" in watcher.log.getvalue())
        api.faults.hang = False
        until(lambda: synced(watcher, api))

    assert len(watcher.lines("SYNC")) == 1
    assert not watcher.lines("GAP")


def test_a_server_that_ends_its_watches_is_normal(api: ApiServer, watcher: Watcher) -> None:
    with watcher.running():
        until(lambda: watcher.lines("SYNC"))
        for number in range(5):
            api.break_off()
            api.put("pods", pod(f"web-{number}"))
            until(lambda: synced(watcher, api))

    assert len(watcher.lines("SYNC")) == 1
    assert not watcher.lines("GAP")


def test_a_server_that_is_away_is_waited_for(api: ApiServer, watcher: Watcher) -> None:
    with watcher.running():
        until(lambda: watcher.lines("SYNC"))
        api.close()
        until(lambda: watcher.telemetry.value("watch_broken_total", resource="pods") >= 2)
        api.put("pods", pod("web-1"))
        api.start()
        until(lambda: synced(watcher, api))

    assert not watcher.lines("GAP")


def test_a_resource_that_may_not_be_read_degrades_alone_and_is_stated(api: ApiServer, tmp_path: Path) -> None:
    watcher = Watcher(tmp_path, kube_url=api.url, resources=("pods", "nodes"))
    api.faults.status["nodes"] = 403
    api.put("nodes", {"metadata": {"name": "n1"}})
    with watcher.running() as service:
        api.put("pods", pod("web-1"))
        until(lambda: synced(watcher, api))
        until(lambda: len(watcher.lines("GAP", resource="nodes")) >= 2)
        assert service.waits_for() == ""
        api.faults.status.clear()
        until(lambda: watcher.standing("nodes"))

    assert [line["object"]["status"] for line in watcher.lines("REFUSED")] == [403]
    gaps = [line["object"] for line in watcher.lines("GAP")]
    assert {(gap["resource"], gap["reason"]) for gap in gaps} == {("nodes", "forbidden")}
    assert all(one["to_unix_nano"] == other["from_unix_nano"] for one, other in pairwise(gaps))
    assert watcher.lines("REFUSED")[0]["observed_time_unix_nano"] == gaps[0]["from_unix_nano"]


@pytest.mark.parametrize("status", [403, 404])
def test_events_are_read_by_their_old_name_where_the_new_one_is_not_served(
    api: ApiServer, tmp_path: Path, status: int
) -> None:
    watcher = Watcher(tmp_path, kube_url=api.url, resources=("events",))
    api.faults.status["/apis/events.k8s.io/v1/events"] = status
    api.put("events", {"metadata": {"name": "e1", "namespace": "shop"}, "reason": "Killing"})
    with watcher.running():
        until(lambda: watcher.lines("ADDED"))

    assert watcher.lines("ADDED")[0]["object"]["reason"] == "Killing"
    assert watcher.lines("ADDED")[0]["object"]["apiVersion"] == "v1"
    assert not watcher.lines("REFUSED")


def test_events_that_expired_meanwhile_have_no_end_of_their_own(api: ApiServer, tmp_path: Path) -> None:
    watcher = Watcher(tmp_path, kube_url=api.url, resources=("events",))
    api.put("events", {"metadata": {"name": "e1", "namespace": "shop"}, "reason": "Killing"})
    with watcher.running():
        until(lambda: watcher.lines("ADDED"))
    api.delete("events", "e1", "shop")
    api.compact()
    with watcher.running():
        until(lambda: len(watcher.lines("SYNC")) == 2)

    assert not watcher.lines("DELETED")
    assert len(watcher.lines("GAP")) == 1


def test_of_service_accounts_the_metadata_alone_is_asked_for(api: ApiServer, tmp_path: Path) -> None:
    watcher = Watcher(tmp_path, kube_url=api.url, resources=("serviceaccounts",))
    api.faults.no_watch_list = True
    api.put("serviceaccounts", {"metadata": {"name": "web", "namespace": "shop"}, "secrets": [{"name": "web-token"}]})
    with watcher.running():
        until(lambda: watcher.lines("SYNC"))

    assert set(api.accepts) == {
        "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
    }
    (line,) = watcher.lines("ADDED")
    assert line["object"]["kind"] == "ServiceAccount"
    assert "secrets" not in line["object"]


def test_an_object_of_another_form_is_written_by_its_metadata(api: ApiServer, watcher: Watcher) -> None:
    odd = pod("odd")
    odd["spec"]["containers"] = "none"
    api.put("pods", odd)
    api.put("pods", pod("web-1"))
    with watcher.running():
        until(lambda: synced(watcher, api))

    (line,) = (line for line in watcher.lines("ADDED") if line["object"]["metadata"]["name"] == "odd")
    assert "spec" not in line["object"]
    assert "containers" in line["unread"]
    assert watcher.telemetry.value("objects_unread_total", resource="pods") == 1


# -- being let in --------------------------------------------------------------------------------------------


def test_a_rotated_token_is_read_again(tmp_path: Path) -> None:
    certificates.make(tmp_path)
    token = tmp_path / "token"
    token.write_text("first\n")
    tls = {"certificate": tmp_path / "server.crt", "key": tmp_path / "server.key"}
    with serving(tokens={"first"}, **tls) as api:
        watcher = Watcher(
            tmp_path / "w", kube_url=api.url, token_file=str(token), ca_file=str(tmp_path / "ca.pem"), **PODS
        )
        with watcher.running():
            until(lambda: watcher.lines("SYNC"))
            api.tokens = {"second"}
            api.break_off()
            until(lambda: watcher.telemetry.value("watch_broken_total", resource="pods") >= 1)
            api.put("pods", pod("web-1"))
            token.write_text("second\n")
            until(lambda: synced(watcher, api))

    assert len(watcher.lines("SYNC")) == 1
    assert b"second" not in watcher.content()
    assert "second" not in watcher.log.getvalue()


def test_a_server_whom_nobody_vouches_for_is_told_nothing(tmp_path: Path) -> None:
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        certificates.make(tmp_path / name)
    token = tmp_path / "token"
    token.write_text("secret")
    theirs = tmp_path / "theirs"
    with serving(certificate=theirs / "server.crt", key=theirs / "server.key") as api:
        ca_file = str(tmp_path / "ours" / "ca.pem")
        watcher = Watcher(tmp_path / "w", kube_url=api.url, token_file=str(token), ca_file=ca_file, **PODS)
        with watcher.running():
            until(lambda: "CERTIFICATE_VERIFY_FAILED" in watcher.log.getvalue())

        assert api.requests == []


def test_two_watchers_do_not_share_a_state(watcher: Watcher) -> None:
    with watcher.running():
        until(lambda: watcher.lines("SYNC"))

        with pytest.raises(SettingsError, match="another watcher runs"):
            watcher.make().run(threading.Event())


# -- what is written -----------------------------------------------------------------------------------------


def test_no_value_of_an_environment_leaves_the_process(api: ApiServer, watcher: Watcher) -> None:
    told = pod("web-1", env="correct horse battery staple")
    told["metadata"]["annotations"] = {
        "kubectl.kubernetes.io/last-applied-configuration": '{"env":"correct horse battery staple"}',
        "unknown.example.com/note": "correct horse battery staple",
        "kubectl.kubernetes.io/default-container": "web",
    }
    api.put("pods", told)
    api.put("pods", pod("web-2", env="correct horse battery staple"))
    with watcher.running():
        until(lambda: synced(watcher, api))

    one, other = (line["object"]["spec"]["containers"][0]["env"][0] for line in watcher.lines("ADDED"))
    files = [path for path in watcher.root.rglob("*") if path.is_file()]
    assert one["name"] == "TOKEN"
    assert one["hmac"] == other["hmac"]
    assert not any(b"correct horse" in path.read_bytes() for path in files)
    assert "correct horse" not in watcher.log.getvalue()
    annotations = watcher.lines("ADDED")[0]["object"]["metadata"]["annotations"]
    assert annotations["kubectl.kubernetes.io/default-container"] == "web"
    assert annotations["kubectl.kubernetes.io/last-applied-configuration"].startswith("hmac:")
    assert len(annotations) == 2
    assert stat.S_IMODE((watcher.root / "state" / "values.key").stat().st_mode) == 0o600


def test_files_rotate_and_each_can_be_read_by_itself(api: ApiServer, watcher: Watcher) -> None:
    with watcher.running(rotate_bytes=4000, files_kept=1000):
        until(lambda: watcher.lines("SYNC"))
        for number in range(60):
            api.put("pods", pod(f"web-{number % 3}", phase=f"Phase{number}"))
            until(lambda: f'"Phase{number}"'.encode() in watcher.content())  # noqa: B023 - within its turn

    paths = sorted(watcher.folder.glob("watch-*.jsonl"))
    assert len(paths) > 3
    for number, path in enumerate(paths, start=1):
        lines = [msgspec.json.decode(raw) for raw in path.read_bytes().splitlines()]
        assert lines[0]["type"] == "FILE"
        assert lines[0]["object"]["number"] == number
        assert lines[0]["object"]["predecessor"] == (paths[number - 2].name if number > 1 else "")
        full = {line["spec_sha256"] for line in lines if "spec_sha256" in line and not line.get("spec_same")}
        assert {line["spec_sha256"] for line in lines if line.get("spec_same")} <= full


def test_the_oldest_files_go_when_there_are_enough(api: ApiServer, watcher: Watcher) -> None:
    with watcher.running(rotate_bytes=4000, files_kept=3):
        until(lambda: watcher.lines("SYNC"))
        for number in range(60):
            api.put("pods", pod(f"web-{number % 3}", phase=f"Phase{number}"))
            until(lambda: f'"Phase{number}"'.encode() in watcher.content())  # noqa: B023 - within its turn

    names = sorted(path.name for path in watcher.folder.glob("watch-*.jsonl"))
    assert len(names) == 3
    assert names[0] != "watch-000001.jsonl"
    assert watcher.telemetry.value("watch_files_removed_total") > 0


# -- at size -------------------------------------------------------------------------------------------------


def test_of_ten_thousand_pods_that_come_and_go_none_is_missing_outside_a_gap(api: ApiServer, watcher: Watcher) -> None:
    count, lives = 10_000, dict[str, list[int]]()

    def create(name: str) -> None:
        lives[name] = [time.time_ns(), time.time_ns() + 10**18]
        api.put("pods", pod(name))

    def delete(name: str) -> None:
        api.delete("pods", name, "shop")
        lives[name][1] = time.time_ns()

    for number in range(count // 2):
        create(f"web-{number}")
    with watcher.running(rotate_bytes=1 << 20, files_kept=1000):
        until(lambda: synced(watcher, api))
        for number in range(count // 2, count):
            create(f"web-{number}")
            delete(f"web-{number - count // 4}")
            if number % (count // 6) == 0:
                forget_what_happened(api, watcher, create, delete, number)
        until(lambda: synced(watcher, api))

    seen = {line["object"]["metadata"]["name"] for line in watcher.lines("ADDED")}
    gaps = [(int(gap["object"]["from_unix_nano"]), int(gap["object"]["to_unix_nano"])) for gap in watcher.lines("GAP")]
    unseen = lives.keys() - seen
    assert len(gaps) == 3
    assert unseen == {name for name in lives if name.startswith("brief")}
    for name in unseen:
        born, died = lives[name]
        assert any(start <= born and died <= end for start, end in gaps), name
    assert set(watcher.standing()) == api.uids("pods")


def forget_what_happened(
    api: ApiServer, watcher: Watcher, create: Callable[[str], None], delete: Callable[[str], None], number: int
) -> None:
    """Cut the watch off, let a pod come and go behind its back, and forget it before the watch is back."""
    syncs = len(watcher.lines("SYNC"))
    until(lambda: set(watcher.standing()) == api.uids("pods"))
    api.faults.status["pods"] = 503
    api.break_off()
    broken = watcher.telemetry.value("watch_broken_total", resource="pods")
    until(lambda: watcher.telemetry.value("watch_broken_total", resource="pods") > broken)
    create(f"brief-{number}")
    delete(f"brief-{number}")
    api.compact()
    api.faults.status.clear()
    until(lambda: len(watcher.lines("SYNC")) > syncs)

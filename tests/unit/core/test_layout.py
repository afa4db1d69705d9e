"""What a path, or what people saved, tells of a log."""

from __future__ import annotations

import pytest

from ashiato.core.ids import Kind
from ashiato.core.layout import age_key, kind_of_content, node_of, readable, recognise

POD = "pods/shop_web_1234/app"


@pytest.mark.parametrize(
    ("path", "source", "rotated", "compressed"),
    [
        (f"/var/log/{POD}/0.log", "container/c/n/shop/web/1234/app", "", False),
        (f"{POD}/3.log.20261124-101010", "container/c/n/shop/web/1234/app", ".20261124-101010", False),
        (f"x/{POD}/3.log.20261124-101010.gz", "container/c/n/shop/web/1234/app", ".20261124-101010", True),
        ("var/log/kubernetes/audit/audit.log", "audit/c/n/var/log/kubernetes/audit/audit.log", "", False),
        ("kube-apiserver-audit.log", "audit/c/n/kube-apiserver-audit.log", "", False),
        ("a/audit-2026-11-24T10-00-00.000.log", "audit/c/n/a/audit.log", "-2026-11-24T10-00-00.000", False),
        ("var/log/audit/audit.log.1", "auditd/c/n/var/log/audit/audit.log", ".1", False),
        ("falco/events.json", "falco/c/n/falco/events.json", "", False),
        ("falco/events.json-20261124.gz", "falco/c/n/falco/events.json", "-20261124", True),
        ("pods.watch.jsonl", "watch/c/n/pods.watch.jsonl", "", False),
        ("ledger-000012.jsonl", "ledger/c/n/ledger.jsonl", "-000012", False),
        ("access-000001.jsonl", "access/c/n/access.jsonl", "-000001", False),
        ("var/log/ashiato/watch/watch-000001.jsonl", "watch/c/n/var/log/ashiato/watch/watch.jsonl", "-000001", False),
        ("var/log/apiserver/watch-1.jsonl", "file/c/n/var/log/apiserver/watch-1.jsonl", "", False),
        ("var/log/syslog.2.gz", "file/c/n/var/log/syslog", ".2", True),
        ("var/log/syslog", "file/c/n/var/log/syslog", "", False),
    ],
)
def test_a_path_tells_source_and_rotation(path: str, source: str, rotated: str, *, compressed: bool) -> None:
    found = recognise(path, cluster="c", node="n")
    assert (str(found.source), found.rotated, found.compressed) == (source, rotated, compressed)


def test_all_rotations_of_a_docker_log_are_one_source() -> None:
    container = "ab" * 32
    paths = [f"containers/{container}/{container}-json.log{end}" for end in ("", ".1", ".2.gz")]
    found = [recognise(path, cluster="c", node="n") for path in paths]
    assert {str(f.source) for f in found} == {f"container/c/n/docker/{container[:12]}/{container}/{container[:12]}"}
    assert [f.rotated for f in found] == ["", ".1", ".2"]


def test_of_numbered_files_the_newest_is_the_live_one() -> None:
    numbered = {path: recognise(path, cluster="c", node="n").numbered for path in (
        "watch-000002.jsonl", "ledger-000002.jsonl", "pods.watch.jsonl", "docker.watch.jsonl.1",
    )}  # fmt: skip
    assert [path for path, is_numbered in numbered.items() if is_numbered] == [
        "watch-000002.jsonl",
        "ledger-000002.jsonl",
    ]


def test_the_restart_count_belongs_to_the_file() -> None:
    assert recognise(f"{POD}/7.log", cluster="c", node="n").restart_count == 7
    assert recognise("audit.log", cluster="c", node="n").restart_count == -1


def test_what_kubelet_is_still_compressing_is_no_container_log() -> None:
    assert recognise(f"{POD}/0.log.20261124-101010.tmp", cluster="c", node="n").source.kind is Kind.FILE


def test_rotations_sort_from_the_oldest_to_the_newest() -> None:
    assert sorted([".1", ".10", ".2"], key=age_key) == [".10", ".2", ".1"]
    times = [".20261124-101010", ".20261123-101010"]
    assert sorted(times, key=age_key) == times[::-1]


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b'{"kind":"Event","auditID":"1","stage":"RequestReceived"}\n', Kind.AUDIT),
        (b'start-up text\n{"rule":"r","priority":"Error","output":"o"}\n', Kind.FALCO),
        (b'{"type":"ADDED","object":{"kind":"Pod"}}\n', Kind.WATCH),
        (b'{"type":"FILE","object":{"kind":"File","number":2}}\n', Kind.WATCH),
        (b'{"type":"FILE","object":{"kind":"Other"}}\n{"type":[],"object":{}}\n', None),
        (b"node=a type=SYSCALL msg=audit(1364481363.243:24287): arch=c000003e\n", Kind.AUDITD),
        (b'{"n":0,"prev":"","statement":{},"boot_nano":"1"}\n', Kind.LEDGER),
        (b'{"type":"ADDED"}\n[1]\nnull\n"x"\n{"broken', None),
        (b"\xff\xfe{", None),
        (b"", None),
    ],
)
def test_content_tells_the_kind(head: bytes, kind: Kind | None) -> None:
    assert kind_of_content(head) is kind


def test_content_wins_over_the_name_but_never_over_a_container_path() -> None:
    falco = b'{"rule":"r","priority":"Error","output":"o"}\n'
    assert recognise("audit.log", cluster="c", node="n", head=falco).source.kind is Kind.FALCO
    assert recognise(f"{POD}/0.log", cluster="c", node="n", head=falco).source.kind is Kind.CONTAINER
    assert recognise("audit.log", cluster="c", node="n", head=b"plain text\n").source.kind is Kind.FILE


def test_a_folder_of_nodes_names_the_node() -> None:
    assert node_of("node-1/var/log/pods/x") == ("node-1", "var/log/pods/x")
    assert node_of("node-1/var/lib/docker/containers/x") == ("node-1", "var/lib/docker/containers/x")
    assert node_of("control-plane/audit.log") is None
    assert node_of("var/log/pods/x") is None


@pytest.mark.parametrize(
    "path", ["var/log/app\nx.log", "a\n", "\n", "var/log/pods/ns_p\nq_u/c\nd/0.log", "falco/\n.log"]
)
def test_a_name_may_hold_a_newline(path: str) -> None:
    found = recognise(path, cluster="c", node="n")

    assert "\n" in str(found.source)


def test_a_newline_behind_a_name_is_not_taken_for_its_end() -> None:
    found = recognise("var/log/pods/ns_p_u/c/0.log\n", cluster="c", node="n")

    assert found.source.kind is Kind.FILE


def test_a_name_that_is_no_utf8_is_told_as_text() -> None:
    assert readable(b"l\xc3\xb6g-\xff.log".decode("utf-8", "surrogateescape")) == "lög-\\xff.log"


def test_an_odd_type_beside_an_object_is_no_watch() -> None:
    assert kind_of_content(b'{"object": {}, "type": []}\n') is None

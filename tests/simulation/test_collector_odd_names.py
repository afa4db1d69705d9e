"""Whoever may write into a followed folder also names the files there: no name stops the collector."""

from __future__ import annotations

import os

from ashiato.core.ids import Kind
from tests.simulation.collector_node import Node, until

ODD = (b"new\nline.log", b"bad\xff\xfe.log", b"esc\x1b]0;x\x07.log", b"quote\"'`$x`\\.log", "足跡.log".encode())


async def test_files_of_odd_names_arrive_and_go_on_after_a_restart(node: Node) -> None:
    paths = [node.logs / os.fsdecode(name) for name in ODD]
    for path in paths:
        node.write(path, b"before\n")
    async with node.collector(all_files=True):
        await until(lambda: node.contents(Kind.FILE) == [b"before\n"] * len(ODD))
    for path in paths:
        node.write(path, b"after\n")
    async with node.collector(all_files=True):
        await until(lambda: node.contents(Kind.FILE) == [b"before\nafter\n"] * len(ODD))


async def test_a_pod_of_an_odd_name_keeps_its_facts(node: Node) -> None:
    log = node.pod_log(pod=os.fsdecode(b"we\nb\xff"))
    node.write(log, b"2026-11-25T01:00:00.000000001Z stdout F x\n")

    async with node.collector():
        await until(lambda: len(node.contents()) == 1)

    assert node.files()[0].source.pod == "we\nb\\xff"

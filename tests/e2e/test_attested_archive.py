"""From the node's signature to the archived byte: everything in the archive re-verifies, with nothing of the node left.

A collector follows logs that grow, rotate, shrink and are compressed, over a bus that loses replies; it is killed and
started again; the archiver commits in small steps. Then the ledger is read from the archive, not from the node.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import random
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from ashiato.adapters.archive_directory import DirectoryReader, DirectoryWriter
from ashiato.adapters.bus_memory import MemoryReader
from ashiato.adapters.clock import SystemClock
from ashiato.adapters.signer import open_existing_signer, verify_signature
from ashiato.adapters.telemetry import Telemetry
from ashiato.core import manifest
from ashiato.core.attest import SALT_BYTES, check_span, verify_ledger
from ashiato.core.errors import EvidenceError
from ashiato.core.ids import Kind
from collector.spans import Spans
from ingest.archiver import Archiver, ArchiverSettings
from tests.simulation.collector_node import FlakyWriter, HeldFile, Node, chunks_of, reassemble, until
from tests.simulation.house import Held, read_held

Salts = dict[str, set[tuple[int, bytes]]]


def lines(rng: random.Random, count: int) -> bytes:
    return b"".join(
        b"2026-11-24T10:00:00.%09dZ stdout F %s\n" % (n, rng.randbytes(rng.randrange(80)).hex().encode())
        for n in range(count)
    )


async def archive(node: Node) -> DirectoryReader:
    """Archive all that the bus holds, in commits of a few frames."""
    scratch = node.root / "scratch"
    scratch.mkdir(exist_ok=True)
    archiver = Archiver(
        ArchiverSettings(actor="ingest", commit_raw_bytes=200_000, commit_age_ns=1 << 62, poll_wait_ns=0),
        reader=MemoryReader(node.broker), archive=DirectoryWriter(node.root / "archive"), clock=SystemClock(),
        telemetry=Telemetry("ingest", stream=io.StringIO()), scratch=scratch,
    )  # fmt: skip
    await archiver.open()
    await archiver.drain()
    return DirectoryReader(node.root / "archive")


def salts_of(reader: DirectoryReader, held: Held) -> Salts:
    """Return the salts of all manifests; each must be one of a span that its own ranges touch."""
    salts: Salts = defaultdict(set)
    for pack in held.state.packs.values():
        content, _ = reader.get("evidence", pack.manifest_path, pack.manifest_version_id)
        for file in manifest.decode(content).files:
            for start, salt in file.salts:
                assert len(salt) == SALT_BYTES
                assert any(range_.end > start for range_ in file.ranges), "a salt of a span that lies elsewhere"
            salts[file.file_id].update(file.salts)
    return salts


async def until_kept(node: Node, length: int) -> None:
    await until(lambda: sum(map(len, node.contents())) >= length)


async def write_and_crash(node: Node, monkeypatch: pytest.MonkeyPatch) -> dict[Path, bytes]:
    """Play a life of logs over five starts of the collector, four of which end as by kill -9."""
    rng, written = random.Random(4), dict[Path, bytes]()
    for turn in range(5):
        writer = FlakyWriter(node.broker)
        with monkeypatch.context() as dies:
            if turn < 4:
                dies.setattr(Spans, "conclude", lambda *_: True)
            drain_s = 20.0 if turn == 4 else 0.0
            async with node.collector(writer, span_interval_s=0.05, drain_s=drain_s):
                for _ in range(6):
                    log = node.pod_log(pod=f"p{rng.randrange(4)}")
                    content = lines(rng, rng.randrange(1, 900))
                    node.write(log, content)
                    written[log] = written.get(log, b"") + content
                    writer.lose_replies = rng.randrange(3)
                    await asyncio.sleep(0)
                if turn < 4:
                    # It dies somewhere in the middle: when some of it is kept, or nothing, or all.
                    await until_kept(node, sum(map(len, written.values())) * turn // 4)
                for log in [log for log in written if log.name == "0.log"] * 2 if turn == 4 else ():
                    await until_kept(node, sum(map(len, written.values())))
                    content = lines(rng, 100)
                    node.write(log, content)
                    written[log] += content
                if turn == 4:
                    await until(lambda: sorted(node.contents()) == sorted(written.values()))
        if turn < 4:
            log = rng.choice(sorted(written))
            to = log.with_name(f"0.log.20261124-10000{turn}")
            written[to] = written.pop(log)
            log.rename(to)
            if turn % 2:
                to.with_name(to.name + ".gz").write_bytes(gzip.compress(to.read_bytes()))
                to.unlink()
    return written


async def test_every_archived_byte_re_verifies_from_the_archive_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(root=tmp_path)
    written = await write_and_crash(node, monkeypatch)
    key = open_existing_signer(node.state / "node.key").public_key
    reader = await archive(node)
    held = read_held(reader)
    salts = salts_of(reader, held)
    # the ledger, as the archive holds it: its files in the order of their births
    ids = {file.path: file_id for file_id, file in _held_ids(node).items() if file.source.kind is Kind.LEDGER}
    ledger = b"".join(held.of(ids[path]) for path in sorted(ids))
    account = verify_ledger(ledger.splitlines(), pinned=[key], verify=verify_signature)

    def read(file_id: str, start: int, end: int) -> Iterator[bytes]:
        yield held.of(file_id)[start:end]

    assert len(account.spans) > len(written)
    for span in account.spans:
        check_span(span, salts[span.file_id], read)
    # every archived byte of the logs is in a span, and every log is whole
    logs = {file_id for file_id, file in _held_ids(node).items() if file.source.kind is Kind.CONTAINER}
    assert sorted(held.of(file_id) for file_id in logs) == sorted(written.values())
    assert {file_id: account.files[file_id].attested_bytes for file_id in logs} == {
        file_id: len(held.of(file_id)) for file_id in logs
    }
    # and it can fail: one byte that differs is found
    span = account.spans[0]

    def read_changed(file_id: str, start: int, end: int) -> Iterator[bytes]:
        content = held.of(file_id)[start:end]
        yield bytes([content[0] ^ 1]) + content[1:]

    with pytest.raises(EvidenceError):
        check_span(span, salts[span.file_id], read_changed)


def _held_ids(node: Node) -> dict[str, HeldFile]:
    return reassemble(chunks_of(node.broker))

"""Whatever a file, its bus, its disk and its collector live through: every span verifies, and none leaves a hole."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ashiato.adapters.clock import FixedClock
from ashiato.adapters.signer import Ed25519Signer, verify_signature
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.attest import check_span, salts_touching, verify_ledger
from ashiato.core.chunk import Chunk
from ashiato.core.errors import TransientError
from ashiato.core.ids import TOPICS
from ashiato.core.ledger import Beat, Statement
from collector.bookmark import Bookmark
from collector.discovery import Root, sweep
from collector.followed import Followed
from collector.ledger_file import LedgerFile
from collector.open_span import Attester
from collector.registry import Registry
from collector.ship import take
from collector.spans import Spans
from tests.simulation.spans_held import ledger_lines

SIGNER = Ed25519Signer(b"k" * 32)
CHUNK, FRAME = 100, 300
CUT = 1000
INTERVAL_NS = 1000

WRITES = st.tuples(st.just("write"), st.integers(1, 40))
SENDS = st.tuples(st.just("send"), st.sampled_from(["kept", "kept", "small", "reply lost", "lost"]))
OTHERS = st.sampled_from(
    [("tick", ""), ("flush", ""), ("crash", ""), ("crash", ""), ("full", ""), ("room", ""), ("stop", "")]
)
Step = tuple[str, str | int]
STEPS = st.lists(st.one_of(WRITES, SENDS, SENDS, SENDS, OTHERS), max_size=60)


class FullLedger(LedgerFile):
    """A ledger on a disk that fills."""

    is_full = False

    def append(self, statements: Sequence[Statement]) -> None:
        if self.is_full and statements:
            raise TransientError("no room")
        super().append(statements)


@dataclass(kw_only=True)
class Life:
    """One file, and what follows it until the next crash."""

    root: Path
    clock: FixedClock = field(default_factory=lambda: FixedClock(unix_nano=1_700_000_000_000_000_000))
    held: bytes = b""
    salts: set[tuple[int, bytes]] = field(default_factory=set)
    written: int = 0
    position: int = 0

    @property
    def log(self) -> Path:
        return self.root / "logs/pods/shop_web_uid/c/0.log"

    def start(self) -> None:
        self.bookmark = Bookmark(self.root / "bookmark")
        self.ledger = FullLedger(
            self.root / "ledger", node="n", clock=self.clock, signer=SIGNER, durable_n=self.bookmark.contents.stated
        )
        self.telemetry = Telemetry("collector", stream=io.StringIO())
        self.spans = Spans(
            attester=Attester(secret=b"s" * 32, clock=self.clock), ledger=self.ledger, bookmark=self.bookmark,
            clock=self.clock, telemetry=self.telemetry, interval_ns=INTERVAL_NS,
        )  # fmt: skip
        self.registry = Registry(
            spans=self.spans, clock=self.clock, telemetry=self.telemetry, randomness=lambda size: b"r" * size,
            partitions=dict.fromkeys(TOPICS, 1), resent=False,
        )  # fmt: skip
        roots = [Root(path=self.root / "logs", cluster="c", node="n")]
        self.registry.carry_out(self.registry.plan(sweep(roots)))

    @property
    def file(self) -> Followed:
        (file,) = self.registry.files.values()
        return file

    def write(self, count: int) -> None:
        with self.log.open("ab") as log:
            for _ in range(count):
                self.written += 1
                log.write(b"2026-11-24T10:00:00.%09dZ stdout F x\n" % self.written)

    def send(self, outcome: str) -> None:
        file = self.file
        file.look(self.clock.monotonic_nano())
        taken = take(
            file, CHUNK if outcome == "small" else FRAME, at=file.cursor, ended=False, now_unix_nano=1, chunks_max=9
        )
        if not taken:
            return
        behind = taken[-1].behind
        if (head := file.guarded(behind)) is not None:
            self.bookmark.note(head)
            self.bookmark.flush()
        file.sent = max(file.sent, behind.offset)
        if outcome != "lost":
            for one in taken:
                self.archive(one.chunk)
        if outcome in ("kept", "small"):
            self.position += 1
            file.advance(behind, self.position, "bus")
            self.spans.kept([file])

    def archive(self, chunk: Chunk) -> None:
        """Trim, as ingest does: what came before is dropped, and the salt beside it."""
        end = len(self.held)
        assert chunk.offset_start <= end
        if chunk.offset_end > end:
            self.salts.update(salts_touching(chunk.file.salts, end, chunk.offset_end))
            self.held += chunk.payload[end - chunk.offset_start :]

    def step(self, does: str, how: str | int) -> None:
        self.clock.advance(INTERVAL_NS // 3)
        match does:
            case "write":
                self.write(int(how))
            case "send":
                self.send(str(how))
            case "tick":
                self.clock.advance(2_000_000_000)
                self.spans.tick(self.registry.files.values())
            case "flush":
                self.bookmark.flush()
            case "full" | "room":
                self.ledger.is_full = does == "full"
            case "stop":
                self.spans.conclude(self.registry.files.values())
                self.bookmark.flush()
                self.crash()
            case _:
                self.crash()

    def crash(self) -> None:
        self.close()
        self.start()

    def close(self) -> None:
        self.file.let_go()
        self.bookmark.close()
        self.ledger.close()

    def end(self) -> None:
        self.ledger.is_full = False
        while self.file.cursor.offset < self.log.stat().st_size:
            self.send("kept")
        self.clock.advance(2_000_000_000)
        assert self.spans.conclude(self.registry.files.values())
        self.ledger.append([Beat(watermark_unix_nano="1")])
        self.close()


KEPT: Step = ("send", "kept")
SMALL: Step = ("send", "small")
TICK: Step = ("tick", "")
CRASH: Step = ("crash", "")
DOUBTS: dict[str, list[Step]] = {
    "a frame is kept in silence, and its span is due": [KEPT, ("write", 5), ("send", "reply lost"), TICK, KEPT, TICK],
    "kept and not stated before a crash": [("write", 40), KEPT, KEPT, KEPT, CRASH, KEPT, TICK, KEPT, TICK],
    "more than a span before a crash": [
        ("write", 40),
        ("write", 30),
        KEPT,
        ("full", ""),
        TICK,
        *[KEPT] * 8,
        CRASH,
        *[KEPT, TICK] * 12,
    ],
    "more than before, in a second crash": [
        ("write", 40),
        ("write", 30),
        *[KEPT] * 3,
        ("send", "reply lost"),
        CRASH,
        *[KEPT] * 5,
        *[SMALL] * 2,
        ("send", "reply lost"),
        CRASH,
        *[KEPT] * 6,
        TICK,
        SMALL,
        TICK,
        SMALL,
        TICK,
    ],
}


@example(DOUBTS["a frame is kept in silence, and its span is due"])
@example(DOUBTS["kept and not stated before a crash"])
@example(DOUBTS["more than a span before a crash"])
@example(DOUBTS["more than before, in a second crash"])
@given(STEPS)
def test_c9_every_byte_is_in_a_span_that_verifies(steps: list[Step]) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as small:
        for module in ("tail", "followed", "ship"):
            small.setattr(f"collector.{module}.CHUNK_BYTES_TARGET", CHUNK)
        small.setattr("collector.spans.SPAN_CUT_BYTES", CUT)
        small.setattr("collector.spans.SPAN_SENT_BYTES", FRAME + 2 * CHUNK)
        life = Life(root=Path(folder))
        life.log.parent.mkdir(parents=True)
        life.write(3)
        life.start()
        for does, how in steps:
            life.step(does, how)
        life.end()

        content = life.log.read_bytes()
        account = verify_ledger(ledger_lines(life.root / "ledger"), pinned=[SIGNER.public_key], verify=verify_signature)
        (account_of,) = account.files.values()

        def read(_: str, start: int, end: int) -> Iterator[bytes]:
            yield life.held[start:end]

        for span in account.spans:
            check_span(span, life.salts, read)
        assert life.held == content
        assert (account_of.attested_bytes, account_of.unattested_bytes) == (len(content), 0)
        assert account_of.stated_end == len(content)
        assert life.telemetry.value("invariant_refused_total", number="C9") == 0

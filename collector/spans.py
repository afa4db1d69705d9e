"""Spans: what the bus keeps of a file is stated in the ledger, digest by digest, without a hole (C3, C9).

A span is cut at the acknowledged offset: when it is full, at every interval, before a gap of its file, when the file
closes and when the collector stops. The statement is durable before the bookmark moves to the span's end, and never
past it; what came behind it goes again after a crash, under the same start and so the same salt, and is trimmed.

No span is cut while bytes behind it may be on the bus already: they carry its salt. Where the ledger cannot be
written, files go on and their spans grow, so that nothing of them is left out when it can be written again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from ashiato.adapters.telemetry import Telemetry
from ashiato.core.errors import TransientError
from ashiato.core.invariants import C9, InvariantError, check
from ashiato.core.ledger import Gap, Span, Statement, Unattested
from ashiato.core.limits import SPAN_CUT_BYTES, SPAN_SENT_BYTES
from ashiato.core.ports import Clock
from collector.bookmark import Bookmark, Late, Remembered, Stated
from collector.followed import Followed
from collector.ledger_file import LedgerFile
from collector.open_span import Attester
from collector.span_events import RangeUnattested, SpansLate, SpansStated

RETRY_NS: Final = 1_000_000_000
SENT_BEFORE: Final = "sent by a release that stated no spans"
LATE_ACKNOWLEDGEMENT: Final = "the bus kept it when its gap was stated already"
NOT_ADDED_UP: Final = "its span did not add up"


@dataclass(slots=True, kw_only=True)
class Cut:
    """Statements, and the files that stand behind them once they are durable."""

    statements: list[Span | Unattested] = field(default_factory=list)
    files: list[Followed] = field(default_factory=list)


class Spans:
    """The spans of all files of a node."""

    def __init__(
        self,
        *,
        attester: Attester,
        ledger: LedgerFile,
        bookmark: Bookmark,
        clock: Clock,
        telemetry: Telemetry,
        interval_ns: int,
    ) -> None:
        self.attester = attester
        self.ledger = ledger
        self.bookmark = bookmark
        self._clock = clock
        self._telemetry = telemetry
        self._interval_ns = interval_ns
        self._ticked_nano = clock.monotonic_nano()
        self._is_ticked = True
        self._retry_nano = 0

    # -- when ------------------------------------------------------------------------------------------------

    def follow(self, file: Followed, remembered: Remembered, *, is_new: bool) -> None:
        """Begin to attest a file that is followed, or followed again: then more of it may be on the bus."""
        file.attester, file.stated = self.attester, file.cursor.offset
        if not remembered.attested:
            file.stated, file.unattested = 0, SENT_BEFORE
        if is_new:
            return
        # What a crash left on the bus has the salt of the span that begins here: it must lie in this span.
        sent_max = remembered.sent_max or file.cursor.offset + SPAN_CUT_BYTES + SPAN_SENT_BYTES
        file.sent = file.size if self.bookmark.contents.is_late else min(file.size, sent_max)
        if file.is_in_doubt:
            self.bookmark.note(remembered.acked(sent_max=file.sent + SPAN_SENT_BYTES))

    def kept(self, files: Iterable[Followed]) -> None:
        """Take in that the bus keeps more of ``files``: what is full or due is stated now."""
        due = []
        for file in files:
            if file.attester is None:
                continue
            self._check(file)
            if self._is_due(file):
                due.append(file)
        if due and self._clock.monotonic_nano() >= self._retry_nano:
            self._try(due)

    def tick(self, files: Iterable[Followed]) -> None:
        """State every open span, once in each interval; those with bytes under way follow when these are kept."""
        now = self._clock.monotonic_nano()
        if now - self._ticked_nano >= self._interval_ns:
            self._ticked_nano, self._is_ticked = now, False
        if not self._is_ticked and now >= self._retry_nano:
            self._is_ticked = self._try(files)

    def conclude(self, files: Iterable[Followed]) -> bool:
        """State every open span now, as far as it may be cut; return whether the ledger could be written."""
        return self._try(files)

    # -- for those who state other things in the same breath -----------------------------------------------------

    def before(self, statements: Sequence[Statement], files: Mapping[str, Followed]) -> Cut:
        """Return the spans to be stated before the gaps among ``statements``."""
        named = dict.fromkeys(statement.file_id for statement in statements if isinstance(statement, Gap))
        followed = [file for file_id in named if (file := files.get(file_id)) is not None]
        # Where nothing can be read any more, nothing goes again under another salt.
        gone = [file for file in followed if file.content is None or file.closing]
        cut = self.of(file for file in followed if file not in gone)
        last = self.of(gone, is_last=True)
        return Cut(statements=cut.statements + last.statements, files=cut.files + last.files)

    def of(self, files: Iterable[Followed], *, is_last: bool = False) -> Cut:
        """Return the open spans of ``files``, of those that may be cut; ``is_last``: nothing more comes of them."""
        cut = Cut()
        for file in files:
            if file.attester is None or file.cursor.offset <= file.stated:
                continue
            if is_last or not file.is_in_doubt:
                cut.statements += _statements(file)
                cut.files.append(file)
        return cut

    def settle(self, cut: Cut) -> None:
        """Take in that a cut is durable: the bookmark may follow (C3)."""
        if not cut.files:
            return
        for file in cut.files:
            file.stated, file.unattested = file.cursor.offset, ""
            file.cursor = replace(file.cursor, span=None)
            self.bookmark.note(file.acked())
        self.bookmark.note(Stated(n=self.ledger.head.n))
        if self.bookmark.contents.is_late:
            self.bookmark.note(Late(is_late=False))
        spans = [statement for statement in cut.statements if isinstance(statement, Span)]
        self._telemetry.emit(SpansStated(count=len(spans), raw_bytes=sum(map(_length, spans))))
        for statement in cut.statements:
            if isinstance(statement, Unattested):
                self._telemetry.emit(
                    RangeUnattested(
                        file_id=statement.file_id, offset=int(statement.offset_start), count=_length(statement),
                        reason=statement.reason,
                    )
                )  # fmt: skip

    def _try(self, files: Iterable[Followed]) -> bool:
        cut = self.of(files)
        try:
            self.ledger.append(cut.statements)
        except TransientError as error:
            self._retry_nano = self._clock.monotonic_nano() + RETRY_NS
            late = sum(map(_length, cut.statements))
            self._say_late()
            self._telemetry.emit(SpansLate(files=len(cut.files), late_bytes=late, error=str(error)))
            return False
        self.settle(cut)
        return True

    def _say_late(self) -> None:
        """Make durable, before more is sent, that what may be on the bus is not bounded by a span any more."""
        if not self.bookmark.contents.is_late:
            self.bookmark.note(Late(is_late=True))
        with contextlib.suppress(TransientError):
            self.bookmark.flush()

    def _is_due(self, file: Followed) -> bool:
        span = file.cursor.span
        if span is None:
            return file.cursor.offset > file.stated
        return span.length >= SPAN_CUT_BYTES or span.begun_monotonic_nano < self._ticked_nano

    def _check(self, file: Followed) -> None:
        """(C9) Stated, and open behind it, is exactly what is acknowledged; else the ledger says what is not."""
        span, offset = file.cursor.span, file.cursor.offset
        start, end = (span.start, span.end) if span is not None else (offset, offset)
        if start < file.stated and end == offset and (file.closing or file.content is None):
            file.unattested, file.cursor = LATE_ACKNOWLEDGEMENT, replace(file.cursor, span=None)
            return
        if file.unattested:
            return
        try:
            check(C9, start == file.stated and end == offset, file_id=file.facts.file_id, stated=file.stated,
                  span=start, acknowledged=offset)  # fmt: skip
        except InvariantError as error:
            self._telemetry.refused(error)
            file.unattested = NOT_ADDED_UP
            if start < file.stated or end != offset:
                file.cursor = replace(file.cursor, span=None)


def _statements(file: Followed) -> list[Span | Unattested]:
    """Return what is to be said of ``[stated, acknowledged)``: a span, and before it what no span covers."""
    span, offset = file.cursor.span, file.cursor.offset
    start = span.start if span is not None else offset
    told: list[Span | Unattested] = []
    if start > file.stated:
        told.append(
            Unattested(
                file_id=file.facts.file_id, source=file.facts.source, offset_start=str(file.stated),
                offset_end=str(start), reason=file.unattested or NOT_ADDED_UP,
            )
        )  # fmt: skip
    if span is not None and span.length:
        told.append(
            Span(
                file_id=file.facts.file_id, offset_start=str(span.start), offset_end=str(span.end), sha256=span.sha256,
                incarnation=file.incarnation, partition=file.partition.number, position=str(file.position),
            )
        )  # fmt: skip
    return told


def _length(statement: Span | Unattested) -> int:
    return int(statement.offset_end) - int(statement.offset_start)

"""What the nodes' ledgers say, folded: births, ends, acknowledged offsets, gaps and watermarks.

Folding is idempotent and does not depend on order, so rows may come from packs, tail and hot index, and twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from ashiato.core import ledger
from ashiato.core.errors import RejectedError
from ashiato.core.ids import Source
from ashiato.core.ports import Partition
from query.spans import Span, Spans, union

_INT64_MAX: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """A file, and who follows it."""

    source: str
    attester: str
    restart_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """How far a file was acknowledged, and where on the bus its last chunk went."""

    offset: int
    where: Partition
    position: int
    incarnation: str = ""
    """Of the bus, without the journal's counter; '' where the node did not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GapStated:
    """A gap as a node stated it; ends are None where they are not known."""

    attester: str
    source: str
    file_id: str
    offset_start: int | None
    offset_end: int | None
    time_start_unix_nano: int | None
    time_end_unix_nano: int | None
    stated_unix_nano: int
    reason: str
    detail: str


@dataclass(slots=True, kw_only=True)
class LedgerFold:
    """``attester`` is ``<cluster>/<node>`` of the ledger; a node may follow the files of others (a copy of them)."""

    births: dict[str, Birth] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    """Size of each closed file."""
    acks: dict[str, Ack] = field(default_factory=dict)
    gaps: set[GapStated] = field(default_factory=set)
    beats: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    """Each node's newest beat: the ledger file, its number there, and the watermark that it states."""
    exclusions: dict[str, tuple[int, tuple[str, ...]]] = field(default_factory=dict)
    """Per node, when it was last told what not to follow, and what."""
    newest_unix_nano: int = 0
    chains: dict[tuple[str, str], list[Span]] = field(default_factory=dict)
    """The numbers of the lines that are held, per (ledger source, ledger file)."""

    @property
    def watermarks(self) -> Mapping[str, int]:
        """Of each node's newest beat, which need not be the largest: a clock that ran ahead is put back."""
        return {attester: watermark for attester, (_, _, watermark) in self.beats.items()}

    def take(self, source: str, file_id: str, body: str) -> None:
        """Fold one line in; what is no statement is left out, and its number is missed then."""
        try:
            line = ledger.decode(body.encode())
            self._statement(line, _int64(line.time_unix_nano), _attester_of(source), file_id)
        except (RejectedError, ValueError):
            # A number that is none. UnicodeError is a ValueError too.
            return
        self._number(self.chains.setdefault((source, file_id), []), line.n)

    def take_all(self, other: LedgerFold) -> None:
        """Fold another fold in."""
        self.births |= other.births
        for file_id, size in other.ends.items():
            self.ends[file_id] = max(size, self.ends.get(file_id, 0))
        for file_id, ack in other.acks.items():
            self._ack(file_id, ack)
        self.gaps |= other.gaps
        for attester, beat in other.beats.items():
            self.beats[attester] = max(beat, self.beats.get(attester, beat))
        for attester, told in other.exclusions.items():
            self.exclusions[attester] = max(told, self.exclusions.get(attester, told))
        self.newest_unix_nano = max(self.newest_unix_nano, other.newest_unix_nano)
        for key, numbers in other.chains.items():
            self.chains[key] = list(union([*self.chains.get(key, ()), *numbers]))

    def broken(self) -> list[str]:
        """Return the ledger sources in which a number is missing between two that are there."""
        by_source: dict[str, list[tuple[str, Spans]]] = {}
        for (source, file_id), numbers in self.chains.items():
            by_source.setdefault(source, []).append((file_id, union(numbers)))
        return sorted(source for source, files in by_source.items() if _has_hole(files))

    def _number(self, numbers: list[Span], n: int) -> None:
        if numbers and numbers[-1][1] == n:
            numbers[-1] = (numbers[-1][0], n + 1)
        else:
            numbers.append((n, n + 1))

    def _statement(self, line: ledger.Line, time: int, attester: str, file_id: str) -> None:
        """Take a statement in. Raises ValueError, with nothing taken, where a number in it is none."""
        match line.statement:
            case ledger.Born() as born:
                self.births[born.file_id] = Birth(
                    source=born.source, attester=attester, restart_count=born.restart_count
                )
            case ledger.Closed() as closed:
                self.ends[closed.file_id] = max(_int64(closed.size), self.ends.get(closed.file_id, 0))
            case ledger.Gap() as gap:
                self.gaps.add(_gap(gap, attester, time))
            case ledger.Config() as config:
                told = (time, config.exclusions)
                self.exclusions[attester] = max(told, self.exclusions.get(attester, told))
            case ledger.Beat() as beat:
                watermark, acks = (
                    _int64(beat.watermark_unix_nano),
                    [(moved.file_id, _ack(moved)) for moved in beat.moved],
                )
                # A beat before the first whole sweep has no watermark: it attests nothing yet.
                if watermark > 0:
                    newest = (file_id, line.n, watermark)
                    self.beats[attester] = max(newest, self.beats.get(attester, newest))
                for acked, ack in acks:
                    self._ack(acked, ack)
            case _:
                pass
        self.newest_unix_nano = max(self.newest_unix_nano, time)

    def _ack(self, file_id: str, ack: Ack) -> None:
        before = self.acks.get(file_id)
        if before is None or before.offset < ack.offset:
            self.acks[file_id] = ack


def fold_lines(lines: Iterable[tuple[str, str, str]]) -> LedgerFold:
    """Return the fold of (source, file id, body) of ledger rows."""
    fold = LedgerFold()
    for source, file_id, body in lines:
        fold.take(source, file_id, body)
    return fold


def _has_hole(files: list[tuple[str, Spans]]) -> bool:
    """Tell whether a chain is broken, looking at its files in the order of their births.

    A file that begins at 0 begins another chain, of a state folder made anew. What retention removed is the oldest
    file's matter; a file that was sent again repeats numbers and leaves out none.
    """
    reached: int | None = None
    for _, numbers in sorted(files):
        start, end = numbers[0]
        if len(numbers) > 1 or (reached is not None and start > reached):
            return True
        reached = end if reached is None or start == 0 else max(reached, end)
    return False


@lru_cache(maxsize=4096)
def _attester_of(source: str) -> str:
    told_by = Source.parse(source)
    return f"{told_by.cluster}/{told_by.node}"


def _ack(moved: ledger.Acknowledged) -> Ack:
    where = Partition(moved.topic, moved.partition)
    return Ack(offset=_int64(moved.offset), where=where, position=_int64(moved.position), incarnation=moved.incarnation)


def _gap(gap: ledger.Gap, attester: str, stated_unix_nano: int) -> GapStated:
    return GapStated(
        attester=attester,
        source=gap.source,
        file_id=gap.file_id,
        offset_start=_int(gap.offset_start),
        offset_end=_int(gap.offset_end),
        time_start_unix_nano=_int(gap.time_start_unix_nano),
        time_end_unix_nano=_int(gap.time_end_unix_nano),
        stated_unix_nano=stated_unix_nano,
        reason=gap.reason,
        detail=gap.detail,
    )


def _int(text: str) -> int | None:
    return _int64(text) if text else None


def _int64(text: str) -> int:
    """Read an offset, position or time. Raises ValueError where it is none, or one that nobody can have."""
    number = int(text)
    if not -1 <= number <= _INT64_MAX:
        raise ValueError("out of range")
    return number

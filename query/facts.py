"""From what a snapshot knows to the facts of one answer's coverage: the sources in scope, and their files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from ashiato.core.errors import RejectedError
from ashiato.core.frontier import FileState
from ashiato.core.ids import CLASS_OF_KIND, Kind, Source
from ashiato.core.ports import Partition
from ashiato.core.query import Node
from query.coverage import Facts, Holding
from query.known import FileKnown, Known, root_of
from query.ledger_fold import Ack, GapStated, LedgerFold
from query.scope import facts_of, facts_of_folders, facts_of_kinds, possible

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_DAY_NS: Final = 86_400_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Hot:
    """What is known of the hot index: whether there is one, whether it answered, and what it has seen."""

    configured: bool = False
    answered: bool = False
    positions: Mapping[Partition, int] = field(default_factory=dict)


def gather(
    known: Known,
    where: Node,
    hot: Hot,
    *,
    demanded: Mapping[str, Kind] | None = None,
    only_files: Collection[str] | None = None,
) -> Facts:
    """Return the facts about every source that ``where`` could match, of some of its files where they are named.

    ``demanded`` names what a question asks of, and the kind of source that would tell: where no such source is in
    scope, nothing can be known of it, and that is said.
    """
    named = known.sources()
    in_scope = [source for source, may in zip(named, possible(where, facts_of(tuple(named))), strict=True) if may]
    ids = _files_of(known, set(in_scope))
    gaps, node_gaps = _gaps(known.fold)
    removed = _removed(known)
    files = {
        source: [
            _holding(known, file_id, source, gaps[file_id], hot, removed)
            for file_id in sorted(ids[source])
            if only_files is None or file_id in only_files
        ]
        for source in in_scope
        if only_files is None or not ids[source].isdisjoint(only_files)
    }
    attesters = {file.attester for members in files.values() for file in members}
    return Facts(
        files=files,
        node_gaps=_in_scope(node_gaps, where),
        watermarks=known.fold.watermarks,
        broken_ledgers=tuple(source for source in known.fold.broken() if _attester(source) in attesters),
        hot_missing=hot.configured and not hot.answered,
        unobservable=_unobservable(list(files), where, demanded or {}),
        exclusions=tuple(
            (attester, folder)
            for attester, (_, folders) in sorted(known.fold.exclusions.items())
            if attester in attesters
            for folder in folders
        ),
    )


def birth_of(file_id: str) -> int:
    """Return when a file was first seen, in ns; 0 where its id does not tell."""
    number = 0
    for letter in file_id[:10]:
        at = _CROCKFORD.find(letter)
        if at < 0:
            return 0
        number = number << 5 | at
    return number * 1_000_000


def _files_of(known: Known, sources: set[str]) -> defaultdict[str, set[str]]:
    ids: defaultdict[str, set[str]] = defaultdict(set)
    for file_id, file in known.files.items():
        if file.source in sources:
            ids[file.source].add(file_id)
    for file_id, birth in known.fold.births.items():
        if birth.source in sources:
            ids[birth.source].add(file_id)
    for gap in known.fold.gaps:
        if gap.file_id and gap.source in sources:
            ids[gap.source].add(root_of(gap.file_id))
    return ids


def _holding(
    known: Known,
    file_id: str,
    source: str,
    gaps: tuple[GapStated, ...],
    hot: Hot,
    removed: Mapping[str, tuple[int, ...]],
) -> Holding:
    file = known.files.get(file_id, FileKnown(source=source))
    fold = known.fold
    birth, ack = fold.births.get(file_id), fold.acks.get(file_id)
    expired, until = _expired(file, removed.get(_class_of(source), ()), known) if removed else (0, 0)
    passed = ack is not None and _passed(known, ack)
    in_hot = ack is not None and not passed and hot.answered and _hot_position(known, ack, hot) > ack.position
    return Holding(
        file_id=file_id,
        source=source,
        attester=birth.attester if birth is not None else _attester(source),
        held=file.held,
        closed=file.closed,
        imported=file.imported,
        size=fold.ends.get(file_id),
        ack=ack,
        passed=passed,
        hot_reaches=ack.offset if ack is not None and in_hot else 0,
        gaps=gaps,
        expired_bytes=expired,
        expired_until_unix_nano=until,
    )


def _passed(known: Known, ack: Ack) -> bool:
    """Whether the journal has passed an acknowledged position, on the bus that it is a position of (J5)."""
    txn = known.state.positions.get(ack.where)
    if txn is None or (ack.incarnation and txn.incarnation != _incarnation(known, ack)):
        return False
    return txn.next > ack.position


def _hot_position(known: Known, ack: Ack, hot: Hot) -> int:
    """Return how far the hot index has the log that was acknowledged; another log's positions tell nothing of it."""
    place = Partition(_incarnation(known, ack), ack.where.number) if ack.incarnation else ack.where
    return hot.positions.get(place, 0)


def _incarnation(known: Known, ack: Ack) -> str:
    return known.state.incarnation_of(ack.where, ack.incarnation)


def _gaps(fold: LedgerFold) -> tuple[defaultdict[str, tuple[GapStated, ...]], list[GapStated]]:
    by_file: defaultdict[str, tuple[GapStated, ...]] = defaultdict(tuple)
    of_nodes = []
    for gap in fold.gaps:
        if gap.file_id:
            by_file[root_of(gap.file_id)] += (gap,)
        else:
            of_nodes.append(gap)
    return by_file, of_nodes


def _in_scope(gaps: list[GapStated], where: Node) -> tuple[GapStated, ...]:
    """Return the gaps of sources, and of folders, in which a match could have lain."""
    folders = [gap for gap in gaps if gap.source.startswith(f"{Kind.FILE}/")]
    sources = [gap for gap in gaps if not gap.source.startswith(f"{Kind.FILE}/")]
    may = [
        *possible(where, facts_of_folders([gap.source for gap in folders])),
        *possible(where, facts_of(tuple(gap.source for gap in sources))),
    ]
    chosen = [gap for gap, may_match in zip([*folders, *sources], may, strict=True) if may_match]
    return tuple(sorted(chosen, key=lambda gap: (gap.source, gap.stated_unix_nano)))


def _unobservable(in_scope: list[str], where: Node, demanded: Mapping[str, Kind]) -> tuple[tuple[str, str], ...]:
    kinds = {source.partition("/")[0] for source in in_scope}
    told = [
        (f"{kind}/*", f"no source is known that tells of {what}")
        for what, kind in demanded.items()
        if kind not in kinds
    ]
    others = [kind for kind in Kind if kind is not Kind.LEDGER]
    asks_beyond_ledger = bool(possible(where, facts_of_kinds(others)).any())
    if not told and (not in_scope or (asks_beyond_ledger and kinds <= {Kind.LEDGER})):
        told.append(("*", "no source is known that could hold a match"))
    return tuple(told)


# -- expiry --------------------------------------------------------------------------------------------------


def _removed(known: Known) -> Mapping[str, tuple[int, ...]]:
    """Return per class the ends of the days of which packs were removed, in order."""
    days: defaultdict[str, set[int]] = defaultdict(set)
    for pack, _ in known.state.removed.values():
        days[pack.retention_class].add(_end_of(pack.day))
    return {name: tuple(sorted(ends)) for name, ends in days.items()}


def _expired(file: FileKnown, ends: tuple[int, ...], known: Known) -> tuple[int, int]:
    """Return how many bytes of a file were removed (at the most), and until when they were read."""
    count, until = 0, 0
    for state in file.states.values():
        for held in state.ranges:
            if held.pack in known.state.removed:
                count += held.end - held.start
                until = max(until, _end_of(known.state.removed[held.pack][0].day))
        # A birth behind the last reading never was: the node's clock had run ahead.
        birth = birth_of(state.file_id) if birth_of(state.file_id) <= state.observed_time_unix_nano else 0
        if (forgotten := _forgotten(state)) and ends and ends[-1] > birth:
            # Which packs held the oldest bytes is not remembered: some of that class were removed since.
            count, until = count + forgotten, max(until, ends[-1])
    return count, until


def _forgotten(state: FileState) -> int:
    """Return how many held bytes have no pack on record any more."""
    first = min((held.start for held in state.ranges), default=state.offset)
    return max(first - state.base, 0)


def _end_of(day: str) -> int:
    start = datetime.fromisoformat(day).replace(tzinfo=UTC)
    return (start - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000 + _DAY_NS


def _class_of(source: str) -> str:
    try:
        return CLASS_OF_KIND[Kind(source.partition("/")[0])]
    except ValueError:
        return ""


def _attester(source: str) -> str:
    try:
        parsed = Source.parse(source)
    except RejectedError:
        return source
    return f"{parsed.cluster}/{parsed.node}"

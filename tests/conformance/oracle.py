"""The judge: what was written against what the bus holds and the ledger says. Duplicates never make up for losses.

Two counts that know nothing of each other. By *sequence*: every line that was ever written is held once, in order and
unharmed, whatever file id it came under. By *byte*: every byte of every life is held, named in a gap, or was on the
disk only while no collector ran; and the reverse, no gap lies over bytes that are all held.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field

from ashiato.core.chunk import Chunk, ChunkFlags
from ashiato.core.ids import Kind, Source
from ashiato.core.ledger import Born, Closed, Gap, Line, Span
from tests.conformance.truth import TOKEN, Life, Truth

Range = tuple[int, int]
END = 1 << 62
DECLARED = int(ChunkFlags.RESENT | ChunkFlags.SHADOW)
"""Flags by which a collector says that the bytes may be held already under another id."""
LOOK_NS = 2_000_000_000
"""A sweep and two looks: what is there for less may be unseen."""
OURS = (Kind.CONTAINER, Kind.AUDIT, Kind.AUDITD, Kind.FALCO, Kind.FILE)


@dataclass(slots=True, kw_only=True)
class Held:
    """What the bus holds of one file id, trimmed by offset as ingest does."""

    file_id: str
    source: Source
    path: str
    content: bytearray = field(default_factory=bytearray)
    ranges: list[Range] = field(default_factory=list)
    flags: int = 0
    bytes_sent: int = 0
    ends: int = -1
    salts: dict[int, bytes] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Verdict:
    """Counts, each of its own; what must be empty is empty where :meth:`faults` is."""

    lines_lost: list[bytes] = field(default_factory=list)
    """Lines of bytes that nothing explains."""
    lines_explained: int = 0
    """Lines that are not held, in bytes that a gap names or that lay there only while no collector ran."""
    lines_duplicated: list[bytes] = field(default_factory=list)
    lines_declared_twice: int = 0
    """Lines held again under an id that says so."""
    lines_reordered: list[bytes] = field(default_factory=list)
    corrupted: list[str] = field(default_factory=list)
    """Bytes that are held and were never written there, or that contradict each other."""
    unexplained: list[str] = field(default_factory=list)
    needless_gaps: list[Gap] = field(default_factory=list)
    """Gaps over bytes that are all held: allowed as upper bounds, and worth a look."""
    chain: list[str] = field(default_factory=list)
    """What is wrong with births, ends and spans."""
    bytes_written: int = 0
    bytes_held: int = 0
    bytes_in_gaps: int = 0
    bytes_in_silence: int = 0
    bytes_cut_unread: int = 0
    """Bytes of which none was acknowledged, cut off while no collector ran: nobody can know of them."""
    bytes_unexplained: int = 0
    bytes_sent: int = 0
    lines_unseen: int = 0
    unseen: list[str] = field(default_factory=list)
    """Lives that no ledger knows although a collector ran: shorter than a sweep."""
    names: dict[Life, list[str]] = field(default_factory=lambda: defaultdict(list))
    """What each life was born as, whether or not its id became another's before a byte was read."""
    spans: int = 0
    gaps: list[Gap] = field(default_factory=list)

    def faults(self) -> list[str]:
        """Return everything that must not be."""
        return [
            *(f"lost without a reason: {line!r}" for line in self.lines_lost[:5]),
            *(f"held twice: {line!r}" for line in self.lines_duplicated[:5]),
            *(f"out of order: {line!r}" for line in self.lines_reordered[:5]),
            *self.corrupted[:5], *self.unexplained[:5], *self.chain[:5],
        ]  # fmt: skip


def judge(truth: Truth, chunks: Iterable[Chunk], lines: Sequence[Line], silences: Sequence[Range]) -> Verdict:
    """Hold what was written against chunks (in the bus's order) and the ledger's lines.

    ``silences`` are the times, on the boot clock, in which no collector ran.
    """
    verdict = Verdict(gaps=[line.statement for line in lines if isinstance(line.statement, Gap)])
    held = merge(chunks, verdict)
    lives = _match(truth, held, lines, verdict)
    _check_statements(held, lines, verdict)
    closed = {line.statement.file_id for line in lines if isinstance(line.statement, Closed)}
    explained = _judge_bytes(truth, held, lives, silences, closed, verdict)
    _judge_lines(truth, held, explained, verdict)
    _judge_gaps(held, lives, verdict)
    _judge_spans(held, lives, lines, verdict)
    return verdict


def merge(chunks: Iterable[Chunk], verdict: Verdict) -> dict[str, Held]:
    """Trim by (file id, offset); bytes that contradict what was held before are corruption."""
    files: dict[str, Held] = {}
    for chunk in chunks:
        facts = chunk.file
        source = Source.parse(facts.source)
        if source.kind not in OURS:
            continue
        file = files.setdefault(facts.file_id, Held(file_id=facts.file_id, source=source, path=facts.path))
        start, end = chunk.offset_start, chunk.offset_end
        if len(file.content) < end:
            file.content += bytes(end - len(file.content))
        for low, high in file.ranges:
            a, b = max(low, start), min(high, end)
            if a < b and file.content[a:b] != chunk.payload[a - start : b - start]:
                verdict.corrupted.append(f"{facts.path} was sent again with other bytes at {a}")
        file.content[start:end] = chunk.payload
        if chunk.payload:
            file.ranges = union([*file.ranges, (start, end)])
        file.flags |= chunk.flags
        file.bytes_sent += len(chunk.payload)
        file.salts |= dict(facts.salts)
        if chunk.flags & ChunkFlags.FILE_CLOSED:
            file.ends = max(file.ends, end)
        verdict.bytes_sent += len(chunk.payload)
    return files


def _match(truth: Truth, held: dict[str, Held], lines: Sequence[Line], verdict: Verdict) -> dict[str, Life]:
    """Say which life each file id is, by the inode and the time of its birth; its bytes must agree."""
    lives: dict[str, Life] = {}
    for line in lines:
        born = line.statement
        if not isinstance(born, Born) or Source.parse(born.source).kind not in OURS:
            continue
        found = truth.of_inode((int(born.device), int(born.inode)), int(line.boot_nano))
        if not found:
            verdict.chain.append(f"{born.path} was born in an inode that never was")
        elif born.file_id in lives:
            verdict.chain.append(f"{born.path} was born twice as {born.file_id}")
        else:
            # Where a file was written anew before a byte of it was read, its id is the later life's.
            agreeing = [life for life in found if _agrees(held.get(born.file_id), life)]
            lives[born.file_id] = agreeing[0] if agreeing else found[0]
            verdict.names[found[0]].append(born.file_id)
    for file_id, file in held.items():
        if (life := lives.get(file_id)) is None:
            verdict.chain.append(f"{file.path} is on the bus and was never born (C7)")
            continue
        for start, end in file.ranges:
            if file.content[start:end] != life.content[start:end]:
                at = next(i for i in range(start, end) if file.content[i : i + 1] != life.content[i : i + 1])
                verdict.corrupted.append(f"{file.path} ({file_id}) holds what was not written there, from {at} on")
    return lives


def _agrees(file: Held | None, life: Life) -> bool:
    return file is None or all(file.content[a:b] == life.content[a:b] for a, b in file.ranges)


def _check_statements(held: dict[str, Held], lines: Sequence[Line], verdict: Verdict) -> None:
    gaps = _gaps(verdict)
    for line in lines:
        if not isinstance(closed := line.statement, Closed) or Source.parse(closed.source).kind not in OURS:
            continue
        file = held.get(closed.file_id)
        covered = union([*(file.ranges if file else []), *gaps.get(closed.file_id, [])])
        # A file may be told to be closed, and grow after all: then its end is told again.
        if int(closed.size) and not _holds(covered, (0, int(closed.size))):
            verdict.chain.append(f"{closed.file_id} is closed at {closed.size}, and not all of it is held or named")


def _judge_bytes(
    truth: Truth, held: dict[str, Held], lives: dict[str, Life], silences: Sequence[Range], closed: Container[str],
    verdict: Verdict,
) -> dict[Life, list[Range]]:  # fmt: skip
    """Return what is explained of each life that was seen: held, named, or silent."""
    gaps = _gaps(verdict)
    ids: dict[Life, list[str]] = defaultdict(list)
    for file_id, life in lives.items():
        ids[life].append(file_id)
    ranges = {
        life: union([r for i in ids[life] for r in (held[i].ranges if i in held else [])]) for life in truth.lives
    }
    explained: dict[Life, list[Range]] = {}
    for life in truth.lives:
        # The first bytes of a copy may be held where they were copied from, and the other way round.
        own = [*ranges[life], *_shared(life, truth, ranges)]
        named = [r for i in ids[life] for r in gaps.get(i, [])]
        if not ids[life]:
            # The gap over all of what was never read stands, whichever file has the id by now.
            named += [r for i in verdict.names[life] for r in gaps.get(i, []) if r == (0, END)]
        if not ids[life] and (before := truth.before(life)) is not None:
            # A file that was written anew and is gone: the gap of what it was has no end, and names this too.
            named += [(0, END) for i in ids[before] if any(high == END for _, high in gaps.get(i, []))]
        if life.copy_of is not None and not ids[life] and life.gone_ns >= 0:
            # Nobody read the copy while it was there: what is said of its original is said of these bytes.
            named += clip((r for i in ids[life.copy_of] for r in gaps.get(i, [])), life.copied_bytes)
        whole = len(life.content)
        holds = clip(union(own), whole)
        either = clip(union([*own, *named]), whole)
        left = whole - size(either)
        verdict.bytes_written += whole
        verdict.bytes_held += size(holds)
        verdict.bytes_in_gaps += size(either) - size(holds)
        if left and not ids[life] and _exposed_ns(life, silences) < LOOK_NS and not _is_silent(life, silences):
            verdict.unseen.append(life.name)
            continue
        if left and _is_excused(life, ids[life], size(clip(either, whole)), silences, closed, verdict):
            either = [(0, whole)]
        elif left:
            verdict.bytes_unexplained += left
            first = next(i for i in range(whole) if not _holds(either, (i, i + 1)))
            verdict.unexplained.append(
                f"{life.name} ({ids[life]}): {left} of {whole} bytes, from {first} on; there from {life.filled_ns} "
                f"to {life.gone_ns}, in {life.inodes}"
            )
        explained[life] = either
    return explained


def _is_excused(
    life: Life, ids: Sequence[str], known: int, silences: Sequence[Range], closed: Container[str], verdict: Verdict
) -> bool:
    """Say by what the rest of a life's bytes is excused, if by anything; ``known`` is how many are explained."""
    left = len(life.content) - known
    grew_late = any(i in closed for i in ids) and any(
        low <= life.written_ns(known) and 0 <= life.gone_ns <= high for low, high in silences
    )
    if (not ids and _is_silent(life, silences)) or grew_late:
        verdict.bytes_in_silence += left
    elif not ids and _is_named(life, verdict.gaps):
        verdict.bytes_in_gaps += left
    elif life.truncated and not known and _ended_in(life, silences):
        # Nothing of it was acknowledged, so nothing tells what was there before it was cut off.
        verdict.bytes_cut_unread += left
    else:
        return False
    return True


def _judge_lines(truth: Truth, held: dict[str, Held], explained: dict[Life, list[Range]], verdict: Verdict) -> None:
    written = truth.tokens()
    counts = _count(written, held, verdict)
    named = {
        token[0] for life, ranges in explained.items() for token in TOKEN.finditer(life.content)
        if _holds(ranges, token.span())
    }  # fmt: skip
    unseen = {token[0] for life in truth.lives if life not in explained for token in TOKEN.finditer(life.content)}
    for token_, copies in written.items():
        if counts[token_] > copies:
            verdict.lines_duplicated.append(token_)
        elif counts[token_] == 0 and token_ in named:
            verdict.lines_explained += 1
        elif counts[token_] == 0 and token_ in unseen:
            verdict.lines_unseen += 1
        elif counts[token_] == 0:
            verdict.lines_lost.append(token_)


def _count(written: Counter[bytes], held: dict[str, Held], verdict: Verdict) -> Counter[bytes]:
    """Return how often each line is held, but for ids that say that it may be held elsewhere."""
    counts: Counter[bytes] = Counter()
    for file in sorted(held.values(), key=lambda file: file.flags & DECLARED):
        last: dict[tuple[bytes, bytes], int] = {}
        for start, end in file.ranges:
            for token in TOKEN.finditer(bytes(file.content[start:end])):
                writer, stream, number, checksum = token.groups()
                address = b"%s/%s/%s" % (writer, stream, number)
                if b"%08x" % zlib.crc32(address) != checksum or token[0] not in written:
                    verdict.corrupted.append(f"{file.path} holds a line that nobody wrote: {token[0]!r}")
                if last.get((writer, stream), 0) >= int(number):
                    verdict.lines_reordered.append(token[0])
                last[writer, stream] = int(number)
                is_declared = bool(file.flags & DECLARED) and counts[token[0]] > 0
                verdict.lines_declared_twice += is_declared
                counts[token[0]] += not is_declared
    return counts


def _judge_gaps(held: dict[str, Held], lives: dict[str, Life], verdict: Verdict) -> None:
    for gap in verdict.gaps:
        if (life := lives.get(gap.file_id)) is None or not gap.offset_start:
            continue
        low, high = int(gap.offset_start), min(int(gap.offset_end or END), len(life.content))
        file = held.get(gap.file_id)
        if low >= high or (file is not None and _holds(file.ranges, (low, high))):
            verdict.needless_gaps.append(gap)


def _judge_spans(held: dict[str, Held], lives: dict[str, Life], lines: Sequence[Line], verdict: Verdict) -> None:
    """Each span starts where the last one of its file ended, and has the digest of what was written."""
    ends: dict[str, int] = {}
    for line in lines:
        if not isinstance(span := line.statement, Span):
            continue
        start, end = int(span.offset_start), int(span.offset_end)
        verdict.spans += 1
        if start < ends.get(span.file_id, 0) or (start > ends.get(span.file_id, 0) and not _named(verdict, span, ends)):
            verdict.chain.append(f"a span of {span.file_id} begins at {start}, the last ended at {ends[span.file_id]}")
        ends[span.file_id] = end
        file, life = held.get(span.file_id), lives.get(span.file_id)
        if life is None or file is None or (salt := file.salts.get(start)) is None:
            verdict.chain.append(f"a span of {span.file_id} at {start} speaks of bytes that no frame carried")
            continue
        digest = hashlib.sha256(salt + start.to_bytes(8, "big") + life.content[start:end]).hexdigest()
        if digest != span.sha256:
            verdict.chain.append(f"the span of {life.name} at {start} has another digest than what was written")


def _named(verdict: Verdict, span: Span, ends: dict[str, int]) -> bool:
    return _holds(_gaps(verdict).get(span.file_id, []), (ends.get(span.file_id, 0), int(span.offset_start)))


def _gaps(verdict: Verdict) -> dict[str, list[Range]]:
    found: dict[str, list[Range]] = defaultdict(list)
    for gap in verdict.gaps:
        if gap.file_id and gap.offset_start:
            found[gap.file_id].append((int(gap.offset_start), int(gap.offset_end or END)))
    return {file_id: union(ranges) for file_id, ranges in found.items()}


def _shared(life: Life, truth: Truth, ranges: dict[Life, list[Range]]) -> list[Range]:
    found = clip(ranges[life.copy_of], life.copied_bytes) if life.copy_of is not None else []
    for other in truth.lives:
        if other.copy_of is life:
            found += clip(ranges[other], other.copied_bytes)
    return found


def _is_silent(life: Life, silences: Sequence[Range]) -> bool:
    return life.gone_ns >= 0 and any(low <= life.began_ns and life.gone_ns <= high for low, high in silences)


def _ended_in(life: Life, silences: Sequence[Range]) -> bool:
    return any(low <= life.gone_ns <= high for low, high in silences)


def _exposed_ns(life: Life, silences: Sequence[Range]) -> int:
    """Return how long its bytes could have been seen."""
    if life.gone_ns < 0:
        return END
    hidden = sum(max(0, min(life.gone_ns, high) - max(life.filled_ns, low)) for low, high in silences)
    return life.gone_ns - life.filled_ns - hidden


def _is_named(life: Life, gaps: Iterable[Gap]) -> bool:
    """Whether a gap speaks of a file that nobody could open, by its path."""
    return any(not gap.file_id and life.path in gap.detail for gap in gaps)


# -- ranges --------------------------------------------------------------------------------------------------


def union(ranges: Iterable[Range]) -> list[Range]:
    """Return the same bytes as few, ordered ranges.

    >>> union([(5, 9), (0, 2), (2, 6)])
    [(0, 9)]
    """
    found: list[Range] = []
    for low, high in sorted(r for r in ranges if r[0] < r[1]):
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return found


def clip(ranges: Iterable[Range], end: int) -> list[Range]:
    """Return what of it lies before ``end``."""
    return [(low, min(high, end)) for low, high in ranges if low < end]


def size(ranges: Iterable[Range]) -> int:
    """Return how many bytes that is."""
    return sum(high - low for low, high in ranges)


def _holds(ranges: Iterable[Range], wanted: Range) -> bool:
    return any(low <= wanted[0] and wanted[1] <= high for low, high in ranges)

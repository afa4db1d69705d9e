"""What spans attest, and how it is held against bytes and against the chain. Pure: bytes and keys are told.

A span's digest is SHA-256(salt, offset_start as 8 bytes big endian, bytes). The salt lies beside the bytes, never
beside the digest, so that a digest outlives deleted bytes without telling them. Every check fails closed: where there
is nothing to check, nothing is proven.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ashiato.core import ledger
from ashiato.core.errors import EvidenceError, RejectedError
from ashiato.core.ids import Kind
from ashiato.core.ledger import Beat, Born, Closed, Config, Gap, Head, Line, Span, Unattested
from ashiato.core.ports import VerifySignature

SALT_BYTES: Final = 32
_OFFSET_MAX: Final = 1 << 63

ReadBytes = Callable[[str, int, int], Iterable[bytes]]
"""(file_id, start, end) to the bytes that are held of that range, in order; fewer where not all are held."""

Salts = tuple[tuple[int, bytes], ...]
"""(span start, salt)."""


def key_id_of(public_key: bytes) -> str:
    """Return the first 32 hex digits of the SHA-256 of a public key: how beats and verifiers name it."""
    return hashlib.sha256(public_key).hexdigest()[:32]


def salt_of(secret: bytes, file_id: str, offset_start: int) -> bytes:
    """Return the salt of the span of a file that begins at an offset: always the same on one node."""
    return hmac.digest(secret, file_id.encode() + offset_start.to_bytes(8, "big"), "sha256")


def digest_of(salt: bytes, offset_start: int, content: Iterable[bytes]) -> tuple[str, int]:
    """Return a span's digest in hex, and how many bytes it is of."""
    digest = hashlib.sha256(salt + offset_start.to_bytes(8, "big"))
    length = 0
    for part in content:
        digest.update(part)
        length += len(part)
    return digest.hexdigest(), length


def salts_touching(salts: Salts, start: int, end: int) -> Salts:
    """Return the salts of the spans that ``[start, end)`` may touch: each ends where the next one begins."""
    begins = sorted({begin for begin, _ in salts})
    until = dict(zip(begins, [*begins, _OFFSET_MAX][1:], strict=True))
    return tuple(sorted((begin, salt) for begin, salt in salts if start < end and begin < end and until[begin] > start))


def are_salts(salts: Salts) -> bool:
    """Tell whether a file table's salts are what a manifest can hold."""
    return all(0 <= start < _OFFSET_MAX and len(salt) == SALT_BYTES for start, salt in salts)


def check_span(span: Span, salts: Iterable[tuple[int, bytes]], read: ReadBytes) -> None:
    """Hold a span against bytes. ``salts`` are those of the manifests of the file.

    Raises:
        EvidenceError: bytes or salt are missing, or the bytes are not those that the node stated.

    """
    start, end = bounds_of(span)
    # (1) the salt of this very span lies beside the bytes
    fitting = sorted({salt for begin, salt in salts if begin == start})
    if not fitting:
        raise EvidenceError("no pack holds the salt of a span", file_id=span.file_id, offset=start)
    for salt in fitting:
        # (2) all its bytes are held, and (3) they have the digest that was stated
        digest, length = digest_of(salt, start, read(span.file_id, start, end))
        if length != end - start:
            raise EvidenceError("bytes of a span are missing", file_id=span.file_id, offset=start + length, end=end)
        if digest == span.sha256:
            return
    raise EvidenceError("bytes are not those that the node stated", file_id=span.file_id, offset=start, end=end)


def bounds_of(statement: Span | Unattested) -> tuple[int, int]:
    """Return the range. Raises EvidenceError where it is none."""
    start, end = _offset(statement.offset_start), _offset(statement.offset_end)
    if start is None or end is None or start >= end:
        raise EvidenceError("a statement's range is none", file_id=statement.file_id, offset=statement.offset_start)
    return start, end


@dataclass(slots=True, kw_only=True)
class FileAccount:
    """What a ledger says of one file."""

    file_id: str
    source: str = ""
    path: str = ""
    born_unix_nano: int = 0
    born: bool = False
    spans: int = 0
    attested_bytes: int = 0
    unattested_bytes: int = 0
    stated_end: int = 0
    """Spans, unattested ranges and the gaps between them reach up to here."""
    gaps: list[Gap] = field(default_factory=list)
    closed: Closed | None = None
    acknowledged: int = 0
    _waiting: list[tuple[int, int]] = field(default_factory=list)
    """Gaps that lie before what was stated: they may bridge what comes later."""

    def state(self, start: int, end: int) -> None:
        """Go on with a range. Raises EvidenceError where it does not begin where the file stands (C9)."""
        self._bridge(start)
        if start != self.stated_end:
            raise EvidenceError(
                "spans of a file are not contiguous", file_id=self.file_id, expected=self.stated_end, found=start
            )
        self.stated_end = end

    def miss(self, gap: Gap) -> None:
        """Take in a gap: an upper bound, so that what is stated later inside it wins."""
        self.gaps.append(gap)
        if (start := _offset(gap.offset_start)) is not None:
            end = _offset(gap.offset_end)
            self._waiting.append((start, _OFFSET_MAX if end is None else end))

    def check_end(self, size: int) -> None:
        """Take in the file's size. Raises EvidenceError where bytes below it are neither stated nor missed (C9)."""
        # No spans are stated of the ledger's own files: the chain states them.
        if not self.born or self.source.startswith(f"{Kind.LEDGER}/"):
            return
        self._bridge(size)
        if size != self.stated_end:
            raise EvidenceError(
                "a closed file has bytes that nothing states", file_id=self.file_id, stated=self.stated_end, size=size
            )

    def _bridge(self, to: int) -> None:
        """Move over gaps that cover what lies before ``to``."""
        while self.stated_end < to:
            reach = max((end for start, end in self._waiting if start <= self.stated_end < end), default=0)
            if reach <= self.stated_end:
                return
            self.stated_end = min(reach, to)


@dataclass(slots=True, kw_only=True)
class Account:
    """What a node's ledger says, and how much of it is proven."""

    lines: int = 0
    first_n: int = 0
    head: Head = field(default_factory=Head)
    signed_n: int = -1
    """The last beat whose signature fits a pinned key; everything up to it is signed."""
    beats: int = 0
    nodes: set[str] = field(default_factory=set)
    keys: dict[str, bytes] = field(default_factory=dict)
    """Public keys that the ledger itself states, by id."""
    incarnations: list[str] = field(default_factory=list)
    files: dict[str, FileAccount] = field(default_factory=dict)
    gaps: list[tuple[Line, Gap]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    last_time_unix_nano: int = 0


def verify_ledger(lines: Iterable[bytes], *, pinned: Iterable[bytes], verify: VerifySignature) -> Account:
    """Check a node's consecutive lines: chain, signatures, and that every file is accounted for without a hole.

    The chain may begin behind 0, where older files of it are gone; files that were born before are accounted for from
    their first statement on.

    Raises:
        EvidenceError: a check failed, or there was nothing to check.

    """
    raw_lines = list(lines)
    # (1) there is something: an empty ledger proves nothing
    if not raw_lines:
        raise EvidenceError("there is no ledger to verify")
    # (2) the lines are canonical, numbered without a hole, and each names the one before
    first = _decoded(raw_lines[0])
    head = ledger.verify_chain(raw_lines, Head(n=first.n, prev=first.prev))
    account = Account(lines=len(raw_lines), first_n=first.n, head=head)
    keys = {key_id_of(key): key for key in pinned}
    for raw in raw_lines:
        line = _decoded(raw)
        account.nodes.add(line.node)
        account.last_time_unix_nano = max(account.last_time_unix_nano, _offset(line.time_unix_nano) or 0)
        if isinstance(line.statement, Beat):
            # (3) every beat is signed by a key that the verifier was given
            account.beats += 1
            if _is_signed(raw, line, line.statement, keys, verify):
                account.signed_n = line.n
        # (4) every file's spans, gaps and end are without a hole
        _fold(account, line)
    # (5) something was signed: a chain alone proves only that nobody changed half of it
    if account.signed_n < 0:
        raise EvidenceError("no beat is signed: nothing says whose ledger this is", lines=account.lines)
    # (6) one node speaks
    if len(account.nodes) != 1:
        raise EvidenceError("lines of several nodes in one ledger", nodes=len(account.nodes))
    return account


def read_ledger(lines: Iterable[bytes]) -> Account:
    """Return what lines say, verified or not: what is no line is left out, and a hole is passed over."""
    account = Account()
    for raw in lines:
        try:
            line = ledger.decode(raw)
        except RejectedError:
            continue
        if not account.lines:
            account.first_n = line.n
        account.lines += 1
        account.nodes.add(line.node)
        account.head = Head(n=line.n + 1, prev=ledger.digest(raw))
        account.last_time_unix_nano = max(account.last_time_unix_nano, _offset(line.time_unix_nano) or 0)
        account.beats += isinstance(line.statement, Beat)
        try:
            _fold(account, line)
        except EvidenceError:
            if isinstance(line.statement, Span | Unattested):
                file = account.files[line.statement.file_id]
                file.stated_end = max(file.stated_end, _offset(line.statement.offset_end) or 0)
    return account


def _is_signed(raw: bytes, line: Line, beat: Beat, keys: Mapping[str, bytes], verify: VerifySignature) -> bool:
    """Check a signature; only beats of version 1 may have none, and the next one that is signed stands for them."""
    if line.v == 1 and not beat.key_id and not beat.signature:
        return False
    key = keys.get(beat.key_id)
    if key is None:
        raise EvidenceError("a beat is signed by no key that was given", n=line.n, key_id=beat.key_id or "none")
    if not verify(key, _unarmoured(beat.signature), ledger.signed_bytes(raw)):
        raise EvidenceError("a beat's signature is wrong", n=line.n, key_id=beat.key_id)
    return True


def _fold(account: Account, line: Line) -> None:
    match line.statement:
        case Config() as config:
            _fold_config(account, config)
        case Beat() as beat:
            for moved in beat.moved:
                file = _file(account, moved.file_id, "")
                file.acknowledged = max(file.acknowledged, _offset(moved.offset) or 0)
        case Gap() as gap:
            account.gaps.append((line, gap))
            if gap.file_id:
                _file(account, gap.file_id, gap.source).miss(gap)
        case Span() | Unattested() as range_:
            _fold_range(account, range_)
        case Born() as born:
            file = _file(account, born.file_id, born.source)
            file.path, file.born = born.path, True
            file.born_unix_nano = _offset(line.time_unix_nano) or 0
        case Closed() as closed:
            file = _file(account, closed.file_id, closed.source)
            file.closed = closed
            file.check_end(_offset(closed.size) or 0)
        case _:
            pass


def _fold_config(account: Account, config: Config) -> None:
    if config.incarnation and config.incarnation not in account.incarnations:
        account.incarnations.append(config.incarnation)
    if config.public_key:
        account.keys[config.key_id] = _unarmoured(config.public_key)


def _fold_range(account: Account, range_: Span | Unattested) -> None:
    file = _file(account, range_.file_id, getattr(range_, "source", ""))
    start, end = bounds_of(range_)
    if isinstance(range_, Span):
        account.spans.append(range_)
        file.spans += 1
        file.attested_bytes += end - start
    else:
        file.unattested_bytes += end - start
    _go_on(file, start, end)


def _go_on(file: FileAccount, start: int, end: int) -> None:
    if not file.born and file.stated_end == 0:
        # Born before the first line that is here.
        file.stated_end = start
    file.state(start, end)


def _file(account: Account, file_id: str, source: str) -> FileAccount:
    file = account.files.setdefault(file_id, FileAccount(file_id=file_id))
    file.source = file.source or source
    return file


def _decoded(raw: bytes) -> Line:
    try:
        return ledger.decode(raw)
    except RejectedError as error:
        raise EvidenceError("a ledger line cannot be read") from error


def _unarmoured(text: str) -> bytes:
    """Return what base64 stands for, nothing where it is none: no key and no signature is empty."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""


def _offset(text: str) -> int | None:
    if not (text.isascii() and text.isdecimal() and len(text) <= 19):
        return None
    value = int(text)
    return value if value < _OFFSET_MAX else None

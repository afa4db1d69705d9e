"""Holds what a node's ledger states against what the bus got: the sealer's check, with a bus in the archive's place."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ashiato.adapters.signer import open_signer, verify_signature
from ashiato.core.attest import Account, check_span, salts_touching, verify_ledger
from ashiato.core.chunk import Chunk
from ashiato.core.ledger import Span


def ledger_lines(folder: Path) -> list[bytes]:
    """Return the lines of a ledger folder, in order."""
    return [line for path in sorted(folder.glob("ledger-*.jsonl")) for line in path.read_bytes().splitlines()]


def verified(state: Path) -> Account:
    """Verify the ledger of a state folder with the key that lies there."""
    key = open_signer(state / "node.key").public_key
    return verify_ledger(ledger_lines(state / "ledger"), pinned=[key], verify=verify_signature)


def check_spans(account: Account, chunks: Sequence[Chunk]) -> int:
    """Hold every span against the bytes and the salts that ingest keeps; return how many bytes they state.

    As ingest does, bytes that came before are trimmed, and with them the salt that came beside them.
    """
    held: dict[str, bytes] = defaultdict(bytes)
    salts: dict[str, set[tuple[int, bytes]]] = defaultdict(set)
    for chunk in chunks:
        file_id = chunk.file.file_id
        end = len(held[file_id])
        if chunk.offset_start <= end < chunk.offset_end:
            salts[file_id].update(salts_touching(chunk.file.salts, end, chunk.offset_end))
            held[file_id] += chunk.payload[end - chunk.offset_start :]

    def read(file_id: str, start: int, end: int) -> Iterator[bytes]:
        yield held[file_id][start:end]

    for span in account.spans:
        check_span(span, salts[span.file_id], read)
    return sum(_length(span) for span in account.spans)


def lengths(spans: Iterable[Span]) -> list[int]:
    """Return how long spans are."""
    return [_length(span) for span in spans]


def _length(span: Span) -> int:
    return int(span.offset_end) - int(span.offset_start)

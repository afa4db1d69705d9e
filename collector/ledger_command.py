"""``python -m collector ledger``: what the node states of its files, to read, and whether it holds (DESIGN section 4).

Reads only; a collector may be running. Nothing here is believed without ``--verify``, which fails closed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ashiato.adapters.signer import (
    open_existing_signer,
    public_pem,
    read_public_key,
    verify_signature,
)
from ashiato.core import attest
from ashiato.core.attest import Account, FileAccount
from ashiato.core.errors import EvidenceError, SettingsError
from ashiato.core.ledger import Gap, Line
from collector.settings import CollectorSettings


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="state folder, or a folder of ledger files")
    parser.add_argument("--file", default="", metavar="ID", help="only this file")
    parser.add_argument("--gaps", action="store_true", help="only what is missing")
    parser.add_argument("--verify", action="store_true", help="check chain, signatures and contiguity; 1 where not")
    parser.add_argument("--public-key", type=Path, metavar="FILE", help="enrolled key (PEM) to verify with")
    parser.add_argument("--key", action="store_true", help="print the node's public key, for its enrolment")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(told: argparse.Namespace, settings: CollectorSettings | None) -> int:
    """Print what was asked for; return the exit code.

    Raises:
        SettingsError: there is no ledger there, or no key.

    """
    state = told.folder if settings is None else Path(settings.state_dir)
    key_file = Path(settings.node_key_file) if settings is not None and settings.node_key_file else state / "node.key"
    if told.key:
        signer = open_existing_signer(key_file)
        sys.stdout.write(f"key_id {signer.key_id}\n{public_pem(signer.public_key)}")
        return 0
    lines = read_lines(state)
    account = attest.read_ledger(lines)
    verdict = _verify(lines, account, _pinned(told.public_key, key_file, account)) if told.verify else {}
    if told.json:
        sys.stdout.write(msgspec.json.encode(_document(account, verdict, told)).decode() + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in _text(account, verdict, told))
    return 1 if told.verify and not verdict.get("verified") else 0


def read_lines(folder: Path) -> list[bytes]:
    """Return the whole lines of the ledger in a state folder, or in a folder of ledger files.

    Raises:
        SettingsError: there is none.

    """
    inside = folder / "ledger"
    paths = sorted((inside if inside.is_dir() else folder).glob("ledger-*.jsonl"))
    if not paths:
        raise SettingsError(f"{folder} holds no ledger: name the state_dir of a collector, or a folder of ledger files")
    lines: list[bytes] = []
    for path in paths:
        try:
            stored = path.read_bytes()
        except OSError as error:
            raise SettingsError(f"cannot read {path}: {error.strerror}") from error
        # Behind the last newline a statement is being written.
        lines += stored[: stored.rfind(b"\n") + 1].splitlines()
    return lines


def _pinned(public_key: Path | None, key_file: Path, account: Account) -> tuple[str, list[bytes]]:
    """Return whose word the keys are, and the keys."""
    if public_key is not None:
        try:
            return f"given: {public_key}", [read_public_key(public_key.read_text(encoding="ascii"))]
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"cannot read {public_key}: {error}") from error
    if key_file.exists():
        return f"of this node: {key_file}", [open_existing_signer(key_file).public_key]
    return "stated by the ledger itself: pin it with --public-key", list(account.keys.values())


def _verify(lines: list[bytes], account: Account, pinned: tuple[str, list[bytes]]) -> dict[str, Any]:
    whose, keys = pinned
    verdict: dict[str, Any] = {"keys": [attest.key_id_of(key) for key in keys], "keys_are": whose, "verified": False}
    try:
        proven = attest.verify_ledger(lines, pinned=keys, verify=verify_signature)
    except EvidenceError as error:
        return {**verdict, "error": str(error)}
    unsigned = account.head.n - 1 - proven.signed_n
    return {**verdict, "verified": True, "signed_to": proven.signed_n, "lines_behind_signature": unsigned}


# -- JSON ----------------------------------------------------------------------------------------------------------


def _document(account: Account, verdict: Mapping[str, Any], told: argparse.Namespace) -> dict[str, Any]:
    files = [] if told.gaps else [_file(file) for file in _files(account, told.file)]
    return {
        "node": ",".join(sorted(account.nodes)), "first_n": account.first_n, "lines": account.lines,
        "beats": account.beats, "last_time_unix_nano": str(account.last_time_unix_nano),
        "incarnations": account.incarnations, "keys": sorted(account.keys), "files": files,
        "gaps": [{"n": line.n, "time_unix_nano": line.time_unix_nano, **msgspec.to_builtins(gap)}
                 for line, gap in _gaps(account, told.file)],
        **({"verification": verdict} if verdict else {}),
    }  # fmt: skip


def _file(file: FileAccount) -> dict[str, Any]:
    closed = {"size": file.closed.size, "reason": file.closed.reason} if file.closed is not None else None
    return {
        "file_id": file.file_id, "source": file.source, "path": file.path,
        "born_unix_nano": str(file.born_unix_nano) if file.born else "", "spans": file.spans,
        "attested_bytes": str(file.attested_bytes), "unattested_bytes": str(file.unattested_bytes),
        "stated_end": str(file.stated_end), "acknowledged": str(file.acknowledged), "gaps": len(file.gaps),
        "closed": closed,
    }  # fmt: skip


# -- text ----------------------------------------------------------------------------------------------------------


def _text(account: Account, verdict: Mapping[str, Any], told: argparse.Namespace) -> Iterator[str]:
    node = ", ".join(sorted(account.nodes)) or "no node"
    last = f"lines {account.first_n}-{account.head.n - 1}" if account.lines else "no line"
    yield f"ledger of {node}: {last}, {account.beats} beats, last at {_time(account.last_time_unix_nano)}"
    for incarnation in account.incarnations:
        yield f"incarnation {incarnation}"
    for key_id in sorted(account.keys):
        yield f"key {key_id}"
    if verdict:
        yield from _said(verdict)
    if not told.gaps:
        for file in _files(account, told.file):
            yield ""
            yield from _file_text(file)
    gaps = list(_gaps(account, told.file))
    yield ""
    yield f"{len(gaps)} gaps" if gaps else "no gaps"
    for line, gap in gaps:
        yield f"  {_time(int(line.time_unix_nano))}  line {line.n}  {_gap_text(gap)}  {gap.source}"


def _said(verdict: Mapping[str, Any]) -> Iterator[str]:
    if verdict["verified"]:
        yield f"verified: chain, signatures up to line {verdict['signed_to']}, every file without a hole"
        yield f"  {verdict['lines_behind_signature']} lines behind the last signature; keys {verdict['keys_are']}"
    else:
        yield f"NOT VERIFIED: {verdict['error']}"
        yield f"  keys {verdict['keys_are']}"


def _file_text(file: FileAccount) -> Iterator[str]:
    born = f"born {_time(file.born_unix_nano)}" if file.born else "born before the first line here"
    yield f"{file.file_id}  {file.source}"
    yield f"  {file.path or '-'}  {born}"
    unattested = f", {file.unattested_bytes:,} unattested" if file.unattested_bytes else ""
    yield f"  {file.attested_bytes:,} bytes in {file.spans} spans{unattested}, acknowledged to {file.acknowledged:,}"
    for gap in file.gaps:
        yield f"  gap {_gap_text(gap)}"
    if file.closed is not None:
        yield f"  closed at {int(file.closed.size):,}: {file.closed.reason}"


def _gap_text(gap: Gap) -> str:
    if gap.offset_start:
        where = f"bytes {gap.offset_start} to {gap.offset_end or 'an end that is not known'}"
    else:
        where = f"from {gap.time_start_unix_nano or '?'} to {gap.time_end_unix_nano or 'a time that is not known'}"
    return f"{where}: {gap.reason}" + (f" ({gap.detail})" if gap.detail else "")


def _files(account: Account, file_id: str) -> list[FileAccount]:
    return [file for _, file in sorted(account.files.items()) if not file_id or file.file_id == file_id]


def _gaps(account: Account, file_id: str) -> Iterable[tuple[Line, Gap]]:
    return ((line, gap) for line, gap in account.gaps if not file_id or gap.file_id == file_id)


def _time(unix_nano: int) -> str:
    return datetime.fromtimestamp(unix_nano // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if unix_nano else "-"

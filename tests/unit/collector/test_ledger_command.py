"""``collector ledger``: reads what a node states, and says so where it does not hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ashiato.adapters.clock import FixedClock
from ashiato.adapters.signer import open_signer, public_pem, read_public_key
from ashiato.core.ledger import Beat, Born, Closed, Gap, Span, Statement
from collector.__main__ import main
from collector.ledger_file import LedgerFile

SOURCE = "container/c/n/shop/web/uid/app"
STATEMENTS: list[Statement] = [
    Born(file_id="F", source=SOURCE, path="/var/log/pods/x/0.log", partition=0, topic="t"),
    Span(file_id="F", offset_start="0", offset_end="1500", sha256="0" * 64),
    Gap(source=SOURCE, reason="truncated", file_id="F", offset_start="1500", offset_end="1600", detail="why"),
    Closed(file_id="F", source=SOURCE, size="1500", reason="truncated"),
    Born(file_id="G", source=SOURCE, path="/other", partition=0, topic="t"),
    Beat(watermark_unix_nano="1"),
]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    signer = open_signer(tmp_path / "node.key", lambda size: b"k" * size)
    clock = FixedClock(unix_nano=1_700_000_000_000_000_000)
    file = LedgerFile(tmp_path / "ledger", node="n1", clock=clock, signer=signer)
    file.append(STATEMENTS)
    file.close()
    return tmp_path


def test_each_file_is_told_with_what_is_stated_and_missed(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", str(state)]) == 0
    printed = capsys.readouterr().out
    assert "ledger of n1: lines 0-5, 1 beats, last at 2023-11-14T22:13:20Z" in printed
    assert "1,500 bytes in 1 spans, acknowledged to 0" in printed
    assert "gap bytes 1500 to 1600: truncated (why)" in printed
    assert "closed at 1,500: truncated" in printed
    assert "/other" in printed


def test_a_file_or_the_gaps_alone_can_be_asked_for(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", str(state), "--file", "G"]) == 0
    printed = capsys.readouterr().out
    assert "/other" in printed
    assert "0.log" not in printed
    assert "no gaps" in printed
    assert main(["ledger", str(state / "ledger"), "--gaps"]) == 0
    printed = capsys.readouterr().out
    assert "1 gaps" in printed
    assert "0.log" not in printed


def test_json_has_numbers_as_strings_and_the_verdict(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", str(state), "--json", "--verify"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["node"], told["lines"], told["beats"]) == ("n1", 6, 1)
    assert [file["attested_bytes"] for file in told["files"]] == ["1500", "0"]
    assert told["gaps"][0]["reason"] == "truncated"
    verdict = told["verification"]
    assert (verdict["verified"], verdict["signed_to"], verdict["lines_behind_signature"]) == (True, 5, 0)


def test_a_changed_line_or_another_key_is_not_verified(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = state / "other.pem"
    other.write_text(public_pem(open_signer(state / "other.key", lambda size: b"o" * size).public_key))
    assert main(["ledger", str(state), "--verify", "--public-key", str(other)]) == 1
    assert "NOT VERIFIED: a beat is signed by no key that was given" in capsys.readouterr().out
    path = next((state / "ledger").iterdir())
    path.write_bytes(path.read_bytes().replace(b"1500", b"1400", 1))
    assert main(["ledger", str(state), "--verify"]) == 1
    assert "NOT VERIFIED: ledger chain is broken" in capsys.readouterr().out


def test_the_public_key_is_printed_as_openssl_reads_it(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", str(state), "--key"]) == 0
    first, pem = capsys.readouterr().out.split("\n", 1)
    signer = open_signer(state / "node.key")
    assert first == f"key_id {signer.key_id}"
    assert read_public_key(pem) == signer.public_key


def test_no_ledger_or_no_key_is_wrong_usage_and_nothing_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["--verify"], ["--key"], []):
        assert main(["ledger", str(tmp_path), *words]) == 2
    assert list(tmp_path.iterdir()) == []
    assert "holds no ledger" in capsys.readouterr().err


def test_a_ledger_that_is_being_written_is_read_to_its_last_whole_line(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with next((state / "ledger").iterdir()).open("ab") as file:
        file.write(b'{"boot_nano":"0","n":6')
    assert main(["ledger", str(state), "--verify"]) == 0
    assert "lines 0-5" in capsys.readouterr().out

"""Wrong usage ends with 2 and a sentence that says what to do; help waits for nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ashiato.cli.importing import SKIPPED_SHOWN_MAX, skipped_lines


def ashiato(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ashiato", *arguments], capture_output=True, check=False, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("search", "a", "--data", "{empty}", "--start", "1h", "--end", "2h"), "ends before it begins"),
        (("search", "((", "--data", "{empty}"), "character=3"),
        (("search", "a", "--data", "{empty}", "--limit", "1000000000"), "between 1 and"),
        (("search", "a", "--data", "{empty}", "--since", "5x"), "90s, 15m"),
        (("search", "a", "--url", "nowhere", "--token-file", "{empty}/token"), "http://HOST:PORT"),
        (("search", "a", "--url", "http://127.0.0.1:1", "--token-file", __file__), "one word of ASCII"),
        (("search", "a", "--data", "nothere"), "ashiato up"),
        (("timeline", "pod:", "--data", "{empty}"), "pod:NAME"),
        (("up", "--port", "70000", "/"), "65535"),
        (("up", "/no/such/folder"), "not a folder"),
        (("import", "/no/such/folder"), "no such file"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_to_do(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    (tmp_path / "archive/evidence/_delta_log").mkdir(parents=True)
    (tmp_path / "token").write_text("a-token-of-a-test\n", encoding="ascii")

    done = ashiato(*(argument.replace("{empty}", str(tmp_path)) for argument in arguments))

    assert done.returncode == 2, done.stderr
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr


def test_no_terminal_obeys_what_is_quoted_in_an_error(tmp_path: Path) -> None:
    done = ashiato("search", "a", "--data", str(tmp_path / "no\x1b]0;owned\x07"))

    assert done.returncode == 2
    assert "\x1b" not in done.stderr
    assert "\\x1b]0;owned" in done.stderr


def test_help_loads_no_engine() -> None:
    heavy = ("pyarrow", "numpy", "opensearchpy", "httpx", "boto3", "fastapi", "query.engine")
    script = f"import sys, ashiato.cli; print([name for name in {heavy} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True, timeout=60)

    assert done.stdout.strip() == "[]"


def test_what_an_import_skips_is_counted_by_reason_and_a_few_are_named() -> None:
    skipped = [{"path": f"/logs/{n}.bin", "reason": "binary"} for n in range(40)]

    lines = skipped_lines([*skipped, {"path": "/logs/\x1b[2J", "reason": "not a regular file"}])

    assert lines[0] == "skipped 40 files: binary"
    assert lines[1 : 1 + SKIPPED_SHOWN_MAX] == [f"    /logs/{n}.bin" for n in range(SKIPPED_SHOWN_MAX)]
    assert "35 more" in lines[1 + SKIPPED_SHOWN_MAX]
    assert lines[-2:] == ["skipped 1 file: not a regular file", "    /logs/\\x1b[2J"]

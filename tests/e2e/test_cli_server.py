"""The command line against a query service: the same answers as from its folder, and errors that say what to do."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_query_http import WEB, Running, start, stop
from tests.parts import certificates
from tests.unit.query.house import INCIDENT, House


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("served")

    async def archived() -> None:
        house = await House(root).open()
        await house.take([INCIDENT], cluster="incident", node="control-plane")

    asyncio.run(archived())
    certificates.make(root)
    running = start(root, tls_certificate_file=str(root / "server.crt"), tls_key_file=str(root / "server.key"))
    yield running
    stop(running)


def cli(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "ashiato", *arguments], capture_output=True, check=False, timeout=120)


def asked(service: Running) -> tuple[str, ...]:
    root = service.root
    return ("--url", service.url, "--token-file", str(root / "token"), "--ca-file", str(root / "ca.pem"))


def test_a_server_and_its_folder_give_the_same_records(service: Running) -> None:
    here = ("--archive", str(service.root / "archive"))
    questions = (
        ("search", "namespace:shop AND secrets", "--limit", "5000", "--json"),
        ("timeline", f"pod:shop/{WEB}", "--json"),
    )
    for question in questions:
        far, near = cli(*question, *asked(service)), cli(*question, *here)

        assert far.returncode == near.returncode == 0, far.stderr + near.stderr
        assert far.stdout.splitlines()[:-1] == near.stdout.splitlines()[:-1] != []
        coverages = [json.loads(done.stdout.splitlines()[-1])["coverage"]["complete"] for done in (far, near)]
        assert coverages[0] == coverages[1]


def test_logs_are_the_same_bytes(service: Running) -> None:
    far = cli("logs", WEB, "-n", "shop", *asked(service))
    near = cli("logs", WEB, "-n", "shop", "--archive", str(service.root / "archive"))

    assert far.returncode == near.returncode == 0, far.stderr + near.stderr
    assert far.stdout == near.stdout != b""


def test_an_error_is_a_sentence_and_an_exit_code(service: Running, tmp_path: Path) -> None:
    wrong = tmp_path / "token"
    wrong.write_text("not-the-token-of-this-service\n")
    tls = ("--ca-file", str(service.root / "ca.pem"))
    cases = (
        (("search", "x", "--url", service.url, "--token-file", str(wrong), *tls), 1, b"token"),
        (("search", "(x", *asked(service)), 2, b"character"),
        (("search", "x", "--url", "http://127.0.0.1:9", "--token-file", str(wrong)), 1, b"is ashiato up?"),
        (("search", "x", "--url", service.url), 2, b"--token-file"),
        (("search", "x", "--url", service.url, "--data", str(tmp_path)), 2, b"one place"),
        (("search", "x", "--data", str(tmp_path)), 2, b"ashiato up"),
        (("search", "x", "--archive", "gs://bucket"), 2, b"s3://"),
        (("search", "x", "--since", "yesterday", *asked(service)), 2, b"15m"),
        (("timeline", "planet:mars", *asked(service)), 2, b"pod:"),
        (("logs", "no-such-pod", *asked(service)), 1, b"no-such-pod"),
    )
    for arguments, code, words in cases:
        done = cli(*arguments)

        assert done.returncode == code, (arguments, done.stderr)
        assert words in done.stderr, (arguments, done.stderr)
        assert b"Traceback" not in done.stderr
        assert done.stdout == b""

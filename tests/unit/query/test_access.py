"""Who asked what: appended, rotated by number, and nothing is answered that could not be written down."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import httpx
import pytest

from ashiato.adapters.archive import ArchiveSettings
from ashiato.adapters.clock import FixedClock
from ashiato.adapters.telemetry import Telemetry
from ashiato.core.errors import TransientError
from query import access
from query.access import AccessLine, AccessLog
from query.api import READY_NS, make_app
from query.engine import Engine
from query.guard import Guard
from query.settings import QuerySettings
from tests.unit.query.house import NOON, House, container, cri

TOKEN = "a-token-that-nobody-guesses"


def line(asked: str) -> AccessLine:
    return AccessLine(
        time_unix_nano=str(NOON), user="token", address="127.0.0.1", method="GET", path="/v1/search", asked=asked,
        status=200,
    )  # fmt: skip


def asked(folder: Path) -> list[str]:
    files = sorted(folder.glob("access-*.jsonl"))
    return [json.loads(row)["asked"] for file in files for row in file.read_bytes().splitlines()]


def test_a_log_goes_on_where_it_stood(tmp_path: Path) -> None:
    for question in ("one", "two"):
        log = AccessLog(tmp_path)
        log.write(line(question))
        log.close()
    assert asked(tmp_path) == ["one", "two"]
    assert [file.name for file in tmp_path.iterdir()] == ["access-000001.jsonl"]


def test_a_full_file_is_followed_by_the_next_number_and_never_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "FILE_BYTES_MAX", 300)
    log = AccessLog(tmp_path)
    first = (tmp_path / "access-000001.jsonl").stat().st_ino
    for number in range(6):
        log.write(line(str(number)))
    log.close()
    assert asked(tmp_path) == [str(number) for number in range(6)]
    assert len(list(tmp_path.iterdir())) > 1
    assert (tmp_path / "access-000001.jsonl").stat().st_ino == first


def test_only_so_many_files_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "FILE_BYTES_MAX", 0)
    log = AccessLog(tmp_path)
    for number in range(20):
        log.write(line(str(number)))
    log.close()
    assert len(list(tmp_path.iterdir())) == access.FILES_KEPT
    assert asked(tmp_path)[-1] == "19"


def test_a_log_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    log = AccessLog(tmp_path)
    log.close()
    with pytest.raises(TransientError):
        log.write(line("lost"))


class Asked:
    """The service, asked without a socket."""

    def __init__(self, house: House, **more: object) -> None:
        token = house.root / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        self.folder = house.root / "access"
        settings = QuerySettings(
            archive=ArchiveSettings(directory=str(house.root / "archive")), token_file=str(token),
            access_dir=str(self.folder), **more,  # type: ignore[arg-type]
        )  # fmt: skip
        self.telemetry = Telemetry("query", stream=io.StringIO())
        self.clock = FixedClock(unix_nano=NOON)
        self.guard: Guard = make_app(settings, house.engine(), clock=self.clock, telemetry=self.telemetry)

    async def get(self, path: str) -> httpx.Response:
        transport = httpx.ASGITransport(self.guard)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://query", headers=headers) as client:
            return await client.get(path)

    async def post(self, path: str, body: bytes) -> httpx.Response:
        transport = httpx.ASGITransport(self.guard)
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        async with httpx.AsyncClient(transport=transport, base_url="http://query", headers=headers) as client:
            return await client.post(path, content=body)


async def test_nothing_is_answered_that_could_not_be_written_down(house: House) -> None:
    await house.send(house.file(container("web-1")), cri("a secret answer"))
    await house.tail()
    service = Asked(house)
    assert (await service.get("/v1/search?q=secret")).status_code == 200
    service.guard._access.close()  # type: ignore[union-attr]

    answer = await service.get("/v1/search?q=secret")

    assert answer.status_code == 503
    assert "secret answer" not in answer.text
    assert "nothing is answered unrecorded" in answer.json()["detail"]
    assert service.telemetry.value("access_log_failed_total") == 1


async def test_a_question_that_takes_too_long_is_given_up(house: House) -> None:
    answer = await Asked(house, answer_timeout_s=1e-9).get("/v1/search")
    assert answer.status_code == 503
    assert "no answer within" in answer.json()["detail"]
    assert answer.headers["retry-after"] == "1"


async def test_more_questions_than_are_answered_at_once_wait_and_are_all_answered(house: House) -> None:
    await house.send(house.file(container("web-1")), cri("one"))
    await house.tail()
    service = Asked(house, answers_at_once=1)
    answers = await asyncio.gather(*(service.get(f"/v1/search?q=one&limit={limit}") for limit in range(1, 9)))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert len({answer.content.splitlines()[0] for answer in answers}) == 1
    assert len(asked(service.folder)) == 8


async def test_an_error_of_the_archive_is_a_problem_without_its_secrets(house: House) -> None:
    service = Asked(house)
    for commit in (house.root / "archive" / "evidence" / "_delta_log").rglob("*"):
        if commit.is_file():
            commit.write_bytes(b"{")

    answer = await service.get("/v1/search")

    assert answer.status_code in (400, 500)
    assert answer.headers["content-type"] == "application/problem+json"
    assert str(house.root) not in answer.text


async def test_a_question_that_is_nested_without_end_is_refused_and_written_down(house: House) -> None:
    service = Asked(house)
    answer = await service.post("/v1/search", b"[" * 60_000)
    assert answer.status_code < 500
    assert json.loads(asked(service.folder)[-1]) == {"body": "60000 bytes that are no JSON"}


async def test_whether_it_is_ready_is_not_asked_of_the_archive_by_everybody(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No token is needed to ask: whoever asks a thousand times a second has one look taken."""
    service, looks = Asked(house), 0
    really_check = Engine.check

    async def check(engine: Engine) -> None:
        nonlocal looks
        looks += 1
        await really_check(engine)

    monkeypatch.setattr(Engine, "check", check)
    answers = await asyncio.gather(*(service.get("/readyz") for _ in range(20)))
    assert ({answer.status_code for answer in answers}, looks) == ({200}, 1)
    # when: a second has passed, and the archive is gone
    service.clock.advance(READY_NS)
    monkeypatch.setattr(Engine, "check", _away)
    assert (await service.get("/readyz")).status_code == 503
    # then: it is looked at again each time, until it is there
    monkeypatch.setattr(Engine, "check", check)
    assert (await service.get("/readyz")).status_code == 200


async def _away(_: Engine) -> None:
    raise TransientError("the archive does not answer")

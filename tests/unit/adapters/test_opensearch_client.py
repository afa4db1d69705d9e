"""The connection to OpenSearch: encrypted, with credentials from files, and honest about whose fault it was."""

from __future__ import annotations

import base64
import json
import ssl
from pathlib import Path

import pytest
import trustme

from ashiato.adapters.opensearch_client import OpenSearchClient, error_type
from ashiato.adapters.opensearch_settings import OpenSearchSettings
from ashiato.core.errors import (
    AlreadyExistsError,
    AshiatoError,
    NotHeldError,
    OutcomeUnknownError,
    RefusedError,
    RejectedError,
    SettingsError,
    TransientError,
)
from tests.unit.adapters.opensearch_double import Asked, serving

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return str(file)


@pytest.fixture
def credentials_file(tmp_path: Path) -> str:
    file = tmp_path / "credentials.json"
    file.write_text(json.dumps({"username": "query", "password": PASSWORD}))
    return str(file)


def guarded(asked: Asked) -> tuple[int, object]:
    wanted = "Basic " + base64.b64encode(f"query:{PASSWORD}".encode()).decode()
    return (200, {"ok": True}) if asked.authorization == wanted else (401, b"Unauthorized")


async def asked_once(settings: OpenSearchSettings, method: str = "GET") -> object:
    client = OpenSearchClient(settings)
    try:
        return await client.ask(method, "/", body=b"{}" if method == "POST" else None)
    finally:
        await client.close()


async def test_a_server_of_our_authority_is_asked_with_credentials_from_a_file(
    tls: ssl.SSLContext, ca_file: str, credentials_file: str
) -> None:
    async with serving(guarded, tls) as double:
        settings = OpenSearchSettings(urls=(double.url,), ca_file=ca_file, credentials_file=credentials_file)
        assert await asked_once(settings) == {"ok": True}


async def test_a_server_of_another_authority_is_never_told_the_credentials(
    tls: ssl.SSLContext, credentials_file: str, tmp_path: Path
) -> None:
    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(str(stranger))
    async with serving(guarded, tls) as double:
        for ca_file in (str(stranger), ""):
            settings = OpenSearchSettings(urls=(double.url,), ca_file=ca_file, credentials_file=credentials_file)
            with pytest.raises(TransientError, match="does not answer"):
                await asked_once(settings)
        assert double.asked == []


async def test_a_server_under_another_name_is_not_believed(
    authority: trustme.CA, ca_file: str, credentials_file: str
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("elsewhere.example").configure_cert(context)
    async with serving(guarded, context) as double:
        settings = OpenSearchSettings(urls=(double.url,), ca_file=ca_file, credentials_file=credentials_file)
        with pytest.raises(TransientError):
            await asked_once(settings)
        assert double.asked == []


async def test_credentials_that_are_refused_are_not_tried_again(
    tls: ssl.SSLContext, ca_file: str, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps({"username": "query", "password": "guessed"}))
    async with serving(guarded, tls) as double:
        with pytest.raises(RefusedError) as told:
            await asked_once(OpenSearchSettings(urls=(double.url,), ca_file=ca_file, credentials_file=str(wrong)))
        assert len(double.asked) == 1
    assert "guessed" not in str(told.value)


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (400, "parsing_exception", RejectedError),
        (400, "resource_already_exists_exception", AlreadyExistsError),
        (403, "security_exception", RefusedError),
        (403, "cluster_block_exception", TransientError),
        (404, "index_not_found_exception", NotHeldError),
        (409, "version_conflict_engine_exception", AlreadyExistsError),
        (413, "", RejectedError),
        (429, "circuit_breaking_exception", TransientError),
        (500, "", TransientError),
        (503, "", TransientError),
    ],
)
async def test_an_error_says_whose_fault_it_was_and_quotes_nothing(
    status: int, kind: str, error: type[AshiatoError]
) -> None:
    document = {"error": {"type": kind, "reason": "secret value"}, "status": status}
    async with serving(lambda _: (status, document)) as double:
        with pytest.raises(error) as told:
            await asked_once(OpenSearchSettings(urls=(double.url,)))
        assert len(double.asked) == 1
    assert "secret" not in str(told.value)


async def test_a_write_whose_answer_is_lost_may_have_been_taken_and_a_read_may_not() -> None:
    async with serving(lambda _: None) as double:
        settings = OpenSearchSettings(urls=(double.url,))
        with pytest.raises(OutcomeUnknownError):
            await asked_once(settings, "POST")
        with pytest.raises(TransientError) as told:
            await asked_once(settings)
    assert not isinstance(told.value, OutcomeUnknownError)


async def test_an_answer_that_is_no_json_is_no_answer() -> None:
    async with serving(lambda _: (200, b"<html>")) as double:
        with pytest.raises(OutcomeUnknownError):
            await asked_once(OpenSearchSettings(urls=(double.url,)))


async def test_integers_of_64_bits_and_lone_surrogates_come_as_they_were_sent() -> None:
    async with serving(lambda _: (200, rb'{"n": 9007199254740993, "s": "\ud800"}')) as double:
        answer = await asked_once(OpenSearchSettings(urls=(double.url,)))
    assert answer == {"n": 9_007_199_254_740_993, "s": "\ud800"}


async def test_a_large_body_arrives_whole() -> None:
    async with serving(lambda _: (200, {})) as double:
        client = OpenSearchClient(OpenSearchSettings(urls=(double.url,)))
        body = b"x" * (3 << 20)
        await client.ask("POST", "/_bulk", params={"timeout": "10s"}, body=body)
        await client.close()
        assert double.asked[0].body == body
        assert double.asked[0].query == {"timeout": "10s"}


@pytest.mark.parametrize(
    "urls",
    [(), ("ftp://host",), ("host:9200",), ("http://user:secret@host:9200",), ("http://host:port",), ("http://",)],
)
def test_an_address_that_cannot_work_is_a_mistake_of_the_settings(urls: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError) as told:
        OpenSearchClient(OpenSearchSettings(urls=urls))
    assert "secret" not in str(told.value)


@pytest.mark.parametrize("content", [None, "{", '{"username": "u"}', '{"username": "u", "password": "p", "x": 1}'])
def test_credentials_that_cannot_be_read_are_a_mistake_of_the_settings(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "c.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError, match="credentials_file"):
        OpenSearchClient(OpenSearchSettings(urls=("http://127.0.0.1:1",), credentials_file=str(file)))


def test_an_authority_that_cannot_be_read_is_a_mistake_of_the_settings(tmp_path: Path) -> None:
    for content in (None, "no certificate"):
        file = tmp_path / "ca.pem"
        if content is not None:
            file.write_text(content)
        with pytest.raises(SettingsError, match="ca_file"):
            OpenSearchClient(OpenSearchSettings(urls=("https://127.0.0.1:1",), ca_file=str(file)))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"type": "a", "reason": "b"}, "a"),
        ({"error": {"type": "a"}}, "a"),
        ({"error": "a"}, "a"),
        ({"error": "no handler for [secret value]"}, ""),
        ('{"error": {"type": "a"}}', "a"),
        ("no json", ""),
        (None, ""),
        ({}, ""),
    ],
)
def test_of_an_error_only_its_type_is_kept(error: object, kind: str) -> None:
    assert error_type(error) == kind

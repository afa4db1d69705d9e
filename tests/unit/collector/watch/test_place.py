"""Where the API server is, and who may watch what."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ashiato.core.errors import SettingsError, TransientError
from collector.watch.api import Place
from collector.watch.resources import resource_of
from collector.watch.settings import ACCOUNT_DIR, RESOURCES, WatchSettings

IN_CLUSTER = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
RBAC = Path(__file__).parents[4] / "deploy" / "collector-watch-rbac.yaml"


def settings(**told: str) -> WatchSettings:
    return msgspec.convert({"state_dir": "/state", **told}, WatchSettings)


def test_a_pod_needs_no_setting() -> None:
    place = Place.of(settings(), IN_CLUSTER)

    assert place.url == "https://10.96.0.1:443"
    assert (place.token_file, place.ca_file) == (Path(ACCOUNT_DIR) / "token", Path(ACCOUNT_DIR) / "ca.crt")


def test_an_address_of_version_six_stands_in_brackets() -> None:
    assert Place.of(settings(), {"KUBERNETES_SERVICE_HOST": "fd00::1"}).url == "https://[fd00::1]:443"


def test_a_pods_own_token_goes_to_no_other_server() -> None:
    place = Place.of(settings(kube_url="https://other.example.com"), IN_CLUSTER)

    assert place.token_file is None


@pytest.mark.parametrize("content", ["", "hunter2\r\nX-Other: 1", "hunter2 hunter2", "hunter2\x7f", "hunter2\xe9"])
def test_what_is_no_token_is_neither_sent_nor_quoted(tmp_path: Path, content: str) -> None:
    token = tmp_path / "token"
    token.write_text(content, encoding="latin-1")
    place = Place.of(settings(kube_url="https://x", token_file=str(token)), {})

    with pytest.raises(TransientError) as told:
        place.headers("application/json")

    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({}, "there is no cluster here"),
        ({"kube_url": "ftp://x"}, "not an address"),
        ({"kube_url": "https://user:word@x"}, "not an address"),
        ({"kube_url": "http://x", "token_file": "/t"}, "over https only"),
    ],
)
def test_settings_that_cannot_work_are_refused(told: dict[str, str], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        Place.of(settings(**told), {})


@pytest.mark.parametrize("name", ["secrets", "configmaps", "pods/log", ""])
def test_what_is_not_on_the_list_cannot_be_watched(name: str) -> None:
    with pytest.raises(SettingsError, match="cannot be watched"):
        resource_of(name)


def test_the_example_of_rights_covers_what_is_watched_and_no_more() -> None:
    text = RBAC.read_text(encoding="utf-8")
    rules = text[text.index("rules:") : text.index("---", text.index("rules:"))]
    lists = [line.partition("[")[2].rstrip("]").split(",") for line in rules.splitlines() if "resources:" in line]
    resources = [name.strip() for names in lists for name in names]
    verbs = {line.strip() for line in rules.splitlines() if "verbs:" in line}

    assert set(resources) == set(RESOURCES)
    assert verbs == {"verbs: [list, watch]"}
    assert "*" not in rules

"""The settings that ``ashiato up`` writes are those that the services take."""

from __future__ import annotations

import importlib
import json
import tomllib
from pathlib import Path

import pytest

from ashiato.adapters.data_folder import DataFolder
from ashiato.adapters.settings import load
from ashiato.cli.up import size_bytes
from ashiato.core.errors import SettingsError
from ashiato.standalone import SERVICES, Options, settings_document, toml

NAMES = {
    "collector": "CollectorSettings",
    "ingest": "IngestSettings",
    "query": "QuerySettings",
    "retention": "RetentionSettings",
}


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_takes_its_table(service: str, tmp_path: Path) -> None:
    data = DataFolder(tmp_path / 'odd "folder" \\ 足跡')
    written = tmp_path / "settings.toml"
    written.write_text(toml(settings_document(data, Options(roots=("/logs",), node="n1"))), encoding="utf-8")
    module = importlib.import_module(f"{service}.settings")

    settings = load(getattr(module, NAMES[service]), service=service, file=written, environ={})

    assert settings is not None


def test_toml_gives_back_what_was_written() -> None:
    document = {"a": {"text": 'quote " back \\ line\n足跡 \x7f', "yes": True, "n": 7, "f": 0.5, "list": ["x", "y"]}}

    assert tomllib.loads(toml(document)) == json.loads(json.dumps(document))


def test_a_mistyped_setting_is_refused(tmp_path: Path) -> None:
    written = tmp_path / "settings.toml"
    written.write_text('[collector]\nstate_dir = "x"\nbeat_intervall_s = 1\n', encoding="utf-8")
    module = importlib.import_module("collector.settings")

    with pytest.raises(SettingsError, match="beat_intervall_s"):
        load(module.CollectorSettings, service="collector", file=written, environ={})


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("512M", 512 << 20), ("10G", 10 << 30), ("1.5GiB", 3 << 29)])
def test_a_size_is_read(text: str, size: int) -> None:
    assert size_bytes(text) == size


def test_what_is_no_size_is_refused() -> None:
    with pytest.raises(SettingsError, match="10G"):
        size_bytes("ten gigabytes")

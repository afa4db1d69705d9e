"""Settings of every service: a frozen msgspec struct, filled from a TOML file and the environment.

A service ``collector`` reads the table ``[collector]`` of the file named by ``--config``, then
``ASHIATO_COLLECTOR_<FIELD>`` from the environment (which wins). Unknown names are refused, in the file and in
the environment, because a mistyped setting that is ignored in silence is how data is lost. A secret is never a
value: a field that needs one is named ``*_file`` and holds a path.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from ashiato.core.errors import SettingsError

S = TypeVar("S", bound=msgspec.Struct)


def load(
    cls: type[S],
    *,
    service: str,
    file: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object] | None = None,
) -> S:
    """Return the settings of ``service``; ``overrides`` (command line flags) win over all.

    Raises:
        SettingsError: unknown name, wrong type, value out of bounds, unreadable file.

    """
    names = {field.name for field in msgspec.structs.fields(cls)}
    values: dict[str, object] = {}
    if file is not None:
        values.update(_table(file, service))
    prefix = f"ASHIATO_{service.upper()}_"
    for name, text in environ.items():
        if name.startswith(prefix):
            values[name.removeprefix(prefix).lower()] = text
    values.update(overrides or {})
    unknown = sorted(set(values) - names)
    if unknown:
        raise SettingsError(f"unknown {service} setting: {', '.join(unknown)}; known: {', '.join(sorted(names))}")
    try:
        return msgspec.convert(values, cls, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{service} settings: {error}") from error


def _table(file: Path, service: str) -> Mapping[str, object]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read settings file {file}: {error}") from error
    table = document.get(service, {})
    if not isinstance(table, dict):
        raise SettingsError(f"[{service}] in {file} must be a table")
    return table

"""Makes ``docs/reference.md`` from the code: settings, events with metrics, invariants, limits, commands.

``python -m tests.docs.reference`` writes it; a test holds the written one against a fresh one.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import typer

from ashiato.cli import app
from ashiato.core.events import Event
from ashiato.core.invariants import ALL

ROOT: Final = Path(__file__).parents[2]
PATH: Final = ROOT / "docs" / "reference.md"

_SETTINGS: Final = (
    ("collector", "collector/settings.py", "CollectorSettings"),
    ("watch", "collector/watch/settings.py", "WatchSettings"),
    ("ingest", "ingest/settings.py", "IngestSettings"),
    ("query", "query/settings.py", "QuerySettings"),
    ("retention", "retention/settings.py", "RetentionSettings"),
    ("bus", "ashiato/adapters/bus.py", "BusSettings"),
    ("archive", "ashiato/adapters/archive.py", "ArchiveSettings"),
    ("opensearch", "ashiato/adapters/opensearch_settings.py", "OpenSearchSettings"),
)
_SERVICES: Final = ("collector", "ingest", "query", "retention")


def render() -> str:
    """Return the whole page."""
    parts = [
        "# Reference",
        "",
        "Made from the code by `python -m tests.docs.reference`; a test fails where the two differ.",
        "",
        *_settings(),
        *_events(),
        *_invariants(),
        *_limits(),
        *_commands(),
    ]
    return "\n".join(parts).rstrip() + "\n"


def event_classes() -> dict[type[Event], tuple[str, ...]]:
    """Return every event, with the services that emit it."""
    found: dict[type[Event], tuple[str, ...]] = {}
    for module_name, services in _event_modules():
        module = importlib.import_module(module_name)
        for _, member in inspect.getmembers(module, inspect.isclass):
            if issubclass(member, Event) and member is not Event and member.__module__ == module_name:
                found[member] = services
    return found


def _event_modules() -> Iterator[tuple[str, tuple[str, ...]]]:
    yield "ashiato.core.events", _SERVICES
    for service in _SERVICES:
        for path in sorted((ROOT / service).glob("*events.py")):
            yield f"{service}.{path.stem}", (service,)


def _settings() -> Iterator[str]:
    yield from (
        "## Settings",
        "",
        "A service reads its table of the TOML file named by `--config`, then `ASHIATO_<SERVICE>_<SETTING>` from the",
        "environment, which wins. Unknown names are refused. A secret is never a value: it is a file.",
        "`bus`, `archive` and `opensearch` are tables inside those of the services that use them.",
        "",
    )
    for title, path, name in _SETTINGS:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        node = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)
        yield from (f"### `[{title}]`", "", _sentence(ast.get_docstring(node) or ""), "")
        yield from ("| setting | type | default | |", "|---|---|---|---|")
        yield from (_setting(field, text) for field, text in _fields(node))
        yield ""


def _fields(node: ast.ClassDef) -> Iterator[tuple[ast.AnnAssign, str]]:
    for index, field in enumerate(node.body):
        if not isinstance(field, ast.AnnAssign):
            continue
        text = ""
        following = node.body[index + 1] if index + 1 < len(node.body) else None
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            text = str(following.value.value)
        yield field, _sentence(text)


def _setting(field: ast.AnnAssign, text: str) -> str:
    assert isinstance(field.target, ast.Name)
    default = f"`{ast.unparse(field.value)}`" if field.value is not None else "required"
    kind = ast.unparse(field.annotation).replace("|", "\\|")
    return f"| `{field.target.id}` | `{kind}` | {default} | {text} |"


def _events() -> Iterator[str]:
    yield from (
        "## Events and metrics",
        "",
        "One event a log line (JSON, on stderr). `warning`: nothing was lost. `error`: data was lost or a person is",
        "needed. A metric's name begins with `ashiato_<service>_`.",
        "",
        "| event | service | level | what happened | metrics |",
        "|---|---|---|---|---|",
    )
    for event, services in sorted(event_classes().items(), key=lambda item: (item[1], item[0].__name__)):
        metrics = ", ".join(
            f"`{metric.name}`" + (f" ({', '.join(metric.labels)})" if metric.labels else "") for metric in event.metrics
        )
        who = "every" if services == _SERVICES else services[0]
        what = _sentence(inspect.getdoc(event) or "")
        yield f"| `{event.__name__}` | {who} | {event.level} | {what} | {metrics} |"
    yield ""


def _invariants() -> Iterator[str]:
    yield from ("## Invariants", "", "| number | what stays true |", "|---|---|")
    yield from (f"| {number} | {invariant.sentence} |" for number, invariant in ALL.items())
    yield ""


def _limits() -> Iterator[str]:
    yield from ("## Limits", "", "| limit | value | why |", "|---|---|---|")
    tree = ast.parse((ROOT / "ashiato/core/limits.py").read_text(encoding="utf-8"))
    for index, node in enumerate(tree.body):
        following = tree.body[index + 1] if index + 1 < len(tree.body) else None
        documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and documented:
            assert isinstance(following, ast.Expr)
            assert isinstance(following.value, ast.Constant)
            value = ast.unparse(node.value)
            yield f"| `{node.targets[0].id}` | `{value}` | {_sentence(str(following.value.value))} |"
    yield ""


def _commands() -> Iterator[str]:
    yield from ("## Commands", "", "Exit codes: 0 done, 1 failed, 2 wrong usage.", "")
    root = typer.main.get_command(app)
    assert isinstance(root, click.Group | typer.core.TyperGroup)
    for name, command in root.commands.items():
        yield from (f"### `ashiato {name}`", "", _sentence(command.help or ""), "")
        yield from ("| | |", "|---|---|")
        for parameter in command.params:
            if parameter.name == "help":
                continue
            names = ", ".join(f"`{option}`" for option in (*parameter.opts, *parameter.secondary_opts))
            if isinstance(parameter, typer.core.TyperArgument):
                names = f"`{(parameter.name or '').upper().strip('_')}`"
            yield f"| {names} | {_sentence(getattr(parameter, 'help', '') or '')} |"
        yield ""


def _sentence(text: str) -> str:
    return " ".join(text.replace("``", "`").split()).replace("|", "\\|")


if __name__ == "__main__":
    PATH.write_text(render(), encoding="utf-8")

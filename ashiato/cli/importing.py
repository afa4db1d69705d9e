"""``ashiato import``: read once what somebody saved, archive it, and say what was read, held and quarantined."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ashiato.adapters import files
from ashiato.adapters.archive_directory import DirectoryReader
from ashiato.adapters.data_folder import DataFolder
from ashiato.adapters.frontiers import held_files
from ashiato.adapters.journal import Journal
from ashiato.cli.up import DATA_DEFAULT, DataOption, say
from ashiato.core.errors import AshiatoError, SettingsError
from ashiato.standalone import Options, settings_document, toml


def import_(
    paths: Annotated[
        list[Path], typer.Argument(help="Files or folders: a node's /var/log, an audit log, Falco events.")
    ],
    data: DataOption = DATA_DEFAULT,
    cluster: Annotated[str, typer.Option(help="Cluster that the records are given.")] = "imported",
    node: Annotated[str, typer.Option(help="Node, where the paths do not name one (<node>/var/log/...).")] = "imported",
    json_lines: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Read saved logs once, commit them, and report; kinds are recognised by content."""
    for path in paths:
        if not path.exists():
            raise SettingsError(f"no such file or folder: {path}")
    folder = DataFolder(data.resolve())
    settings = _settings(folder, cluster=cluster, node=node)
    _run("retention", "prepare", "--config", str(settings))
    say(f"reading {', '.join(map(str, paths))}")
    names = ("--cluster", cluster, "--node", node)
    read = _run("collector", "import", "--config", str(settings), "--json", *names, *map(str, paths), allowed=(0, 1))
    say("archiving")
    archived = _run("ingest", "archive", "--drain", "--config", str(settings))
    report = _report(folder, read, archived)
    if json_lines:
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        _print(report)
    if not report["files"]:
        raise AshiatoError("nothing could be read: the report says why")
    if report["held_bytes"] != report["read_bytes"]:
        raise AshiatoError("not every byte that was read is held: run the same import again, it adds what is missing")


def _settings(folder: DataFolder, *, cluster: str, node: str) -> Path:
    """Return settings for an import; those of an Ashiato that runs over the folder are left alone."""
    for made in (folder.run, folder.scratch, folder.tail):
        files.make_folder(made)
    path = folder.run / "import.toml"
    files.replace(path, toml(settings_document(folder, Options(cluster=cluster, node=node))).encode())
    return path


def _run(service: str, *arguments: str, allowed: tuple[int, ...] = (0,)) -> Mapping[str, Any]:
    """Run one step of a service to its end and return its last line, which is a JSON object where it has one."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", service, *arguments], check=False, capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    if done.returncode not in allowed:
        words = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise AshiatoError(f"{service} failed: {words[0] if words else 'it says nothing'}", exit_code=done.returncode)
    found: Mapping[str, Any] = json.loads(lines[-1]) if lines else {}
    return found


def _report(folder: DataFolder, read: Mapping[str, Any], archived: Mapping[str, Any]) -> dict[str, Any]:
    """Hold what was read against what the journal says is held, file by file."""
    archive = DirectoryReader(folder.archive)
    journal = Journal(archive)
    held = held_files(archive, journal.refresh())
    listed = []
    for file in read.get("files", ()):
        state = held.get(file["file_id"])
        listed.append({**file, "held_bytes": min(state.offset, file["size"]) if state is not None else 0})
    return {
        "files": listed,
        "skipped": list(read.get("skipped", ())),
        "read_bytes": sum(file["size"] for file in listed),
        "held_bytes": sum(file["held_bytes"] for file in listed),
        "rows_added": archived.get("rows", 0),
        "quarantined_rows": archived.get("quarantined_rows", 0),
        "commits": archived.get("commits", 0),
        "data": str(folder.root),
    }


def _print(report: Mapping[str, Any]) -> None:
    console = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for heading in ("kind", "files", "bytes read", "bytes held"):
        table.add_column(heading, justify="left" if heading == "kind" else "right")
    kinds = sorted({str(file["kind"]) for file in report["files"]})
    for kind in kinds:
        own = [file for file in report["files"] if file["kind"] == kind]
        sizes = (sum(file["size"] for file in own), sum(file["held_bytes"] for file in own))
        table.add_row(kind, str(len(own)), *(f"{size:,}" for size in sizes))
    console.print(table)
    console.print(
        f"{report['rows_added']:,} rows added in {report['commits']} commits, {report['quarantined_rows']:,} of them "
        f"quarantined (kept, and searchable as text)"
    )
    for skipped in report["skipped"]:
        console.print(f"skipped {skipped['path']}: {skipped['reason']}")
    console.print(f"ask: ashiato search 'error' --data {report['data']}")

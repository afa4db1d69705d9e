"""``ashiato import``: read once what somebody saved, archive it, and say what was read, held and quarantined."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Annotated, Any, Final

import typer

from ashiato.adapters import files
from ashiato.adapters.data_folder import DataFolder
from ashiato.cli.up import DATA_DEFAULT, DataOption
from ashiato.cli.voice import safe, say
from ashiato.core.errors import AshiatoError, SettingsError
from ashiato.standalone import Options, settings_document, toml

SKIPPED_SHOWN_MAX: Final = 5
"""Files of one reason that are named to a person; --json names all."""
_LAST_WORDS_MAX: Final = 20


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
    folder.check_ours()
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
    with subprocess.Popen(
        [sys.executable, "-P", "-m", service, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        encoding="utf-8", errors="backslashreplace",
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stderr is not None
        # What it prints is one line at its end, so that nobody waits on that pipe while the other is read.
        words = _listen(child.stderr)
        lines = child.stdout.read().splitlines()
    if child.returncode in allowed and (lines or child.returncode == 0):
        found: Mapping[str, Any] = json.loads(lines[-1]) if lines else {}
        return found
    raise AshiatoError(f"{service} failed: {words[-1] if words else 'it says nothing'}", exit_code=child.returncode)


def _listen(stream: IO[str]) -> Sequence[str]:
    """Pass on what a service says about its progress and its troubles, and return its last other words."""
    words: list[str] = []
    for line in stream:
        told = _told(line)
        if told is None:
            words = [*words, line.strip()][-_LAST_WORDS_MAX:]
        elif sentence := _sentence(told):
            say(sentence)
    return [word for word in words if word]


def _told(line: str) -> Mapping[str, Any] | None:
    try:
        told = json.loads(line)
    except ValueError:
        return None
    return told if isinstance(told, dict) and "event" in told else None


def _sentence(told: Mapping[str, Any]) -> str:
    """Return what a person is told of an event; '' for those that the report tells."""
    match told["event"]:
        case "import_progress":
            return (
                f"read {told['files']:,} of {told['files_total']:,} files, {told['raw_bytes'] / 1e6:,.0f} MB "
                f"({told['stored_bytes_total'] / 1e6:,.0f} MB lie there)"
            )
        case "part_unavailable":
            return f"the {told['part']} does not answer, it is asked again: {told['error']}"
        case _:
            return ""


def _report(folder: DataFolder, read: Mapping[str, Any], archived: Mapping[str, Any]) -> dict[str, Any]:
    """Hold what was read against what the journal says is held, file by file."""
    from ashiato.adapters.archive_directory import DirectoryReader  # noqa: PLC0415 - see the package
    from ashiato.adapters.frontiers import held_files  # noqa: PLC0415 - the same
    from ashiato.adapters.journal import Journal  # noqa: PLC0415 - the same

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
    from rich.console import Console  # noqa: PLC0415 - see the package
    from rich.table import Table  # noqa: PLC0415 - the same

    console = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)
    for line in skipped_lines(report["skipped"]):
        console.print(line)
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
        f"{_counted(report['rows_added'], 'row')} added in {_counted(report['commits'], 'commit')}, "
        f"{report['quarantined_rows']:,} of them quarantined (kept, and searchable as text)"
    )
    console.print(f"ask: ashiato search 'error' --data {safe(report['data'])}")


def skipped_lines(skipped: Sequence[Mapping[str, str]]) -> Sequence[str]:
    """Return what was not taken, by reason: a few names of each and the number of the others."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for file in skipped:
        by_reason[file["reason"]].append(file["path"])
    lines = []
    for reason, paths in by_reason.items():
        lines.append(f"skipped {_counted(len(paths), 'file')}: {safe(reason)}")
        lines += [f"    {safe(path)}" for path in paths[:SKIPPED_SHOWN_MAX]]
        if len(paths) > SKIPPED_SHOWN_MAX:
            lines.append(f"    and {len(paths) - SKIPPED_SHOWN_MAX:,} more (--json names all)")
    return lines


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"

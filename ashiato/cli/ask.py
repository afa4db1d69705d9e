"""``ashiato search``, ``timeline``, ``logs``, ``pods``: one question, one answer, wherever the records lie."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from ashiato.adapters.clock import SystemClock
from ashiato.adapters.data_folder import DataFolder
from ashiato.cli.times import moment_ns, span_ns
from ashiato.cli.up import DATA_DEFAULT
from ashiato.cli.voice import safe
from ashiato.core.errors import SettingsError

if TYPE_CHECKING:
    from ashiato.cli.places import Place

T = TypeVar("T")

_LIMIT: Final = 1000

Data = Annotated[Path | None, typer.Option("--data", help=f"A data folder; ./{DATA_DEFAULT} where no place is named.")]
Url = Annotated[str, typer.Option("--url", help="A query service; needs --token-file.")]
TokenFile = Annotated[Path | None, typer.Option("--token-file", help="File that holds the service's token.")]
CaFile = Annotated[
    str, typer.Option("--ca-file", help="CA of the service's certificate; the system's where none is named.")
]
Archive = Annotated[
    str, typer.Option("--archive", help="An archive alone: a folder, or s3://BUCKET[?endpoint=URL&credentials=FILE].")
]
Since = Annotated[str, typer.Option("--since", help="From this long ago: 15m, 2h, 7d.")]
Start = Annotated[str, typer.Option("--start", help="From this moment (RFC 3339, or a length before now).")]
End = Annotated[str, typer.Option("--end", help="Up to, and without, this moment.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="Records at the most; the answer says when it was cut.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line, coverage last.")]
All = Annotated[bool, typer.Option("--all", help="Fold nothing.")]


def search(
    query: Annotated[str, typer.Argument(help="Such as: error, level:error AND namespace:shop, /time ?out/.")] = "*",
    data: Data = None,
    url: Url = "",
    token_file: TokenFile = None,
    ca_file: CaFile = "",
    archive: Archive = "",
    since: Since = "",
    start: Start = "",
    end: End = "",
    limit: Limit = _LIMIT,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="Oldest first; newest first otherwise.")] = False,
    json_lines: Json = False,
) -> None:
    """Find records: words, phrases, field:value, wildcards, ranges, regular expressions."""
    begin, until = _window(since, start, end)

    async def ask(place: Place) -> Sequence[bytes]:
        return await place.search(
            query, start_unix_nano=begin, end_unix_nano=until, limit=limit, oldest_first=oldest_first
        )

    lines = _ask(_place(data, url, token_file, ca_file, archive), ask)
    # On a terminal the newest stands last, where the eye is.
    _print(lines, json_lines=json_lines, fold=False, turn=not oldest_first)


def timeline(
    anchor: Annotated[
        str, typer.Argument(help="pod:[ns/]NAME, uid:, workload:, node:, image:, sa:ns/name, user:, ip:")
    ],
    data: Data = None,
    url: Url = "",
    token_file: TokenFile = None,
    ca_file: CaFile = "",
    archive: Archive = "",
    since: Since = "",
    start: Start = "",
    end: End = "",
    limit: Limit = 10_000,
    show_all: All = False,
    json_lines: Json = False,
) -> None:
    """Tell what happened around a pod, a node, a person or an address, of all sources, in order."""
    begin, until = _window(since, start, end)

    async def ask(place: Place) -> Sequence[bytes]:
        return await place.timeline(anchor, start_unix_nano=begin, end_unix_nano=until, limit=limit)

    _print(_ask(_place(data, url, token_file, ca_file, archive), ask), json_lines=json_lines, fold=not show_all)


def pods(
    at: Annotated[str, typer.Option("--at", help="Those that were there at this moment, the gone included.")] = "",
    node: Annotated[str, typer.Option("--node", help="Those of a node.")] = "",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Those of a namespace.")] = "",
    data: Data = None,
    url: Url = "",
    token_file: TokenFile = None,
    ca_file: CaFile = "",
    archive: Archive = "",
    since: Since = "",
    start: Start = "",
    end: End = "",
    json_lines: Json = False,
) -> None:
    """List what ran where and when: every pod that is or was, with node, addresses and the last sign of it."""
    from query.pods_answer import PodsRequest  # noqa: PLC0415 - see the package

    if at and (since or start or end):
        raise SettingsError("name --at, or a time with --since, --start and --end, not both")
    begin, until = _window(since, start or at, end)
    if at and begin is not None:
        until = begin + 1

    async def ask(place: Place) -> Sequence[bytes]:
        return await place.pods(
            PodsRequest(node=node, namespace=namespace, time_start_unix_nano=begin, time_end_unix_nano=until)
        )

    lines = _ask(_place(data, url, token_file, ca_file, archive), ask)
    if json_lines:
        _print_lines(lines)
        return
    from ashiato.cli.show import print_pods  # noqa: PLC0415 - see the package

    print_pods(*_read(lines), out=sys.stdout)


def logs(
    pod: Annotated[str, typer.Argument(help="Name of a pod, alive or gone.")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Its namespace.")] = "",
    container: Annotated[str, typer.Option("--container", "-c", help="One of its containers.")] = "",
    previous: Annotated[bool, typer.Option("--previous", "-p", help="The restart before the last.")] = False,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="Put the written time before each line.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="The log files' own bytes.")] = False,
    since: Since = "",
    data: Data = None,
    url: Url = "",
    token_file: TokenFile = None,
    ca_file: CaFile = "",
    archive: Archive = "",
) -> None:
    """Print what `kubectl logs` would have printed of a pod that is gone: byte for byte, but for a terminal's sake."""
    from ashiato.cli.show import coverage_sentences  # noqa: PLC0415 - see the package
    from query.engine import LogsRequest  # noqa: PLC0415 - the same

    begin, _ = _window(since, "", "")

    async def ask(place: Place) -> tuple[bytes, Mapping[str, Any]]:
        printed = await place.logs(
            LogsRequest(
                pod=pod, namespace=namespace, container=container, previous=previous, timestamps=timestamps, raw=raw,
                time_start_unix_nano=begin,
            )
        )  # fmt: skip
        return printed.content, printed.coverage

    content, coverage = _ask(_place(data, url, token_file, ca_file, archive), ask)
    if sys.stdout.isatty() and not raw:
        # A pipe gets every byte; a terminal would obey some of them.
        sys.stdout.writelines(f"{safe(line)}\n" for line in content.decode("utf-8", "replace").splitlines())
    else:
        sys.stdout.buffer.write(content)
    sys.stdout.flush()
    if sys.stderr.isatty() or not coverage.get("complete"):
        for sentence in coverage_sentences(coverage):
            print(safe(sentence), file=sys.stderr)  # noqa: T201 - said about the answer, not part of it


def _place(data: Path | None, url: str, token_file: Path | None, ca_file: str, archive: str) -> Callable[[], Place]:
    """Return what opens the one place that was named."""
    from ashiato.cli.places import ArchivePlace, ServerPlace, read_token  # noqa: PLC0415 - see the package

    if sum(map(bool, (data, url, archive))) > 1:
        raise SettingsError("name one place: --data, --url or --archive")
    if url:
        if token_file is None:
            raise SettingsError("--url needs --token-file, a file that holds the service's token")
        token = read_token(token_file)
        return lambda: ServerPlace(url=url, token=token, ca_file=ca_file)
    if archive:
        return lambda: ArchivePlace(archive, tail=None)
    folder = DataFolder(data or DATA_DEFAULT)
    if not folder.archive.is_dir():
        raise SettingsError(
            f"no data folder at {folder.root}: start one with `ashiato up` or `ashiato import`, or name one with --data"
        )
    return lambda: ArchivePlace(str(folder.archive), tail=folder.tail)


def _ask(opened: Callable[[], Place], ask: Callable[[Place], Awaitable[T]]) -> T:
    async def run() -> T:
        place = opened()
        try:
            return await ask(place)
        finally:
            await place.close()

    return asyncio.run(run())


def _window(since: str, start: str, end: str) -> tuple[int | None, int | None]:
    now = SystemClock().now_unix_nano()
    if since and start:
        raise SettingsError("name --since or --start, not both")
    begin = now - span_ns(since) if since else moment_ns(start, now_unix_nano=now) if start else None
    until = moment_ns(end, now_unix_nano=now) if end else None
    if begin is not None and until is not None and begin >= until:
        raise SettingsError("the time that is asked for ends before it begins: look at --start (or --since) and --end")
    return begin, until


def _print(lines: Sequence[bytes], *, json_lines: bool, fold: bool, turn: bool = False) -> None:
    if json_lines:
        _print_lines(lines)
        return
    from ashiato.cli.show import print_records  # noqa: PLC0415 - see the package

    records, coverage = _read(lines)
    print_records(records[::-1] if turn else records, coverage, out=sys.stdout, fold=fold)


def _print_lines(lines: Sequence[bytes]) -> None:
    sys.stdout.buffer.writelines(line + b"\n" for line in lines)
    sys.stdout.flush()


def _read(lines: Sequence[bytes]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the entries of an answer, and what it covers."""
    return [json.loads(line) for line in lines[:-1]], json.loads(lines[-1])["coverage"]

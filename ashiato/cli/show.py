"""Answers for people: one line an entry, coverage last. What came out of a log is never obeyed by the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ashiato.cli.times import written
from ashiato.cli.voice import safe
from ashiato.core.timeline import TOLD_BY_FIELD

Document = Mapping[str, Any]
"""A record at the rim: dotted names to JSON values."""

KIND: Final = "ashiato.timeline.kind"
_STYLES: Final = {
    "output": "", "exec": "bold red", "audit": "yellow", "alert": "bold magenta", "lifecycle": "cyan",
    "event": "blue", "gap": "bold white on red",
}  # fmt: skip
_FOLD_FROM: Final = 4
"""A run of this many plain output lines is folded to its first and its last."""
_INTERVALS_SHOWN_MAX: Final = 20
_READS: Final = ("get", "list", "watch")
_LOUD: Final = 13
"""Severity (OpenTelemetry) from which an output line is never folded: WARN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line for a person."""

    time: str
    kind: str
    where: str
    what: str


def entry(document: Document) -> Entry:
    """Return what a person is shown of a record."""
    kind = str(document.get(KIND) or _kind(document))
    time = document.get("time_unix_nano") or document.get("observed_time_unix_nano")
    return Entry(
        time=written(int(str(time))) if time is not None else "",
        kind=kind,
        where=safe(_where(document)),
        what=safe(_what(kind, document)),
    )


def folded(entries: Sequence[Document]) -> Iterator[Document | int]:
    """Yield records, and in place of the middle of a run of plain entries the number of those left out.

    Plain are lines of output, and a read that succeeded as it did before. Of an audit event's stages only the one
    that tells it is shown.
    """
    run: list[Document] = []
    told: set[str] = set()
    for document in entries:
        if TOLD_BY_FIELD in document:
            continue
        if _is_plain(document) or _is_told_again(document, told):
            run.append(document)
            continue
        yield from _folded_run(run)
        run = []
        yield document
    yield from _folded_run(run)


def print_records(
    documents: Sequence[Document], coverage: Mapping[str, Any], *, out: TextIO, fold: bool, title: str = ""
) -> None:
    """Print records: a table on a terminal, plain lines elsewhere; then what the answer covers."""
    console = Console(file=out, highlight=False, emoji=False, markup=False)
    lines: Iterator[Document | int] = folded(documents) if fold else iter(documents)
    if console.is_terminal:
        console.print(_table(lines, title))
    else:
        out.writelines(f"{_plain(line)}\n" for line in lines)
    _print_coverage(coverage, console)


def print_pods(documents: Sequence[Document], coverage: Mapping[str, Any], *, out: TextIO) -> None:
    """Print a listing of pods: when, where, which, and what was its end; then what the answer covers."""
    console = Console(file=out, highlight=False, emoji=False, markup=False)
    rows = [tuple(safe(text) for text in _pod(document)) for document in documents]
    if console.is_terminal:
        table = Table(box=None, pad_edge=False)
        for title in ("from (UTC)", "to", "node", "pod", "addresses", "uid"):
            table.add_column(title, overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)
    else:
        out.writelines("  ".join(row) + "\n" for row in rows)
    _print_coverage(coverage, console)


def _print_coverage(coverage: Mapping[str, Any], console: Console) -> None:
    for sentence in coverage_sentences(coverage):
        console.print(Text(safe(sentence), style="green" if coverage.get("complete") else "yellow"), soft_wrap=True)


def _pod(document: Document) -> tuple[str, ...]:
    end, seen = document.get("ashiato.pod.end"), document.get("ashiato.pod.last_seen")
    until = written(int(end), digits=0) if end else f"(last seen {written(int(seen), digits=0)})" if seen else "-"
    addresses = dict.fromkeys(str(one["value"]) for one in document.get("ashiato.pod.addresses", ()))
    name = f"{document.get('k8s.namespace.name', '')}/{document.get('k8s.pod.name', '')}"
    began = written(int(document["ashiato.pod.start"]), digits=0)
    node, uid = document.get("k8s.node.name", "-"), document.get("k8s.pod.uid", "-")
    return began, until, str(node), name, ",".join(addresses) or "-", str(uid)


def coverage_sentences(coverage: Mapping[str, Any]) -> Iterator[str]:
    """Yield what an answer saw and what it could not see, as sentences."""
    intervals: Sequence[Mapping[str, Any]] = coverage.get("intervals", ())
    sources = {str(interval["source"]) for interval in intervals if interval["seen"] == "searched"}
    watermark = coverage.get("watermark_unix_nano")
    upto = f" up to {written(int(watermark))} UTC" if watermark is not None else ""
    state = "complete" if coverage.get("complete") else "NOT complete"
    count = f"{len(sources):,} source{'' if len(sources) == 1 else 's'}"
    yield f"coverage: {state}{upto}; {count} searched in {_legs(coverage)}"
    missing = [interval for interval in intervals if interval["seen"] != "searched"]
    for interval in missing[:_INTERVALS_SHOWN_MAX]:
        yield f"  {_interval(interval)}"
    if len(missing) > _INTERVALS_SHOWN_MAX:
        yield f"  and {len(missing) - _INTERVALS_SHOWN_MAX:,} more that were not searched (--json names all)"
    for finding in coverage.get("findings", ()):
        yield f"  note: {finding}"


def _legs(coverage: Mapping[str, Any]) -> str:
    return " and ".join(coverage.get("legs", ())) or "no place"


def _interval(interval: Mapping[str, Any]) -> str:
    start, end = interval.get("time_start_unix_nano"), interval.get("time_end_unix_nano")
    span = ""
    if start is not None or end is not None:
        span = f" from {written(int(start)) if start else 'ever'} to {written(int(end)) if end else 'now'}"
    size = f", {interval['bytes']} bytes" if interval.get("bytes") else ""
    reason = f" ({interval['reason']})" if interval.get("reason") else ""
    detail = f": {interval['detail']}" if interval.get("detail") else ""
    return f"{interval['seen']}{reason}{span}{size}: {interval['source']}{detail}"


def _table(lines: Iterator[Document | int], title: str) -> Table:
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, expand=True)
    table.add_column("time (UTC)", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("where", overflow="fold", max_width=44)
    table.add_column("what", ratio=1, overflow="fold")
    for line in lines:
        if isinstance(line, int):
            table.add_row("", "", "", Text(_left_out(line), style="dim"))
            continue
        shown = entry(line)
        style = _STYLES.get(shown.kind, "")
        table.add_row(shown.time, Text(shown.kind, style=style), Text(shown.where), Text(shown.what, style=style))
    return table


def _plain(line: Document | int) -> str:
    if isinstance(line, int):
        return _left_out(line)
    shown = entry(line)
    return f"{shown.time}  {shown.kind:<9}  {shown.where}  {shown.what}"


def _left_out(count: int) -> str:
    return f"... {count:,} more lines like these (--all shows them)"


def _is_told_again(document: Document, told: set[str]) -> bool:
    """Tell whether this is a read that succeeded just as one that was told before; who reads secrets is always told."""
    status = document.get("http.response.status_code")
    if (
        _kind_of(document) != "audit"
        or document.get("event.action") not in _READS
        or document.get("ashiato.object.resource") == "secrets"
        or not (isinstance(status, int) and 200 <= status < 300)
    ):
        return False
    sentence = _audit(document)
    if sentence in told:
        return True
    told.add(sentence)
    return False


def _is_plain(document: Document) -> bool:
    severity = document.get("severity_number")
    loud = (isinstance(severity, int) and severity >= _LOUD) or document.get("log.iostream") == "stderr"
    return _kind_of(document) == "output" and not loud


def _folded_run(run: Sequence[Document]) -> Iterator[Document | int]:
    if len(run) < _FOLD_FROM:
        yield from run
        return
    yield run[0]
    yield len(run) - 2
    yield run[-1]


def _kind_of(document: Document) -> str:
    return str(document.get(KIND) or _kind(document))


def _kind(document: Document) -> str:
    if "gap" in document.get("ashiato.flags", ()):
        return "gap"
    kind = str(document.get("ashiato.source.kind", ""))
    return {"container": "output", "falco": "alert", "watch": "lifecycle"}.get(kind, kind)


def _where(document: Document) -> str:
    pod = document.get("k8s.pod.name")
    if pod:
        names = (document.get("k8s.namespace.name"), pod, document.get("k8s.container.name"))
        return "/".join(str(name) for name in names if name)
    named = document.get("ashiato.object.name")
    if named:
        names = (document.get("ashiato.object.namespace"), document.get("ashiato.object.resource"), named)
        return "/".join(str(name) for name in names if name)
    return str(document.get("k8s.node.name", ""))


def _what(kind: str, document: Document) -> str:
    if kind in ("audit", "exec"):
        return _audit(document)
    body = str(document.get("body", "")).rstrip("\n")
    if kind == "alert":
        return f"{document.get('security_rule.name', '')}: {_said(body, 'output')}"
    if kind == "event":
        text = f"{str(document.get('event_name', '')).removeprefix('k8s.event.')}: {_said(body, 'object', 'message')}"
        return f"{text} [somebody deleted this event]" if document.get("event.action") == "DELETED" else text
    if kind == "lifecycle":
        return _lifecycle(document, body)
    if kind == "gap":
        return f"GAP {_said(body, 'statement', 'reason')} {_said(body, 'statement', 'detail', default='')}".rstrip()
    stream = "stderr: " if document.get("log.iostream") == "stderr" else ""
    return stream + body


def _audit(document: Document) -> str:
    parts = [document.get("user.name"), document.get("event.action"), document.get("ashiato.object.resource")]
    names = (document.get("ashiato.object.namespace"), document.get("ashiato.object.name"))
    parts.append("/".join(str(name) for name in names if name) or None)
    text = " ".join(str(part) for part in parts if part)
    if document.get("http.response.status_code") is not None:
        text += f" -> {document['http.response.status_code']}"
    if document.get("source.address"):
        text += f" from {document['source.address']}"
    stage = document.get("ashiato.audit.stage")
    return f"{text} [{stage}]" if stage and stage != "ResponseComplete" else text


def _lifecycle(document: Document, body: str) -> str:
    name = str(document.get("event_name", ""))
    phase = _said(body, "object", "status", "phase", default="")
    deleting = _said(body, "object", "metadata", "deletionTimestamp", default="")
    text = name.removeprefix("k8s.").replace(".", " ")
    if deleting and not name.endswith("deleted"):
        return f"{text}: deletion asked for"
    return f"{text}: {phase}" if phase else text


def _said(body: str, *path: str, default: str | None = None) -> str:
    """Return a text inside a JSON body, ``default`` (the body itself where None) where it is not there."""
    try:
        value = json.loads(body)
        for name in path:
            value = value[name]
    except (ValueError, KeyError, TypeError):
        return body if default is None else default
    return str(value)

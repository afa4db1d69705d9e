"""What the doctor says: findings for people, facts for machines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec


class State(StrEnum):
    """How bad a finding is."""

    WELL = "well"
    WARNING = "warning"
    LOSS = "loss"
    """Something is lost now, or would be if nothing is done."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    what: str
    state: State
    said: str
    remedy: str = ""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """Files of one kind with the same owner and mode, by one of them that was opened."""

    kind: str
    path: str
    mode: str
    uid: int
    gid: int
    files: int
    is_readable: bool
    error: str = ""
    rung: str = ""
    """The isolation that is needed to read it."""


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """One container's log, as it grew while it was watched."""

    log: str
    bytes_per_s: float
    files: int
    unread_bytes: int
    unread_until_s: float | None
    """When unread bytes are deleted at the soonest; None where nothing is unread, or nothing grows."""
    safe_outage_minutes: float
    """How long a collector may be away before bytes that are written from now on are deleted."""
    files_max: int
    """What ``containerLogMaxFiles`` is, or must be at the least."""
    files_max_for_twice: int
    """The ``containerLogMaxFiles`` that would double the safe outage."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    capabilities: tuple[str, ...]
    """Of those that matter here, the effective ones."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything."""

    node: str
    identity: Identity
    rung: str
    """The isolation that is needed for everything that was found; '' where nothing was."""
    watched_s: float
    findings: tuple[Finding, ...]
    access: tuple[Access, ...]
    containers: tuple[Container, ...]
    """The worst ones."""

    @property
    def state(self) -> State:
        """The worst of all findings."""
        return max((finding.state for finding in self.findings), key=list(State).index, default=State.WELL)


def to_json(report: Report) -> bytes:
    """Return the report as one JSON object."""
    return msgspec.json.encode({"state": report.state, **msgspec.to_builtins(report)})


def to_text(report: Report) -> str:
    """Return the report for a person."""
    who = report.identity
    with_ = f", with {', '.join(who.capabilities)}" if who.capabilities else ", without capabilities"
    lines = [
        f"node {report.node}: {_SAID[report.state]}",
        f"runs as uid {who.uid}, groups {', '.join(map(str, (who.gid, *who.groups)))}{with_}",
        f"isolation that is needed: {report.rung or 'none: no log file was found'}",
        "",
    ]
    for finding in sorted(report.findings, key=lambda one: -list(State).index(one.state)):
        lines.append(f"{_MARKS[finding.state]} {finding.what}: {finding.said}")
        lines += [f"       {finding.remedy}"] if finding.remedy else []
    if report.access:
        lines += ["", *_table(("kind", "files", "mode", "owner", "readable", "needs", "for example"), _access(report))]
    if report.containers:
        head = ("safe min", "B/s", "unread B", "deleted in s", "files", "for twice", "log")
        lines += ["", f"containers, the worst first ({report.watched_s:g} s watched)", *_table(head, _outages(report))]
    return "\n".join(lines) + "\n"


_MARKS = {State.WELL: "  ok  ", State.WARNING: " warn ", State.LOSS: " LOSS "}
_SAID = {
    State.WELL: "all well",
    State.WARNING: "nothing is lost; see the warnings",
    State.LOSS: "something is lost, or would be",
}


def _access(report: Report) -> Iterable[Sequence[str]]:
    for one in report.access:
        readable = "yes" if one.is_readable else f"NO ({one.error})"
        yield one.kind, str(one.files), one.mode, f"{one.uid}:{one.gid}", readable, one.rung, one.path


def _outages(report: Report) -> Iterable[Sequence[str]]:
    for one in report.containers:
        until = "-" if one.unread_until_s is None else f"{one.unread_until_s:.0f}"
        yield (
            f"{one.safe_outage_minutes:.1f}", f"{one.bytes_per_s:.0f}", str(one.unread_bytes), until,
            str(one.files_max), str(one.files_max_for_twice), one.log,
        )  # fmt: skip


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [head, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in cells
    ]

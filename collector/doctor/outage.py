"""What would be lost: each container's growth, watched for some seconds, held against rotation and the bookmark."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Final

from ashiato.core.limits import SPAN_BYTES_MAX
from collector.bookmark import Contents
from collector.discovery import Candidate
from collector.doctor.report import Container, Finding, State
from collector.headroom import (
    HEADROOM_S_MAX,
    FileSeen,
    LogSeen,
    Rotation,
    files_max_for_twice,
    is_rotated_by_kubelet,
    key_of,
    logs_of,
    rotation_of,
    seconds_left,
)

WORST_LISTED: Final = 10
RESTART_S: Final = 60.0
"""What a restart of the collector may take: a safe outage below it means loss at the next update."""
SHORT_OUTAGE_S: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """One container's log, seen twice."""

    log: LogSeen
    name: str
    bytes_per_s: float
    unread_bytes: int


def unread_of(contents: Contents, *, lag_begins_unix_nano: int) -> Callable[[Candidate], int]:
    """Return what tells how many bytes of a file the bookmark does not have as acknowledged and attested.

    The bookmark follows span by span, so a little of what was written since ``lag_begins`` is no backlog.
    """
    offsets: dict[tuple[int, int], int] = {}
    for file in contents.files.values():
        offsets[file.identity] = max(file.offset, offsets.get(file.identity, 0))

    def unread(candidate: Candidate) -> int:
        if candidate.found.compressed:
            # Its size says nothing of offsets: its plain form was read, or a collector that starts reads it.
            return 0
        left = max(0, candidate.size - offsets.get(candidate.identity, 0))
        is_lag = left <= SPAN_BYTES_MAX and candidate.modified_nano >= lag_begins_unix_nano
        return 0 if is_lag else left

    return unread


def watch(
    before: Iterable[Candidate], after: Iterable[Candidate], seconds: float, unread: Callable[[Candidate], int]
) -> list[Watched]:
    """Return what became of every container's log between two sweeps."""
    sizes = {candidate.identity: candidate.size for candidate in before}
    present = [candidate for candidate in after if is_rotated_by_kubelet(candidate.found)]
    logs = {
        log.key: log for log in logs_of(FileSeen(found=c.found, size=c.size, unread=unread(c) > 0) for c in present)
    }
    watched = []
    for key, members in groupby(present, key=lambda candidate: key_of(candidate.found)):
        files = list(members)
        # A compressed form repeats what its plain one held.
        grown = sum(max(0, c.size - sizes.get(c.identity, 0)) for c in files if not c.found.compressed)
        watched.append(
            Watched(
                log=logs[key], name=files[-1].path, bytes_per_s=grown / seconds,
                unread_bytes=sum(unread(candidate) for candidate in files),
            )
        )  # fmt: skip
    return watched


def judge(watched: Iterable[Watched], told: Rotation) -> tuple[list[Container], list[Finding]]:
    """Return the containers that have the least time, and what follows from them."""
    containers = sorted((_container(one, told) for one in watched), key=_urgency)
    growing = [one for one in containers if one.bytes_per_s > 0]
    findings = [*_unread(containers), *_outage(growing)]
    return growing[:WORST_LISTED], findings


def _container(one: Watched, told: Rotation) -> Container:
    rotation = rotation_of(told, one.log)
    drained = replace(one.log, unread_behind=0)
    safe = min(seconds_left(rotation, drained, one.bytes_per_s), HEADROOM_S_MAX)
    until = seconds_left(rotation, one.log, one.bytes_per_s) if one.unread_bytes else math.inf
    return Container(
        log=one.name, bytes_per_s=one.bytes_per_s, files=one.log.rotated_files + 1, unread_bytes=one.unread_bytes,
        unread_until_s=None if math.isinf(until) else until, safe_outage_minutes=safe / 60,
        files_max=rotation.files_max, files_max_for_twice=files_max_for_twice(rotation, drained, one.bytes_per_s),
    )  # fmt: skip


def _urgency(one: Container) -> tuple[float, float, str]:
    until = one.unread_until_s if one.unread_until_s is not None else math.inf
    return min(one.safe_outage_minutes * 60, until), -one.bytes_per_s, one.log


def _unread(containers: Sequence[Container]) -> list[Finding]:
    unread = sum(one.unread_bytes for one in containers)
    if not unread:
        return []
    behind = [one for one in containers if one.unread_bytes]
    first = min((one.unread_until_s for one in behind if one.unread_until_s is not None), default=math.inf)
    if math.isinf(first):
        soon = "no rotation threatens them now"
    else:
        soon = f"the first of them may be deleted in {first:.0f} s"
    said = f"{unread} bytes of {len(behind)} containers are not bookmarked as kept; {soon}"
    state = State.LOSS if first < RESTART_S else State.WARNING
    return [Finding(what="unread bytes", state=state, said=said)]


def _outage(growing: Sequence[Container]) -> list[Finding]:
    what = "safe outage"
    if not growing:
        return [Finding(what=what, state=State.WELL, said="no container wrote anything while it was watched")]
    worst = min(growing, key=lambda one: one.safe_outage_minutes)
    seconds = worst.safe_outage_minutes * 60
    said = f"{worst.safe_outage_minutes:.1f} minutes at today's rates, then {Path(worst.log).parent} loses bytes"
    state = State.LOSS if seconds < RESTART_S else State.WARNING if seconds < SHORT_OUTAGE_S else State.WELL
    twice = f"containerLogMaxFiles {worst.files_max_for_twice} would double it (or `collector pin` holds the files)"
    return [Finding(what=what, state=state, said=said, remedy="" if state is State.WELL else twice)]

"""Rotation headroom: how long until bytes that nobody has read are deleted. Pure.

The kubelet keeps ``files_max`` files of a container: it looks each ``period_s``, renames a live file of at least
``bytes_max``, and removes the oldest rotated one first. So a file behind which ``k`` newer ones lie is deleted by the
``files_max - k``-th rotation from now. What is told is the earliest moment that the observed growth allows, never an
average. What was seen outranks what was told: more rotated files than the told maximum, or smaller ones, are evidence
of another configuration. Where nothing grows, nothing is rotated away.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from ashiato.core.ids import Kind
from ashiato.core.layout import Found

HEADROOM_S_MAX: Final = 7 * 86_400.0
"""What is further away than a week is told as a week."""
RATE_HALF_LIFE_S: Final = 60.0
"""Growth observed this long ago counts half."""
STILL_S: Final = 600.0
"""A log that has not grown for so long is not about to be rotated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """How a runtime rotates; the defaults are the kubelet's."""

    bytes_max: int = 10 * 1024 * 1024
    files_max: int = 5
    period_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSeen:
    """One container's log as a sweep saw it."""

    key: Hashable
    live_bytes: int
    rotated_bytes: tuple[int, ...] = ()
    """Sizes of the rotated files that are not compressed."""
    rotated_files: int = 0
    unread_behind: int = 0
    """How many newer files lie behind the oldest one with unread bytes; 0 is the live one."""


def rotation_of(told: Rotation, seen: LogSeen) -> Rotation:
    """Return the rotation that the files on the disk allow for: the one that deletes soonest of those."""
    smallest = min((size for size in seen.rotated_bytes if size), default=told.bytes_max)
    return replace(
        told, bytes_max=min(told.bytes_max, smallest), files_max=max(told.files_max, seen.rotated_files + 1, 2)
    )


def seconds_left(rotation: Rotation, seen: LogSeen, bytes_per_s: float) -> float:
    """Return the seconds until the oldest unread bytes are deleted, at the soonest."""
    if bytes_per_s <= 0:
        return math.inf
    rotations = max(1, rotation.files_max - seen.unread_behind)
    first = max(0, rotation.bytes_max - seen.live_bytes) / bytes_per_s
    return first + (rotations - 1) * _turn_s(rotation, bytes_per_s)


def files_max_for_twice(rotation: Rotation, seen: LogSeen, bytes_per_s: float) -> int:
    """Return the ``containerLogMaxFiles`` with which what is written from now on would last twice as long."""
    if bytes_per_s <= 0:
        return rotation.files_max
    drained = replace(seen, unread_behind=0)
    now = seconds_left(rotation, drained, bytes_per_s)
    return rotation.files_max + max(1, math.ceil(now / _turn_s(rotation, bytes_per_s)))


def _turn_s(rotation: Rotation, bytes_per_s: float) -> float:
    """Return the shortest time between two rotations."""
    return max(rotation.bytes_max / bytes_per_s, rotation.period_s)


class Growth:
    """Bytes a second of one log, as sweeps observe it: the newest minute counts most, a burst counts at once."""

    __slots__ = ("_at_ns", "_newest", "_recent", "_total")

    def __init__(self, total: int, now_ns: int) -> None:
        self._total = total
        self._at_ns = now_ns
        self._recent = 0.0
        self._newest = 0.0

    def saw(self, total: int, now_ns: int) -> None:
        """Take in the bytes that the log has; fewer than before mean that a file is gone."""
        past_s = (now_ns - self._at_ns) / 1e9
        if past_s <= 0:
            return
        self._newest = max(0, total - self._total) / past_s
        weight = 0.5 ** (past_s / RATE_HALF_LIFE_S)
        self._recent = self._newest if not self._recent else weight * self._recent + (1 - weight) * self._newest
        self._total, self._at_ns = total, now_ns

    def rate(self, now_ns: int) -> float:
        """Return bytes a second: the larger of the mean and the newest, 0 once it has stood still for long."""
        if now_ns - self._at_ns > STILL_S * 1e9:
            return 0.0
        return max(self._recent, self._newest)


@dataclass(slots=True, kw_only=True)
class _Watched:
    """One log, as small as can be: most logs of a node stand still."""

    seen: LogSeen
    written: int
    since_ns: int
    growth: Growth | None = None
    """None until it grows."""


class HeadroomMeter:
    """The least headroom of all containers. A sweep costs work only for logs that have moved."""

    def __init__(self, rotation: Rotation) -> None:
        self._told = rotation
        self._logs: dict[Hashable, _Watched] = {}
        self._left: dict[Hashable, tuple[float, int]] = {}
        """Of logs that grew, the headroom and when it was computed."""

    def swept(self, logs: Iterable[LogSeen], now_ns: int) -> None:
        """Take in what a whole sweep saw: what is not among it is gone."""
        seen: set[Hashable] = set()
        for log in logs:
            watched = self._logs.get(log.key)
            if watched is None:
                self._logs[log.key] = _Watched(seen=log, written=log.live_bytes, since_ns=now_ns)
            elif watched.seen != log:
                self._moved(watched, log, now_ns)
            seen.add(log.key)
        for key in self._logs.keys() - seen:
            del self._logs[key]
            self._left.pop(key, None)

    def least(self, now_ns: int) -> float:
        """Return the least headroom of all logs in seconds, at the most a week."""
        least = HEADROOM_S_MAX
        still = []
        for key, (left, at_ns) in self._left.items():
            growth = self._logs[key].growth
            if now_ns - at_ns > STILL_S * 1e9 and not (growth is not None and growth.rate(now_ns)):
                still.append(key)
            else:
                least = min(least, left)
        for key in still:
            del self._left[key]
        return least

    def _moved(self, watched: _Watched, log: LogSeen, now_ns: int) -> None:
        if watched.growth is None:
            watched.growth = Growth(watched.written, watched.since_ns)
        watched.written += _written_between(watched.seen, log)
        watched.growth.saw(watched.written, now_ns)
        watched.seen = log
        left = seconds_left(rotation_of(self._told, log), log, watched.growth.rate(now_ns))
        self._left[log.key] = (left, now_ns)


def _written_between(before: LogSeen, now: LogSeen) -> int:
    """Return the bytes written between two sweeps: across a rotation, what the new live file holds at the least."""
    if now.live_bytes >= before.live_bytes and now.rotated_files == before.rotated_files:
        return now.live_bytes - before.live_bytes
    newest_rotated = now.rotated_bytes[-1] if now.rotated_bytes else before.live_bytes
    return now.live_bytes + max(0, newest_rotated - before.live_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSeen:
    """One file of a sweep, and whether bytes of it are unread."""

    found: Found
    size: int
    unread: bool


def logs_of(files: Iterable[FileSeen]) -> list[LogSeen]:
    """Return the kubelet's container logs among ``files``, which come in the order in which they were written."""
    containers = (file for file in files if is_rotated_by_kubelet(file.found))
    return [_log(key, tuple(members)) for key, members in groupby(containers, key=lambda f: key_of(f.found))]


def key_of(found: Found) -> tuple[str, int]:
    """Return what names one container instance's log."""
    return str(found.source), found.restart_count


def is_rotated_by_kubelet(found: Found) -> bool:
    """Whether a file lies below ``/var/log/pods``: Docker rotates its own, if it was told to."""
    return found.source.kind is Kind.CONTAINER and found.source.namespace != "docker"


def _log(key: tuple[str, int], files: Sequence[FileSeen]) -> LogSeen:
    rotated = [file for file in files if file.found.rotated]
    behind = next((len(files) - 1 - at for at, file in enumerate(files) if file.unread), 0)
    live = files[-1] if not files[-1].found.rotated else None
    return LogSeen(
        key=key, live_bytes=live.size if live is not None else 0,
        rotated_bytes=tuple(file.size for file in rotated if not file.found.compressed),
        rotated_files=len(rotated), unread_behind=behind if live is not None else min(behind + 1, len(files)),
    )  # fmt: skip

"""``python -m collector doctor --config FILE [--json] [--seconds N]``."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from ashiato.adapters.clock import SystemClock
from ashiato.core.errors import AshiatoError
from collector.bookmark import remembered
from collector.discovery import Swept, sweep
from collector.doctor import access, outage, system
from collector.doctor.report import Container, Finding, Report, State
from collector.finding import roots_of
from collector.headroom import Rotation
from collector.settings import CollectorSettings

SETTLE_S = 5.0
"""What a running collector may take for a span beyond its time."""


async def examine(settings: CollectorSettings, *, seconds: float) -> Report:
    """Look at everything; takes as long as growth is watched."""
    roots = roots_of(settings, node=settings.node or socket.gethostname())
    loop = asyncio.get_running_loop()
    before = await asyncio.to_thread(sweep, roots)
    started = loop.time()
    on_bus = await system.bus(settings.bus)
    await asyncio.sleep(max(0.0, seconds - (loop.time() - started)))
    after = await asyncio.to_thread(sweep, roots)
    return await asyncio.to_thread(_report, settings, before, after, loop.time() - started, on_bus)


def _report(
    settings: CollectorSettings, before: Swept, after: Swept, watched_s: float, on_bus: list[Finding]
) -> Report:
    state = Path(settings.state_dir).absolute()
    accesses, findings, rung = access.examine(after, user_namespaces=access.has_user_namespaces())
    who = access.identity()
    containers, losses = _containers(settings, state, before, after, watched_s)
    return Report(
        node=settings.node or socket.gethostname(), identity=who, rung=rung, watched_s=round(watched_s, 1),
        findings=(
            *findings, *access.surplus(who, rung), *losses, *system.docker(settings.roots), *on_bus,
            system.running(state), *system.state_folder(state, settings.roots),
            *system.limits(len(after.candidates), access.folders_of(after.candidates)),
            *system.generations(after.candidates), system.clock(),
        ),
        access=tuple(accesses), containers=tuple(containers),
    )  # fmt: skip


def _containers(
    settings: CollectorSettings, state: Path, before: Swept, after: Swept, watched_s: float
) -> tuple[list[Container], list[Finding]]:
    try:
        contents = remembered(state / "bookmark")
    except (AshiatoError, OSError) as error:
        said = f"cannot be read: {error}"
        return [], [Finding(what="bookmark", state=State.LOSS, said=said)]
    told = Rotation(
        bytes_max=settings.container_log_bytes_max, files_max=settings.container_log_files_max,
        period_s=settings.container_log_check_s,
    )  # fmt: skip
    is_running = system.running(state).state is State.WELL
    lag_ns = int((settings.span_interval_s + SETTLE_S) * 1e9) if is_running else 0
    unread = outage.unread_of(contents, lag_begins_unix_nano=SystemClock().now_unix_nano() - lag_ns)
    watched = outage.watch(before.candidates, after.candidates, watched_s, unread)
    return outage.judge(watched, told)

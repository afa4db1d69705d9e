"""What cannot be had, as statements: a gap with its range and its reason, and the event that says the same."""

from __future__ import annotations

from ashiato.core.events import BytesLost
from ashiato.core.ids import Kind, Source
from ashiato.core.layout import recognise
from ashiato.core.ledger import Gap
from collector.bookmark import Remembered
from collector.content import Gzipped
from collector.discovery import Candidate, Swept
from collector.events import FileUnreadable
from collector.followed import Followed
from collector.plan import Plan


def unreadable(plan: Plan, candidate: Candidate, *, file_id: str, offset: int, why: str) -> None:
    """Say that a file cannot be opened: what is read of it later wins over the gap."""
    plan.statements.append(
        Gap(
            source=str(candidate.found.source), reason="unreadable", file_id=file_id, offset_start=str(offset),
            detail=f"{candidate.path}: {why}",
        )
    )  # fmt: skip
    plan.stated_unreadable[candidate.identity] = str(candidate.found.source)
    plan.events.append(FileUnreadable(path=candidate.path, error=why))


def unreadable_folder(plan: Plan, swept: Swept, folder: str, *, why: str, now_unix_nano: int) -> None:
    """Say that a folder cannot be listed."""
    root = swept.roots[-1]
    source = Source(kind=Kind.FILE, cluster=root.cluster, node=root.node, path=folder)
    plan.statements.append(
        Gap(source=str(source), reason="unreadable", time_start_unix_nano=str(now_unix_nano), detail=f"{folder}: {why}")
    )
    plan.events.append(FileUnreadable(path=folder, error=why))


def excluded(plan: Plan, swept: Swept, path: str, *, why: str, now_unix_nano: int) -> None:
    """Say that something is there and is not followed, because the configuration says so."""
    root = swept.roots[-1]
    source = recognise(path, cluster=root.cluster, node=root.node).source
    plan.statements.append(
        Gap(source=str(source), reason="excluded", time_start_unix_nano=str(now_unix_nano), detail=why)
    )
    plan.stated_excluded.add(path)


def damaged(plan: Plan, candidate: Candidate, content: Gzipped, file_id: str) -> None:
    """Say that what stands behind the damage of a gzipped file cannot be read."""
    plan.statements.append(
        Gap(
            source=str(candidate.found.source), reason="unreadable", file_id=file_id,
            offset_start=str(content.size()), detail=content.damage,
        )
    )  # fmt: skip
    plan.events.append(FileUnreadable(path=candidate.path, error=content.damage))


def failed(plan: Plan, file: Followed) -> None:
    """Name, once, what may be missing where a read failed; it is tried again."""
    if not file.failure_stated:
        file.failure_stated = True
        plan.statements.append(
            Gap(
                source=file.facts.source, reason="unreadable", file_id=file.facts.file_id,
                offset_start=str(file.cursor.offset), detail=file.failed,
            )
        )  # fmt: skip
        plan.events.append(FileUnreadable(path=file.path, error=file.failed))
    file.failed = ""


def gone(plan: Plan, file: Remembered, reason: str) -> None:
    """Say that what a file held beyond the bookmark is gone: its end is not known."""
    plan.statements.append(
        Gap(
            source=file.known.source, reason=reason, file_id=file.known.file_id, offset_start=str(file.offset),
            detail="while no collector ran; its end is not known",
        )
    )  # fmt: skip
    plan.events.append(BytesLost(count=0, reason=reason, file_id=file.known.file_id))


def vanished(plan: Plan, file: Followed) -> None:
    """Say that a file lost its name while it had no descriptor: what was written in between is not known."""
    plan.statements.append(
        Gap(
            source=file.facts.source, reason="rotated_away", file_id=file.facts.file_id,
            offset_start=str(file.cursor.offset), detail="while it had no descriptor; its end is not known",
        )
    )  # fmt: skip
    plan.events.append(BytesLost(count=file.waiting, reason="rotated_away", file_id=file.facts.file_id))


def truncated(plan: Plan, file: Followed, *, held_to: int, seen: int, is_end_known: bool) -> None:
    """Say that bytes from ``held_to`` on were overwritten."""
    lost = max(0, seen - held_to)
    if lost or not is_end_known:
        plan.statements.append(
            Gap(
                source=file.facts.source, reason="truncated", file_id=file.facts.file_id, offset_start=str(held_to),
                # Where it was written anew and has grown past the offset, its old size is not known.
                offset_end=str(seen) if is_end_known else "",
            )
        )  # fmt: skip
        plan.events.append(BytesLost(count=lost, reason="truncated", file_id=file.facts.file_id))

"""Which log files can be read, by whom, and with how few rights: the isolation ladder, worked out from modes."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from stat import S_IMODE
from typing import Final

from ashiato.core.layout import readable
from collector.discovery import Candidate, Swept
from collector.doctor.report import Access, Finding, Identity, State

RUNGS: Final = ("userns", "gid0", "rootless-owner", "owner", "dac")
"""How a collector may be isolated, from the least rights to the most."""
_CAPABILITIES: Final = {1: "DAC_OVERRIDE", 2: "DAC_READ_SEARCH", 3: "FOWNER", 21: "SYS_ADMIN"}
_SERVICE_UID: Final = 10_001
_READ: Final = 4
_SEARCH: Final = 1
_GROUP, _OWNER, _DAC = range(3)
"""What a rung lives on: group 0, uid 0 as owner, or a capability."""


def identity(proc: Path = Path("/proc")) -> Identity:
    """Return who asks."""
    status = (proc / "self/status").read_text(encoding="utf-8", errors="replace")
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    effective = int(found[1], 16) if found else 0
    return Identity(
        uid=os.geteuid(), gid=os.getegid(), groups=tuple(os.getgroups()),
        capabilities=tuple(name for bit, name in _CAPABILITIES.items() if effective >> bit & 1),
    )  # fmt: skip


def has_user_namespaces(proc: Path = Path("/proc")) -> bool:
    """Whether a pod could have a user namespace of its own: idmapped mounts of tmpfs and overlay came with 6.3."""
    try:
        allowed = int((proc / "sys/user/max_user_namespaces").read_text())
    except (OSError, ValueError):
        return False
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return allowed > 0 and release is not None and (int(release[1]), int(release[2])) >= (6, 3)


def examine(swept: Swept, *, user_namespaces: bool) -> tuple[list[Access], list[Finding], str]:
    """Open one file of each kind, owner and mode; return what came of it, and the rung that all of it needs."""
    groups: defaultdict[tuple[str, int, int, int, str], list[Candidate]] = defaultdict(list)
    findings: list[Finding] = []
    for candidate in swept.candidates:
        try:
            stat = Path(candidate.os_path).stat()
        except OSError:
            # Gone meanwhile: the next sweep of the collector sees what there is.
            continue
        kind = kind_of(candidate)
        groups[kind, S_IMODE(stat.st_mode), stat.st_uid, stat.st_gid, _folder_rights(candidate.os_path)].append(
            candidate
        )
    accesses = [
        _access(kind, mode, uid, gid, members, user_namespaces=user_namespaces)
        for (kind, mode, uid, gid, _), members in sorted(groups.items())
    ]
    for one in accesses:
        if not one.is_readable:
            owner = f"mode {one.mode}, owner {one.uid}:{one.gid}"
            said = f"{one.files} files cannot be read ({one.error}; {owner}), for example {one.path}"
            findings.append(
                Finding(what=f"{one.kind} files", state=State.LOSS, said=said, remedy=f"isolation {one.rung} could")
            )
    folders, rungs = _folders(swept, user_namespaces=user_namespaces)
    findings += folders
    findings += [
        Finding(what=f"folder {root}", state=State.WARNING, said="is not there: nothing is followed below it")
        for root in sorted(swept.missing)
    ]
    rung = max([*(one.rung for one in accesses), *rungs], key=RUNGS.index, default="")
    return accesses, findings, rung


def surplus(who: Identity, rung: str) -> list[Finding]:
    """Say where more rights are held than what was found needs."""
    more = [name for name in who.capabilities if not (rung == "dac" and name == "DAC_READ_SEARCH")]
    if not rung or not more:
        return []
    said = f"isolation {rung} would do; {', '.join(more)} held besides"
    return [Finding(what="rights", state=State.WARNING, said=said, remedy="drop what is not needed")]


def kind_of(candidate: Candidate) -> str:
    """Return what a file is called in the report."""
    source = candidate.found.source
    return "docker" if source.namespace == "docker" else str(source.kind)


def rung_of(path: str, *, docker: bool, user_namespaces: bool) -> str:
    """Return the least rung that can read ``path``, from what can be seen of its folders' and its own mode."""
    steps = [(folder, _SEARCH) for folder in reversed(Path(path).parents)]
    for lives_on in (_GROUP, _OWNER):
        if all(_may(str(step), wanted, lives_on) for step, wanted in [*steps, (path, _READ)]):
            break
    else:
        return "dac"
    if lives_on == _GROUP:
        return "userns" if user_namespaces else "gid0"
    # Docker's runtime knows no user namespaces for a pod.
    return "rootless-owner" if user_namespaces and not docker else "owner"


def _may(path: str, wanted: int, lives_on: int) -> bool:
    try:
        stat = Path(path).stat()
    except OSError:
        # Behind a folder that cannot be searched: that folder has decided already.
        return True
    uid, gids = (_SERVICE_UID, (_SERVICE_UID, 0)) if lives_on == _GROUP else (0, (0,))
    mode = S_IMODE(stat.st_mode)
    bits = mode >> 6 if stat.st_uid == uid else mode >> 3 if stat.st_gid in gids else mode
    return bits & wanted == wanted


def _access(kind: str, mode: int, uid: int, gid: int, members: Sequence[Candidate], *, user_namespaces: bool) -> Access:
    example = members[0].os_path
    error = ""
    try:
        os.close(os.open(example, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as failed:
        error = failed.strerror or str(failed)
    return Access(
        kind=kind, path=readable(example), mode=f"{mode:04o}", uid=uid, gid=gid, files=len(members),
        is_readable=not error, error=error,
        rung=rung_of(example, docker=kind == "docker", user_namespaces=user_namespaces),
    )  # fmt: skip


def _folder_rights(path: str) -> str:
    """Return owner and mode of the folder that a file lies in, so that files behind different doors are told apart."""
    try:
        stat = Path(path).parent.stat()
    except OSError:
        return ""
    return f"{stat.st_uid}:{stat.st_gid}:{stat.st_mode:o}"


def _folders(swept: Swept, *, user_namespaces: bool) -> tuple[list[Finding], list[str]]:
    findings, rungs = [], []
    for folder, why in sorted(swept.unreadable.items()):
        rung = rung_of(folder, docker="/docker/" in folder, user_namespaces=user_namespaces)
        try:
            stat = Path(folder).stat()
            owner = f"mode {S_IMODE(stat.st_mode):04o}, owner {stat.st_uid}:{stat.st_gid}"
        except OSError:
            owner = "its owner cannot be seen"
        said = f"cannot be listed ({why}; {owner}): what lies below is not seen"
        findings.append(
            Finding(what=f"folder {folder}", state=State.LOSS, said=said, remedy=f"isolation {rung} could list it")
        )
        rungs.append(rung)
    return findings, rungs


def folders_of(candidates: Iterable[Candidate]) -> int:
    """Return how many folders hold log files."""
    return len({Path(candidate.os_path).parent for candidate in candidates})

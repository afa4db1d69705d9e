"""On what a figure was measured, and of which commit."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def facts(folder: Path) -> dict[str, object]:
    """Return what a reader needs to compare: processor, memory, kernel, the disk's file system, commit."""
    return {
        "machine": {
            "processor": _field(Path("/proc/cpuinfo"), "model name"),
            "cores_count": len(os.sched_getaffinity(0)),
            "memory_bytes": int(_field(Path("/proc/meminfo"), "MemTotal").split()[0] or 0) * 1024,
            "load_before_1min": round(os.getloadavg()[0], 2),
            "kernel": platform.release(),
            "python": platform.python_version(),
            "file_system": _file_system(folder),
        },
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_files_count": len(_git("status", "--porcelain").splitlines()),
    }


def memory_mib(name: str, pid: int | str = "self") -> float:
    """Return what the kernel counts of a process's memory: ``VmRSS`` now, ``VmHWM`` at its most.

    Raises:
        RuntimeError: the process is gone.

    """
    kib = int(_field(Path(f"/proc/{pid}/status"), name).split()[0])
    if not kib:
        raise RuntimeError(f"process {pid} is gone")
    return kib / 1024


def _field(path: Path, name: str) -> str:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "0"


def _file_system(folder: Path) -> str:
    best = ("", "unknown")
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind = line.split()[:3]
        if folder.resolve().is_relative_to(where) and len(where) >= len(best[0]):
            best = (where, kind)
    return best[1]


def _git(*arguments: str) -> str:
    if shutil.which("git") is None:
        return ""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False, text=True)
    return done.stdout.strip()

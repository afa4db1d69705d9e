"""What killed processes left behind: files and folders that carry the number of the process that made them."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

_OWNER = re.compile(r"\.(?P<pid>\d+)\.unfinished$")


def unfinished(name: str) -> str:
    """Return the name under which this process makes what will be called ``name``, or be removed again."""
    return f"{name}.{os.getpid()}.unfinished"


def sweep(folder: Path) -> None:
    """Remove what processes that are no more left in ``folder``. Another one may be at work beside us."""
    for path in folder.iterdir():
        match = _OWNER.search(path.name)
        if match is None or _is_running(int(match["pid"])):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    if pid == os.getpid():
        # We have only just begun: an earlier process had our number, as in every container.
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

"""Durable files: what these functions wrote survives a power cut once they have returned."""

from __future__ import annotations

import errno
import os
import secrets
from io import BufferedWriter
from pathlib import Path

from ashiato.core.errors import AlreadyExistsError, TransientError

TEMPORARY_PREFIX = ".unfinished-"


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, each durable, readable by their owner alone."""
    missing = []
    at = folder
    while not at.exists():
        missing.append(at)
        at = at.parent
    for new in reversed(missing):
        new.mkdir(mode=0o700, exist_ok=True)
        sync_folder(new.parent)


def write_new(path: Path, content: bytes) -> None:
    """Write a file that must not exist yet; of several racing writers one wins.

    Raises:
        AlreadyExistsError: the name is taken.
        TransientError: no room, or the disk failed; nothing is visible under the name.

    """
    temporary = path.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    try:
        make_folder(path.parent)
        with open_new(temporary) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        link_new(temporary, path)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def link_new(temporary: Path, path: Path) -> None:
    """Give a finished, fsynced file its name, durably, unless the name is taken.

    Raises:
        AlreadyExistsError: the name is taken.

    """
    try:
        os.link(temporary, path)
    except FileExistsError as error:
        raise AlreadyExistsError("the name is taken", path=str(path)) from error
    sync_folder(path.parent)


def replace(path: Path, content: bytes) -> None:
    """Put ``content`` in place of whatever ``path`` held: the old or the new is there, never a mixture."""
    temporary = path.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    try:
        make_folder(path.parent)
        with open_new(temporary) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def open_new(path: Path) -> BufferedWriter:
    """Open a file that must not exist for writing, readable by its owner alone."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def disk_error(error: OSError, path: Path) -> TransientError:
    """Say what an operator can do about a failed write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return TransientError(
            "no room on the disk: free some, or enlarge it; nothing is lost meanwhile", path=str(path)
        )
    return TransientError(f"cannot write: {error.strerror}", path=str(path))

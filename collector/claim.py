"""A state folder belongs to one process, however often it is started: the kernel lets go of it when that ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ashiato.adapters import files
from ashiato.core.errors import SettingsError


@contextlib.contextmanager
def claimed(state: Path, *, by: str) -> Iterator[None]:
    """Hold the state folder.

    Raises:
        SettingsError: another process holds it; ``by`` says what kind of process that is.
        TransientError: it cannot be opened.

    """
    try:
        files.make_folder(state)
        descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise files.disk_error(error, state) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SettingsError(f"another {by} runs on {state}: stop it, or choose another state_dir") from error
    else:
        yield
    finally:
        os.close(descriptor)

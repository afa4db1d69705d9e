"""The collector's process, which dies as by kill -9 at the n-th durable write: ``python -m tests.simulation.crash_at``.

``before`` dies with the bytes written and not yet synced, ``after`` with them synced and nothing after them done.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from collector.__main__ import main

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

if __name__ == "__main__":
    when, left = sys.argv[1], int(sys.argv[2])
    really_sync = os.fdatasync

    def sync(fd: FileDescriptorLike) -> None:
        global left  # noqa: PLW0603 - a counter of the whole process is the point
        left -= 1
        if left == 0 and when == "before":
            os._exit(9)
        really_sync(fd)
        if left == 0:
            os._exit(9)

    os.fdatasync = sync
    sys.exit(main(sys.argv[3:]))

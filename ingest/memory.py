"""Memory that was let go of is used again: it is not given back to the system with every array.

A row group's arrays are a few MiB each and live for milliseconds. Allocators give such blocks back at once, and the
system zeroes a page for each 4 KiB of the next one: a tenth of the processor time, and twice the pages.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Final

from ashiato.core.limits import MIB

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
"""Numbers of ``mallopt(3)``."""
_OPTIONS: Final = (
    # More than the arrays of one row group; the C library allows no more than 32 MiB.
    (_MMAP_THRESHOLD, 32 * MIB),
    # What is free at the end of the heap stays, up to so much.
    (_TRIM_THRESHOLD, 64 * MIB),
    (_TOP_PAD, 8 * MIB),
    # The work wanders between threads: with a heap for each, each would keep as much.
    (_ARENA_MAX, 1),
)


def keep_memory() -> None:
    """Let Arrow and NumPy share the C library's heap, and let that keep what it has. Before Arrow is imported."""
    assert "pyarrow" not in sys.modules, "Arrow has looked for its memory"
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return  # a C library without it does as it likes, and Arrow as well
    for option, value in _OPTIONS:
        mallopt(ctypes.c_int(option), ctypes.c_int(value))
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

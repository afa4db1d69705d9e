"""The generation of an inode, which tells it from the one that had its number before. Standard library only."""

from __future__ import annotations

import fcntl
import sys
from typing import Final

_FS_IOC_GETVERSION: Final = 0x80087601


def generation_of(descriptor: int) -> int:
    """Return what tells an inode from the one that had its number before; 0 where the file system tells none."""
    told = bytearray(8)
    try:
        fcntl.ioctl(descriptor, _FS_IOC_GETVERSION, told)
    except OSError:
        # overlay, NFS, tmpfs: identity rests on the inode and on the bytes there
        return 0
    # The kernel writes 32 bits, whatever the request says.
    return int.from_bytes(told[:4], sys.byteorder)

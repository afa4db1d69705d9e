"""Landlock by its three system calls: from the lock on, this process may do no more than the rules say.

Standard library only. See ``man 7 landlock``.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Mapping
from typing import Final

EXECUTE: Final = 1 << 0
WRITE_FILE: Final = 1 << 1
READ_FILE: Final = 1 << 2
READ_DIR: Final = 1 << 3
REMOVE_FILE: Final = 1 << 5
MAKE_REG: Final = 1 << 8
MAKE_SYM: Final = 1 << 12
REFER: Final = 1 << 13
ABI_NEEDED: Final = 2
"""The first that lets files be linked between folders (Linux 5.19)."""
_HANDLED: Final = {2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""Rights that each ABI knows: truncation came with 3, ioctl on devices with 5."""
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_NO_NEW_PRIVILEGES: Final = 38
_MACHINES: Final = ("x86_64", "aarch64", "riscv64", "ppc64le", "s390x")
"""Where the numbers of the calls are known to be these."""


def abi() -> int:
    """Return the version of Landlock that the kernel has, 0 for none."""
    if platform.machine() not in _MACHINES:
        return 0
    return max(0, _call(_CREATE_RULESET, None, 0, _VERSION))


def lock(rules: Mapping[str, int]) -> None:
    """Allow this process, for good, what ``rules`` say of folders, and nothing else. Raises OSError."""
    handled = _HANDLED[max(known for known in _HANDLED if known <= abi())]
    ruleset = _checked(_call(_CREATE_RULESET, struct.pack("=Q", handled), 8, 0))
    try:
        for folder, allowed in rules.items():
            descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                beneath = struct.pack("=Qi", allowed, descriptor)
                _checked(_call(_ADD_RULE, ruleset, _PATH_BENEATH, beneath, 0))
            finally:
                os.close(descriptor)
        _checked(ctypes.CDLL(None, use_errno=True).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
        _checked(_call(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _call(number: int, *arguments: object) -> int:
    system = ctypes.CDLL(None, use_errno=True).syscall
    system.restype = ctypes.c_long
    return int(system(ctypes.c_long(number), *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)))


def _checked(returned: int) -> int:
    if returned < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return returned

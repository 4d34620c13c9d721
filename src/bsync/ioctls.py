# SPDX-License-Identifier: GPL-2.0-only
"""Numbers of ioctl(2) requests, as this machine's kernel counts them.

A number holds a direction, the size of the argument in bytes, a type and a number of its own.  Most
architectures place them alike; powerpc, mips, sparc and alpha give the direction three bits, and
parisc reads where others write.  Source: the kernel's include/uapi/asm-generic/ioctl.h, and the
ioctl.h of these architectures.
"""

from __future__ import annotations

import os
import struct

_LONG = struct.calcsize("l")


def layout(machine: str) -> tuple[int, int, int, int]:
    """By the name of a machine: the place of the direction in bits, and the numbers of the
    directions none, write and read."""
    if machine.startswith(("ppc", "powerpc", "mips", "sparc", "alpha")):
        return 29, 1, 4, 2
    if machine.startswith("parisc"):
        return 30, 0, 2, 1
    return 30, 0, 1, 2


_AT, _NONE, _WRITE, _READ = layout(os.uname().machine)


def _number(direction: int, type_: int | str, number: int, size: int = 0) -> int:
    kind = ord(type_) if isinstance(type_, str) else type_
    return direction << _AT | size << 16 | kind << 8 | number


# linux/fs.h
BLKROGET = _number(_NONE, 0x12, 94)
BLKRRPART = _number(_NONE, 0x12, 95)
BLKFLSBUF = _number(_NONE, 0x12, 97)
BLKSSZGET = _number(_NONE, 0x12, 104)
FICLONE = _number(_WRITE, 0x94, 9, 4)
FICLONERANGE = _number(_WRITE, 0x94, 13, 32)
FS_IOC_GETFLAGS = _number(_READ, "f", 1, _LONG)
FS_IOC_SETFLAGS = _number(_WRITE, "f", 2, _LONG)
FS_IOC_FSGETXATTR = _number(_READ, "X", 31, 28)
FS_IOC_FSSETXATTR = _number(_WRITE, "X", 32, 28)

# linux/loop.h: plain numbers everywhere
LOOP_CLR_FD = 0x4C01
LOOP_GET_STATUS64 = 0x4C05
LOOP_CONFIGURE = 0x4C0A
LOOP_CTL_GET_FREE = 0x4C82

# SPDX-License-Identifier: GPL-2.0-only
"""Swap areas: made with mkswap, never copied.  Pure: arguments only."""

from __future__ import annotations

import struct

from bsync.model.layout import PAGE, Problem, Swap

PAGES = tuple(PAGE << power for power in range(5))  # bytes; the last of them is 64 KiB
MAGIC = (b"SWAPSPACE2", b"S1SUSPEND\0", b"S2SUSPEND\0")  # 10 bytes at the end of the first page
_OLD_MAGIC = b"SWAP-SPACE"
_VERSION = 1024  # bytes
HIBERNATED = "swsuspend"  # what blkid calls a swap area that holds a hibernation image


def page_size(start: bytes) -> int:
    """The page size, in bytes, of the swap area that begins with `start` (its first 64 KiB).

    Format: linux/swap.h, union swap_header.
    """
    found = (size for size in PAGES if start[size - 10 : size] in MAGIC)
    return next(found, PAGE)


def unmakeable(start: bytes) -> tuple[Problem, tuple[int, ...]] | None:
    """What a swap area that begins so is, if mkswap cannot make one like it.

    Format: the same; the version, at byte 1024, is in the order of the machine that made it.
    """
    if any(start[size - 10 : size] == _OLD_MAGIC for size in PAGES):
        return Problem.OLD, (0,)
    version = start[_VERSION : _VERSION + 4]
    if version == struct.pack("=I", 1)[::-1]:
        return Problem.OTHER_BYTE_ORDER, ()
    return None


def mkswap_arguments(source: Swap, device: str) -> list[str]:
    """The command that makes `device` a swap area with the source's UUID and label."""
    label = ["--label", source.label] if source.label else []
    pages = ["--pagesize", str(source.page_size)]
    return ["mkswap", "--force", *pages, "--uuid", source.uuid or "clear", *label, device]

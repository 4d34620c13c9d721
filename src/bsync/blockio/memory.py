# SPDX-License-Identifier: GPL-2.0-only
"""Memory that direct I/O takes, and that is used again."""

from __future__ import annotations

import contextlib
import mmap

import numpy as np
from numpy.typing import NDArray

Buffer = NDArray[np.uint8]


def buffer(size: int) -> Buffer:
    """Memory as direct I/O wants it: aligned, in pages as large as the machine has, so that a
    transfer is cut into few requests.  Children do not get it: their fork would make the pages
    that a transfer is under way to into copies (open(2), O_DIRECT)."""
    memory = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    memory.madvise(mmap.MADV_DONTFORK)
    return np.frombuffer(memory, np.uint8)


class Arena:
    """Memory to read into again and again: fresh memory costs more than many a comparison."""

    def __init__(self) -> None:
        self._memory = buffer(0)

    def of(self, size: int) -> Buffer:
        """`size` bytes, which held something else before."""
        if len(self._memory) < size:
            self._memory = buffer(size)
        return self._memory[:size]

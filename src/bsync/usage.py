# SPDX-License-Identifier: GPL-2.0-only
"""Which blocks of a filesystem are in use, where it can be told for certain.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

Read = Callable[[int, int], bytes]  # byte offset, bytes; fewer only beyond the end
Run = tuple[int, int]  # first block, blocks


class Unknown(ValueError):
    """Which blocks are in use cannot be told for certain; the text goes on "since …"."""


@dataclass(frozen=True)
class Usage:
    """The blocks in use: disjoint runs in ascending order, the first of which has block 0."""

    block_size: int  # bytes
    blocks: int  # of the whole filesystem
    runs: tuple[Run, ...] = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of the filesystem."""
        return self.blocks * self.block_size

    @property
    def used(self) -> int:
        """Bytes in use."""
        return sum(count for _, count in self.runs) * self.block_size


def all_but(free: Iterable[Run], block_size: int, blocks: int) -> Usage:
    """Everything is in use but the runs `free`, which ascend.  Raises `Unknown` where they
    overlap, leave the filesystem, or have its first block."""
    runs, at = [], 0
    for first, count in free:
        if count < 1 or first < max(at, 1) or first + count > blocks:
            raise Unknown("its record of free space is damaged")
        if first > at:
            runs.append((at, first - at))
        at = first + count
    if at < blocks:
        runs.append((at, blocks - at))
    return Usage(block_size, blocks, tuple(runs))

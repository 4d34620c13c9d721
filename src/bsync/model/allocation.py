# SPDX-License-Identifier: GPL-2.0-only
"""Which blocks of a filesystem are in use, where it can be told for certain.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from bsync.model import ranges
from bsync.model.ranges import Ranges

Read = Callable[[int, int], bytes]  # byte offset, bytes; fewer only beyond the end
Run = tuple[int, int]  # first block, blocks


class Unknown(ValueError):
    """Which blocks are in use cannot be told for certain; the text goes on "since …"."""


@dataclass(frozen=True)
class Allocation:
    """The blocks in use, that of the superblock among them.  It is read anew for every run."""

    block_size: int  # bytes
    blocks: int  # of the whole filesystem
    ranges: Ranges = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of the filesystem."""
        return self.blocks * self.block_size

    @property
    def used(self) -> int:
        """Bytes in use."""
        return self.ranges.blocks * self.block_size

    def without(self, blocks: Iterable[int]) -> Ranges:
        """The blocks in use but for these few."""
        spared = np.array(sorted(set(blocks)), np.int64)
        return ranges.without(self.ranges, ranges.of_blocks(spared))


def all_but(free: Iterable[Run], block_size: int, blocks: int) -> Allocation:
    """Everything is in use but the runs `free`, which ascend.  Raises `Unknown` where they
    overlap, leave the filesystem, or have its first block."""
    both = np.array(list(free), np.int64).reshape(-1, 2)
    start, end = both[:, 0], both[:, 0] + both[:, 1]
    before = np.concatenate([[1], end[:-1]])
    if ((both[:, 1] < 1) | (start < before) | (end > blocks)).any():
        raise Unknown("its record of free space is damaged")
    begins, ends = np.concatenate([[0], end]), np.concatenate([start, [blocks]])
    some = ends > begins
    return Allocation(block_size, blocks, Ranges(begins[some], (ends - begins)[some]))

# SPDX-License-Identifier: GPL-2.0-only
"""Whether the directories of a source can be relied on: what the kernel does not show of a damaged
one would be deleted on the clone."""

from __future__ import annotations

import numpy as np

from bsync.acquire.span import Span
from bsync.blockio import access as accesses
from bsync.blockio.access import CHECK
from bsync.engines.blocks import owned
from bsync.engines.blocks.pair import AT_ONCE, Half, half
from bsync.errors import Damaged
from bsync.filesystems.ext import directories, inodes, maps
from bsync.filesystems.ext import rows as table
from bsync.filesystems.ext.superblock import Ext
from bsync.model.arrays import Numbers


def check_source(span: Span, source: Ext) -> None:
    """Raise `Damaged` if a directory of the filesystem in `span` is."""
    size = source.superblock.block_size
    with accesses.opened(span, size, writable=False) as access:
        check(half(access))


def check(half: Half) -> None:
    """Raise `Damaged` if a directory is."""
    found = [np.zeros(0, np.int64)]
    for first, rows in inodes.tables(half.access.bytes_at, half.superblock, half.groups):
        numbers = np.arange(first, first + len(rows), dtype=np.int64)
        listing = table.is_directory(rows) & table.in_use(rows, numbers)
        found.append(numbers[listing & table.has_map(rows, half.superblock)])
    check_inodes(half, np.concatenate(found))


def check_inodes(half: Half, numbers: Numbers) -> None:
    """Raise `Damaged` if one of the directories with these inodes is: in a block, by a
    hole, which the kernel passes over as well, or by a size that leaves blocks out."""
    with owned.followed(half):
        runs = owned.data_of(half, numbers)
        have = np.bincount(np.searchsorted(numbers, runs.owner), runs.length, len(numbers))
        rows = owned.rows_of(half, numbers) if len(numbers) else np.zeros((0, 128), np.uint8)
        listed = table.has_map(rows, half.superblock)
        wrong = listed & (table.size(rows) != have * half.superblock.block_size)
        if wrong.any():
            raise maps.BadMap(f"directory inode {numbers[wrong][0]} has not the blocks of its size")
        check_blocks(half, owned.blocks_in(runs))


def check_blocks(half: Half, blocks: Numbers) -> None:
    """Raise `Damaged` if one of these blocks of directories, ascending, is."""
    step = AT_ONCE // half.superblock.block_size
    for first in range(0, len(blocks), step):
        some = blocks[first : first + step]
        wrong = directories.damaged(half.access.gather(some), half.superblock.inodes)
        if wrong.any():
            what = f"the filesystem is damaged (a directory, in block {some[wrong][0]})"
            raise Damaged(f"{half.access.device.word}: {what}", CHECK)

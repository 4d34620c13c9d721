# SPDX-License-Identifier: GPL-2.0-only
"""What inodes own: the blocks that their maps lead to, and those of the maps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from bsync.blockio.access import CHECK
from bsync.engines.blocks.pair import AT_ONCE, Half
from bsync.errors import Damaged
from bsync.filesystems.ext import maps
from bsync.filesystems.ext import rows as table
from bsync.filesystems.ext.maps import Bound, Level, Runs
from bsync.model import ranges
from bsync.model.arrays import Numbers, Rows
from bsync.model.ranges import Ranges

_WALK = 1 << 12  # inodes whose maps are followed at once
_NONE = np.zeros(0, np.int64)


@contextlib.contextmanager
def followed(half: Half) -> Iterator[None]:
    """Maps that cannot be right are a `Damaged` filesystem."""
    try:
        yield
    except maps.BadMap as error:
        word = half.access.device.word
        raise Damaged(f"{word}: the filesystem is damaged ({error})", CHECK) from None


def blocks_of(half: Half, inodes: Numbers) -> Ranges:
    """The blocks of `inodes`, those of their maps included.  Raises `BadMap`."""
    found = [ranges.of_blocks(_NONE)]
    for level in _levels(half, inodes):
        found.append(ranges.of_runs(level.data.start, level.data.length))
        found.append(ranges.of_blocks(level.nodes.block))
    return union(found)


def data_of(half: Half, inodes: Numbers) -> Runs:
    """The runs of data of `inodes`.  Raises `BadMap`."""
    return maps.joined_runs([level.data for level in _levels(half, inodes)])


def blocks_in(runs: Runs) -> Numbers:
    """Every block of all runs, ascending, each once."""
    return ranges.of_runs(runs.start, runs.length).numbers()


def bad_blocks(half: Half) -> Ranges:
    """The blocks that the filesystem knows to be bad, which nobody reads.  Raises `Damaged`.

    Format: the data of inode 1, EXT2_BAD_INO (e2fsck(8), -l).
    """
    with followed(half):
        found = data_of(half, np.array([table.BAD_BLOCKS]))
    return ranges.of_runs(found.start, found.length)


def checked(half: Half, runs: Runs) -> Runs:
    """`runs`, unless one leads out of the filesystem.  Raises `BadMap`."""
    sb = half.superblock
    if ((runs.start < sb.first_data_block) | (runs.start + runs.length > sb.blocks)).any():
        raise maps.BadMap("a block beyond its end")
    return runs


def checked_blocks(half: Half, blocks: Numbers) -> Numbers:
    """The same for single blocks."""
    checked(half, Runs(blocks, blocks, np.ones(len(blocks), np.int64)))
    return blocks


def union(parts: list[Ranges]) -> Ranges:
    """All blocks of all parts."""
    return ranges.of_runs(
        np.concatenate([_NONE, *(part.start for part in parts)]),
        np.concatenate([_NONE, *(part.length for part in parts)]),
    )


def _levels(half: Half, inodes: Numbers) -> Iterator[Level]:
    """What the maps of `inodes` lead to, checked, in bounded pieces."""
    bound = Bound(half.superblock.blocks)
    for first in range(0, len(inodes), _WALK):
        some = inodes[first : first + _WALK]
        yield from levels(half, rows_of(half, some), some, bound)


def levels(half: Half, rows: Rows, inodes: Numbers, bound: Bound) -> Iterator[Level]:
    """What the maps in the `rows` of `inodes` lead to, within `bound`.  Raises `BadMap`."""
    mapped = table.in_use(rows, inodes) & table.has_map(rows, half.superblock)
    yield from _down(half, maps.roots(rows, inodes, mapped), bound)


def _down(half: Half, level: Level, bound: Bound) -> Iterator[Level]:
    """The level, and all below it."""
    bound.take(level)
    checked(half, level.data)
    checked_blocks(half, level.nodes.block)
    yield level
    for nodes in maps.pieces(maps.in_order(level.nodes), AT_ONCE // half.superblock.block_size):
        yield from _down(half, maps.below(nodes, half.access.gather(nodes.block)), bound)


def rows_of(half: Half, inodes: Numbers) -> Rows:
    """The rows of `inodes`, read anew."""
    sb = half.superblock
    group, index = np.divmod(inodes - 1, sb.inodes_per_group)
    byte = half.groups.inode_table[group] * sb.block_size + index * sb.inode_size
    blocks, inverse = np.unique(byte // sb.block_size, return_inverse=True)
    contents = half.access.gather(blocks).reshape(len(blocks), -1, sb.inode_size)
    return np.asarray(contents[inverse, byte % sb.block_size // sb.inode_size])

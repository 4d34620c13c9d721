# SPDX-License-Identifier: GPL-2.0-only
"""Which blocks of an ext filesystem are in use, and whether all that tells of it agrees."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bsync.blockio.access import CHECK
from bsync.blockio.pump import Run
from bsync.engines.blocks import owned
from bsync.engines.blocks.pair import Half
from bsync.errors import Damaged
from bsync.filesystems.ext import inodes, maps
from bsync.filesystems.ext import rows as table
from bsync.filesystems.ext.checksums import crc32c_rows
from bsync.filesystems.ext.groups import Bitmaps, structures
from bsync.model import ranges
from bsync.model.arrays import Flags, Numbers
from bsync.model.ranges import Ranges

_GROUPS = 32  # whose bitmaps are looked at together


def runs(source: Half, gap: int) -> Iterator[Run]:
    """The blocks in use but for that of the superblock, and those known to be bad; gaps of up to
    `gap` blocks between them are taken along."""
    sb, bad = source.superblock, owned.bad_blocks(source)
    for some in used(source):
        rest = ranges.within(some, sb.first_data_block + 1, sb.blocks)
        yield from ranges.without(ranges.bridged(rest, gap), bad).pairs()


def used(half: Half) -> Iterator[Ranges]:
    """The blocks in use, in ascending order: those that the bitmaps name, and the structures
    (in a group without a bitmap nothing else is).  Raises `Damaged`."""
    for begin, named, fixed in _maps(half):
        yield ranges.of_bits(named | fixed, begin)


def check(half: Half) -> None:
    """Raise `Damaged` unless bitmaps, descriptors and superblock tell the same of what is in use,
    and the filesystem's structures are: else what is read would not be copied."""
    sb, free = half.superblock, 0
    for begin, named, fixed in _maps(half):
        group = (begin - sb.first_data_block) // sb.blocks_per_group
        edges = np.arange(0, len(named), sb.blocks_per_group)
        some = slice(group, group + len(edges))
        unused = np.add.reduceat(~(named | fixed), edges, dtype=np.int64)
        forgotten = np.add.reduceat(fixed & ~named, edges, dtype=np.int64) > 0
        forgotten &= ~half.groups.blocks.uninit[some]
        _expect(half, group, (unused == half.groups.blocks.free[some]) & ~forgotten, "blocks")
        free += int(unused.sum())
    if free != sb.free_blocks:
        raise _disagreeing(half, "blocks of the superblock")
    _check_inode_bitmaps(half)


def _check_inode_bitmaps(half: Half) -> None:
    """The same for inodes, all of which are among those that are said to be initialised."""
    sb, bitmaps, free = half.superblock, half.groups.inodes, 0
    for first in range(0, sb.groups, _GROUPS):
        some = slice(first, min(first + _GROUPS, sb.groups))
        bits = _bits(half, bitmaps, some, sb.inodes_per_group)
        beyond = np.arange(sb.inodes_per_group) >= half.groups.initialised[some, None]
        unused = (~bits).sum(axis=1)
        _expect(half, first, (unused == bitmaps.free[some]) & ~(bits & beyond).any(1), "inodes")
        free += int(unused.sum())
    if free != sb.free_inodes:
        raise _disagreeing(half, "inodes of the superblock")


def check_owned(half: Half) -> None:
    """Raise `Damaged` unless all that inodes own is in use: it is read, and would not be copied."""
    sb, bound = half.superblock, maps.Bound(half.superblock.blocks)
    inside = owned.union(list(used(half)))
    with owned.followed(half):
        for first, every in inodes.tables(half.access.bytes_at, sb, half.groups):
            numbers = np.arange(first, first + len(every), dtype=np.int64)
            alive = table.in_use(every, numbers)
            rows, numbers = every[alive], numbers[alive]
            attributes = table.attribute_blocks(rows)
            having = attributes != 0
            _expect_inside(inside, numbers[having], attributes[having])
            for level in owned.levels(half, rows, numbers, bound):
                _expect_inside(inside, level.nodes.owner, level.nodes.block)
                _expect_inside(inside, level.data.owner, level.data.start, level.data.length)


def _expect_inside(
    inside: Ranges, owner: Numbers, start: Numbers, length: Numbers | int = 1
) -> None:
    """Raise `BadMap` unless all these runs are `inside`."""
    lost = ~ranges.holding(inside, start, length)
    if lost.any():
        raise maps.BadMap(f"inode {owner[lost][0]} has blocks that are said to be free")


def _expect(half: Half, first: int, right: Flags, what: str) -> None:
    """Raise `Damaged` unless all the groups from `first` on are `right`."""
    if not right.all():
        raise _disagreeing(half, f"{what} of group {first + int(np.flatnonzero(~right)[0])}")


def _disagreeing(half: Half, whose: str) -> Damaged:
    what = f"the filesystem is damaged (the free {whose} do not agree)"
    return Damaged(f"{half.access.device.word}: {what}", CHECK)


def _maps(half: Half) -> Iterator[tuple[int, Flags, Flags]]:
    """Of some groups at a time: their first block, the blocks that their bitmaps name, and those
    whose place is fixed."""
    sb, groups = half.superblock, half.groups
    fixed = ranges.of_pairs(list(structures(sb, groups)))
    for first in range(0, sb.groups, _GROUPS):
        last = min(first + _GROUPS, sb.groups)
        begin = sb.first_data_block + first * sb.blocks_per_group
        end = min(sb.first_data_block + last * sb.blocks_per_group, sb.blocks)
        named = _bits(half, groups.blocks, slice(first, last), sb.blocks_per_group).reshape(-1)
        structural = np.zeros(end - begin, np.bool_)
        _take(fixed, begin, end, structural)
        yield begin, named[: end - begin], structural


def _bits(half: Half, bitmaps: Bitmaps, some: slice, width: int) -> Flags:
    """What the bitmaps of `some` groups say: (n, width).  Those that are not on the disk say
    nothing.  Raises `Damaged` where one is not what was written."""
    bits = np.zeros((some.stop - some.start, width), np.bool_)
    there = np.flatnonzero(~bitmaps.uninit[some])
    there = there[np.argsort(bitmaps.place[some][there])]
    contents = half.access.gather(bitmaps.place[some][there])[:, : -(-width // 8)]
    if "metadata_csum" in half.superblock.features and len(there):
        sums = crc32c_rows(half.superblock.checksum_seed, contents[:, : width // 8])
        wrong = (sums ^ bitmaps.checksum[some][there]) & bitmaps.checksum_mask != 0
        if wrong.any():
            group = some.start + int(there[wrong][0])
            what = f"the filesystem is damaged (a bitmap of group {group} has a wrong checksum)"
            raise Damaged(f"{half.access.device.word}: {what}", CHECK)
    rows = np.unpackbits(contents, axis=1, count=width, bitorder="little")
    bits[there] = rows.astype(np.bool_)
    return bits


def _take(fixed: Ranges, begin: int, end: int, bits: Flags) -> None:
    """Set the bits of those `fixed` blocks that are in begin … end."""
    for start, length in ranges.within(fixed, begin, end).pairs():
        bits[start - begin : start - begin + length] = True

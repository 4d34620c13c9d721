"""Which blocks of an ext filesystem are in use, and whether all that tells of it agrees."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bsync.arrays import Flags
from bsync.engines.blocks import owned, ranges
from bsync.engines.blocks.access import CHECK
from bsync.engines.blocks.pair import Half
from bsync.engines.blocks.pump import Run
from bsync.engines.blocks.ranges import Ranges
from bsync.errors import Damaged
from bsync.filesystems.ext import inodes
from bsync.filesystems.ext import rows as table
from bsync.filesystems.ext.groups import structures

_GROUPS = 32  # whose bitmaps are looked at together
_NONE = np.zeros(0, np.int64)


def runs(source: Half, gap: int) -> Iterator[Run]:
    """The blocks in use but for that of the superblock, and those known to be bad; gaps of up to
    `gap` blocks between them are taken along."""
    sb, bad = source.superblock, owned.bad_blocks(source)
    for some in used(source):
        rest = ranges.within(some, sb.first_data_block + 1, sb.blocks)
        yield from ranges.without(ranges.bridged(rest, gap), bad).pairs()


def used(half: Half) -> Iterator[Ranges]:
    """The blocks in use, in ascending order: those that the bitmaps name, and the structures
    (in a group without a bitmap nothing else is)."""
    for begin, named, fixed in _maps(half):
        yield ranges.of_bits(named | fixed, begin)


def check(half: Half) -> None:
    """Raise `Damaged` unless bitmaps, descriptors, superblock and inodes tell the same of how much
    is in use, and the filesystem's structures are: else what is read would not be copied."""
    sb, free = half.superblock, 0
    for begin, named, fixed in _maps(half):
        group = (begin - sb.first_data_block) // sb.blocks_per_group
        edges = np.arange(0, len(named), sb.blocks_per_group)
        unused = np.add.reduceat(~(named | fixed), edges, dtype=np.int64)
        there = ~half.groups.block_uninit[group : group + len(edges)]
        forgotten = np.add.reduceat(fixed & ~named, edges, dtype=np.int64)
        wrong = (unused != half.groups.free_blocks[group : group + len(edges)]) | (
            there & (forgotten > 0)
        )
        if wrong.any():
            raise _disagreeing(half, f"of group {group + int(np.flatnonzero(wrong)[0])}")
        free += int(unused.sum())
    if free != sb.free_blocks:
        raise _disagreeing(half, "of the superblock")


def check_inodes(half: Half) -> None:
    """Raise `Damaged` if the inodes say that they take more blocks than are in use: then some of
    what is read is in blocks that are said to be free."""
    sb = half.superblock
    taken, attributes = 0, [_NONE]
    for first, rows in inodes.tables(half.access.bytes_at, sb, half.groups):
        numbers = np.arange(first, first + len(rows), dtype=np.int64)
        owning = rows[table.in_use(rows, numbers) & (numbers != table.RESIZE)]
        taken += int(table.sectors(owning, sb).sum()) * 512 // sb.block_size
        blocks = table.attribute_blocks(owning)
        attributes.append(blocks[blocks != 0])
    shared = sum(map(len, attributes)) - len(np.unique(np.concatenate(attributes)))
    own = ranges.of_pairs(list(structures(sb, half.groups))).blocks
    if taken - shared > sb.blocks - sb.free_blocks - own:
        raise _disagreeing(half, "and those that the inodes take")


def _disagreeing(half: Half, whose: str) -> Damaged:
    what = f"the filesystem is damaged (the free blocks {whose} do not agree)"
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
        named = np.zeros((last - first) * sb.blocks_per_group, np.bool_)
        if not groups.block_uninit[first:last].all():
            _take_bitmaps(half, first, named)
        structural = np.zeros(end - begin, np.bool_)
        _take(fixed, begin, end, structural)
        yield begin, named[: end - begin], structural


def _take_bitmaps(half: Half, first: int, bits: Flags) -> None:
    """Set what the bitmaps of the groups from `first` on say; `bits` are all of theirs."""
    sb, groups = half.superblock, half.groups
    last = first + len(bits) // sb.blocks_per_group
    there = np.flatnonzero(~groups.block_uninit[first:last])
    places = groups.block_bitmap[first:last][there]
    order = np.argsort(places)
    contents = half.access.gather(places[order])[:, : sb.blocks_per_group // 8]
    rows = np.unpackbits(contents, axis=1, bitorder="little").astype(np.bool_)
    bits.reshape(-1, sb.blocks_per_group)[there[order]] = rows


def _take(fixed: Ranges, begin: int, end: int, bits: Flags) -> None:
    """Set the bits of those `fixed` blocks that are in begin … end."""
    for start, length in ranges.within(fixed, begin, end).pairs():
        bits[start - begin : start - begin + length] = True

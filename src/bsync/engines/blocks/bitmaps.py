"""Which blocks of an ext filesystem are in use."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bsync.arrays import Flags
from bsync.engines.blocks import ranges
from bsync.engines.blocks.pair import Half
from bsync.engines.blocks.pump import Run
from bsync.engines.blocks.ranges import Ranges
from bsync.filesystems.ext.groups import structures

_GROUPS = 32  # whose bitmaps are looked at together


def runs(source: Half, gap: int) -> Iterator[Run]:
    """The blocks in use but for that of the superblock; gaps of up to `gap` blocks between them
    are taken along."""
    sb = source.superblock
    for some in used(source):
        rest = ranges.within(some, sb.first_data_block + 1, sb.blocks)
        yield from ranges.bridged(rest, gap).pairs()


def used(half: Half) -> Iterator[Ranges]:
    """The blocks in use, in ascending order: those that the bitmaps name, and the structures
    (in a group without a bitmap nothing else is)."""
    sb, groups = half.superblock, half.groups
    fixed = ranges.of_pairs(list(structures(sb, groups)))
    for first in range(0, sb.groups, _GROUPS):
        last = min(first + _GROUPS, sb.groups)
        begin = sb.first_data_block + first * sb.blocks_per_group
        end = min(sb.first_data_block + last * sb.blocks_per_group, sb.blocks)
        if groups.block_uninit[first:last].all():
            yield ranges.within(fixed, begin, end)
            continue
        bits = np.zeros((last - first) * sb.blocks_per_group, np.bool_)
        _take_bitmaps(half, first, bits)
        _take(fixed, begin, end, bits)
        yield ranges.of_bits(bits[: end - begin], begin)


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

"""Which blocks of an ext filesystem are in use."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bsync.engines.blocks import ranges
from bsync.engines.blocks.access import Access
from bsync.engines.blocks.ranges import Ranges
from bsync.filesystems.ext.groups import Groups, structures
from bsync.filesystems.ext.superblock import Superblock

Bits = NDArray[np.bool_]

_GROUPS = 32  # whose bitmaps are looked at together


def used(access: Access, sb: Superblock, groups: Groups) -> Iterator[Ranges]:
    """The blocks in use, in ascending order: those that the bitmaps name, and the structures
    (in a group without a bitmap nothing else is)."""
    fixed = ranges.of_pairs(list(structures(sb, groups)))
    for first in range(0, sb.groups, _GROUPS):
        last = min(first + _GROUPS, sb.groups)
        begin = sb.first_data_block + first * sb.blocks_per_group
        end = min(sb.first_data_block + last * sb.blocks_per_group, sb.blocks)
        if groups.block_uninit[first:last].all():
            yield _within(fixed, begin, end)
            continue
        bits = np.zeros((last - first) * sb.blocks_per_group, np.bool_)
        _take_bitmaps(access, sb, groups, first, bits)
        _take(fixed, begin, end, bits)
        yield ranges.of_bits(bits[: end - begin], begin)


def _take_bitmaps(
    access: Access,
    sb: Superblock,
    groups: Groups,
    first: int,
    bits: Bits,
) -> None:
    """Set what the bitmaps of the groups from `first` on say; `bits` are all of theirs."""
    last = first + len(bits) // sb.blocks_per_group
    there = np.flatnonzero(~groups.block_uninit[first:last])
    places = groups.block_bitmap[first:last][there]
    order = np.argsort(places)
    contents = access.gather(places[order])[:, : sb.blocks_per_group // 8]
    rows = np.unpackbits(contents, axis=1, bitorder="little").astype(np.bool_)
    bits.reshape(-1, sb.blocks_per_group)[there[order]] = rows


def _take(fixed: Ranges, begin: int, end: int, bits: Bits) -> None:
    """Set the bits of those `fixed` blocks that are in begin … end."""
    for start, length in _within(fixed, begin, end).pairs():
        bits[start - begin : start - begin + length] = True


def _within(fixed: Ranges, begin: int, end: int) -> Ranges:
    """Those of the blocks that are in begin … end."""
    first = int(np.searchsorted(fixed.start + fixed.length, begin, "right"))
    last = int(np.searchsorted(fixed.start, end, "left"))
    start, stop = fixed.start[first:last], (fixed.start + fixed.length)[first:last]
    start, stop = np.maximum(start, begin), np.minimum(stop, end)
    return Ranges(start, stop - start)

# SPDX-License-Identifier: GPL-2.0-only
"""The block groups of an ext filesystem: their descriptors, and where the structures lie.

Pure but for the `read` that is passed in.  Blocks are numbered from the filesystem's start.
Formats: kernel documentation, filesystems/ext4/group_descr.rst and blockgroup.rst.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from bsync.filesystems.ext.superblock import BadSuperblock, Superblock
from bsync.model.arrays import Flags, Numbers, Rows, column

Read = Callable[[int, int], bytes]  # (offset, size) in bytes from the filesystem's start

_INODE_UNINIT, _BLOCK_UNINIT, _INODE_ZEROED = 0x1, 0x2, 0x4


@dataclass(frozen=True)
class Bitmaps:
    """What the descriptors say of one bitmap of each group."""

    place: Numbers  # block numbers
    free: Numbers  # how much is
    uninit: Flags  # it is not on the disk
    checksum: Numbers  # its CRC-32C, or as many of the bits as `checksum_mask` has
    checksum_mask: int


@dataclass(frozen=True)
class Groups:
    """What the descriptors say, a row for each group."""

    blocks: Bitmaps
    inodes: Bitmaps
    inode_table: Numbers  # block numbers
    initialised: Numbers  # inodes from the table's beginning that may be in use
    zeroed: Flags  # what the table has beyond `initialised` is said to be zero

    def __len__(self) -> int:
        return len(self.inode_table)


def read_groups(read: Read, sb: Superblock) -> Groups:
    """Every group's descriptor.  Raises `BadSuperblock` where one leads out of the filesystem or
    into another's, and whatever `read` raises."""
    pieces = []
    for block, count in _descriptor_blocks(sb):
        data = read(block * sb.block_size, count * sb.descriptor_size)
        pieces.append(np.frombuffer(data, np.uint8).reshape(-1, sb.descriptor_size))
    rows = np.concatenate(pieces)
    wide = sb.descriptor_size >= 64
    flags = column(rows, 0x12, 2)
    summed = bool(sb.features & {"uninit_bg", "metadata_csum"})
    unused = _split(rows, 0x1C, 0x32, 2, wide) if summed else np.zeros(len(rows), np.int64)
    blocks, inodes = (
        Bitmaps(
            _split(rows, at, at + 0x20, 4, wide),
            _split(rows, free, free + 0x20, 2, wide),
            ((flags & uninit) != 0) & summed,
            _split(rows, checksum, checksum + 0x20, 2, wide),
            0xFFFFFFFF if wide else 0xFFFF,
        )
        for at, free, uninit, checksum in (
            (0x00, 0x0C, _BLOCK_UNINIT, 0x18), (0x04, 0x0E, _INODE_UNINIT, 0x1A)
        )
    )  # fmt: skip
    used = np.where(inodes.uninit, 0, np.maximum(sb.inodes_per_group - unused, 0))
    table = _split(rows, 0x08, 0x28, 4, wide)
    _check_places((blocks.place, inodes.place, table), sb)
    return Groups(blocks, inodes, table, used, (flags & _INODE_ZEROED) != 0)


def _check_places(places: tuple[Numbers, Numbers, Numbers], sb: Superblock) -> None:
    """Bitmaps and inode tables are blocks of the filesystem, each their own, or `BadSuperblock`."""
    lengths = (1, 1, table_blocks(sb))
    for place, length in zip(places, lengths, strict=True):
        outside = (place < sb.first_data_block) | (place + length > sb.blocks)
        if outside.any():
            group = int(np.flatnonzero(outside)[0])
            raise BadSuperblock(f"damaged descriptor of group {group}: it leads beyond the end")
    start = np.concatenate(places)
    order = np.argsort(start)
    end = start[order] + np.repeat(lengths, sb.groups)[order]
    if (end[:-1] > start[order][1:]).any():
        raise BadSuperblock("damaged descriptors: two lead to the same block")


def _split(rows: Rows, low: int, high: int, width: int, wide: bool) -> Numbers:
    """A number kept as a low and, in descriptors of 64 bytes, a high half."""
    value = column(rows, low, width)
    return value | column(rows, high, width) << 8 * width if wide else value


def table_blocks(sb: Superblock) -> int:
    """Blocks of one group's inode table."""
    return -(-sb.inodes_per_group * sb.inode_size // sb.block_size)


def descriptor_table(sb: Superblock, groups: int) -> int:
    """Blocks that the descriptors of so many groups take (without meta_bg)."""
    return -(-groups * sb.descriptor_size // sb.block_size)


def copies(sb: Superblock) -> Iterator[tuple[int, int]]:
    """Every copy of the superblock with the descriptors after it and the room that is kept for
    more of them: first block, and how many.  Not for meta_bg."""
    count = 1 + descriptor_table(sb, sb.groups) + sb.reserved_gdt_blocks
    for group in range(sb.groups):
        if has_superblock(group, sb):
            yield sb.first_data_block + group * sb.blocks_per_group, count


def structures(sb: Superblock, groups: Groups) -> Iterator[tuple[int, int]]:
    """All blocks whose place is fixed, as (first, how many): superblocks and descriptors,
    bitmaps, inode tables."""
    yield from copies(sb)
    length = table_blocks(sb)
    for places, count in (
        (groups.blocks.place, 1), (groups.inodes.place, 1), (groups.inode_table, length)
    ):  # fmt: skip
        yield from ((place, count) for place in places.tolist())


def _descriptor_blocks(sb: Superblock) -> Iterator[tuple[int, int]]:
    """Where group descriptors stand: first block, and how many groups are described there."""
    per_block = sb.block_size // sb.descriptor_size
    together = sb.groups
    if "meta_bg" in sb.features:
        together = min(sb.groups, sb.first_meta_bg * per_block)
    if together:
        # With clusters of blocks of 1 KiB, group 0 begins with block 0, the superblock with 1.
        reserved = int(sb.block_size == 1024 and sb.first_data_block == 0)
        yield sb.first_data_block + reserved + 1, together
    for group in range(together, sb.groups, per_block):
        start = sb.first_data_block + group * sb.blocks_per_group
        yield start + has_superblock(group, sb), min(per_block, sb.groups - group)


def has_superblock(group: int, sb: Superblock) -> bool:
    """Whether a group begins with a copy of the superblock."""
    if "sparse_super2" in sb.features:
        return group == 0 or group in sb.backup_groups
    if group <= 1 or "sparse_super" not in sb.features:
        return True
    return any(_is_power(group, base) for base in (3, 5, 7))


def _is_power(number: int, base: int) -> bool:
    while number > 1 and number % base == 0:
        number //= base
    return number == 1

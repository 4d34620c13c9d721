# SPDX-License-Identifier: GPL-2.0-only
"""How far resize2fs grows an ext filesystem, and where it must not be let.  Pure."""

from __future__ import annotations

from bsync.filesystems.ext.superblock import Superblock

_PAGE = 4096  # bytes
_LAST_GROUP = 50  # blocks that its last group must have besides its own structures


def grown(sb: Superblock, size: int) -> int:
    """The blocks that `sb` has once it fills `size` bytes; those that it has, if there is no room
    for more.

    resize2fs, told this number, keeps to it: these are whole pages, and the last group is not one
    that it would leave out.
    """
    blocks = min(size // sb.block_size, _most_blocks(sb))
    blocks -= blocks % max(1, _PAGE // sb.block_size)
    rest = (blocks - sb.first_data_block) % sb.blocks_per_group
    if 0 < rest < _last_overhead(sb, blocks) + _LAST_GROUP:
        blocks -= rest
    return max(blocks, sb.blocks)


def moves(sb: Superblock, blocks: int) -> bool:
    """Whether its inode tables are moved when it grows to `blocks`: the descriptors, one for each
    group, need more room than is kept for them."""
    return _descriptor_blocks(sb, blocks) > _descriptor_blocks(sb, sb.blocks) + (
        sb.reserved_gdt_blocks
    )


def defect(sb: Superblock, blocks: int) -> str:
    """What resize2fs (1.47) makes wrong when it grows `sb` to `blocks`; empty if nothing."""
    if blocks <= sb.blocks:
        return ""
    if "bigalloc" in sb.features:
        return "resize2fs cannot be trusted with bigalloc"
    if "sparse_super2" in sb.features and bool(sb.backup_groups[0]) != bool(sb.backup_groups[1]):
        return "resize2fs loses the place of its one backup superblock"
    if {"orphan_file", "metadata_csum"} <= sb.features and moves(sb, blocks):
        return "resize2fs would move its orphan file, and leave its checksums wrong"
    return ""


def _descriptor_blocks(sb: Superblock, blocks: int) -> int:
    groups = -(-(blocks - sb.first_data_block) // sb.blocks_per_group)
    return -(-groups * sb.descriptor_size // sb.block_size)


def _last_overhead(sb: Superblock, blocks: int) -> int:
    """The most blocks that the structures of a last group take."""
    tables = -(-sb.inodes_per_group * sb.inode_size // sb.block_size)
    return 3 + tables + _descriptor_blocks(sb, blocks) + sb.reserved_gdt_blocks


def _most_blocks(sb: Superblock) -> int:
    """Those that can be numbered, as inodes can, of which every group has some."""
    numbers = (1 << (48 if "64bit" in sb.features else 32)) - 1
    return min(numbers, ((1 << 32) - 1) // sb.inodes_per_group * sb.blocks_per_group)

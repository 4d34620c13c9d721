# SPDX-License-Identifier: GPL-2.0-only
"""XFS by its blocks: see `ByBlocks` and `Mapped`.  Pure."""

from __future__ import annotations

from bsync.filesystems.kind import Command, Held
from bsync.filesystems.xfs import growth, space
from bsync.filesystems.xfs.superblock import Xfs
from bsync.model.allocation import Allocation, Read
from bsync.model.arrays import Numbers

SEARCHES = False
MOUNTED_WITH: tuple[str, ...] = ("nouuid",)
GROWN_BY: tuple[str, ...] = ("xfs_growfs", "mount", "umount")


def obstacle(source: Xfs, size: int, *, grow: bool) -> str:
    """See `ByBlocks`."""
    return "the destination is smaller than the filesystem" if size < source.size else ""


def is_clone(source: Xfs, there: Xfs) -> bool:
    """See `ByBlocks`: what has its UUID and its root directory; one that was made by files has
    a root directory of its own."""
    one, other = source.superblock, there.superblock
    same = (one.uuid, one.block_size, one.born) == (other.uuid, other.block_size, other.born)
    return same and other.blocks >= one.blocks


def smallest(source: Xfs) -> int:
    """See `ByBlocks`."""
    return source.size


def grown(source: Xfs, size: int) -> int:
    """See `ByBlocks`."""
    return growth.grown(source.superblock, size)


def growing(path: str, blocks: int) -> Command:
    """See `ByBlocks`: the kernel does it in one transaction, as of any XFS that is mounted."""
    return ["xfs_growfs", "-D", str(blocks), path]


def notes(source: Xfs, here: int | None, there: int | None) -> tuple[str, ...]:
    """See `ByBlocks`."""
    return ()


def allocation(source: Xfs, read: Read) -> Allocation:
    """See `Mapped`."""
    return space.allocation(read, source.superblock)


def held(source: Xfs, read: Read, start: int | None) -> Held:
    """See `Mapped`: the first block, with the superblock."""
    return ((0, read(0, source.superblock.block_size)),)


def only_growth(source: Xfs, read: Read, there: Read, blocks: Numbers) -> bool:
    """See `Mapped`."""
    return growth.only_growth(read, source.superblock, there, blocks)

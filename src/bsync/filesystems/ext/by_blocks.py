# SPDX-License-Identifier: GPL-2.0-only
"""ext2, ext3 and ext4 by their blocks: see `ByBlocks`.  Pure."""

from __future__ import annotations

from bsync.filesystems.ext import blockwise, growth
from bsync.filesystems.ext.superblock import Ext
from bsync.filesystems.kind import Command

SEARCHES = True
MOUNTED_WITH: tuple[str, ...] = ()
GROWN_BY: tuple[str, ...] = ("resize2fs", "tune2fs", "e2fsck")


def obstacle(source: Ext, size: int, *, grow: bool) -> str:
    """See `ByBlocks`."""
    if reason := blockwise.obstacle(source.superblock):
        return reason
    if size < source.size:
        return "the destination is smaller than the filesystem"
    return blockwise.growth_obstacle(source.superblock, size) if grow else ""


def is_clone(source: Ext, there: Ext) -> bool:
    """See `ByBlocks`."""
    return blockwise.is_clone(source.superblock, there.superblock)


def notes(source: Ext, here: int | None, there: int | None) -> tuple[str, ...]:
    """See `ByBlocks`."""
    return ()


def smallest(source: Ext) -> int:
    """See `ByBlocks`."""
    return source.size


def grown(source: Ext, size: int) -> int:
    """See `ByBlocks`."""
    return growth.grown(source.superblock, size)


def growing(path: str, blocks: int) -> Command:
    """See `ByBlocks`."""
    return ["resize2fs", "-f", path, str(blocks)]

# SPDX-License-Identifier: GPL-2.0-only
"""ext2, ext3 and ext4, as the stages ask for them: see `Kind`.  Pure."""

from __future__ import annotations

from dataclasses import replace

from bsync.filesystems.ext import blockwise, by_blocks, by_files, make, superblock
from bsync.filesystems.ext.superblock import Ext, Superblock
from bsync.filesystems.kind import Kind, much_lost
from bsync.model.allocation import Read
from bsync.units import count_text

REACH = superblock.OFFSET + superblock.SIZE
_MMP_CLEAN = 0xFF4D4D50  # the sequence of one that is not mounted
_MANY = 100  # files: the loss of most of fewer goes unasked


def read(name: str, data: bytes) -> Ext:
    """See `Kind`."""
    boot_block, data = data[: superblock.OFFSET], data[superblock.OFFSET : REACH]
    return Ext(name, superblock.parse(data), any(boot_block))


def look(found: Ext, read: Read) -> Ext:
    """See `Kind`: whether another machine has it mounted."""
    return replace(found, elsewhere=_in_use(found.superblock, read))


def _in_use(sb: Superblock, read: Read) -> bool:
    """Format: kernel documentation, filesystems/ext4/mmp.rst."""
    if not sb.mmp_block:
        return False
    if not 0 < sb.mmp_block < sb.blocks:
        return True
    sequence = int.from_bytes(read(sb.mmp_block * sb.block_size + 4, 4), "little")
    return sequence != _MMP_CLEAN


def emptied(source: Ext, there: Ext) -> str:
    """See `Kind`."""
    files, present = make.files(source.superblock), make.files(there.superblock)
    if (present >= _MANY and files * 2 < present) or (present and not files):
        return f"about {present - files:,} of {count_text(present, 'file')}"
    return much_lost(make.contents(source.superblock), make.contents(there.superblock))


def tuning(content: Ext) -> object:
    """See `Kind`."""
    return make.tuning(content.superblock)


def backdated(data: bytes, seconds: int) -> bytes:
    """See `Kind`."""
    raw = blockwise.earlier(data[superblock.OFFSET : REACH], seconds)
    return data[: superblock.OFFSET] + raw + data[REACH:]


EXT = Kind(
    names=("ext2", "ext3", "ext4", "ext4dev"),
    reach=REACH,
    read=read,
    emptied=emptied,
    unsettled=by_files.unsettled,
    look=look,
    tuning=tuning,
    backdated=backdated,
    files=by_files,
    blocks=by_blocks,
)

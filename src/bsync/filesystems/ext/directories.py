# SPDX-License-Identifier: GPL-2.0-only
"""Blocks of ext directories, many at once.  Pure: arrays in, arrays out.

Of a block whose entries cannot be right the kernel shows the entries before them, and no error:
a copy of what it shows would have lost the others.
Format: kernel documentation, filesystems/ext4/directory.rst ("Linear (Classic) Directories").
"""

from __future__ import annotations

import numpy as np

from bsync.model.arrays import Flags, Numbers, Rows

_SMALLEST = 12  # bytes of an entry
_HEADER = 8  # bytes of it before the name


def damaged(blocks: Rows, inodes: int) -> Flags:
    """Which of `blocks`, (n, block size), hold an entry that the kernel would not take, in a
    filesystem of so many `inodes`.  The nodes of a hash tree look like one unused entry."""
    count, size = blocks.shape
    found = np.zeros(count, np.bool_)
    row, at = np.arange(count), np.zeros(count, np.int64)
    inode, length = blocks.view("<u4"), blocks.view("<u2")
    while len(row):
        entry = _length(length[row, at // 2 + 2].astype(np.int64), size)
        named = (_HEADER + blocks[row, at + 6].astype(np.int64) + 3) & ~3
        wrong = (entry < np.maximum(named, _SMALLEST)) | (entry % 4 != 0) | (at + entry > size)
        wrong |= inode[row, at // 4] > inodes
        at = at + entry
        wrong |= ~wrong & (at < size) & (at + _SMALLEST > size)
        found[row[wrong]] = True
        following = ~wrong & (at < size)
        row, at = row[following], at[following]
    return found


def _length(stored: Numbers, size: int) -> Numbers:
    """Lengths of entries as they are kept: with blocks of 64 KiB one of the whole is 0 or 65535."""
    if size < 1 << 16:
        return stored
    whole = (stored == 0) | (stored == 0xFFFF)
    return np.where(whole, size, stored & 0xFFFC | (stored & 3) << 16)

# SPDX-License-Identifier: GPL-2.0-only
"""Rows of inode tables, many at once.  Pure: arrays in, arrays out.

A row is one inode as it stands on the disk: (n, inode size) bytes.
Format: kernel documentation, filesystems/ext4/inodes.rst and attributes.rst.
"""

from __future__ import annotations

import stat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bsync.filesystems.ext.superblock import Superblock
from bsync.model.arrays import Flags, Numbers, Rows, column

FIRST_ORDINARY = 11  # the inodes before it are the filesystem's own, but for the root
BAD_BLOCKS, ROOT, RESIZE, JOURNAL = 1, 2, 7, 8

EXTENTS, HUGE_FILE, INLINE_DATA = 0x80000, 0x40000, 0x10000000  # of i_flags
_MAP = 60  # bytes
_OLD = 128  # bytes of a row without extra fields
_ATTRIBUTES = np.array([0x00, 0x00, 0x02, 0xEA], np.uint8)  # before those in a row
# Byte ranges that may differ while the contents are the same: access time, checksum.
_IRRELEVANT = ((0x08, 0x0C), (0x7C, 0x7E), (0x82, 0x84), (0x8C, 0x90))


def flags(rows: Rows) -> Numbers:
    """Every row's i_flags."""
    return column(rows, 0x20, 4)


def kind(rows: Rows) -> Numbers:
    """The file type bits of every row's mode."""
    return column(rows, 0x00, 2) & 0xF000


def in_use(rows: Rows, numbers: Numbers) -> Flags:
    """Which rows are inodes that some name leads to, or that the filesystem uses itself: the list
    of bad blocks has no name and no mode, only a map."""
    own = (numbers < FIRST_ORDINARY) & roots(rows).any(axis=1)
    return np.asarray((column(rows, 0x1A, 2) > 0) | own)


def differing(here: Rows, there: Rows) -> Flags:
    """Which rows differ in any byte."""
    return np.asarray((_words(here) != _words(there)).any(axis=1))


def relevant(rows: Rows) -> Rows:
    """The rows without what says nothing of the contents."""
    kept = rows.copy()
    for start, end in _IRRELEVANT:
        if end <= rows.shape[1] or start < 0x80:
            kept[:, start:end] = 0
    return kept


def changed_at(rows: Rows) -> Numbers:
    """The inode change time of every row, in milliseconds since 1970; the last one of the
    second where the row tells no more."""
    seconds = column(rows, 0x0C, 4)
    seconds = np.where(seconds >= 1 << 31, seconds - (1 << 32), seconds)
    rest = np.full(len(rows), 999, np.int64)
    if rows.shape[1] >= 0x88:
        fine = column(rows, 0x80, 2) >= 8
        extra = column(rows, 0x84, 4)
        seconds = seconds + np.where(fine, (extra & 3) << 32, 0)
        rest = np.where(fine, (extra >> 2) // 1_000_000, rest)
    return np.asarray(seconds * 1000 + rest)


def attribute_blocks(rows: Rows) -> Numbers:
    """The block of extended attributes of every row; 0: none."""
    return column(rows, 0x68, 4) | column(rows, 0x76, 2) << 32


def has_attributes(rows: Rows) -> Flags:
    """Which rows have extended attributes, in themselves or in a block."""
    found = attribute_blocks(rows) > 0
    if rows.shape[1] > _OLD:
        begin = np.minimum(_OLD + column(rows, _OLD, 2), rows.shape[1] - 4)
        magic = rows[np.arange(len(rows))[:, None], begin[:, None] + np.arange(4)]
        found |= (magic == _ATTRIBUTES).all(axis=1)
    return np.asarray(found)


def size(rows: Rows) -> Numbers:
    """Every row's size in bytes: of a regular file, or a directory."""
    return column(rows, 0x04, 4) | column(rows, 0x6C, 4) << 32


def is_directory(rows: Rows) -> Flags:
    """Which rows are directories."""
    return np.asarray(kind(rows) == stat.S_IFDIR)


def roots(rows: Rows) -> Rows:
    """The 60 bytes in which every row's block map begins: (n, 60)."""
    return np.ascontiguousarray(rows[:, 0x28:0x64])


def has_map(rows: Rows, sb: Superblock) -> Flags:
    """Which rows have a block map: those of symbolic links and others may hold anything."""
    what = kind(rows)
    held = (what == stat.S_IFREG) | (what == stat.S_IFDIR) | (what == 0)
    slow_link = (what == stat.S_IFLNK) & ~_is_fast_link(rows, sb)
    inline = (flags(rows) & INLINE_DATA) != 0
    return np.asarray((held | slow_link) & ~inline)


def has_extents(rows: Rows) -> Flags:
    """Which maps are extent trees; the others are of indirect blocks."""
    return np.asarray((flags(rows) & EXTENTS) != 0)


def has_nodes(rows: Rows) -> Flags:
    """Which maps, of rows that have one, are more than their roots."""
    deep = column(rows, 0x2E, 2) != 0  # the root's eh_depth
    indirect = rows[:, 0x58:0x64].any(axis=1)
    return np.asarray(np.where(has_extents(rows), deep, indirect))


def sectors(rows: Rows, sb: Superblock) -> NDArray[np.float64]:
    """What every row says that its inode takes, in units of 512 bytes: data, the nodes of its
    map, its block of attributes."""
    count = column(rows, 0x1C, 4) + column(rows, 0x74, 2) * 2.0**32
    huge = (flags(rows) & HUGE_FILE) != 0
    return np.asarray(count * np.where(huge, sb.block_size / 512, 1.0))


def _is_fast_link(rows: Rows, sb: Superblock) -> Flags:
    """Which symbolic links stand in the place of the map: those that take no block, however short
    they are; with ea_inode the kernel goes by the length."""
    if "ea_inode" in sb.features:
        return np.asarray(column(rows, 0x04, 4) < _MAP)
    attributes = (attribute_blocks(rows) != 0) * (sb.cluster_size / 512)
    return np.asarray(sectors(rows, sb) == attributes)


def _words(rows: Rows) -> NDArray[Any]:
    return np.ascontiguousarray(rows).view(np.uint64)

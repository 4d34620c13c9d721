# SPDX-License-Identifier: GPL-2.0-only
"""What the inode tables of an ext filesystem tell without walking any directory.  Pure.

Whole tables are read in bulk and looked through with numpy: a few inodes with file flags,
project IDs or holes are found among millions in a moment.
Format: kernel documentation, filesystems/ext4/inodes.rst.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from bsync.filesystems.ext import htree, maps
from bsync.filesystems.ext import rows as table
from bsync.filesystems.ext.groups import Groups, Read, read_groups
from bsync.filesystems.ext.superblock import Superblock
from bsync.model.arrays import Flags, Numbers, Rows, column

# What chattr(1) can set: s u c S i a d A j t D T x P.  The others are the kernel's own.
SETTABLE = 0x2203C0FF

Ahead = Callable[[Numbers, Numbers], None]  # first blocks and lengths of runs, ascending

_CHUNK = 32 << 20  # bytes of inode table read at once


@dataclass(frozen=True)
class SpecialInodes:
    """The files that need more than a plain copy, by inode."""

    flags: dict[int, int]
    projects: dict[int, int]
    sparse: frozenset[int]
    linked: frozenset[int] = frozenset()  # files of several names, and device nodes
    late: frozenset[int] = frozenset()  # files that changed since some time
    listed: frozenset[int] = frozenset()  # what may have an ACL
    vast: frozenset[int] = frozenset()  # directories so large that a copy may not fit


def scan(read: Read, sb: Superblock, ahead: Ahead, since: int) -> SpecialInodes:
    """Look through every inode table.  `read` must see a filesystem at rest; `ahead` is told
    what a walk over the tree reads besides the tables; `since`, in seconds since 1970, is from when
    on a change is late."""
    flags: dict[int, int] = {}
    projects: dict[int, int] = {}
    sparse: set[int] = set()
    linked: set[int] = set()
    late: set[int] = set()
    listed: set[int] = set()
    vast: set[int] = set()
    for first, rows in tables(read, sb, read_groups(read, sb)):
        numbers = np.arange(first, first + len(rows), dtype=np.int64)
        kind = table.kind(rows)
        names = column(rows, 0x1A, 2)
        used = (names > 0) & _ordinary(numbers)
        ahead(*_met_by_a_walk(rows[used], sb))
        device = (kind == stat.S_IFCHR) | (kind == stat.S_IFBLK)
        linked.update(numbers[used & ((names > 1) & (kind != stat.S_IFDIR) | device)].tolist())
        listed.update(numbers[used & (kind != stat.S_IFLNK) & table.has_attributes(rows)].tolist())
        large = (kind == stat.S_IFDIR) & (table.size(rows) >= htree.vast(sb))
        vast.update(numbers[used & large].tolist())
        used &= (kind == stat.S_IFREG) | (kind == stat.S_IFDIR)
        _collect(flags, numbers, table.flags(rows) & SETTABLE, used)
        if "project" in sb.features and sb.inode_size > 128:
            has_project = column(rows, 0x80, 2) >= 32
            _collect(projects, numbers, column(rows, 0x9C, 4), used & has_project)
        changed = (kind == stat.S_IFREG) & (table.changed_at(rows) >= since * 1000)
        late.update(numbers[used & changed].tolist())
        sparse.update(numbers[used & (kind == stat.S_IFREG) & _holed(rows, sb)].tolist())
    rest = (frozenset(found) for found in (sparse, linked, late, listed, vast))
    return SpecialInodes(flags, projects, *rest)


def _met_by_a_walk(rows: Rows, sb: Superblock) -> tuple[Numbers, Numbers]:
    """The blocks of directories, long symbolic links and attributes, as far as the rows tell."""
    listed = table.has_map(rows, sb) & (table.kind(rows) != stat.S_IFREG)
    try:
        data = maps.roots(rows, np.arange(len(rows)), listed).data
    except maps.BadMap:  # the kernel will say so
        data = maps.joined_runs([])
    attributes = np.unique(table.attribute_blocks(rows))
    start = np.concatenate([data.start, attributes])
    length = np.concatenate([data.length, np.ones(len(attributes), np.int64)])
    there = (start > 0) & (start + length <= sb.blocks)
    order = np.argsort(start[there], kind="stable")
    return start[there][order], length[there][order]


def _collect(
    into: dict[int, int],
    numbers: Numbers,
    values: Numbers,
    used: Flags,
) -> None:
    hit = used & (values != 0)
    into.update(zip(numbers[hit].tolist(), values[hit].tolist(), strict=True))


def _ordinary(numbers: Numbers) -> Flags:
    return np.asarray((numbers >= table.FIRST_ORDINARY) | (numbers == table.ROOT), dtype=np.bool_)


def _holed(rows: Rows, sb: Superblock) -> Flags:
    """Which inodes have fewer blocks than their size would take: at least one is a hole.

    Blocks of attributes and of extent trees count too, so that a few of the smallest holes are
    overlooked; their zeroes are then copied like any data.
    """
    size = column(rows, 0x04, 4) + column(rows, 0x6C, 4) * 2.0**32
    taken = table.sectors(rows, sb) * 512
    inline = (table.flags(rows) & table.INLINE_DATA) != 0
    return np.asarray((size - taken >= sb.block_size) & ~inline, dtype=np.bool_)


def tables(read: Read, sb: Superblock, groups: Groups) -> Iterator[tuple[int, Rows]]:
    """Every initialised part of the inode tables: its first inode's number, and its rows."""
    per_chunk = max(1, _CHUNK // sb.inode_size)
    places = zip(groups.inode_table.tolist(), groups.initialised.tolist(), strict=True)
    for group, (block, count) in enumerate(places):
        for done in range(0, count, per_chunk):
            wanted = min(per_chunk, count - done)
            at = block * sb.block_size + done * sb.inode_size
            data = np.frombuffer(read(at, wanted * sb.inode_size), np.uint8)
            rows = data[: len(data) // sb.inode_size * sb.inode_size]
            yield (
                group * sb.inodes_per_group + done + 1,
                rows.reshape(-1, sb.inode_size),
            )

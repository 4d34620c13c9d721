# SPDX-License-Identifier: GPL-2.0-only
"""Block maps of ext inodes, level by level, many at once.  Pure: arrays in, arrays out.

A map is a tree: its root stands in the inode's row, its nodes in blocks.  `Level` holds what
one level of all trees leads to: runs of data, and the nodes of the next level.
Format: kernel documentation, filesystems/ext4/ifork.rst and inodes.rst ("i_block").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bsync.filesystems.ext import rows as table
from bsync.model.arrays import Flags, Numbers, Rows

_MAGIC, _HEADER, _ENTRY = 0xF30A, 12, 12
_DEEPEST = 5  # levels below the root
_LONGEST = 32768  # blocks of an extent; to an unwritten one so many are added


class BadMap(ValueError):
    """A block map that cannot be right; the text says whose."""


@dataclass(frozen=True)
class Runs:
    """Runs of blocks, each with the inode that it belongs to."""

    owner: Numbers
    start: Numbers
    length: Numbers

    def of(self, chosen: Flags) -> Runs:
        return Runs(self.owner[chosen], self.start[chosen], self.length[chosen])


@dataclass(frozen=True)
class Nodes:
    """Blocks that are nodes of maps; `level` 1 leads to data alone."""

    owner: Numbers
    block: Numbers
    level: Numbers
    extents: Flags  # of an extent tree; otherwise a block of pointers

    def __len__(self) -> int:
        return len(self.block)

    def of(self, chosen: Flags | Numbers | slice) -> Nodes:
        return Nodes(
            self.owner[chosen], self.block[chosen], self.level[chosen], self.extents[chosen]
        )


@dataclass(frozen=True)
class Level:
    """What one level of the trees leads to."""

    data: Runs
    nodes: Nodes


@dataclass
class Bound:
    """How many blocks maps may still lead to.  All of a filesystem's together lead to each of its
    blocks once at most, so that whatever refers to one node again and again is damaged."""

    blocks: int

    def take(self, level: Level) -> Level:
        """`level`, counted.  Raises `BadMap`."""
        self.blocks -= int(level.data.length.sum()) + len(level.nodes)
        if self.blocks < 0:
            raise BadMap("block maps that lead to more blocks than there are")
        return level


def roots(rows: Rows, numbers: Numbers, mapped: Flags) -> Level:
    """What the roots in the rows of the inodes `numbers` lead to, of those that are `mapped`.
    Raises `BadMap`."""
    extents = table.has_extents(rows)
    trees, lists = mapped & extents, mapped & ~extents
    top = table.roots(rows)
    return joined([_from_extents(top[trees], numbers[trees], None),
                   _from_inode_pointers(top[lists], numbers[lists])])  # fmt: skip


def below(nodes: Nodes, contents: Rows) -> Level:
    """What `nodes` lead to; `contents` are their blocks, (n, block size).  Raises `BadMap`."""
    trees, lists = nodes.of(nodes.extents), nodes.of(~nodes.extents)
    return joined([
        _from_extents(contents[nodes.extents], trees.owner, trees.level),
        _from_pointers(contents[~nodes.extents].view("<u4"), lists),
    ])  # fmt: skip


def in_order(nodes: Nodes) -> Nodes:
    """The same in ascending order of their blocks, each of which is a node of one map and once.
    Raises `BadMap` where one is not."""
    ordered = nodes.of(np.argsort(nodes.block, kind="stable"))
    again = ordered.owner[1:][ordered.block[1:] == ordered.block[:-1]]
    if len(again):
        raise BadMap(f"inode {again[0]}: its map has a block that is part of a map already")
    return ordered


def pieces(nodes: Nodes, longest: int) -> Iterator[Nodes]:
    """The same in parts of at most `longest`."""
    for first in range(0, len(nodes), longest):
        yield nodes.of(slice(first, first + longest))


def joined(levels: list[Level]) -> Level:
    """All of them as one."""
    return Level(
        joined_runs([level.data for level in levels]),
        joined_nodes([level.nodes for level in levels]),
    )


def joined_runs(parts: list[Runs]) -> Runs:
    """All of them as one."""
    return Runs(*(_joined([getattr(part, name) for part in parts])
                  for name in ("owner", "start", "length")))  # fmt: skip


def joined_nodes(parts: list[Nodes]) -> Nodes:
    """All of them as one."""
    owner, block, level = (
        _joined([getattr(part, name) for part in parts]) for name in ("owner", "block", "level")
    )
    extents = [part.extents for part in parts]
    return Nodes(owner, block, level, np.concatenate([np.zeros(0, np.bool_), *extents]))


def _joined(arrays: list[Numbers]) -> Numbers:
    return np.concatenate([np.zeros(0, np.int64), *arrays])


# --- extent trees -------------------------------------------------------------------------


def _from_extents(nodes: Rows, owners: Numbers, levels: Numbers | None) -> Level:
    """The entries of nodes of extent trees: the roots if `levels` is None."""
    most = (nodes.shape[1] - _HEADER) // _ENTRY
    words = nodes.view("<u2")
    entries, depth = words[:, 1].astype(np.int64), words[:, 3].astype(np.int64)
    wrong = (words[:, 0] != _MAGIC) | (entries > most) | (depth > _DEEPEST)
    if levels is not None:
        wrong |= depth != levels - 1
    if wrong.any():
        raise BadMap(f"inode {owners[wrong][0]}: its extent tree is damaged")
    body = nodes[:, _HEADER : _HEADER + most * _ENTRY].reshape(-1, most, _ENTRY)
    valid = np.arange(most)[None, :] < entries[:, None]
    row, _ = np.nonzero(valid)
    entry = body[valid].view("<u2").astype(np.int64)  # (m, 6)
    leaf = depth[row] == 0
    owner = owners[row]
    return Level(_extents(entry[leaf], owner[leaf]), _index(entry[~leaf], owner[~leaf],
                                                            depth[row][~leaf]))  # fmt: skip


def _extents(entry: Numbers, owner: Numbers) -> Runs:
    """Leaf entries, unwritten extents among them: so all blocks in use are the same."""
    length = entry[:, 2]
    length = np.where(length > _LONGEST, length - _LONGEST, length)
    start = entry[:, 4] | entry[:, 5] << 16 | entry[:, 3] << 32
    return Runs(owner, start, length)


def _index(entry: Numbers, owner: Numbers, depth: Numbers) -> Nodes:
    block = entry[:, 2] | entry[:, 3] << 16 | entry[:, 4] << 32
    return Nodes(owner, block, depth, np.ones(len(owner), np.bool_))


# --- indirect blocks ----------------------------------------------------------------------


def _from_inode_pointers(tops: Rows, owners: Numbers) -> Level:
    """Twelve blocks of data, then one node each of the levels 1, 2 and 3."""
    pointers = tops.view("<u4").astype(np.int64)
    direct = _pointed(pointers[:, :12], owners)
    nodes = []
    for level in (1, 2, 3):
        found = _pointed(pointers[:, 11 + level : 12 + level], owners)
        nodes.append(_pointers(found, level))
    return Level(direct, joined_nodes(nodes))


def _from_pointers(pointers: NDArray[np.uint32], nodes: Nodes) -> Level:
    levels = []
    for level in (1, 2, 3):
        chosen = nodes.level == level
        found = _pointed(pointers[chosen].astype(np.int64), nodes.owner[chosen])
        empty = found.of(np.zeros(len(found.owner), np.bool_))
        levels.append(
            Level(found, _pointers(empty, 0))
            if level == 1
            else Level(empty, _pointers(found, level - 1))
        )
    return joined(levels)


def _pointed(pointers: Numbers, owners: Numbers) -> Runs:
    row, position = np.nonzero(pointers)
    start = pointers[row, position]
    return Runs(owners[row], start, np.ones(len(start), np.int64))


def _pointers(found: Runs, level: int) -> Nodes:
    count = len(found.owner)
    return Nodes(
        found.owner, found.start, np.full(count, level, np.int64), np.zeros(count, np.bool_)
    )

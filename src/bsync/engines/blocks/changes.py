# SPDX-License-Identifier: GPL-2.0-only
"""What differs between a source and its clone of the same geometry, found by inode tables.

An inode whose row is the same on both sides has the same contents, since every change of
them moves its change time; docs/ARCHITECTURE.md tells where that would not hold, and how it
is closed:

- rows that changed within a moment of the last copy are compared by contents (`_Racy`);
- the nodes of every block map are compared, since extents can be swapped and blocks moved
  without a trace in the row;
- directories, attribute blocks, bitmaps, descriptors and the filesystem's own files are
  compared as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bsync.engines.blocks import directories, owned
from bsync.engines.blocks.pair import AT_ONCE, Half, Pair
from bsync.filesystems.ext import blockwise, maps
from bsync.filesystems.ext import groups as layout
from bsync.filesystems.ext import rows as table
from bsync.filesystems.ext.groups import Bitmaps
from bsync.filesystems.ext.maps import Bound, Level, Nodes, Runs
from bsync.filesystems.ext.superblock import Superblock
from bsync.model import ranges
from bsync.model.arrays import Flags, Numbers, Rows
from bsync.model.ranges import Ranges

_MOMENT = 100  # milliseconds: more than a tick of any kernel's clock
_TABLES = 4 << 20  # bytes of inode tables that are compared at once
_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Changes:
    """What a synchronisation has to do."""

    differing: Ranges  # to be written
    doubtful: Ranges  # to be compared, and written where they differ; none of `differing`
    files: int
    deleted: int
    only_growth: bool  # nothing differs but what growing the clone did

    def __bool__(self) -> bool:
        return bool(len(self.differing) or len(self.doubtful))


def comparable(source: Half, clone: Half) -> bool:
    """Whether the groups that both have are alike, and lie at the same places."""
    if not blockwise.same_geometry(source.superblock, clone.superblock):
        return False
    shared = min(len(source.groups), len(clone.groups))
    return all(
        np.array_equal(here[:shared], there[:shared])
        for here, there in zip(_places(source), _places(clone), strict=True)
    )


def _places(half: Half) -> tuple[Numbers, Numbers, Numbers]:
    return half.groups.blocks.place, half.groups.inodes.place, half.groups.inode_table


def find(pair: Pair, clone: Half) -> Changes:
    """All that differs, read from both sides; nothing is written.  Raises `CopyFailed`."""
    search = _Search(pair, clone)
    with owned.followed(pair.source):
        search.compare_tables()
        search.compare_maps()
        return search.result()


def grown_blocks(pair: Pair, clone: Half) -> Numbers:
    """The blocks that may differ on a clone because it was grown: descriptors, bitmaps, and
    what belongs to the inode that keeps room for more descriptors.  Raises `CopyFailed`."""
    if not comparable(pair.source, clone):
        return _NONE
    with owned.followed(pair.source):
        return np.append(_Search(pair, clone).fixed(), _resize_row(pair))


def _resize_row(pair: Pair) -> Numbers:
    """The block with the row of the inode that keeps room for more descriptors, if no other row
    in it differs."""
    sb = pair.source.superblock
    block, at = divmod((table.RESIZE - 1) * sb.inode_size, sb.block_size)
    blocks = pair.source.groups.inode_table[:1] + block
    [(here, there)] = pair.rows_of([blocks])
    differ = table.differing(here.reshape(-1, sb.inode_size), there.reshape(-1, sb.inode_size))
    differ[at // sb.inode_size] = False
    return _NONE if differ.any() else blocks


@dataclass
class _Racy:
    """Inodes that changed so late that the clone may have their rows, but older contents."""

    written: int  # seconds: when the clone's superblock was, which came from the source
    latest: int = 0  # milliseconds
    _numbers: list[Numbers] = field(default_factory=list)
    _times: list[Numbers] = field(default_factory=list)

    def look(self, clone: Rows) -> None:
        """Rows that came from the source, being the same there, tell how late that had got."""
        self.latest = max(self.latest, int(table.changed_at(clone).max(initial=0)))

    def offer(self, numbers: Numbers, rows: Rows, chosen: Flags) -> None:
        times = table.changed_at(rows)
        late = chosen & (times >= self._threshold)
        self._numbers.append(numbers[late])
        self._times.append(times[late])

    @property
    def _threshold(self) -> int:
        return min((self.written + 1) * 1000, self.latest) - _MOMENT

    def numbers(self) -> Numbers:
        times = np.concatenate([_NONE, *self._times])
        return np.concatenate([_NONE, *self._numbers])[times >= self._threshold]


class _Search:
    def __init__(self, pair: Pair, clone: Half) -> None:
        self._pair, self._clone = pair, clone
        self._sb, self._groups = pair.source.superblock, pair.source.groups
        self._racy = _Racy(clone.superblock.written)
        self._bound = Bound(self._sb.blocks)
        self._grown = clone.superblock.blocks > self._sb.blocks
        self._deleted = 0
        self._rows_differ = False
        self._tables: list[Numbers] = []  # blocks of inode tables that differ
        self._changed: list[Numbers] = []  # inodes
        self._watched: list[Numbers] = []  # inodes whose contents are always compared
        self._watched_data: list[Runs] = []
        self._directories: list[Numbers] = []  # inodes
        self._nodes: list[Nodes] = []
        self._attributes: list[Numbers] = []

    # --- inode tables ---------------------------------------------------------------------

    def compare_tables(self) -> None:
        pieces = self._pieces()
        places = self._groups.inode_table
        batches = [places[group] + first + np.arange(count) for group, first, count in pieces]
        for piece, blocks, both in zip(pieces, batches, self._pair.rows_of(batches), strict=True):
            here, there = (contents.reshape(-1, self._sb.inode_size) for contents in both)
            self._compare_piece(piece[0], piece[1], blocks, here, there)

    def _pieces(self) -> list[tuple[int, int, int]]:
        """Parts of the inode tables: group, first block of its table, blocks."""
        here = self._groups.initialised
        there = self._clone.groups.initialised
        wanted = here.copy()
        shared = min(len(here), len(there))
        wanted[:shared] = np.maximum(here[:shared], there[:shared])
        zeroed = self._groups.zeroed[:shared] & ~self._clone.groups.zeroed[:shared]
        wanted[:shared][zeroed] = self._sb.inodes_per_group  # the kernel has done so since
        blocks = -(-wanted * self._sb.inode_size // self._sb.block_size)
        longest = _TABLES // self._sb.block_size
        return [
            (group, first, min(longest, count - first))
            for group, count in enumerate(blocks.tolist())
            for first in range(0, count, longest)
        ]

    def _compare_piece(
        self, group: int, first: int, blocks: Numbers, here: Rows, there: Rows
    ) -> None:
        """What differs from the block `first` of a group's table on."""
        sb = self._sb
        skipped = first * sb.block_size // sb.inode_size
        last = min(len(here), sb.inodes_per_group - skipped)
        here, there = here[:last], there[:last]
        numbers = group * sb.inodes_per_group + skipped + 1 + np.arange(last)
        known = self._known(group, skipped, last)
        differ = table.differing(here, there)
        per_block = sb.block_size // sb.inode_size
        self._tables.append(blocks[np.unique(np.flatnonzero(differ) // per_block)])
        self._racy.look(there[known & ~differ & table.in_use(there, numbers)])
        self._sort_out(numbers, here, there, known, differ)

    def _known(self, group: int, skipped: int, count: int) -> Flags:
        """Which rows of the clone mean anything: those in what it has initialised."""
        groups = self._clone.groups
        limit = int(groups.initialised[group]) - skipped if group < len(groups) else 0
        return np.arange(count) < limit

    def _sort_out(
        self, numbers: Numbers, here: Rows, there: Rows, known: Flags, differ: Flags
    ) -> None:
        """Changed inodes, and those whose maps or contents have to be looked at."""
        used = table.in_use(here, numbers)
        was = table.in_use(there, numbers) & known
        resize = numbers == table.RESIZE  # growing changes it
        self._rows_differ |= bool((differ & (used | was) & ~resize).any())
        self._deleted += int((was & ~used).sum())
        changed = (differ | ~known) & used & ~resize
        self._directories.append(numbers[used & table.is_directory(here)])
        both = np.flatnonzero(changed & known)
        same = ~table.differing(table.relevant(here[both]), table.relevant(there[both]))
        changed[both[same]] = False
        self._changed.append(numbers[changed])
        attributes = table.attribute_blocks(here)
        self._attributes.append(attributes[used & (attributes != 0)])
        self._look_at(numbers, here, used & ~changed & ~resize & table.has_map(here, self._sb))

    def _look_at(self, numbers: Numbers, rows: Rows, same: Flags) -> None:
        """The maps of inodes whose rows are the `same`."""
        journal = numbers == table.JOURNAL
        watched = table.is_directory(rows) | self._own(numbers)
        self._racy.offer(numbers, rows, same & ~watched & ~journal)
        watched |= journal
        self._watched.append(numbers[same & watched])
        needed = same & (watched | table.has_nodes(rows))
        self._take(maps.roots(rows, numbers, needed), self._watched[-1])

    def _own(self, numbers: Numbers) -> Flags:
        """The filesystem's own files, which change without a new time: quota, orphans, …"""
        others = [*self._sb.quota_inodes, self._sb.orphan_inode]
        own = (numbers < table.FIRST_ORDINARY) | np.isin(numbers, others)
        return np.asarray(own & (numbers != table.JOURNAL))

    def _take(self, level: Level, watched: Numbers) -> None:
        self._bound.take(level)
        self._nodes.append(level.nodes)
        self._watched_data.append(level.data.of(np.isin(level.data.owner, watched)))

    # --- block maps -----------------------------------------------------------------------

    def compare_maps(self) -> None:
        """Follow the maps of unchanged inodes down; where a node differs, the inode changed."""
        watched = np.concatenate([_NONE, *self._watched])
        changed = _NONE
        while len(nodes := maps.joined_nodes(self._nodes)):
            self._nodes = []
            nodes = maps.in_order(nodes.of(~np.isin(nodes.owner, changed)))
            owned.checked_blocks(self._pair.source, nodes.block)
            parts = list(maps.pieces(nodes, AT_ONCE // self._sb.block_size))
            contents = self._pair.rows_of(part.block for part in parts)
            for some, (here, there) in zip(parts, contents, strict=True):
                differ = table.differing(here, there)
                changed = np.union1d(changed, some.owner[differ])
                self._take(maps.below(some.of(~differ), here[~differ]), watched)
        self._changed.append(changed)

    # --- the whole ------------------------------------------------------------------------

    def result(self) -> Changes:
        changed = np.unique(np.concatenate([_NONE, *self._changed]))
        watched = self._watched_runs(changed)
        of_journal = watched.owner == table.JOURNAL
        journal = self._used_journal(watched.of(of_journal))
        own = self._own_contents(watched.of(~of_journal))
        self._check_directories(watched, own, changed)
        moved = self._readable(owned.blocks_of(self._pair.source, changed))
        late = owned.blocks_of(self._pair.source, np.setdiff1d(self._racy.numbers(), changed))
        stale = self._pair.differing_in(late.pairs())
        tables = np.concatenate([_NONE, *self._tables])
        fixed = self._pair.differing(self.fixed())
        logical = bool(
            len(own) or len(moved) or len(stale) or len(journal)
            or self._rows_differ or self._deleted
        )  # fmt: skip
        doubtful = owned.union([moved, journal])
        single = np.concatenate([stale, tables, fixed, own])
        differing = ranges.of_blocks(single[~ranges.holding(doubtful, single)])
        files = int((changed >= table.FIRST_ORDINARY).sum()) + int(table.ROOT in changed)
        only_growth = self._grown and not logical
        return Changes(differing, doubtful, files, self._deleted, only_growth)

    def _check_directories(self, watched: Runs, differing: Numbers, changed: Numbers) -> None:
        """Those that changed are not damaged; the others are the clone's, too."""
        every = np.concatenate([_NONE, *self._directories])
        blocks = owned.blocks_in(watched.of(np.isin(watched.owner, every)))
        directories.check_blocks(self._pair.source, np.intersect1d(blocks, differing))
        directories.check_inodes(self._pair.source, np.intersect1d(every, changed))

    def _readable(self, blocks: Ranges) -> Ranges:
        """The same without the bad ones, which belong to an inode like others."""
        return ranges.without(blocks, owned.bad_blocks(self._pair.source))

    def _watched_runs(self, changed: Numbers) -> Runs:
        """The data of unchanged inodes whose contents are always compared."""
        runs = maps.joined_runs(self._watched_data)
        runs = runs.of(~np.isin(runs.owner, changed) & (runs.owner != table.BAD_BLOCKS))
        return owned.checked(self._pair.source, runs)

    def _own_contents(self, runs: Runs) -> Numbers:
        """Blocks of directories, attributes and the filesystem's own files that differ, but for
        the journal's."""
        contents = ranges.of_runs(runs.start, runs.length)
        attributes = np.unique(np.concatenate([_NONE, *self._attributes]))
        owned.checked_blocks(self._pair.source, attributes)
        blocks = np.union1d(contents.numbers(), attributes)
        return self._pair.differing(blocks)

    def _used_journal(self, runs: Runs) -> Ranges:
        """The journal, unless nobody used it since: its own superblock counts what went through
        it, but both sides may have come as far, each by itself."""
        used = not blockwise.mounted_alike(self._pair.source.raw, self._clone.raw)
        if used or len(self._pair.differing(runs.start[:1])):
            return ranges.of_runs(runs.start, runs.length)
        return ranges.of_blocks(_NONE)

    def _bitmaps(self, here: Bitmaps, there: Bitmaps) -> list[tuple[int, int]]:
        """The bitmaps that either side has on its disk."""
        either = ~here.uninit
        shared = there.uninit[: len(either)]
        either[: len(shared)] |= ~shared
        return [(place, 1) for place in here.place[either].tolist()]

    def fixed(self) -> Numbers:
        """Blocks of superblock copies, descriptors and bitmaps, but for the first superblock."""
        sb, groups = self._sb, self._groups
        pairs = list(layout.copies(sb))
        pairs += self._bitmaps(groups.blocks, self._clone.groups.blocks)
        pairs += self._bitmaps(groups.inodes, self._clone.groups.inodes)
        pairs += [(sb.mmp_block, 1)] if sb.mmp_block else []
        blocks = ranges.of_pairs(pairs).numbers()
        resize = owned.blocks_of(self._pair.source, np.array([table.RESIZE]))
        return without_superblock(np.union1d(blocks, resize.numbers()), sb)


def without_superblock(blocks: Numbers, sb: Superblock) -> Numbers:
    """`blocks` without that of the first superblock, which is written last."""
    return blocks[blocks > sb.first_data_block]

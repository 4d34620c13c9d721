# SPDX-License-Identifier: GPL-2.0-only
"""Sets of blocks as sorted runs.  Pure: numpy arrays in, numpy arrays out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bsync.model.arrays import Flags, Numbers

_END = 1 << 62  # beyond the last block of anything


@dataclass(frozen=True)
class Ranges:
    """Disjoint runs of blocks in ascending order."""

    start: Numbers
    length: Numbers

    def __len__(self) -> int:
        return len(self.start)

    @property
    def blocks(self) -> int:
        return int(self.length.sum())

    def numbers(self) -> Numbers:
        """Every block of every run."""
        return expanded(self.start, self.length)

    def pairs(self) -> list[tuple[int, int]]:
        return list(zip(self.start.tolist(), self.length.tolist(), strict=True))


def expanded(start: Numbers, length: Numbers) -> Numbers:
    """The numbers start, start + 1, … of each run, one run after the other."""
    total = int(length.sum())
    first = np.repeat(start - np.concatenate([[0], np.cumsum(length)[:-1]]), length)
    return np.asarray(first + np.arange(total, dtype=np.int64))


def of_runs(start: Numbers, length: Numbers) -> Ranges:
    """The union of runs in any order."""
    if not len(start):
        return Ranges(start, length)
    order = np.argsort(start, kind="stable")
    start, end = start[order], start[order] + length[order]
    reach = np.maximum.accumulate(end)
    first = np.concatenate([[True], start[1:] > reach[:-1]])
    last = np.concatenate([first[1:], [True]])
    return Ranges(start[first], reach[last] - start[first])


def of_blocks(blocks: Numbers) -> Ranges:
    """The union of single blocks in any order."""
    return of_runs(blocks, np.ones(len(blocks), np.int64))


def of_pairs(pairs: list[tuple[int, int]]) -> Ranges:
    """The union of (start, length) pairs in any order."""
    both = np.array(pairs, np.int64).reshape(-1, 2)
    return of_runs(both[:, 0], both[:, 1])


def of_bits(used: Flags, first: int) -> Ranges:
    """The runs of true values, the first of which stands for block `first`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], used, [False]]).astype(np.int8)))
    return Ranges(edges[0::2] + first, edges[1::2] - edges[0::2])


def within(ranges: Ranges, begin: int, end: int) -> Ranges:
    """The same blocks, but for those before `begin` and from `end` on."""
    first = int(np.searchsorted(ranges.start + ranges.length, begin, "right"))
    last = int(np.searchsorted(ranges.start, end, "left")) if begin < end else first
    start, stop = ranges.start[first:last], (ranges.start + ranges.length)[first:last]
    start, stop = np.maximum(start, begin), np.minimum(stop, end)
    return Ranges(start, stop - start)


def without(ranges: Ranges, others: Ranges) -> Ranges:
    """The same blocks, but for those of a few `others`."""
    ends = others.start + others.length
    gaps = zip([0, *ends.tolist()], [*others.start.tolist(), _END], strict=True)
    parts = [within(ranges, begin, end) for begin, end in gaps]
    return Ranges(
        np.concatenate([part.start for part in parts]),
        np.concatenate([part.length for part in parts]),
    )


def holding(ranges: Ranges, start: Numbers, length: Numbers | int = 1) -> Flags:
    """Which of these single blocks, or runs, are wholly in one of the runs."""
    before = np.searchsorted(ranges.start, start, "right") - 1
    end = np.append(ranges.start + ranges.length, 0)  # the last: of what is before all runs
    return np.asarray(start + length <= end[before])


def bridged(ranges: Ranges, gap: int) -> Ranges:
    """The same runs, and gaps of up to `gap` blocks between them."""
    if not len(ranges):
        return ranges
    end = ranges.start + ranges.length
    first = np.concatenate([[True], ranges.start[1:] - end[:-1] > gap])
    last = np.concatenate([first[1:], [True]])
    return Ranges(ranges.start[first], end[last] - ranges.start[first])


def cut(ranges: Ranges, longest: int) -> Ranges:
    """The same blocks in runs of at most `longest`."""
    pieces = -(-ranges.length // longest)
    number = expanded(np.zeros(len(ranges), np.int64), pieces)
    start = np.repeat(ranges.start, pieces) + number * longest
    end = np.repeat(ranges.start + ranges.length, pieces)
    return Ranges(start, np.minimum(end - start, longest))

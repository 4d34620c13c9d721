# SPDX-License-Identifier: GPL-2.0-only
"""Sets of blocks as runs, beside the same as Python's sets."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from bsync.model import ranges
from bsync.model.ranges import Ranges

BLOCK = st.integers(0, 60)
RUNS = st.lists(st.tuples(BLOCK, st.integers(1, 9)), max_size=12)


def members(found: Ranges) -> set[int]:
    return set(found.numbers().tolist())


def blocks_of(runs: list[tuple[int, int]]) -> set[int]:
    return {block for start, length in runs for block in range(start, start + length)}


@given(RUNS)
def test_a_union_has_the_same_blocks_in_runs_that_do_not_touch(runs: list[tuple[int, int]]) -> None:
    found = ranges.of_pairs(runs)
    assert members(found) == blocks_of(runs)
    assert found.blocks == len(blocks_of(runs))
    ends = (found.start + found.length)[:-1]
    assert (found.start[1:] > ends).all()


@given(RUNS, BLOCK, BLOCK)
@example([(0, 2)], 1, 1)
def test_a_part_has_what_lies_in_it(runs: list[tuple[int, int]], begin: int, end: int) -> None:
    part = ranges.within(ranges.of_pairs(runs), begin, end)
    assert members(part) == {block for block in blocks_of(runs) if begin <= block < end}
    assert (part.length > 0).all()


@given(RUNS, st.integers(0, 9))
def test_gaps_are_bridged_up_to_their_limit(runs: list[tuple[int, int]], gap: int) -> None:
    found = ranges.bridged(ranges.of_pairs(runs), gap)
    assert members(found) >= blocks_of(runs)
    assert (found.start[1:] - (found.start + found.length)[:-1] > gap).all()
    assert set(found.start.tolist()) <= blocks_of(runs)


@given(RUNS, st.integers(1, 4))
def test_cutting_takes_nothing_away(runs: list[tuple[int, int]], longest: int) -> None:
    found = ranges.cut(ranges.of_pairs(runs), longest)
    assert members(found) == blocks_of(runs)
    assert found.blocks == len(blocks_of(runs))
    assert (found.length <= longest).all()


@given(RUNS, st.lists(BLOCK, max_size=20))
def test_which_blocks_are_held(runs: list[tuple[int, int]], blocks: list[int]) -> None:
    held = ranges.holding(ranges.of_pairs(runs), np.array(blocks, np.int64))
    assert held.tolist() == [block in blocks_of(runs) for block in blocks]


@given(st.lists(st.booleans(), max_size=40), BLOCK)
def test_bits_become_runs(bits: list[bool], first: int) -> None:
    found = ranges.of_bits(np.array(bits, np.bool_), first)
    assert members(found) == {first + at for at, bit in enumerate(bits) if bit}

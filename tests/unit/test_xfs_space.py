# SPDX-License-Identifier: GPL-2.0-only
"""The blocks that an XFS has in use: told exactly, or not at all."""

from __future__ import annotations

import pytest
import xfs_image
from hypothesis import given, settings
from hypothesis import strategies as st
from xfs_image import BLOCK, BLOCKS, GROUP, SECTOR, Image, images

from bsync.filesystems.kind import BadSuperblock
from bsync.filesystems.xfs import space
from bsync.filesystems.xfs.superblock import parse
from bsync.model.allocation import Allocation, Run, Unknown, all_but

FREE: tuple[list[Run], ...] = ([(300, 10), (400, 1)], [(250, 7)])


def allocation_of(image: Image) -> Allocation:
    return space.allocation(image.read, parse(image.read(0, 512)))


def in_use(found: Allocation) -> set[int]:
    return set(found.ranges.numbers().tolist())


def expected(image: Image) -> set[int]:
    free = {
        group * GROUP + block
        for group, runs in enumerate(image.free)
        for first, count in runs
        for block in range(first, first + count)
    }
    return set(range(BLOCKS)) - free


@given(images())
def test_all_but_the_free_extents_is_in_use(image: Image) -> None:
    found = allocation_of(image)
    assert in_use(found) == expected(image)
    assert found.used == len(expected(image)) * BLOCK
    assert found.size == BLOCKS * BLOCK


@settings(max_examples=500)
@given(images(), st.data())
def test_one_damaged_byte_never_loses_a_block(image: Image, data: st.DataObject) -> None:
    at, size = data.draw(st.sampled_from(image.written))
    at += data.draw(st.integers(0, size - 1))
    image.data[at] ^= data.draw(st.integers(1, 255))
    try:
        found = allocation_of(image)
    except (Unknown, BadSuperblock):
        return
    assert in_use(found) >= expected(image)


@pytest.mark.parametrize(
    ("at", "layout", "value", "why"),
    [
        (0, ">I", 0, "damaged superblock"),
        (4, ">I", 3000, "damaged superblock"),
        (16, ">Q", 1, "realtime"),
        (48, ">Q", 0, "log is on another device"),
        (48, ">Q", 9 << 12, "damaged superblock"),
        (84, ">I", 1, "damaged superblock"),
        (96, ">I", 4000, "damaged superblock"),
        (100, ">H", 0xB4A4, "XFS v4"),
        (126, ">B", 1, "did not finish"),
        (144, ">Q", 1, "free space is damaged"),
        (144, ">Q", 1 << 40, "damaged superblock"),
        (212, ">I", 0x10, "does not know"),
        (216, ">I", 0x1F, "needs repair"),
        (216, ">I", 0x100F, "does not know"),
        (220, ">I", 1, "does not know"),
        (SECTOR, ">I", 0, "free space is damaged"),
        (SECTOR + 8, ">I", 1, "free space is damaged"),
        (SECTOR + 12, ">I", 77, "free space is damaged"),
        (SECTOR + 16, ">I", GROUP, "free space is damaged"),
        (SECTOR + 28, ">I", 99, "free space is damaged"),
        (2 * BLOCK + 6, ">H", 9999, "free space is damaged"),
        (2 * BLOCK + 48, ">I", 1, "free space is damaged"),
        (2 * BLOCK + 56, ">I", 299, "free space is damaged"),
    ],
)
def test_what_is_not_understood_is_said(at: int, layout: str, value: int, why: str) -> None:
    image = Image(FREE)
    image.change(at, layout, value)
    with pytest.raises((Unknown, BadSuperblock), match=why):
        allocation_of(image)


@pytest.mark.parametrize(
    ("at", "layout", "value"),
    [
        (0, ">I", 3),  # no header there: the last record is another
        (12, ">I", 2 * SECTOR),  # it ends beyond the head
        (16, ">Q", 3 << 32),  # written elsewhere
        (40, ">I", 2),  # several operations
        (304, ">I", 0),  # another filesystem's
        (SECTOR + 9, ">B", 1),  # an operation, but no unmount
        (2 * SECTOR, ">I", 3),  # something was written after it
        (3 * SECTOR, ">I", 3),  # something that was on its way arrived
        (-SECTOR, ">I", 1),  # something before it never did
    ],
)
def test_a_log_that_may_hold_something_is_never_called_empty(
    at: int, layout: str, value: int
) -> None:
    image = Image(FREE)
    image.change(image.record + at, layout, value)
    with pytest.raises(Unknown, match="not cleanly unmounted"):
        allocation_of(image)


def test_a_record_with_more_headers() -> None:
    image = Image(FREE, head=20)
    image.change(image.record + 320, ">I", 65536)
    with pytest.raises(Unknown):
        allocation_of(image)


def test_trees_that_agree_on_overlapping_extents() -> None:
    with pytest.raises(Unknown):
        allocation_of(Image(([(300, 10), (305, 10)], [])))


def test_extents_beyond_the_group() -> None:
    with pytest.raises(Unknown):
        allocation_of(Image(([(GROUP - 1, 2)], [])))


def test_free_space_in_more_pieces_than_memory_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "_MOST", 3)
    assert allocation_of(Image(FREE)).used
    with pytest.raises(Unknown, match="too many pieces"):
        allocation_of(Image((FREE[0], [(250, 7), (300, 7)])))


def test_a_filesystem_cut_short() -> None:
    image = Image(FREE)
    sb = parse(image.read(0, 512))
    with pytest.raises(Unknown):
        space.allocation(lambda at, size: image.read(at, size)[: max(0, 10 * BLOCK - at)], sb)


def test_the_first_block_is_never_free() -> None:
    with pytest.raises(Unknown):
        all_but([(0, 1)], BLOCK, 10)
    assert all_but([(1, 9)], BLOCK, 10).ranges.pairs() == [(0, 1)]
    assert all_but([], BLOCK, 10).ranges.pairs() == [(0, 10)]


def test_an_empty_group_is_in_use() -> None:
    assert len(in_use(allocation_of(Image(([], []))))) == BLOCKS
    assert xfs_image.LOG_AT + GROUP in in_use(allocation_of(Image(FREE)))

# SPDX-License-Identifier: GPL-2.0-only
"""The blocks that an XFS has in use: told exactly, or not at all."""

from __future__ import annotations

from typing import Any

import pytest
import xfs_image
from hypothesis import given, settings
from hypothesis import strategies as st
from xfs_image import BLOCK, BLOCKS, GROUP, SECTOR, Image, images

from bsync.acquire.block import Device
from bsync.acquire.ground import Ground
from bsync.errors import Unavailable
from bsync.filesystems.xfs import space
from bsync.layout import Extent, Foreign
from bsync.survey import filesystem
from bsync.usage import Run, Unknown, all_but

FREE: tuple[list[Run], ...] = ([(300, 10), (400, 1)], [(250, 7)])


def usage_of(image: Image) -> Any:
    return space.usage(image.read, BLOCKS * BLOCK)


def in_use(runs: tuple[Run, ...]) -> set[int]:
    return {block for first, count in runs for block in range(first, first + count)}


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
    usage = usage_of(image)
    assert in_use(usage.runs) == expected(image)
    assert usage.used == len(expected(image)) * BLOCK
    assert usage.size == BLOCKS * BLOCK


@settings(max_examples=500)
@given(images(), st.data())
def test_one_damaged_byte_never_loses_a_block(image: Image, data: st.DataObject) -> None:
    at, size = data.draw(st.sampled_from(image.written))
    at += data.draw(st.integers(0, size - 1))
    image.data[at] ^= data.draw(st.integers(1, 255))
    try:
        found = usage_of(image)
    except Unknown:
        return
    assert in_use(found.runs) >= expected(image)


@pytest.mark.parametrize(
    ("at", "layout", "value", "why"),
    [
        (0, ">I", 0, "superblock is damaged"),
        (4, ">I", 3000, "superblock is damaged"),
        (16, ">Q", 1, "realtime"),
        (48, ">Q", 0, "log is on another device"),
        (48, ">Q", 9 << 12, "superblock is damaged"),
        (84, ">I", 1, "superblock is damaged"),
        (96, ">I", 4000, "superblock is damaged"),
        (100, ">H", 0xB4A4, "XFS v4"),
        (126, ">B", 1, "did not finish"),
        (144, ">Q", 1, "free space is damaged"),
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
    with pytest.raises(Unknown, match=why):
        usage_of(image)


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
        usage_of(image)


def test_a_record_with_more_headers() -> None:
    image = Image(FREE, head=20)
    image.change(image.record + 320, ">I", 65536)
    with pytest.raises(Unknown):
        usage_of(image)


def test_trees_that_agree_on_overlapping_extents() -> None:
    with pytest.raises(Unknown):
        usage_of(Image(([(300, 10), (305, 10)], [])))


def test_extents_beyond_the_group() -> None:
    with pytest.raises(Unknown):
        usage_of(Image(([(GROUP - 1, 2)], [])))


def test_free_space_in_more_pieces_than_memory_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "_MOST", 3)
    assert usage_of(Image(FREE)).used
    with pytest.raises(Unknown, match="too many pieces"):
        usage_of(Image((FREE[0], [(250, 7), (300, 7)])))


def test_a_filesystem_cut_short() -> None:
    image = Image(FREE)
    with pytest.raises(Unknown, match="cut short"):
        space.usage(image.read, BLOCKS * BLOCK - 1)
    with pytest.raises(Unknown):
        space.usage(lambda at, size: image.read(at, size)[: 10 * BLOCK - at], BLOCKS * BLOCK)


class Failing(Device):
    """A device with a bad sector."""

    def read(self, offset: int, size: int) -> bytes:
        raise Unavailable(f"{size} bytes at {offset} cannot be read")


def test_free_space_that_cannot_be_read_is_no_error() -> None:
    """It may be the only bad sector there is; reading all of the others will tell."""
    whole = Extent(0, BLOCKS * BLOCK)
    device = Failing("a.img", "a.img", -1, whole.size, 512, "image file", Ground("a", whole))
    found = filesystem.with_usage(device, whole, Foreign("xfs", "1"))
    assert found.usage is None
    assert "cannot be read" in found.unmapped
    other = Foreign("ntfs", "1")
    assert filesystem.with_usage(device, whole, other) is other


def test_the_first_block_is_never_free() -> None:
    with pytest.raises(Unknown):
        all_but([(0, 1)], BLOCK, 10)
    assert all_but([(1, 9)], BLOCK, 10).runs == ((0, 1),)
    assert all_but([], BLOCK, 10).runs == ((0, 10),)


def test_an_empty_group_is_in_use() -> None:
    assert len(in_use(usage_of(Image(([], []))).runs)) == BLOCKS
    assert xfs_image.LOG_AT + GROUP in in_use(usage_of(Image(FREE)).runs)

# SPDX-License-Identifier: GPL-2.0-only
"""Blocks read together: what they hold, and in how much memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bsync.acquire.backing import backing_of
from bsync.acquire.block import Device
from bsync.acquire.span import whole
from bsync.blockio import access
from bsync.blockio.access import Access
from bsync.blockio.memory import Arena, Buffer
from bsync.errors import Damaged

BLOCK, BLOCKS = 1024, 4000


@pytest.fixture
def contents() -> bytes:
    return np.random.default_rng(1).bytes(BLOCK * BLOCKS)


@pytest.fixture
def opened(tmp_path: Path, contents: bytes) -> Iterator[Access]:
    path = tmp_path / "image"
    path.write_bytes(contents)
    descriptor = os.open(path, os.O_RDONLY)
    backing = backing_of(os.fstat(descriptor))
    device = Device("image", str(path), descriptor, len(contents), 512, "image file", backing)
    with access.opened(whole(device), BLOCK, writable=False) as found:
        yield found
    os.close(descriptor)


@pytest.mark.parametrize("distance", [1, 2, 4, 5, 6, 9, 33])
@pytest.mark.parametrize("most", [None, 512])
def test_scattered_blocks(
    opened: Access,
    contents: bytes,
    distance: int,
    most: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However they lie, and however little of them comes at once, they are the right ones, and
    take no more memory than their own."""
    if most is not None:
        monkeypatch.setattr(os, "preadv", _reading_at_most(most))
    blocks = np.setdiff1d(np.arange(0, BLOCKS, distance, dtype=np.int64), [distance * 7])
    arena = Measured()
    found = opened.gather(blocks, arena)
    assert found.shape == (len(blocks), BLOCK)
    for row, block in zip(found, blocks.tolist(), strict=True):
        assert row.tobytes() == contents[block * BLOCK : (block + 1) * BLOCK]
    assert arena.most == len(blocks) * BLOCK


def test_no_blocks(opened: Access) -> None:
    assert opened.gather(np.zeros(0, np.int64)).shape == (0, BLOCK)


@pytest.mark.parametrize("block", [-1, BLOCKS - 1, BLOCKS, 1 << 50])
def test_nothing_leaves_the_extent(
    opened: Access, block: int, contents: bytes, tmp_path: Path
) -> None:
    two = np.zeros(2 * BLOCK, np.uint8)
    with pytest.raises(Damaged):
        opened.read(block, two)
    with pytest.raises(Damaged):
        opened.write(block, two)
    with pytest.raises(Damaged):
        opened.gather(np.array([block, block + 1]))
    assert (tmp_path / "image").read_bytes() == contents


class Measured(Arena):
    """An arena that knows the most that was asked of it."""

    most = 0

    def of(self, size: int) -> Buffer:
        self.most = max(self.most, size)
        return super().of(size)


def _reading_at_most(most: int) -> Callable[[int, list[memoryview], int], int]:
    """`os.preadv` as it may be, too: not all at once."""
    whole = os.preadv

    def preadv(descriptor: int, views: list[memoryview], at: int) -> int:
        return whole(descriptor, [views[0][:most]], at)

    return preadv

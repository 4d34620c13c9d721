"""Both sides of a copy by blocks, open, with what their descriptors say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from bsync.acquire.block import Device
from bsync.engines.blocks import access as accesses
from bsync.engines.blocks.access import Access, Buffer
from bsync.engines.blocks.pump import Run, comparing, run_all, unequal
from bsync.engines.blocks.ranges import Numbers
from bsync.errors import CopyFailed
from bsync.filesystems.ext import superblock
from bsync.filesystems.ext.groups import Groups, read_groups
from bsync.filesystems.ext.superblock import Superblock
from bsync.layout import Extent


@dataclass(frozen=True)
class Half:
    """One filesystem: its superblock as it stands there, and its groups."""

    access: Access
    raw: bytes
    superblock: Superblock
    groups: Groups


@dataclass(frozen=True)
class Pair:
    """The source, and the place on the destination, in blocks of the source's size."""

    source: Half
    destination: Access
    _helper: ThreadPoolExecutor

    def rows_of(self, blocks: Numbers) -> tuple[Buffer, Buffer]:
        """What both sides hold in `blocks`, read at the same time."""
        there = self._helper.submit(self.destination.gather, blocks)
        here = self.source.access.gather(blocks)
        return here, there.result()

    def differing(self, blocks: Numbers) -> Numbers:
        """Those of `blocks` that are not the same on both sides."""
        found = [np.zeros(0, np.int64)]
        for first in range(0, len(blocks), _AT_ONCE):
            some = blocks[first : first + _AT_ONCE]
            here, there = self.rows_of(some)
            size = self.destination.block_size
            found.append(some[unequal(here.reshape(-1), there.reshape(-1), size)])
        return np.concatenate(found)

    def differing_in(self, runs: Iterable[Run]) -> Numbers:
        """Those blocks of long runs that are not the same on both sides."""
        found = [np.zeros(0, np.int64)]
        work = comparing(self.source.access, self.destination, found)
        run_all(runs, work, self.destination.block_size)
        return np.sort(np.concatenate(found))


_AT_ONCE = 2048  # blocks


@contextlib.contextmanager
def opened(
    source: Device, here: Extent, destination: Device, there: Extent, *, writable: bool = True
) -> Iterator[Pair]:
    """Both sides of one filesystem.  Raises `CopyFailed`."""
    raw = source.read(here.start + superblock.OFFSET, superblock.SIZE)
    size = parsed(raw, source).block_size
    with (
        accesses.opened(source, here, size, writable=False) as one,
        accesses.opened(destination, there, size, writable=writable) as other,
        ThreadPoolExecutor(1) as helper,
    ):
        yield Pair(half(one), other, helper)


def half(access: Access) -> Half:
    """The filesystem that stands there.  Raises `CopyFailed`."""
    raw = access.bytes_at(superblock.OFFSET, superblock.SIZE)
    sb = parsed(raw, access.device)
    return Half(access, raw, sb, read_groups(access.bytes_at, sb))


def parsed(raw: bytes, device: Device) -> Superblock:
    """The superblock in `raw`, which was read from `device`.  Raises `CopyFailed`."""
    try:
        return superblock.parse(raw)
    except superblock.BadSuperblock as error:
        raise CopyFailed(f"{device.word}: {error}") from None

# SPDX-License-Identifier: GPL-2.0-only
"""Both sides of a copy by blocks, open, with what their descriptors say."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, takewhile

import numpy as np

from bsync.acquire.block import Device
from bsync.acquire.span import Span
from bsync.blockio import access as accesses
from bsync.blockio.access import Access
from bsync.blockio.memory import Arena, Buffer
from bsync.blockio.pump import Advance, Run, comparing, cut, run_all, unequal
from bsync.errors import CopyFailed, Damaged
from bsync.filesystems.ext import superblock
from bsync.filesystems.ext.groups import Groups, read_groups
from bsync.filesystems.ext.superblock import Superblock
from bsync.model.arrays import Numbers

AT_ONCE = 2 << 20  # bytes of a batch of scattered blocks
_AHEAD = 4  # batches that are read while one is looked at


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
    _readers: tuple[ThreadPoolExecutor, ThreadPoolExecutor]

    def rows_of(self, batches: Iterable[Numbers]) -> Iterator[tuple[Buffer, Buffer]]:
        """What both sides hold in the blocks of each batch, read at the same time, and while
        the batches before it are being looked at.  Each holds until the next one is asked for."""
        coming: deque[tuple[Future[Buffer], Future[Buffer]]] = deque()
        arenas = cycle([(Arena(), Arena()) for _ in range(_AHEAD + 1)])
        for blocks, (here, there) in zip(batches, arenas, strict=False):
            coming.append((
                self._readers[0].submit(self.source.access.gather, blocks, here),
                self._readers[1].submit(self.destination.gather, blocks, there),
            ))  # fmt: skip
            if len(coming) > _AHEAD:
                yield _results(coming.popleft())
        while coming:
            yield _results(coming.popleft())

    def differing(self, blocks: Numbers) -> Numbers:
        """Those of `blocks` that are not the same on both sides."""
        size, found = self.destination.block_size, [np.zeros(0, np.int64)]
        step = AT_ONCE // size
        batches = [blocks[at : at + step] for at in range(0, len(blocks), step)]
        for some, (here, there) in zip(batches, self.rows_of(batches), strict=True):
            found.append(some[unequal(here.reshape(-1), there.reshape(-1), size)])
        return np.concatenate(found)

    def differing_in(self, runs: Iterable[Run]) -> Numbers:
        """Those blocks of long runs that are not the same on both sides."""
        found = [np.zeros(0, np.int64)]
        self._compare(runs, found.append)
        return np.sort(np.concatenate(found))

    def same_in(self, runs: Iterable[Run], spared: Numbers, advance: Advance | None = None) -> bool:
        """Whether both sides hold the same in long runs, but for the blocks `spared`; it ends
        at the first that differs."""
        differs = threading.Event()

        def tell(blocks: Numbers) -> None:
            if len(np.setdiff1d(blocks, spared)):
                differs.set()

        pieces = cut(runs, self.destination.block_size)
        self._compare(takewhile(lambda _: not differs.is_set(), pieces), tell, advance)
        return not differs.is_set()

    def _compare(
        self, runs: Iterable[Run], tell: Callable[[Numbers], None], advance: Advance | None = None
    ) -> None:
        work = comparing(self.source.access, self.destination, tell)
        run_all(runs, work, self.destination.block_size, advance)


def _results(both: tuple[Future[Buffer], Future[Buffer]]) -> tuple[Buffer, Buffer]:
    return both[0].result(), both[1].result()


@contextlib.contextmanager
def opened(source: Span, destination: Span, *, writable: bool = True) -> Iterator[Pair]:
    """Both sides of one filesystem.  Raises `CopyFailed`."""
    raw = source.read(superblock.OFFSET, superblock.SIZE)
    size = parsed(raw, source.device).block_size
    with (
        accesses.opened(source, size, writable=False) as one,
        accesses.opened(destination, size, writable=writable) as other,
        ThreadPoolExecutor(_AHEAD) as here_reader,
        ThreadPoolExecutor(_AHEAD) as there_reader,
    ):
        yield Pair(half(one), other, (here_reader, there_reader))


def half(access: Access) -> Half:
    """The filesystem that stands there.  Raises `CopyFailed`, and `Damaged` where what says where
    its structures are cannot be right."""
    raw = access.bytes_at(superblock.OFFSET, superblock.SIZE)
    sb = parsed(raw, access.device)
    try:
        return Half(access, raw, sb, read_groups(access.bytes_at, sb))
    except superblock.BadSuperblock as error:
        raise Damaged(f"{access.device.word}: {error}", accesses.CHECK) from None


def parsed(raw: bytes, device: Device) -> Superblock:
    """The superblock in `raw`, which was read from `device`.  Raises `CopyFailed`."""
    try:
        return superblock.parse(raw)
    except superblock.BadSuperblock as error:
        raise CopyFailed(f"{device.word}: {error}") from None

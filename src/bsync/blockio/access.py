# SPDX-License-Identifier: GPL-2.0-only
"""One side of a copy by blocks: a part of a device, read and written in whole blocks."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from bsync.acquire.block import Device
from bsync.acquire.span import Span
from bsync.blockio import channel as channels
from bsync.blockio.channel import Channel
from bsync.blockio.memory import Arena, Buffer, buffer
from bsync.errors import CopyFailed, Damaged, limit_hint
from bsync.model import ranges
from bsync.model.arrays import Numbers
from bsync.model.layout import Extent

READERS = 8  # requests under way at once
_NEAR = 4  # blocks of a gap that is read through rather than leapt over
_LONGEST = 1 << 20  # bytes of one request of `gather`
CHECK = "run e2fsck -f on it"


Transfer = Callable[[list[memoryview], int], int]


@dataclass(frozen=True)
class Access:
    """Blocks of a filesystem on a part of a device."""

    device: Device
    extent: Extent
    block_size: int  # bytes
    _channel: Channel
    _gap: Buffer  # what is read only to get to the next block, and never looked at
    _sparse: int | None  # the descriptor of a file whose holes can be asked for
    _pool: ThreadPoolExecutor

    def read(self, block: int, into: Buffer) -> None:
        """Fill `into` with what stands from `block` on.  Raises `CopyFailed`, and `Damaged` where
        that is not within the extent."""
        self._whole(block, [into.data], self._channel.preadv, "read")

    def write(self, block: int, data: Buffer) -> None:
        """Write all of `data` from `block` on.  Raises as `read` does."""
        self._whole(block, [data.data], self._channel.pwritev, "written")

    def _whole(self, block: int, views: list[memoryview], transfer: Transfer, what: str) -> None:
        self._check(block, sum(map(len, views)))
        at = self.extent.start + block * self.block_size
        while views:
            try:
                count = transfer(views, at)
            except OSError as error:
                reason, hint = error.strerror, limit_hint(error)
            else:
                reason, hint = "" if count else "it ends there", ""
            if reason:
                said = f"{self.device.word} cannot be {what} at byte {at}: {reason}"
                raise CopyFailed(said, hint)
            views, at = _rest(views, count), at + count

    def _check(self, block: int, size: int) -> None:
        """No number that stands on a disk leads out of the extent.  Raises `Damaged`."""
        if block < 0 or block * self.block_size + size > self.extent.size:
            what = f"the filesystem is damaged (it has no block {block})"
            raise Damaged(f"{self.device.word}: {what}", CHECK)

    def is_hole(self, block: int, count: int) -> bool:
        """Whether nothing stands there in a file with holes; False where nobody can tell."""
        if self._sparse is None:
            return False
        start = self.extent.start + block * self.block_size
        try:
            return os.lseek(self._sparse, start, os.SEEK_DATA) >= start + count * self.block_size
        except OSError as error:
            return error.errno == errno.ENXIO  # only a hole until its end

    def bytes_at(self, offset: int, size: int) -> bytes:
        """`size` bytes from the byte `offset` on, through whole blocks.  Raises `CopyFailed`."""
        _, data, skip = self._around(offset, size)
        return data[skip : skip + size].tobytes()

    def put(self, offset: int, data: bytes) -> None:
        """Write `data` from the byte `offset` on, through whole blocks.  Raises `CopyFailed`."""
        first, blocks, skip = self._around(offset, len(data))
        blocks[skip : skip + len(data)] = np.frombuffer(data, np.uint8)
        self.write(first, blocks)

    def _around(self, offset: int, size: int) -> tuple[int, Buffer, int]:
        """The blocks that hold some bytes: the first one, their contents, where in these."""
        first, last = offset // self.block_size, -(-(offset + size) // self.block_size)
        data = buffer((last - first) * self.block_size)
        self.read(first, data)
        return first, data, offset - first * self.block_size

    def gather(self, blocks: Numbers, arena: Arena | None = None) -> Buffer:
        """The contents of `blocks`, ascending and each once: (n, block size).  They may stand in
        the `arena`, if one is given, and then hold until it is used again."""
        size = self.block_size
        near = ranges.bridged(ranges.of_blocks(blocks), _NEAR)
        requests = ranges.cut(near, _LONGEST // size)
        begins = np.searchsorted(blocks, requests.start).tolist()
        ends = np.searchsorted(blocks, requests.start + requests.length).tolist()
        memory = (arena or Arena()).of(len(blocks) * size)
        parts = (blocks[begin:end] for begin, end in zip(begins, ends, strict=True))
        rooms = (memory[begin * size : end * size] for begin, end in zip(begins, ends, strict=True))
        for _ in self._pool.map(self._gather_near, parts, rooms):
            pass
        return memory.reshape(-1, size)

    def _gather_near(self, blocks: Numbers, room: Buffer) -> None:
        """Fill `room` with `blocks` by one request, whose gaps go where nobody looks; where that
        fails, it may be for the gaps."""
        try:
            self._whole(int(blocks[0]), self._views(blocks, room), self._channel.preadv, "read")
        except CopyFailed:
            filled = 0
            for start, count in ranges.of_blocks(blocks).pairs():
                following = filled + count * self.block_size
                self.read(start, room[filled:following])
                filled = following

    def _views(self, blocks: Numbers, room: Buffer) -> list[memoryview]:
        """Where what stands from the first of `blocks` to the last of them goes."""
        views: list[memoryview] = []
        end, filled = int(blocks[0]), 0
        for start, count in ranges.of_blocks(blocks).pairs():
            if start > end:
                views.append(self._gap[: (start - end) * self.block_size].data)
            following = filled + count * self.block_size
            views.append(room[filled:following].data)
            end, filled = start + count, following
        return views

    def flush(self) -> None:
        """All that was written is on the disk, and everybody sees it.  Raises `CopyFailed`."""
        try:
            self._channel.flush()
        except OSError as error:
            raise CopyFailed(f"{self.device.word} cannot be flushed: {error.strerror}") from None
        self.device.flush()


def _rest(views: list[memoryview], done: int) -> list[memoryview]:
    """What is left of `views` when `done` bytes of them are."""
    for number, view in enumerate(views):
        if done < len(view):
            return [view[done:], *views[number + 1 :]]
        done -= len(view)
    return []


@contextlib.contextmanager
def opened(span: Span, block_size: int, *, writable: bool) -> Iterator[Access]:
    """Access to the filesystem in `span`."""
    device, extent = span.device, span.extent
    with contextlib.suppress(CopyFailed):  # what cannot be written need not be
        device.flush()
    sparse = device.descriptor if stat.S_ISREG(os.fstat(device.descriptor).st_mode) else None
    gap = buffer(_NEAR * block_size)
    with (
        channels.opened(device, extent.start, block_size, writable=writable) as channel,
        ThreadPoolExecutor(READERS) as pool,
    ):
        yield Access(device, extent, block_size, channel, gap, sparse, pool)

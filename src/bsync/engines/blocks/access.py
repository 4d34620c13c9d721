"""One side of a copy by blocks: a part of a device, read and written directly where that can be.

Direct I/O keeps a whole disk's contents out of the page cache, and is as fast as the disk.
Where the device or the part's place does not admit it, the page cache is used after all.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bsync.acquire.block import Device
from bsync.arrays import Numbers
from bsync.engines.blocks import ranges
from bsync.errors import CopyFailed
from bsync.layout import Extent

Buffer = NDArray[np.uint8]

READERS = 8  # requests under way at once
_NEAR = 4  # blocks of a gap that is read through rather than leapt over
_LONGEST = 1 << 20  # bytes of one request of `gather`


def buffer(size: int) -> Buffer:
    """Memory as direct I/O wants it: aligned, in pages as large as the machine has, so that a
    transfer is cut into few requests.  Children do not get it: their fork would make the pages
    that a transfer is under way to into copies (open(2), O_DIRECT)."""
    memory = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    memory.madvise(mmap.MADV_DONTFORK)
    return np.frombuffer(memory, np.uint8)


Transfer = Callable[[list[memoryview], int], int]


class Channel(Protocol):
    """How blocks are moved, at an offset in bytes.  Raises `OSError`."""

    def preadv(self, views: list[memoryview], at: int) -> int:
        """Read to all of the views; how many bytes have come."""
        ...

    def pwritev(self, views: list[memoryview], at: int) -> int:
        """Write all of the views; how many bytes have gone."""
        ...

    def flush(self) -> None:
        """What a flush of the device does not reach is on the disk."""
        ...


class Arena:
    """Memory to read into again and again: fresh memory costs more than many a comparison."""

    def __init__(self) -> None:
        self._memory = buffer(0)

    def of(self, size: int) -> Buffer:
        """`size` bytes, which held something else before."""
        if len(self._memory) < size:
            self._memory = buffer(size)
        return self._memory[:size]


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
        """Fill `into` with what stands from `block` on.  Raises `CopyFailed`."""
        self._whole(block, [into.data], self._channel.preadv, "read")

    def write(self, block: int, data: Buffer) -> None:
        """Write all of `data` from `block` on.  Raises `CopyFailed`."""
        self._whole(block, [data.data], self._channel.pwritev, "written")

    def _whole(self, block: int, views: list[memoryview], transfer: Transfer, what: str) -> None:
        at = self.extent.start + block * self.block_size
        while views:
            try:
                count = transfer(views, at)
            except OSError as error:
                reason = error.strerror
            else:
                reason = "" if count else "it ends there"
            if reason:
                raise CopyFailed(f"{self.device.word} cannot be {what} at byte {at}: {reason}")
            views, at = _rest(views, count), at + count

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
        """Fill `room` with `blocks` by one request, whose gaps go where nobody looks."""
        views: list[memoryview] = []
        end, filled = int(blocks[0]), 0
        for start, count in ranges.of_blocks(blocks).pairs():
            if start > end:
                views.append(self._gap[: (start - end) * self.block_size].data)
            following = filled + count * self.block_size
            views.append(room[filled:following].data)
            end, filled = start + count, following
        self._whole(int(blocks[0]), views, self._channel.preadv, "read")

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
def opened(device: Device, extent: Extent, block_size: int, *, writable: bool) -> Iterator[Access]:
    """Access to the filesystem in `extent` of `device`."""
    with contextlib.suppress(CopyFailed):  # what cannot be written need not be
        device.flush()
    if device.shortcut:
        channel: contextlib.AbstractContextManager[Channel] = device.shortcut.channel()
    else:
        channel = _opened_file(device, extent, block_size, writable)
    sparse = device.descriptor if stat.S_ISREG(os.fstat(device.descriptor).st_mode) else None
    gap = buffer(_NEAR * block_size)
    with channel as found, ThreadPoolExecutor(READERS) as pool:
        yield Access(device, extent, block_size, found, gap, sparse, pool)


@dataclass(frozen=True)
class _File:
    descriptor: int

    def preadv(self, views: list[memoryview], at: int) -> int:
        return os.preadv(self.descriptor, views, at)

    def pwritev(self, views: list[memoryview], at: int) -> int:
        return os.pwritev(self.descriptor, views, at)

    def flush(self) -> None:
        """That of the device does it all."""


@contextlib.contextmanager
def _opened_file(
    device: Device, extent: Extent, block_size: int, writable: bool
) -> Iterator[_File]:
    descriptor = _direct(device, extent, block_size, writable)
    try:
        yield _File(device.descriptor if descriptor is None else descriptor)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _direct(device: Device, extent: Extent, block_size: int, writable: bool) -> int | None:
    """A descriptor for direct I/O, if a block can be read by it."""
    mode = os.O_RDWR if writable else os.O_RDONLY
    try:
        name = f"/proc/self/fd/{device.descriptor}"
        descriptor = os.open(name, mode | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        os.preadv(descriptor, [buffer(block_size).data], extent.start)
    except OSError as error:
        os.close(descriptor)
        if error.errno == errno.EINVAL:
            return None
        raise CopyFailed(f"{device.word} cannot be read: {error.strerror}") from None
    return descriptor

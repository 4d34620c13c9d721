# SPDX-License-Identifier: GPL-2.0-only
"""How blocks are moved: directly where that can be, and past what stands in the way.

Direct I/O keeps a whole disk's contents out of the page cache, and is as fast as the disk.
Where the device or the place on it does not admit it, the page cache is used after all.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from bsync.acquire.block import Device
from bsync.blockio.memory import buffer
from bsync.errors import CopyFailed


class Channel(Protocol):
    """Reading and writing at an offset in bytes of a device.  Raises `OSError`."""

    def preadv(self, views: list[memoryview], at: int) -> int:
        """Read to all of the views; how many bytes have come."""
        ...

    def pwritev(self, views: list[memoryview], at: int) -> int:
        """Write all of the views; how many bytes have gone."""
        ...

    def flush(self) -> None:
        """What a flush of the device does not reach is on the disk."""
        ...


def opened(
    device: Device, start: int, block_size: int, *, writable: bool
) -> AbstractContextManager[Channel]:
    """The way to a device for blocks from the byte `start` on.  Raises `CopyFailed`."""
    if device.shortcut:
        return device.shortcut.channel()
    return _opened_file(device, start, block_size, writable)


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
def _opened_file(device: Device, start: int, block_size: int, writable: bool) -> Iterator[_File]:
    descriptor = _direct(device, start, block_size, writable)
    try:
        yield _File(device.descriptor if descriptor is None else descriptor)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _direct(device: Device, start: int, block_size: int, writable: bool) -> int | None:
    """A descriptor for direct I/O, if a block can be read by it."""
    if writable and device.whole_pages and (start | block_size) % mmap.PAGESIZE:
        return None
    mode = os.O_RDWR if writable else os.O_RDONLY
    try:
        name = f"/proc/self/fd/{device.descriptor}"
        descriptor = os.open(name, mode | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        os.preadv(descriptor, [buffer(block_size).data], start)
    except OSError as error:
        os.close(descriptor)
        if error.errno == errno.EINVAL:
            return None
        raise CopyFailed(f"{device.word} cannot be read: {error.strerror}") from None
    return descriptor

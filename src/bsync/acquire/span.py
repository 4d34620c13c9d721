# SPDX-License-Identifier: GPL-2.0-only
"""A part of a device, read and written as if it were one of its own."""

from __future__ import annotations

from dataclasses import dataclass

from bsync.acquire.block import Device
from bsync.model.extent import Extent


@dataclass(frozen=True)
class Span:
    """A range of a device; offsets are bytes from its own beginning."""

    device: Device
    extent: Extent

    @property
    def word(self) -> str:
        """What the user calls the device."""
        return self.device.word

    @property
    def size(self) -> int:
        """Bytes."""
        return self.extent.size

    def part(self, start: int, size: int) -> Span:
        """A range of it."""
        return Span(self.device, Extent(self.extent.start + start, size))

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes at `offset`, fewer only at its end.  Raises `Unavailable`."""
        size = max(0, min(size, self.size - offset))
        return self.device.read(self.extent.start + offset, size)

    def data_from(self, offset: int) -> int:
        """Where the first byte at `offset` or after it is that may not be a hole's; perhaps
        beyond the end."""
        start = self.extent.start
        return max(offset, self.device.data_from(start + offset) - start)

    def write(self, offset: int, data: bytes) -> None:
        """Write all of `data` at `offset`.  Raises `CopyFailed`."""
        if offset < 0 or offset + len(data) > self.size:
            raise ValueError(f"{len(data)} bytes at {offset} of {self.size}")
        self.device.write(self.extent.start + offset, data)

    def flush(self) -> None:
        """All that was written is on the device; see `Device.flush`.  Raises `CopyFailed`."""
        self.device.flush()


def whole(device: Device) -> Span:
    """All of a device."""
    return Span(device, Extent(0, device.size))

# SPDX-License-Identifier: GPL-2.0-only
"""The raw engine: every byte, writing only those that differ.

Both sides are read and compared, so that a second run writes nothing and a sparse
destination stays sparse where the source holds zeroes.  dd(1) could do neither.
The first piece is erased before anything else changes, and comes last, and of it its first block:
until then our own mark stands at the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from bsync.acquire.block import Device
from bsync.layout import Extent
from bsync.unfinished import SECTOR
from bsync.units import KIB, MIB

PIECE = 4 * MIB
_FINE = 64 * KIB  # pieces in which a sparse destination stays so
_BLOCK = 4096  # bytes that a disk writes whole or not at all


def copy(
    source: Device, here: Extent, destination: Device, there: Extent,
    advance: Callable[[int], None],
) -> int:  # fmt: skip
    """Make the bytes of `there` those of `here`.  Returns how many bytes were written."""
    written = 0
    offsets = range(0, here.size, PIECE)
    for offset, data in _differing(source, here, destination, there, [*offsets[1:], *offsets[:1]]):
        advance(offset or here.size)
        if data and not written:
            _erase(destination, Extent(there.start, min(PIECE, here.size)))
        if data and not offset:
            _put_beginning(destination, there.start, data)
        elif data:
            destination.write(there.start + offset, data)
        written += len(data)
    return written


def update(source: Device, destination: Device, extent: Extent) -> None:
    """Make the bytes of `extent` those of the source, writing only pieces that differ."""
    at = extent.start
    while at < extent.end:
        size = min(_FINE, extent.end - at)
        data = source.read(at, size)
        if data != destination.read(at, size):
            destination.write(at, data)
        following = min(source.data_from(at + _FINE), destination.data_from(at + _FINE))
        at = following - (following - extent.start) % _FINE


def same(source: Device, here: Extent, destination: Device, there: Extent) -> bool:
    """Whether both extents hold the same bytes, over the size of the source's."""
    offsets = range(0, here.size, PIECE)
    return not any(data for _, data in _differing(source, here, destination, there, offsets))


def _differing(
    source: Device, here: Extent, destination: Device, there: Extent, offsets: Sequence[int]
) -> Iterator[tuple[int, bytes]]:
    """Of every piece its offset, and the source's bytes where the destination's differ."""
    for offset in offsets:
        size = min(PIECE, here.size - offset)
        data = source.read(here.start + offset, size)
        equal = data == destination.read(there.start + offset, size)
        yield offset, b"" if equal else data


def _put_beginning(destination: Device, start: int, data: bytes) -> None:
    """The first piece, once all others are on the disk, and what replaces our mark last."""
    destination.write(start + _BLOCK, data[_BLOCK:])
    destination.flush()
    destination.write(start, data[:_BLOCK])


def _erase(destination: Device, extent: Extent) -> None:
    """The first piece, our mark first of all."""
    erased = SECTOR.ljust(extent.size, b"\0")[: extent.size]
    destination.write(extent.start, erased[:_BLOCK])
    destination.flush()
    destination.write(extent.start + _BLOCK, erased[_BLOCK:])
    destination.flush()

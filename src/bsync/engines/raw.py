"""The raw engine: every byte, writing only those that differ.

Both sides are read and compared, so that a second run writes nothing and a sparse
destination stays sparse where the source holds zeroes.  dd(1) could do neither.
The first piece is erased before anything else changes, and comes last: until then only our
own mark stands at the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bsync.acquire.block import Device
from bsync.layout import Extent
from bsync.unfinished import SECTOR
from bsync.units import MIB

PIECE = 4 * MIB


def copy(
    source: Device, here: Extent, destination: Device, there: Extent,
    advance: Callable[[int], None],
) -> int:  # fmt: skip
    """Make the bytes of `there` those of `here`.  Returns how many bytes were written."""
    written = 0
    offsets = range(0, here.size, PIECE)
    for offset, data in _differing(source, here, destination, there, offsets[1:]):
        advance(offset)
        if data:
            if not written:
                _erase(destination, Extent(there.start, min(PIECE, here.size)))
            destination.write(there.start + offset, data)
            written += len(data)
    destination.flush()
    for _, data in _differing(source, here, destination, there, offsets[:1]):
        destination.write(there.start, data)
        written += len(data)
    advance(here.size)
    return written


def same(source: Device, here: Extent, destination: Device, there: Extent) -> bool:
    """Whether both extents hold the same bytes, over the size of the source's."""
    offsets = range(0, here.size, PIECE)
    return not any(data for _, data in _differing(source, here, destination, there, offsets))


def _differing(
    source: Device, here: Extent, destination: Device, there: Extent, offsets: range
) -> Iterator[tuple[int, bytes]]:
    """Of every piece its offset, and the source's bytes where the destination's differ."""
    for offset in offsets:
        size = min(PIECE, here.size - offset)
        data = source.read(here.start + offset, size)
        equal = data == destination.read(there.start + offset, size)
        yield offset, b"" if equal else data


def _erase(destination: Device, extent: Extent) -> None:
    destination.write(extent.start, SECTOR.ljust(extent.size, b"\0")[: extent.size])
    destination.flush()

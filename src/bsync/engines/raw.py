# SPDX-License-Identifier: GPL-2.0-only
"""The raw engine: every byte, writing only those that differ.

Both sides are read and compared, so that a second run writes nothing and a sparse
destination stays sparse where the source holds zeroes.  dd(1) could do neither.
The first piece is erased before anything else changes, and comes last, and of it its first block:
until then our own marker stands at the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from bsync import pace
from bsync.acquire.span import Span
from bsync.in_progress import SECTOR
from bsync.units import KIB, MIB

PIECE = 4 * MIB
_FINE = 64 * KIB  # pieces in which a sparse destination stays so
_BLOCK = 4096  # bytes that a disk writes whole or not at all


def copy(
    source: Span, destination: Span, advance: Callable[[int], None],
    before_writing: Callable[[], None],
) -> int:  # fmt: skip
    """Make the destination's bytes the source's, as many as that has.  Returns how many bytes were
    written; `before_writing` is called before the first one is."""
    written = 0
    offsets = range(0, source.size, PIECE)
    for offset, data in _differing(source, destination, [*offsets[1:], *offsets[:1]]):
        advance(offset or source.size)
        if data and not written:
            before_writing()
            _erase(destination.part(0, min(PIECE, source.size)))
        if data and not offset:
            _put_beginning(destination, data)
        elif data:
            destination.write(offset, data)
        written += len(data)
    return written


def update(source: Span, destination: Span) -> None:
    """Make the destination's bytes the source's, writing only pieces that differ."""
    at = 0
    while at < source.size:
        size = min(_FINE, source.size - at)
        data = source.read(at, size)
        if data != destination.read(at, size):
            destination.write(at, data)
        following = min(source.data_from(at + _FINE), destination.data_from(at + _FINE))
        at = following - following % _FINE


def same(source: Span, destination: Span, advance: Callable[[int], None]) -> bool:
    """Whether both hold the same bytes, over the size of the source."""
    for offset, data in _differing(source, destination, range(0, source.size, PIECE)):
        advance(offset)
        if data:
            return False
    return True


def _differing(
    source: Span, destination: Span, offsets: Sequence[int]
) -> Iterator[tuple[int, bytes]]:
    """Of every piece its offset, and the source's bytes where the destination's differ."""
    for offset in offsets:
        size = min(PIECE, source.size - offset)
        pace.wait(size)
        data = source.read(offset, size)
        yield offset, b"" if data == destination.read(offset, size) else data


def _put_beginning(destination: Span, data: bytes) -> None:
    """The first piece, once all others are on the disk, and what replaces our marker last."""
    destination.write(_BLOCK, data[_BLOCK:])
    destination.flush()
    destination.write(0, data[:_BLOCK])


def _erase(beginning: Span) -> None:
    """The first piece, our marker first of all."""
    erased = SECTOR.ljust(beginning.size, b"\0")[: beginning.size]
    beginning.write(0, erased[:_BLOCK])
    beginning.flush()
    beginning.write(_BLOCK, erased[_BLOCK:])
    beginning.flush()

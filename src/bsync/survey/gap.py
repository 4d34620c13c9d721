# SPDX-License-Identifier: GPL-2.0-only
"""What stands between a table and the first partition: found piece by piece, never held."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from bsync.acquire.block import Device
from bsync.acquire.span import Span
from bsync.model.layout import Extent, Gap, Table
from bsync.units import MIB

_BOOT_SECTOR = 512  # bytes in which boot loaders count, whatever the disk's sectors are


def gap_of(device: Device, table: Table) -> Gap:
    """What stands before the first partition and is not the table's own."""
    ranges = []
    for free in _free(device, table):
        end = max((at + len(data) for at, data in _pieces(Span(device, free))), default=free.start)
        if end > free.start:
            sectors = -(-(end - free.start) // _BOOT_SECTOR)
            ranges.append(Extent(free.start, min(sectors * _BOOT_SECTOR, free.size)))
    return Gap(tuple(ranges), digest(device, ranges))


def digest(device: Device, ranges: Iterable[Extent]) -> str:
    """The same for the same bytes in the same ranges, whatever their holes."""
    found = hashlib.sha256()
    for extent in ranges:
        for at, data in _pieces(Span(device, extent)):
            found.update(b"%d %d\n" % (at, len(data)) + data)
    return found.hexdigest()


def _free(device: Device, table: Table) -> Iterator[Extent]:
    """The ranges before the first partition that the table leaves free."""
    if not table.partitions:
        return
    first = min(part.extent.start for part in table.partitions)
    at = 0
    for taken in sorted(table.extents(device.size), key=lambda extent: extent.start):
        if at < min(taken.start, first):
            yield Extent(at, min(taken.start, first) - at)
        at = max(at, taken.end)
    if at < first:
        yield Extent(at, first - at)


def _pieces(span: Span) -> Iterator[tuple[int, bytes]]:
    """Every piece that is not all zeroes, by its offset on the device, up to its last byte that is
    not."""
    at = span.data_from(0)
    at -= at % MIB
    while at < span.size:
        if data := span.read(at, min(MIB, span.size - at)).rstrip(b"\0"):
            yield span.extent.start + at, data
        following = span.data_from(at + MIB)
        at = following - following % MIB

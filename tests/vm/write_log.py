# SPDX-License-Identifier: GPL-2.0-only
"""The log of device-mapper's target log-writes, and what a disk may hold when its power goes.

Format: kernel documentation, admin-guide/device-mapper/log-writes.rst, and
drivers/md/dm-log-writes.c (`struct log_write_super`, `struct log_write_entry`).  What a disk has
said to be written may still be in its cache, in any part and order, until it has been told to
flush, or with the write itself to bring it to the medium (FUA).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import BinaryIO, Final

SECTOR: Final = 512  # bytes; what entries count in
_MAGIC: Final = 0x6A736677736872
_SUPER = struct.Struct("<QQQI")  # magic, version, entries, sector size
_ENTRY = struct.Struct("<QQQQ")  # first sector, sectors, flags, bytes of a remark behind it
_FLUSH, _FUA, _DISCARD = 1, 2, 4
_PIECE: Final = 4096  # bytes that a disk writes whole or not at all


@dataclass(frozen=True)
class Write:
    """Something that a disk was told, of no size if it was a flush or a remark.  Offsets and sizes
    in bytes."""

    start: int
    size: int
    flags: int
    data: int  # where its data are in the log

    @property
    def flushes(self) -> bool:
        return bool(self.flags & _FLUSH)

    @property
    def lasts(self) -> bool:
        """Whether it is on the medium as soon as the disk has said so."""
        return bool(self.flags & _FUA)

    @property
    def discards(self) -> bool:
        return bool(self.flags & _DISCARD)


def writes(log: BinaryIO) -> Iterator[Write]:
    """All that is logged, in the order in which the disk said that it was done."""
    magic, version, count, unit = _SUPER.unpack(_at(log, 0, _SUPER.size))
    assert (magic, version) == (_MAGIC, 1), "no log of log-writes"
    at = unit
    for _ in range(count):
        first, sectors, flags, _ = _ENTRY.unpack(_at(log, at, _ENTRY.size))
        at += unit
        size = sectors * SECTOR
        yield Write(first * SECTOR, size, flags, at)
        if not flags & _DISCARD:
            at += size


def length(log: BinaryIO) -> int:
    """How many bytes of its device the log takes."""
    ends = [write.data + (0 if write.discards else write.size) for write in writes(log)]
    return max(ends, default=SECTOR)


def _at(log: BinaryIO, offset: int, size: int) -> bytes:
    log.seek(offset)
    return log.read(size)


class Disk:
    """A disk with a cache, as a log says that it was written."""

    def __init__(self, log: Path) -> None:
        self._log = log
        with log.open("rb") as file:
            self._intervals = list(_between_flushes(writes(file)))

    @property
    def intervals(self) -> int:
        """Before the first flush, between two each, and after the last."""
        return len(self._intervals)

    def lose_power(self, image: Path, interval: int, share: float, random: Random) -> None:
        """Bring `image`, which is as the disk was at first, to what the disk may be when its
        power goes in an interval: `share` of what came after the flush has arrived."""
        with self._log.open("rb") as log, image.open("r+b") as disk:
            for number, told in enumerate(self._intervals[: interval + 1]):
                for write in told:
                    certain = number < interval or write.lasts
                    for at in range(0, write.size, _PIECE):
                        if certain or random.random() < share:
                            disk.seek(write.start + at)
                            disk.write(_piece(write, at, log))


def _piece(write: Write, at: int, log: BinaryIO) -> bytes:
    """What stands from byte `at` of a write on; zeroes where it is discarded."""
    size = min(_PIECE, write.size - at)
    return bytes(size) if write.discards else _at(log, write.data + at, size)


def _between_flushes(found: Iterator[Write]) -> Iterator[list[Write]]:
    interval: list[Write] = []
    for write in found:
        if write.flushes:  # of what came before it, not of what it writes itself
            yield interval
            interval = []
        if write.size:
            interval.append(write)
    yield interval

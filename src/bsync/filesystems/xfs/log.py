# SPDX-License-Identifier: GPL-2.0-only
"""Whether the log of an XFS is empty: whether it was cleanly unmounted.  Pure.

XFS writes changes of its metadata to the log first.  The log is a ring of sectors of 512 bytes;
the first word of each has the number of the round ("cycle") in which it was written, or, in a
record's header, a magic number before that.  So the log's head, where the next record would
go, is where the cycle falls by one.  The last thing that a clean unmount writes is a record
with a single operation that says so; nothing is in the log alone if that is what ends at the
head.

Format: fs/xfs/libxfs/xfs_log_format.h of Linux (`xlog_rec_header`, `xlog_op_header`); the rule
is that of `xlog_check_unmount_rec` in fs/xfs/xfs_log_recover.c, but for a record that goes
across the end of the ring, of which nothing is claimed here.
"""

from __future__ import annotations

import struct
import uuid as uuids

from bsync.filesystems.xfs.superblock import SECTOR, Superblock
from bsync.model.allocation import Read, Unknown

_MAGIC = 0xFEEDBABE
_UNCLEAN = "it was not cleanly unmounted"
_IN_FLIGHT = 4096  # sectors: what may have been on its way when the machine died (8 of 256 KiB)
_NEVER = 0  # the cycle of sectors that xfs_repair and xfs_db leave out when they clear the log
_LARGE = 2  # version of the log whose records may be longer than one header covers
_COVERED = 32768  # bytes of a record that one header sector covers
_UNMOUNT = 0x20  # flag of an operation


def check_empty(read: Read, sb: Superblock) -> None:
    """Raise `Unknown` unless it is certain that all metadata are where they belong."""
    log = _Log(read, sb)
    head = log.head()
    before = log.cycles(max(0, head - _IN_FLIGHT), head)
    after = log.cycles(head, min(log.sectors, head + _IN_FLIGHT))
    if set(before) != {log.first} or set(after) - {log.first - 1, _NEVER}:
        raise Unknown(_UNCLEAN)
    if not log.ends_with_unmount(head):
        raise Unknown(_UNCLEAN)


class _Log:
    def __init__(self, read: Read, sb: Superblock) -> None:
        self._read, self._sb = read, sb
        self._uuid = uuids.UUID(sb.uuid).bytes
        self.sectors = sb.log_size // SECTOR
        self.first = self.cycles(0, 1)[0]

    def sector(self, number: int, count: int = 1) -> bytes:
        data = self._read(self._sb.log_start + number * SECTOR, count * SECTOR)
        if len(data) != count * SECTOR:
            raise Unknown("its log cannot be read")
        return data

    def cycles(self, start: int, end: int) -> list[int]:
        """In which round each sector was written."""
        if start == end:
            return []
        words = struct.iter_unpack(f">II{SECTOR - 8}x", self.sector(start, end - start))
        return [second if first == _MAGIC else first for first, second in words]

    def head(self) -> int:
        """The first sector that was not written in the latest round, or the end of the log."""
        if self.cycles(self.sectors - 1, self.sectors)[0] == self.first:
            return self.sectors
        low, high = 0, self.sectors - 1  # written in this round; not
        while high - low > 1:
            middle = (low + high) // 2
            if self.cycles(middle, middle + 1)[0] == self.first:
                low = middle
            else:
                high = middle
        return high

    def ends_with_unmount(self, head: int) -> bool:
        """Whether the record that ends at `head` says that the filesystem was unmounted."""
        start = max(0, head - _IN_FLIGHT)
        data = self.sector(start, head - start)
        for at in range(len(data) - SECTOR, -1, -SECTOR):
            magic, cycle, version, length, position = struct.unpack_from(">IIIIQ", data, at)
            if magic != _MAGIC:
                continue
            number = start + at // SECTOR
            if position != cycle << 32 | number or data[at + 304 : at + 320] != self._uuid:
                return False
            (operations,) = struct.unpack_from(">I", data, at + 40)
            (most,) = struct.unpack_from(">I", data, at + 320)
            headers = max(1, -(-most // _COVERED)) if version & _LARGE else 1
            body = at + headers * SECTOR
            end = number + headers + -(-length // SECTOR)
            if operations != 1 or end != head or body + 12 > len(data):
                return False
            return bool(data[body + 9] & _UNMOUNT)
        return False

# SPDX-License-Identifier: GPL-2.0-only
"""A GUID partition table as it stands on a disk: its copies read, judged, and laid out anew.  Pure.

Format: UEFI specification, "GUID Partition Table (GPT) Disk Layout".  Entries are kept byte by
byte; only what depends on the size of the disk, or on where a partition goes, is written anew.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from bsync.model.extent import Extent

Read = Callable[[int, int], bytes]  # offset and size in bytes
Records = tuple[tuple[int, bytes], ...]  # by offset in bytes

PROTECTIVE = 0xEE  # the type of the MBR's entry that covers the whole disk
_SIGNATURE = b"EFI PART"
# signature, revision, size, CRC, reserved, own and other LBA, first and last usable LBA,
# GUID of the disk, LBA, number and size of the entries, CRC of the entries
_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRIES_LIMIT = 1 << 24  # bytes; sfdisk(8) and the kernel take no more
_MBR_ENTRIES = slice(446, 510)
_MOST_SECTORS = 0xFFFFFFFF  # what an MBR's entry can count


class BadGpt(ValueError):
    """Neither copy of the table can be relied on."""


@dataclass(frozen=True)
class Gpt:
    """A table, and what is wrong with its copies.  Offsets and sizes in bytes."""

    sector: int
    mbr: bytes  # the first 512 bytes of the disk: boot code and protective entry
    guid: bytes
    first: int  # LBA of the first sector that a partition may use
    entries: bytes
    entry_size: int
    entries_at: int  # offset of the first copy of the entries
    faults: tuple[str, ...] = ()
    primary: bool = True  # the first copy is sound

    @property
    def tail(self) -> int:
        """What the second copy takes at the end of a disk."""
        return self._room + self.sector

    @property
    def _room(self) -> int:
        return -(-len(self.entries) // self.sector) * self.sector

    def extents(self, size: int) -> tuple[Extent, ...]:
        """What the table itself takes on a disk of `size` bytes."""
        end = size // self.sector * self.sector
        return (
            Extent(0, 2 * self.sector),
            Extent(self.entries_at, self._room),
            Extent(end - self.tail, self.tail),
        )

    def entry(self, number: int) -> bytes:
        """The entry of partition `number`, counted from 1."""
        return self.entries[(number - 1) * self.entry_size :][: self.entry_size]

    def with_entries(self, changed: Mapping[int, bytes]) -> Gpt:
        """The same table with other entries for some partitions."""
        entries = bytearray(self.entries)
        for number, entry in changed.items():
            at = (number - 1) * self.entry_size
            entries[at : at + len(entry)] = entry
        return replace(self, entries=bytes(entries))


def read(read_at: Read, size: int, sector: int) -> Gpt:
    """The table of a disk of `size` bytes.  Raises `BadGpt` if both copies are damaged."""
    last = size // sector - 1
    primary = _copy(read_at, 1, last, sector)
    elsewhere = primary.other if primary else 0
    backup = _copy(read_at, last, last, sector) or (
        _copy(read_at, elsewhere, last, sector) if 1 < elsewhere < last else None
    )
    good = primary or backup
    if good is None:
        raise BadGpt("both copies are damaged")
    return Gpt(
        sector,
        read_at(0, 512),
        good.guid,
        good.first,
        good.entries,
        good.entry_size,
        (good.entries_lba if good is primary else _entries_lba(read_at, good, sector)) * sector,
        tuple(_faults(primary, backup, last)),
        primary is not None,
    )


def entry_at(entry: bytes, extent: Extent, sector: int) -> bytes:
    """`entry`, with its partition at `extent`."""
    first, end = extent.start // sector, extent.end // sector
    return entry[:32] + struct.pack("<QQ", first, end - 1) + entry[48:]


def with_identity(entry: bytes, other: bytes) -> bytes:
    """`entry` with the GUID, the attributes and the name of `other`."""
    size = len(entry)
    return (entry[:16] + other[16:32] + entry[32:48] + other[48:size]).ljust(size, b"\0")


def records(table: Gpt, size: int) -> Records:
    """Both copies, and the MBR, for a disk of `size` bytes: in the reverse of the order in which
    they are to be written, so that a sound copy is there until the other one is."""
    sector, last = table.sector, size // table.sector - 1
    backup_entries = last - table.tail // sector + 1
    first = (
        (sector, _header(table, 1, last, table.entries_at // sector, backup_entries - 1)),
        (table.entries_at, table.entries),
    )
    second = (
        (last * sector, _header(table, last, 1, backup_entries, backup_entries - 1)),
        (backup_entries * sector, table.entries),
    )
    ordered = first + second if table.primary else second + first
    return ((446, protective(table, size)), *ordered)


def protective(table: Gpt, size: int) -> bytes:
    """The end of the MBR, from its entries on, for a disk of `size` bytes."""
    rows = bytearray(table.mbr[_MBR_ENTRIES])
    sectors = min(size // table.sector - 1, _MOST_SECTORS)
    for at in range(0, len(rows), 16):
        if rows[at + 4] == PROTECTIVE and rows[at + 12 : at + 16] != b"\xff" * 4:
            rows[at + 12 : at + 16] = sectors.to_bytes(4, "little")
    return bytes(rows) + b"\x55\xaa"


@dataclass(frozen=True)
class _Copy:
    lba: int
    other: int
    first: int
    guid: bytes
    entries_lba: int
    entry_size: int
    entries: bytes


def _copy(read_at: Read, lba: int, last: int, sector: int) -> _Copy | None:
    """The copy whose header is at `lba`, if all its sums are right."""
    block = read_at(lba * sector, sector)
    if len(block) < sector or block[:8] != _SIGNATURE:
        return None
    fields = _HEADER.unpack_from(block)
    _, _, size, crc, _, own, other, first, _, guid, at, count, width, entries_crc = fields
    if not _HEADER.size <= size <= sector or own != lba or width < 128 or width % 8:
        return None
    if zlib.crc32(block[:16] + bytes(4) + block[20:size]) != crc:
        return None
    if not 0 < count * width <= _ENTRIES_LIMIT or not (1 < at <= last and first <= last):
        return None
    entries = read_at(at * sector, count * width)
    if zlib.crc32(entries) != entries_crc:
        return None
    return _Copy(lba, other, first, guid, at, width, entries)


def _faults(primary: _Copy | None, backup: _Copy | None, last: int) -> list[str]:
    if primary is None:
        return ["its first copy is damaged"]
    if backup is None:
        return ["its second copy, at the end of the disk, is damaged or missing"]
    if backup.lba != last or primary.other != last:
        return ["its second copy is not at the end of the disk"]
    same = (primary.entries, primary.guid) == (backup.entries, backup.guid)
    return [] if same else ["its two copies differ"]


def _entries_lba(read_at: Read, good: _Copy, sector: int) -> int:
    """Where the first copy of the entries was, as the damaged header may still say."""
    at = _HEADER.unpack_from(read_at(sector, sector))[10]
    room = -(-len(good.entries) // sector)
    if 2 < at <= good.first - room and read_at(at * sector, len(good.entries)) == good.entries:
        return int(at)
    return 2


def _header(table: Gpt, own: int, other: int, entries: int, last: int) -> bytes:
    count = len(table.entries) // table.entry_size
    rest = (own, other, table.first, last, table.guid, entries, count, table.entry_size)
    sums = zlib.crc32(table.entries)
    plain = _HEADER.pack(_SIGNATURE, 0x10000, _HEADER.size, 0, 0, *rest, sums)
    summed = plain[:16] + struct.pack("<I", zlib.crc32(plain)) + plain[20:]
    return summed.ljust(table.sector, b"\0")

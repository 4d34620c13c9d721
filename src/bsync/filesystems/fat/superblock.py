# SPDX-License-Identifier: GPL-2.0-only
"""The boot sector of a FAT filesystem.  Pure: bytes in, facts out.

Format: Microsoft's "FAT: General Overview of On-Disk Format", 1.03; little-endian.  Which of the
three widths it is follows from the number of clusters, as the kernel has it (fs/fat/inode.c).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from bsync.filesystems.kind import BadSuperblock
from bsync.model.layout import Filesystem

SIZE = 512  # bytes of the boot sector that are looked at
ENTRY = 32  # bytes of an entry of a directory

_HIDDEN = 28  # byte of the number of sectors of the disk before the filesystem
_SIGNATURES = (0x28, 0x29)  # of boot sectors that have a serial number
MOST = {12: 0xFF4, 16: 0xFFF4, 32: 0x0FFFFFF6}  # clusters


@dataclass(frozen=True)
class Superblock:
    """Sizes in sectors of the filesystem, where it does not say bytes."""

    uuid: str  # the serial number, as blkid writes it: 1234-ABCD
    label: str
    sector_size: int  # bytes
    cluster: int
    reserved: int  # the boot sector, its backup and what else is before the first table
    tables: int
    table: int
    root: int  # of the root directory; 0 with 32 bits, where it is in clusters
    sectors: int
    width: int  # bits of an entry of the tables: 12, 16 or 32
    hidden: int | None  # sectors of the disk before it, as it says; None where it cannot say
    backup: int = 0  # the sector with the copy of the boot sector; 0: none
    root_cluster: int = 0
    clean: bool = True  # whether it was unmounted by who last wrote to it
    used: int = 0  # bytes; known once its tables are read

    @property
    def block_size(self) -> int:
        """What it is copied in, in bytes: clusters need not begin at a multiple of their size."""
        return self.sector_size

    @property
    def unit(self) -> int:
        return self.sector_size

    @property
    def size(self) -> int:
        """Bytes."""
        return self.sectors * self.sector_size

    @property
    def data(self) -> int:
        """Where the first cluster begins."""
        return self.reserved + self.tables * self.table + self.root

    @property
    def clusters(self) -> int:
        return (self.sectors - self.data) // self.cluster

    @property
    def features(self) -> frozenset[str]:
        return frozenset((f"FAT{self.width}",))


@dataclass(frozen=True)
class Fat(Filesystem):
    """A FAT12, FAT16 or FAT32."""

    superblock: Superblock


def parse(data: bytes) -> Superblock:
    """The boot sector in `data`.  Raises `BadSuperblock`."""
    if len(data) < SIZE:
        raise BadSuperblock("boot sector that is cut short")
    sector, cluster, reserved, tables, entries, small, _, table = struct.unpack_from(
        "<HBHBHHBH", data, 11
    )
    hidden, large, large_table = struct.unpack_from("<III", data, _HIDDEN)
    wide, table = not table, table or large_table
    sectors = small or large
    powers = all(number and not number & (number - 1) for number in (sector, cluster))
    if not powers or not 512 <= sector <= 4096 or not (reserved and tables and table):
        raise BadSuperblock("damaged boot sector")
    root = -(-entries * ENTRY // sector)
    data_at = reserved + tables * table + root
    if sectors < data_at + cluster:
        raise BadSuperblock("damaged boot sector")
    width = _width(wide, (sectors - data_at) // cluster)
    if (sectors - data_at) // cluster + 2 > table * sector * 8 // width:
        raise BadSuperblock("boot sector that needs larger tables")
    extended = 64 if width == 32 else 36  # where what only newer boot sectors have begins
    new = data[extended + 2] in _SIGNATURES
    serial = int.from_bytes(data[extended + 3 : extended + 7], "little") if new else 0
    (root_cluster,) = struct.unpack_from("<I", data, 44)
    (backup,) = struct.unpack_from("<H", data, 50)
    return Superblock(
        f"{serial >> 16:04X}-{serial & 0xFFFF:04X}" if serial else "",
        name(data[extended + 7 : extended + 18]) if data[extended + 2] == 0x29 else "",
        sector, cluster, reserved, tables, table, root, sectors, width,
        hidden if new or not small else None,
        backup if wide and 0 < backup < reserved else 0, root_cluster if wide else 0,
        not data[extended + 1] & 1,
    )  # fmt: skip


def placed(boot_sector: bytes, start: int) -> bytes:
    """The boot sector of a copy that begins at the sector `start` of its disk."""
    return boot_sector[:_HIDDEN] + struct.pack("<I", start) + boot_sector[_HIDDEN + 4 :]


def name(raw: bytes) -> str:
    """A label of 11 bytes as text; what stands for none is none."""
    text = raw.rstrip(b" \0").decode("ascii", "surrogateescape")
    return "" if text == "NO NAME" else text


def _width(wide: bool, clusters: int) -> int:
    width = 32 if wide else 12 if clusters <= MOST[12] else 16
    if not 0 < clusters <= MOST[width]:
        raise BadSuperblock("damaged boot sector")
    return width

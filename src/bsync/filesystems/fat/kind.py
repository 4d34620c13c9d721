# SPDX-License-Identifier: GPL-2.0-only
"""FAT, such as the EFI system partition, as the stages ask for it: see `Kind`.  Pure."""

from __future__ import annotations

from dataclasses import replace

from bsync.filesystems.fat import by_blocks, superblock, tables
from bsync.filesystems.fat.superblock import Fat
from bsync.filesystems.kind import Kind
from bsync.model.allocation import Read, Unknown


def read(name: str, data: bytes) -> Fat:
    """See `Kind`."""
    sb = superblock.parse(data)
    return Fat(name, sb, lies_at=None if sb.hidden is None else sb.hidden * sb.sector_size)


def look(found: Fat, read: Read) -> Fat:
    """See `Kind`."""
    sb = found.superblock
    try:
        used = tables.allocation(read, sb).used
        return replace(found, superblock=replace(sb, used=used, label=tables.label(read, sb)))
    except Unknown as error:
        return replace(found, unmapped=str(error))


FAT = Kind(
    names=("vfat",),
    reach=superblock.SIZE,
    read=read,
    look=look,
    blocks=by_blocks,
    mapped=by_blocks,
)

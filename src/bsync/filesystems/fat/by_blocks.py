# SPDX-License-Identifier: GPL-2.0-only
"""FAT by its blocks: see `ByBlocks` and `Mapped`.  Pure."""

from __future__ import annotations

from bsync.filesystems.fat import smaller, superblock, tables
from bsync.filesystems.fat.superblock import Fat
from bsync.filesystems.kind import Command, Held
from bsync.model.allocation import Allocation, Read
from bsync.model.arrays import Numbers
from bsync.units import both_sizes

SEARCHES = False
MOUNTED_WITH: tuple[str, ...] = ()
GROWN_BY: tuple[str, ...] = ()


def obstacle(source: Fat, size: int, *, grow: bool) -> str:
    """See `ByBlocks`."""
    if size >= source.size or smaller.clusters(source.superblock, size):
        return ""
    need, have = both_sizes(smaller.smallest(source.superblock), size)
    return f"its files need {need}, the destination has {have}"


def is_clone(source: Fat, there: Fat) -> bool:
    """See `ByBlocks`.  A serial number has 32 bits, so the geometry has to be the same, too;
    only that a clone may be smaller."""
    here, present = source.superblock, there.superblock
    return _geometry(source) == _geometry(there) and present.sectors <= here.sectors


def smallest(source: Fat) -> int:
    """See `ByBlocks`."""
    return min(source.size, smaller.smallest(source.superblock))


def grown(source: Fat, size: int) -> int:
    """See `ByBlocks`: no tool of the system does that."""
    return source.superblock.sectors


def growing(path: str, blocks: int) -> Command:
    """See `ByBlocks`."""
    return []


def notes(source: Fat, here: int | None, there: int | None) -> tuple[str, ...]:
    """See `ByBlocks`."""
    found = [] if source.clean else ["was not unmounted cleanly; it is cloned as it is"]
    hidden = source.superblock.hidden
    if there is not None and hidden is not None:
        start = there // source.superblock.sector_size
        if start != hidden:
            where = f"it begins at sector {hidden}, that of the clone: at {start}"
            found.append(f"its boot sector says that {where} (hidden sectors)")
    return tuple(found)


def allocation(source: Fat, read: Read) -> Allocation:
    """See `Mapped`."""
    return tables.allocation(read, source.superblock)


def held(source: Fat, read: Read, start: int | None) -> Held:
    """See `Mapped`: the boot sector and its copy, which say where they begin."""
    sb, size = source.superblock, source.superblock.sector_size
    sectors = [0, sb.backup] if sb.backup else [0]
    found = [(sector * size, read(sector * size, size)) for sector in sectors]
    if start is None or sb.hidden is None:
        return tuple(found)
    return tuple((at, _placed(data, start // size)) for at, data in found)


def only_growth(source: Fat, read: Read, there: Read, blocks: Numbers) -> bool:
    """See `Mapped`."""
    return False


def _placed(data: bytes, start: int) -> bytes:
    """Only what is a boot sector says where it begins."""
    return superblock.placed(data, start) if data[510:512] == b"\x55\xaa" else data


def _geometry(content: Fat) -> tuple[object, ...]:
    sb = content.superblock
    return (
        sb.uuid, sb.sector_size, sb.cluster, sb.reserved, sb.tables, sb.table, sb.root,
        sb.width,
    )  # fmt: skip

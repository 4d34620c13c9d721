# SPDX-License-Identifier: GPL-2.0-only
"""The superblock of an XFS, as far as its free space, its log and its size need it.  Pure.

Format: fs/xfs/libxfs/xfs_format.h of Linux, `struct xfs_dsb`; everything big-endian.
"""

from __future__ import annotations

import struct
import uuid as uuids
from dataclasses import dataclass

from bsync.filesystems.kind import BadSuperblock
from bsync.layout import Filesystem

SIZE = 512  # bytes, at the beginning of the filesystem
SECTOR = 512  # bytes in which the log counts, whatever the sectors of the device

_MAGIC = b"XFSB"
_DAMAGED = "damaged superblock"
_UNKNOWN = "it has features that bsync does not know"
# ftype, sparse inodes, meta_uuid, bigtime, (needs repair,) large extent counters, exchange, parents
_INCOMPAT_KNOWN = 0x1 | 0x2 | 0x4 | 0x8 | 0x20 | 0x40 | 0x80
_META_UUID, _NEEDS_REPAIR = 0x4, 0x10
_RO_COMPAT_KNOWN = 0x1 | 0x2 | 0x4 | 0x8  # free inodes, reverse map, shared extents, counts
_LEAST_GROUP = 1 << 24  # bytes; mkfs.xfs makes none smaller


@dataclass(frozen=True)
class Superblock:
    """Sizes in bytes, where it does not say blocks."""

    uuid: str
    label: str
    block_size: int
    sector_size: int
    blocks: int
    group_blocks: int  # of all allocation groups but the last
    groups: int
    free_blocks: int
    log_start: int  # byte
    log_size: int
    block_uuid: bytes  # which the blocks have, though it may be another by now
    problem: str = ""  # why nothing else of it is read here; it goes on "since …"
    clean: bool = True  # whether its log is empty is another question
    features: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        return self.blocks * self.block_size

    @property
    def used(self) -> int:
        return (self.blocks - self.free_blocks) * self.block_size

    @property
    def unit(self) -> int:
        return self.sector_size

    def group_length(self, group: int) -> int:
        """Blocks of an allocation group; the last may have fewer."""
        return min(self.group_blocks, self.blocks - group * self.group_blocks)


@dataclass(frozen=True)
class Xfs(Filesystem):
    """An XFS."""

    superblock: Superblock


def parse(data: bytes) -> Superblock:
    """The superblock in `data`.  Raises `BadSuperblock`."""
    if len(data) < SIZE or data[:4] != _MAGIC:
        raise BadSuperblock(_DAMAGED)
    block_size, blocks = struct.unpack_from(">IQ", data, 4)
    group_blocks, groups, _, log_blocks, _, sector_size = struct.unpack_from(">IIIIHH", data, 84)
    (log_at,) = struct.unpack_from(">Q", data, 48)
    free, shift = int.from_bytes(data[144:152], "big"), data[124]
    _check_geometry(block_size, sector_size, blocks, group_blocks, groups, shift)
    group, block = log_at >> shift, log_at & ((1 << shift) - 1)
    first = group * group_blocks + block
    if free > blocks or (log_at and first + log_blocks > blocks):
        raise BadSuperblock(_DAMAGED)
    if log_at and (not log_blocks or block + log_blocks > group_blocks):
        raise BadSuperblock(_DAMAGED)
    uuid = data[32:48]
    return Superblock(
        str(uuids.UUID(bytes=uuid)), _text(data[108:120]), block_size, sector_size, blocks,
        group_blocks, groups, free, first * block_size, log_blocks * block_size,
        data[248:264] if int.from_bytes(data[216:220], "big") & _META_UUID else uuid,
        _problem(data),
    )  # fmt: skip


def _text(data: bytes) -> str:
    return data.split(b"\0")[0].decode("utf-8", "surrogateescape")


def _problem(data: bytes) -> str:
    """Why the free space and log of the filesystem are not read here, if so."""
    version, in_progress = int.from_bytes(data[100:102], "big"), data[126]
    if version & 0xF != 5:
        return "it is XFS v4 (no metadata checksums)"
    ro_compat, incompat, log = struct.unpack_from(">III", data, 212)
    if incompat & _NEEDS_REPAIR:
        return "it says that it needs repair"
    if incompat & ~_INCOMPAT_KNOWN or ro_compat & ~_RO_COMPAT_KNOWN or log:
        return _UNKNOWN
    if in_progress:
        return "mkfs.xfs did not finish"
    if any(data[16:24]):
        return "it has a realtime section"
    return "" if any(data[48:56]) else "its log is on another device"


def _check_geometry(
    block_size: int, sector_size: int, blocks: int, group_blocks: int, groups: int, shift: int
) -> None:
    powers = all(size and not size & (size - 1) for size in (block_size, sector_size))
    sizes = powers and 512 <= sector_size <= min(block_size, 32768) and block_size <= 65536
    if not sizes or group_blocks * block_size < _LEAST_GROUP or blocks >> 52:
        raise BadSuperblock(_DAMAGED)
    if groups != -(-blocks // group_blocks) or shift != (group_blocks - 1).bit_length():
        raise BadSuperblock(_DAMAGED)

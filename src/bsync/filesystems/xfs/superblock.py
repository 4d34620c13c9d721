# SPDX-License-Identifier: GPL-2.0-only
"""The superblock of an XFS, as far as its free space and its log need it.  Pure.

Format: fs/xfs/libxfs/xfs_format.h of Linux, `struct xfs_dsb`; everything big-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from bsync.usage import Unknown

SIZE = 512  # bytes, at the beginning of the filesystem
SECTOR = 512  # bytes in which the log counts, whatever the sectors of the device

_MAGIC = b"XFSB"
_DAMAGED = "its superblock is damaged"
_UNKNOWN = "it has features that bsync does not know"
# ftype, sparse inodes, meta_uuid, bigtime, (needs repair,) large extent counters, exchange, parents
_INCOMPAT_KNOWN = 0x1 | 0x2 | 0x4 | 0x8 | 0x20 | 0x40 | 0x80
_META_UUID, _NEEDS_REPAIR = 0x4, 0x10
_RO_COMPAT_KNOWN = 0x1 | 0x2 | 0x4 | 0x8  # free inodes, reverse map, shared extents, counts
_LEAST_GROUP = 1 << 24  # bytes; mkfs.xfs makes none smaller


@dataclass(frozen=True)
class Superblock:
    """Sizes in bytes, where it does not say blocks."""

    block_size: int
    sector_size: int
    blocks: int
    group_blocks: int  # of all allocation groups but the last
    groups: int
    free_blocks: int
    log_start: int  # byte
    log_size: int
    uuid: bytes
    block_uuid: bytes  # which the blocks have, though it may be another by now

    def group_length(self, group: int) -> int:
        """Blocks of an allocation group; the last may have fewer."""
        return min(self.group_blocks, self.blocks - group * self.group_blocks)


def parse(data: bytes) -> Superblock:
    """The superblock in `data`.  Raises `Unknown` where the filesystem is not one whose free
    space and log are read here."""
    if len(data) < SIZE or data[:4] != _MAGIC:
        raise Unknown(_DAMAGED)
    block_size, blocks, realtime = struct.unpack_from(">IQQ", data, 4)
    group_blocks, groups, _, log_blocks, version, sector_size = struct.unpack_from(
        ">IIIIHH", data, 84
    )
    (log_at,) = struct.unpack_from(">Q", data, 48)
    shift, in_progress = data[124], data[126]
    if version & 0xF != 5:
        raise Unknown("it is XFS v4 (no metadata checksums)")
    _check_features(data)
    if in_progress:
        raise Unknown("mkfs.xfs did not finish")
    if realtime:
        raise Unknown("it has a realtime section")
    if not log_at:
        raise Unknown("its log is on another device")
    _check_geometry(block_size, sector_size, blocks, group_blocks, groups, shift)
    group, block = log_at >> shift, log_at & ((1 << shift) - 1)
    first = group * group_blocks + block
    if not log_blocks or first + log_blocks > blocks or block + log_blocks > group_blocks:
        raise Unknown(_DAMAGED)
    uuid = data[32:48]
    return Superblock(
        block_size, sector_size, blocks, group_blocks, groups,
        int.from_bytes(data[144:152], "big"), first * block_size, log_blocks * block_size, uuid,
        data[248:264] if int.from_bytes(data[216:220], "big") & _META_UUID else uuid,
    )  # fmt: skip


def _check_features(data: bytes) -> None:
    ro_compat, incompat, log = struct.unpack_from(">III", data, 212)
    if incompat & _NEEDS_REPAIR:
        raise Unknown("it says that it needs repair")
    if incompat & ~_INCOMPAT_KNOWN or ro_compat & ~_RO_COMPAT_KNOWN or log:
        raise Unknown(_UNKNOWN)


def _check_geometry(
    block_size: int, sector_size: int, blocks: int, group_blocks: int, groups: int, shift: int
) -> None:
    powers = all(size and not size & (size - 1) for size in (block_size, sector_size))
    sizes = powers and 512 <= sector_size <= min(block_size, 32768) and block_size <= 65536
    if not sizes or group_blocks * block_size < _LEAST_GROUP or blocks >> 52:
        raise Unknown(_DAMAGED)
    if groups != -(-blocks // group_blocks) or shift != (group_blocks - 1).bit_length():
        raise Unknown(_DAMAGED)

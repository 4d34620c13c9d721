# SPDX-License-Identifier: GPL-2.0-only
"""The superblock of an XFS, as far as its free space, its log and its size need it.  Pure.

Format: fs/xfs/libxfs/xfs_format.h of Linux, `struct xfs_dsb`; everything big-endian.
"""

from __future__ import annotations

import struct
import uuid as uuids
from dataclasses import dataclass

from bsync.filesystems.kind import BadSuperblock
from bsync.model.layout import Filesystem

SIZE = 512  # bytes, at the beginning of the filesystem
SECTOR = 512  # bytes in which the log counts, whatever the sectors of the device

_MAGIC = b"XFSB"
_DAMAGED = "damaged superblock"
_UNKNOWN = "it has features that bsync does not know"
# ftype, sparse inodes, meta_uuid, bigtime, (needs repair,) large extent counters, exchange, parents
_INCOMPAT_KNOWN = 0x1 | 0x2 | 0x4 | 0x8 | 0x20 | 0x40 | 0x80
_META_UUID, _NEEDS_REPAIR = 0x4, 0x10
_RO_COMPAT = {"finobt": 0x1, "rmapbt": 0x2, "reflink": 0x4, "inobtcount": 0x8}
_RO_COMPAT_KNOWN = sum(_RO_COMPAT.values())
# As mkfs.xfs calls what can be left out.
_INCOMPAT = {"sparse": 0x2, "bigtime": 0x8, "nrext64": 0x20, "exchange": 0x40, "parent": 0x80}
_BORN, _BIGTIME = 144, 1 << 3  # of an inode: when it was made, and a flag of its time's format
_EPOCH = 1 << 31  # seconds from where such times begin to 1970
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
    inode_size: int = 512
    directory_size: int = 4096  # of a block of a directory
    percent: int = 25  # of the blocks that may become inodes
    stripe: tuple[int, int] = (0, 0)  # unit and width
    root: int = 0  # byte of the root directory's inode
    born: int = 0  # nanoseconds since 1970 when that was made, once it was looked at

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
        _problem(data), True, _features(data), *_shape(data, block_size, group_blocks),
    )  # fmt: skip


def born(inode: bytes) -> int:
    """When an inode was made, in nanoseconds since 1970; 0 if this is none."""
    if len(inode) < 152 or inode[:2] != b"IN":
        return 0
    flags, seconds, rest = struct.unpack_from(">Q16xiI", inode, 120)
    if flags & _BIGTIME:
        return int.from_bytes(inode[_BORN : _BORN + 8], "big") - _EPOCH * 10**9
    return int(seconds * 10**9 + rest)


def _features(data: bytes) -> frozenset[str]:
    """What can be left out, and is not, as mkfs.xfs calls it."""
    ro_compat, incompat = struct.unpack_from(">II", data, 212)
    present = {name for name, bit in _RO_COMPAT.items() if ro_compat & bit}
    present |= {name for name, bit in _INCOMPAT.items() if incompat & bit}
    return frozenset(present)


def _shape(
    data: bytes, block_size: int, group_blocks: int
) -> tuple[int, int, int, tuple[int, int], int]:
    """Sizes of inodes and of blocks of directories, percent of inodes, stripe, the root's inode."""
    (inode_size,) = struct.unpack_from(">H", data, 104)
    directory_size = block_size << min(data[192], 16)
    powers = inode_size and not inode_size & (inode_size - 1)
    if not powers or not 256 <= inode_size <= min(2048, block_size) or directory_size > 65536:
        raise BadSuperblock(_DAMAGED)
    unit, width = struct.unpack_from(">II", data, 184)
    (root,) = struct.unpack_from(">Q", data, 56)
    shift, each = data[124], (block_size // inode_size).bit_length() - 1
    group, rest = root >> (shift + each), root & ((1 << (shift + each)) - 1)
    at = group * group_blocks * block_size + rest * inode_size
    return inode_size, directory_size, data[127], (unit * block_size, width * block_size), at


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
